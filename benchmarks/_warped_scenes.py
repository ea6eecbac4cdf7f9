"""What is restored: views that move over a still picture, whose motion is exact, and windows of real video."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from aqueduct.core.motion import MotionField
from aqueduct.core.motion.estimators import DisEstimator, estimate_motion
from aqueduct.core.restoration import Inpainting, Problem, SuperResolution
from aqueduct.core.training.restoration import Crops, pyramid, random_holes
from aqueduct.scripts._media import picture_paths, read_clip, read_picture
from aqueduct.scripts._training_pictures import HELD_OUT_EVERY, training_pictures

SIZE, FRAMES = 64, 6
FINE = 3  # pictures have so many pixels to one of the view, so that thirds of a pixel are exact too
HOLES = (0.1, 0.4)  # least and greatest share of a frame that is missing
VIDEOS = {"bikes": (320, 225), "carphone": (None, 95)}  # held out of the training: (width, frames to start from)
PROBLEMS: dict[str, Problem] = {"superres": SuperResolution(8), "inpaint": Inpainting()}
# (pixels of the view in x and y, per frame); super-resolution by 8 commutes with shifts by 8 alone
SHIFTS = {
    "inpaint": {"2, 0": (2, 0), "1, 1": (1, 1), "2/3, 1/3": (2 / 3, 1 / 3)},
    "superres": {"8, 0": (8, 0), "2, 0": (2, 0), "2/3, 1/3": (2 / 3, 1 / 3)},
}


@dataclass(frozen=True, eq=False)
class Scene:
    """A clip and what is left of it, ``[F, C, H, W]`` in -1..1.

    ``known(picture)``: what was measured, of the truth or of an answer. ``true``: the motion results are judged by;
    ``motion``: the one that the method is given. ``missing [F, 1, H, W]`` or None.
    """

    truth: Tensor
    condition: Tensor
    known: Callable[[Tensor], Tensor]
    true: MotionField
    motion: MotionField
    seed: int
    missing: Tensor | None = None

    def given(self, motion: MotionField) -> "Scene":
        return replace(self, motion=motion)


def shift_scene(short: str, shift: tuple[float, float], seed: int, frames: int = FRAMES) -> Scene:
    """A held-out picture under a view that moves by ``shift`` pixels (x, y) a frame; a hole moves with the picture."""
    generator = torch.Generator().manual_seed(seed)
    dx, dy = (round(FINE * part) for part in shift)
    margin = FINE * 2  # so that the filter of the reduction never meets the end of a crop
    outer = FINE * SIZE + 2 * margin
    height, width = (outer + (frames - 1) * step for step in (dy, dx))
    pictures = [p for p in fine_pictures() if p.shape[1] >= height and p.shape[2] >= width]
    picture = pictures[_below(len(pictures), generator)]
    top, left = _below(picture.shape[1] - height + 1, generator), _below(picture.shape[2] - width + 1, generator)
    canvas = picture[None, :, top : top + height, left : left + width].float() / 127.5 - 1
    right, bottom = width - FINE * SIZE - margin, height - FINE * SIZE - margin
    holes = F.pad(_hole(FINE * SIZE, generator), [margin, right, margin, bottom])

    def views(whole: Tensor) -> list[Tensor]:
        return [whole[..., t * dy : t * dy + outer, t * dx : t * dx + outer] for t in range(frames)]

    inner = (..., slice(margin, -margin), slice(margin, -margin))
    truth = torch.cat([_reduced(view, margin) for view in views(canvas)])
    missing = torch.cat([F.max_pool2d(view[inner], FINE) for view in views(holes)])
    flow = -torch.tensor(shift, dtype=torch.float32)[None, :, None, None].expand(frames - 1, 2, SIZE, SIZE)
    motion = MotionField(flow.contiguous(), -flow)
    return _scene(short, truth, missing, motion, motion, seed)


def video_scene(short: str, name: str, seed: int, frames: int = FRAMES) -> Scene:
    """A window of a held-out video, with the motion that a user can estimate: from what was measured alone.

    Super-resolution: from all of the small frames, enlarged by bicubic interpolation. Inpainting: a hole that rests on
    the screen, filled by OpenCV's Telea method before. ``true`` is estimated from the video itself. Of 12 windows at
    random the one is taken where most pixels move, see `_moving`.
    """
    generator = torch.Generator().manual_seed(seed)
    width, starts = VIDEOS[name]
    start = _below(starts, generator)
    clip = 2 * read_clip(name, range(start, start + frames), width) - 1
    height, width = (8 * (side // 8) for side in clip.shape[-2:])
    clip = clip[..., :height, :width]
    true = _estimated(clip)
    corners = [tuple(8 * _below((side - SIZE) // 8 + 1, generator) for side in (height, width)) for _ in range(12)]
    moved = [_moving(_window(true, corner)) for corner in corners]
    top, left = corners[moved.index(max(moved))]
    hole = _hole(SIZE, generator)
    whole = F.pad(hole, [left, width - SIZE - left, top, height - SIZE - top])
    seen = _small_enlarged(clip) if short == "superres" else _filled(clip, whole)
    truth = clip[..., top : top + SIZE, left : left + SIZE]
    motions = (_window(motion, (top, left)) for motion in (true, _estimated(seen)))
    return _scene(short, truth, hole.expand(frames, -1, -1, -1), *motions, seed)


def single_pictures(count: int, seed: int) -> Tensor:
    """Crops of the held-out pictures, ``[count, 3, 64, 64]``, cut as in training."""
    return Crops(training_pictures(held_out=True), SIZE).sample(count, torch.Generator().manual_seed(seed))


def frame_pictures(count: int, seed: int) -> Tensor:
    """Crops of frames of the held-out videos, in turns."""
    generator, crops = torch.Generator().manual_seed(seed), []
    for n in range(count):
        width, starts = VIDEOS[name := list(VIDEOS)[n % len(VIDEOS)]]
        start = _below(starts, generator)
        frame = read_clip(name, range(start, start + 1), width)[0]
        crops.append(Crops([(255 * frame).round().byte()], SIZE).sample(1, generator))
    return torch.cat(crops)


def still_scene(short: str, pictures: Tensor, seed: int) -> Scene:
    """Pictures that have nothing to do with each other, each with a hole of its own, as a clip that stands still."""
    generator = torch.Generator().manual_seed(seed)
    holes = torch.cat([_hole(SIZE, generator) for _ in pictures])
    still = MotionField(torch.zeros(len(pictures) - 1, 2, SIZE, SIZE))
    return _scene(short, pictures, holes, still, still, seed)


def _scene(short: str, truth: Tensor, holes: Tensor, true: MotionField, motion: MotionField, seed: int) -> Scene:
    problem = PROBLEMS[short]
    if short == "superres":
        small = problem.measure(truth)
        return Scene(truth, problem.condition(small), problem.measure, true, motion, seed)
    left = 1 - holes
    return Scene(truth, problem.condition(truth, holes), lambda picture: picture * left, true, motion, seed, holes)


@lru_cache
def fine_pictures() -> list[Tensor]:
    """The held-out pictures with room for every view, uint8, as they are; large ones reduced to 400 pixels."""
    found = [read_picture(path) for path in picture_paths()[::HELD_OUT_EVERY]]
    return [level for p in found for level in pyramid(p, (min(400, *p.shape[1:]),)) if min(level.shape[1:]) >= 350]


def _hole(size: int, generator: torch.Generator) -> Tensor:
    """``[1, 1, size, size]``"""
    while True:
        hole = random_holes(1, size, generator)
        if HOLES[0] <= hole.mean() <= HOLES[1]:
            return hole


def _reduced(view: Tensor, margin: int) -> Tensor:
    size = [side // FINE for side in view.shape[-2:]]
    cut = margin // FINE
    return F.interpolate(view, size, mode="bilinear", antialias=True)[..., cut:-cut, cut:-cut]


def _estimated(clip: Tensor) -> MotionField:
    return estimate_motion((clip / 2 + 0.5).clamp(0, 1), DisEstimator(threads=1))


def _window(motion: MotionField, corner: tuple[int, int]) -> MotionField:
    top, left = corner
    cut = (..., slice(top, top + SIZE), slice(left, left + SIZE))
    return MotionField(motion.forward[cut].contiguous(), motion.backward[cut].contiguous())


def _moving(motion: MotionField) -> float:
    """Share of the pixels that move by half a pixel or more, by flow that passes the cycle test."""
    return (motion.checked().forward_valid & (motion.forward.norm(dim=1) >= 0.5)).float().mean().item()


def _small_enlarged(clip: Tensor) -> Tensor:
    problem = PROBLEMS["superres"]
    return problem.condition(problem.measure(clip))


def _filled(clip: Tensor, hole: Tensor) -> Tensor:
    import cv2

    mask = (hole[0, 0] > 0).byte().numpy()
    frames = ((clip / 2 + 0.5) * 255).round().byte().permute(0, 2, 3, 1).numpy()
    filled = [torch.from_numpy(cv2.inpaint(frame.copy(), mask, 3, cv2.INPAINT_TELEA)) for frame in frames]
    return torch.stack(filled).permute(0, 3, 1, 2).float() / 127.5 - 1


def _below(n: int, generator: torch.Generator) -> int:
    return int(torch.randint(n, (), generator=generator))
