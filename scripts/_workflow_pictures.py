"""What the workflows without a model make, for the README and the template browser.

The photograph is scikit-learn's china.jpg, by danielbuechele, CC BY 2.0. The film is Big Buck Bunny, (c) copyright 2008
Blender Foundation, www.bigbuckbunny.org, CC BY 3.0. Both are reduced here.
"""

import json

import torch
from _motion_pictures import photograph, sheet
from PIL import Image
from torch import Tensor

from aqueduct.core.motion import MotionField, advect, cycle_mask
from aqueduct.core.motion.algebra import looped, over
from aqueduct.core.motion.camera import Keyframe, camera_motion
from aqueduct.core.motion.densify import motion_from_tracks
from aqueduct.core.motion.estimators import DisEstimator, estimate_motion
from aqueduct.core.motion.track_document import read_document
from aqueduct.core.noise import drawn, warp_noise
from aqueduct.core.plots.motion import draw_tracks, flow_colours, motion_energy, warped_grid
from aqueduct.scripts import _media

HEIGHT, WIDTH, FRAMES = 216, 324, 25
FILM, FIRST, COUNT = "bigbuckbunny", 20, 6
DRAWING = {
    "version": 1,
    "tracks": [
        {"points": [[0.335, 0.09], [0.42, 0.06], [0.50, 0.12]], "ease": "in-out"},
        {"points": [[0.33, 0.36], [0.38, 0.35]], "ease": "in-out"},
        {"points": [[0.17, 0.50], [0.13, 0.42]], "ease": "in-out"},
        {"points": [[0.50, 0.50], [0.55, 0.56]], "ease": "in-out"},
        *({"points": [place]} for place in ([0.33, 0.80], [0.80, 0.15], [0.75, 0.50], [0.03, 0.40])),
    ],
    "pins": [{"points": [[0.0, 0.95], [1.0, 0.95]], "radius": 0.08}],
}


def last(clip: Tensor) -> Tensor:
    """The last frame of ``[F, C, h, w]`` as ``[h, w, C]``."""
    return clip[-1].permute(1, 2, 0)


def masked(flags: Tensor) -> Tensor:
    return flags.float()[..., None].expand(-1, -1, 3)


def leaning(photo: Tensor) -> tuple[Tensor, MotionField]:
    """The drawing over the photo, and the motion that it makes."""
    document, size = read_document(json.dumps(DRAWING)), tuple(photo.shape[1:])
    tracks = document.tracks(size, FRAMES)
    motion = motion_from_tracks(tracks, "gaussian", radius=0.12 * size[1], pinned=document.pinned(size))
    return draw_tracks(tracks.positions, tracks.visible, size, photo[None])[-1], motion


def drawn_row(photo: Tensor) -> list[tuple[str, Tensor]]:
    drawing, motion = leaning(photo)
    clip, unseen = advect(photo, motion)
    return [
        ("drawn on a photo", drawing),
        (f"frame {FRAMES // 2}", clip[FRAMES // 2].permute(1, 2, 0)),
        (f"frame {FRAMES - 1}", last(clip)),
        ("never seen by the photo", masked(unseen[-1])),
    ]


def film_row() -> list[tuple[str, Tensor]]:
    clip = _media.read_clip(FILM, range(FIRST, FIRST + COUNT), 768)  # 768 x 432; the middle has the photo's shape
    clip = clip[..., 60:708]
    motion = estimate_motion(clip, DisEstimator()).resized(HEIGHT, WIDTH)
    small = torch.nn.functional.interpolate(clip, (HEIGHT, WIDTH), mode="bilinear", antialias=True)
    valid = cycle_mask(motion.forward, motion.backward)
    return [
        ("a film", small[0].permute(1, 2, 0)),
        ("how it moves", flow_colours(motion.forward)[0]),
        ("by how far a cycle misses", motion_energy(motion)[0]),
        ("hidden in the next frame", masked(~valid[0])),
    ]


def camera_row(photo: Tensor) -> list[tuple[str, Tensor]]:
    _, motion = leaning(photo)
    swaying = looped(motion.sliced(0, FRAMES // 2 + 1), 1, ping_pong=True)
    keys = [Keyframe(0.0, ease="in-out"), Keyframe(1.0, pan_x=-0.08, zoom=1.4, roll=6.0)]
    seen = over(camera_motion(swaying.frames, *swaying.size, keys, (0.35, 0.5)), swaying)
    clip, _ = advect(photo, seen)
    grid = warped_grid(seen, photo[None])
    return [("drawn motion under a camera", clip[FRAMES // 2].permute(1, 2, 0)), ("its grid", grid[FRAMES // 2])]


def noise_rows() -> list[tuple[str, Tensor]]:
    """A film, and one line of its noise over time: ordinary noise, and noise that moves along."""
    clip = _media.read_clip("bikes", range(0, 48), 510)[..., 93:417]  # the belt in the middle, 324 x 217
    small = torch.nn.functional.interpolate(clip, (HEIGHT // 3, WIDTH // 3), mode="bilinear", antialias=True)
    motion = estimate_motion(clip, DisEstimator()).resized(*small.shape[-2:])
    first = drawn((3, *small.shape[-2:]), 0)
    panels = [("a film", clip[0, :, :HEIGHT].permute(1, 2, 0))]
    for caption, strategy in (("a column of its noise over time", "resample"), ("the same, warped", "white")):
        line = warp_noise(first, motion, strategy)[:, :, :, small.shape[-1] // 2]  # [F, C, h]
        picture = (line.permute(1, 2, 0) / 5 + 0.5).clamp(0, 1)[None]
        panels.append((caption, torch.nn.functional.interpolate(picture, (HEIGHT, WIDTH))[0].permute(1, 2, 0)))
    return panels


def animated() -> Image.Image:
    """The README's picture."""
    return sheet(drawn_row(photograph(HEIGHT, WIDTH)) + film_row(), 4)


def thumbnails() -> dict[str, Image.Image]:
    """Workflow name -> its picture in the template browser."""
    photo = photograph(HEIGHT, WIDTH)
    drawn, film = drawn_row(photo), film_row()
    return {
        "draw_motion": sheet([drawn[0], drawn[2]], 1),
        "video_motion": sheet(film[:2], 1),
        "camera_motion": sheet(camera_row(photo), 1),
        "warped_noise_any_model": sheet(noise_rows(), 1),
    }
