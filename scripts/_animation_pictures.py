"""What the animation workflows make of a photograph with the shipped model: frames, and what the photo never showed.

The photograph is scikit-learn's flower.jpg, CC BY 2.0, reduced. It is among the pictures that the model has learned
from.
"""

import json
import math
from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F
from _motion_pictures import hatched, sheet
from PIL import Image
from torch import Tensor

from aqueduct.core import checkpoints
from aqueduct.core.animation import Window, eulerian_chain
from aqueduct.core.bridges import sample_bridge, times
from aqueduct.core.motion import MotionField, advect
from aqueduct.core.motion.algebra import masked
from aqueduct.core.motion.camera import Keyframe, camera_motion
from aqueduct.core.motion.carry import carry
from aqueduct.core.motion.densify import motion_from_tracks
from aqueduct.core.motion.sampling import pixel_grid, sample
from aqueduct.core.motion.track_document import read_document
from aqueduct.core.motion.tracks import Tracks
from aqueduct.core.networks.video_bridge import VideoBridge
from aqueduct.core.plots.motion import draw_tracks, flow_arrows
from aqueduct.scripts import _media
from aqueduct.scripts._animation_workflows import MODEL, SIDE, WINDOW
from aqueduct.scripts._pack import ROOT

STEPS, CHAIN_STEPS, OVERLAP, LONG = 12, 8, 4, 100  # as in the workflows
SHOWN, ZOOM, LARGE = (3, 6, 9, 12, 15), 3, 5
CENTRE, INNER, OUTER = (0.47, 0.52), 0.2, 0.36  # of the flower: its middle, where tracks begin, what is not its leaves
ORANGE = 0.18  # by how much red exceeds blue in the flower
WAY, TURN = (-0.1, -0.08), math.radians(25)


def flower(side: int = SIDE) -> Tensor:
    """The middle of the photograph, ``[3, side, side]`` in 0..1, made small as core's Image Scale does it (area)."""
    picture = _media.read_picture(_media.photo_path("flower"))[None] / 255
    margin = (picture.shape[3] - picture.shape[2]) // 2
    return F.interpolate(picture[..., margin : margin + picture.shape[2]], (side, side), mode="area")[0]


def drawing(size: tuple[int, int]) -> Tracks:
    """The flower turns on its way up and to the left: a track in its middle and four around it."""
    places = [(0.0, 0.0), (INNER, 0.0), (0.0, INNER), (-INNER, 0.0), (0.0, -INNER)]
    tracks = [{"points": [around(x, y), around(x, y, TURN, WAY)], "ease": "in-out"} for x, y in places]
    return read_document(json.dumps({"version": 1, "tracks": tracks, "pins": []})).tracks(size, WINDOW)


def around(x: float, y: float, turn: float = 0.0, way: tuple[float, float] = (0.0, 0.0)) -> list[float]:
    cosine, sine = math.cos(turn), math.sin(turn)
    return [CENTRE[0] + way[0] + cosine * x - sine * y, CENTRE[1] + way[1] + sine * x + cosine * y]


def flower_motion(photo: Tensor) -> MotionField:
    """The tracks, spread rigidly within the flower's outline, which goes with them; all else rests."""
    motion = motion_from_tracks(drawing(photo.shape[1:]), "rigid")
    grid = pixel_grid(*motion.size)
    apart = (grid / photo.shape[1] - torch.tensor(CENTRE)[:, None, None]).norm(dim=0)
    outline = ((photo[0] - photo[2] > ORANGE) & (apart < OUTER)).float()
    ways = torch.stack([motion.between(t, 0) for t in range(motion.frames)])
    outlines = sample(outline.expand(motion.frames, 1, -1, -1), grid + ways)[:, 0]
    return masked(motion, (outlines > 0.5).float())


@cache
def part(name: str):
    """One network of the shipped file."""
    return checkpoints.load(ROOT / "models" / MODEL, name)[0].float()


@torch.no_grad()
def animate(first: Tensor, motion: MotionField, prior: Tensor, steps: int, seed: int) -> Tensor:
    """``[F, 3, h, w]`` in 0..1: the shipped model under its adapter, from ``first [3, h, w]``.

    ``prior [F, 3, h, w]``: that picture carried along, where the bridge starts.
    """
    network, adapter = part("model"), part("adapter")
    video = VideoBridge.from_config(checkpoints.read_config(ROOT / "models" / MODEL))
    carried = adapter.carried(first[None], carry(motion))

    def controlled(x: Tensor, t: Tensor, y) -> Tensor:
        entering = F.pixel_unshuffle(x.transpose(1, 2).flatten(0, 1), network.fold)
        return network(x, t, control=adapter(entering, t, carried))

    z_T = (2 * prior - 1).transpose(0, 1)[None]
    denoise = video.denoiser(controlled, z_T, 2 * first[None] - 1, None)
    generator = torch.Generator().manual_seed(seed)
    clip = sample_bridge(
        denoise, z_T, times(video.bridge, steps), video.bridge,
        noise_sampler=lambda t, t_next: torch.randn(z_T.shape, generator=generator),
    )  # fmt: skip
    return (clip[0].transpose(0, 1) / 2 + 0.5).clamp(0, 1)


