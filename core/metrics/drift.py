"""How a clip wears as it goes on: what each frame has kept of the first. One value per frame, ``[F]``.

Clips are ``[F, 3, H, W]`` in 0..1. What is compared along the motion is compared only where frame 0 is still seen
(`core.motion.carry`); where nothing of it is left the value is nan.
"""

import math
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from ..guidance import previous_frame
from ..motion.carry import Carry
from ..motion.field import MotionField
from ..motion.sampling import pixel_grid
from .consistency import self_warping_error
from .perceptual import Features
from .restoration import laplacian_energy, psnr, ssim

Report = Callable[[int, int], None]


def identity(
    clip: Tensor, way: Carry, features: Features, report: Report | None = None, step: int = 1
) -> Tensor:  # fmt: skip
    """Cosine similarity to frame 0, whose features are carried along: the mean over what is seen, then over levels.

    1 for frame 0. A clip that moves exactly so stays a little below: features of a shifted picture are not quite the
    shifted features. ``step``: pixels a side of the largest cell of the features. Clips and motion are continued to
    multiples of it, so that cells of all levels are whole pixels; what is added is not seen.
    """
    _check(clip, way.frames, way.size)
    own, found = None, []
    for t, part in enumerate(_frames(way)):
        picture, part = _continued(clip[t : t + 1], part, step)
        shown = features(picture)
        own = shown if own is None else own
        found.append(torch.stack([_similarity(u, v, part) for u, v in zip(own, shown, strict=True)]).mean())
        if report is not None:
            report(t + 1, way.frames)
    return torch.stack(found)


def advected_psnr(clip: Tensor, way: Carry) -> Tensor:
    """PSNR in dB to the first frame carried along, over the pixels where that is seen; infinite for frame 0."""
    return torch.cat([
        psnr(frame, carried, mask=seen) for frame, carried, seen in _carried(clip, way)
    ])  # fmt: skip


def advected_ssim(clip: Tensor, way: Carry) -> Tensor:
    """SSIM to the first frame carried along; the clip's own pixels stand where that is not seen, and agree."""
    return torch.cat([
        ssim(frame, torch.where(seen, carried, frame)) for frame, carried, seen in _carried(clip, way)
    ])  # fmt: skip


def sharpness(clip: Tensor) -> Tensor:
    """`laplacian_energy` as a share of frame 0's: under 1 is blurred, over 1 noisy. nan where frame 0 is flat."""
    energy = laplacian_energy(clip)
    return energy / energy[0]


def warping_error(clip: Tensor, motion: MotionField) -> Tensor:
    """`self_warping_error` to the frame before, where the cycle test holds; frame 0 has none: nan."""
    _check(clip, motion.frames, motion.size)
    return F.pad(self_warping_error(clip, previous_frame(motion)), (1, 0), value=math.nan)


def _frames(way: Carry) -> Iterator[Carry]:
    """Frame by frame, so that memory does not grow with the clip."""
    for t in range(way.frames):
        part = slice(t, t + 1)
        yield Carry(way.points[:, part], way.seen[:, part], way.onward[:, part])


def _carried(clip: Tensor, way: Carry) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    _check(clip, way.frames, way.size)
    for t, part in enumerate(_frames(way)):
        yield clip[t : t + 1], part.stretched(clip[:1])[:, 0], part.seen


def _continued(clip: Tensor, way: Carry, step: int) -> tuple[Tensor, Carry]:
    """To the right and below, up to multiples of ``step``: the border's pixels and motion, nothing of it seen."""
    height, width = way.size
    edges = (0, -width % step, 0, -height % step)
    if not any(edges):
        return clip, way

    def border(x: Tensor) -> Tensor:
        return F.pad(x.flatten(0, -4), edges, mode="replicate").view(*x.shape[:-2], height + edges[3], width + edges[1])

    moved = border(way.points - pixel_grid(height, width, way.points.device, way.points.dtype))
    points = moved + pixel_grid(*moved.shape[-2:], moved.device, moved.dtype)
    return border(clip), Carry(points, F.pad(way.seen, edges), border(way.onward))


def _similarity(first: Tensor, later: Tensor, part: Carry) -> Tensor:
    """Of one level's features ``[1, C, h, w]``; the motion is brought to their size."""
    way = part.to(first.device).resized(*first.shape[-2:])
    similar = F.cosine_similarity(way.stretched(first)[:, 0], later)
    return similar[way.seen[:, 0]].mean().cpu()


def _check(clip: Tensor, frames: int, size: tuple[int, int]) -> None:
    if clip.dim() != 4:
        raise ValueError(f"expected a clip [F,C,H,W], got {list(clip.shape)}")
    if len(clip) != frames:
        raise ValueError(f"the motion has {frames} frames, the clip {len(clip)}: make them as long")
    if clip.shape[-2:] != size:
        (height, width), (h, w) = size, clip.shape[-2:]
        raise ValueError(f"the motion is for {width} x {height} pixels, the clip has {w} x {h}: resize the motion")