def chained(first: Tensor, motion: MotionField, generate: Callable[[Window], Tensor]) -> tuple[Tensor, Tensor]:
    """The clip and where it still shows the first frame, ``[F, 3, h, w]`` and bool ``[F, h, w]``."""
    frames, seen = zip(*eulerian_chain(first, motion, generate, WINDOW, OVERLAP), strict=True)
    return torch.stack(frames), torch.stack(seen)


def large(picture: Tensor, zoom: int = ZOOM) -> Tensor:
    """``[3, h, w]`` -> ``[h zoom, w zoom, 3]``."""
    return F.interpolate(picture[None], scale_factor=zoom, mode="bicubic")[0].permute(1, 2, 0).clamp(0, 1)


def hidden(picture: Tensor, where: Tensor, zoom: int = ZOOM) -> Tensor:
    """``picture [3, h, w]`` as `large` shows it, hatched where the mask ``[h, w]`` is True."""
    return hatched(large(picture, zoom), F.interpolate(where[None, None].float(), scale_factor=zoom)[0, 0] > 0.5)


def drawn_on(photo: Tensor, zoom: int) -> Tensor:
    """``[F, h zoom, w zoom, 3]``: the tracks as they grow, over the photo."""
    tracks = drawing((zoom * photo.shape[1], zoom * photo.shape[2]))
    return draw_tracks(tracks.positions, tracks.visible, tracks.size, large(photo, zoom).permute(2, 0, 1)[None])


def along_tracks() -> tuple[Image.Image, Image.Image]:
    """Frames across; down: the drawing, the photo carried along it, the model's clip, what the photo never showed. And
    the drawing over the model's last frame."""
    photo = flower()
    motion = flower_motion(photo)
    warped, unseen = advect(photo, motion)
    clip = animate(photo, motion, warped, STEPS, 1)
    drawn = drawn_on(photo, ZOOM)
    rows = {
        "the photo, drawn on": lambda t: drawn[t],
        "pure warp": lambda t: large(warped[t]),
        "the model": lambda t: large(clip[t]),
        "never seen": lambda t: hidden(warped[t], unseen[t]),
    }
    panels = [(f"{name}, frame {t}", picture(t)) for name, picture in rows.items() for t in SHOWN]
    two = [("drawn on a photo", drawn_on(photo, LARGE)[-1]), (f"frame {WINDOW - 1}", large(clip[-1], LARGE))]
    return sheet(panels, len(SHOWN)), sheet(two, 1)


def long_clip() -> Image.Image:
    """A hundred frames under a camera: some of them, and what of the last the photo never showed."""
    photo = flower()
    poses = [Keyframe(0.0, ease="in-out"), Keyframe(1.0, pan_x=-0.1, zoom=1.15, roll=4.0)]

    def generate(window: Window) -> Tensor:
        return animate(window.first, window.motion, window.prior, CHAIN_STEPS, 1 + window.index)

    clip, seen = chained(photo, camera_motion(LONG, SIDE, SIDE, poses), generate)
    panels = [(f"frame {t}", large(clip[t])) for t in (0, LONG // 2, LONG - 1)]
    return sheet([*panels, (f"frame {LONG - 1}: made up", hidden(clip[-1], ~seen[-1]))], 2)


def shown_to_svd() -> Image.Image:
    """What Stable Video Diffusion's adapter is shown; SVD itself is too large to run here."""
    photo = flower(LARGE * SIDE)
    motion = flower_motion(photo)
    whole = motion.between(0, motion.steps)[None]
    arrows = flow_arrows(whole, None, photo[None], spacing=24, factor=1.0, legend=False)[0]
    return sheet([("drawn on a photo", drawn_on(photo, 1)[-1]), ("the motion that SVD is shown", arrows)], 1)


def pictures() -> dict[str, Image.Image]:
    """Workflow name -> its picture; under ``animated_model`` that of the README."""
    rows, two = along_tracks()
    return {
        "animated_model": rows,
        "animate_along_tracks": two,
        "animate_svd_mofa": shown_to_svd(),
        "long_clip_chain": long_clip(),
    }
