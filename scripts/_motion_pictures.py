"""The pictures of the motion pages, drawn by the code they describe on a photograph and on a world of exact motion.

The photograph is scikit-learn's china.jpg, by danielbuechele, CC BY 2.0 (cropped and reduced here).
"""

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from aqueduct.core.motion.advect import advect
from aqueduct.core.motion.algebra import over
from aqueduct.core.motion.camera import Keyframe, camera_motion
from aqueduct.core.motion.cycle import cycle_energy, cycle_mask
from aqueduct.core.motion.densify import DENSIFIERS, motion_from_tracks
from aqueduct.core.motion.field import MotionField
from aqueduct.core.motion.sampling import inside, pixel_grid
from aqueduct.core.motion.tracks import Tracks
from aqueduct.core.optional import need
from aqueduct.core.plots.clips import hatch_period, hatching
from aqueduct.core.plots.motion import draw_tracks, energy_heat, flow_arrows, flow_colours, warped_grid
from aqueduct.core.training.worlds import make_world

INK, PAPER = (40, 44, 52), (255, 255, 255)
HEIGHT, WIDTH, FRAMES = 216, 324, 17
CAPTION, GAP = 22, 8

Panel = tuple[str, Tensor]  # caption, [h, w, 3]


def photograph(height: int = HEIGHT, width: int = WIDTH) -> Tensor:
    """``[3, height, width]`` in 0..1."""
    datasets = need("sklearn.datasets", "the photograph of the help pages")
    picture = Image.fromarray(datasets.load_sample_image("china.jpg")).crop((0, 0, 640, 427))
    small = picture.resize((width, height), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.asarray(small, dtype=np.float32).copy()).permute(2, 0, 1) / 255


def sheet(panels: list[Panel], columns: int) -> Image.Image:
    """Panels of one size with a caption above each."""
    height, width = panels[0][1].shape[:2]
    rows = -(-len(panels) // columns)
    size = columns * (width + GAP) - GAP, rows * (height + CAPTION + GAP) - GAP
    canvas = Image.new("RGB", size, PAPER)
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(13)
    for i, (caption, picture) in enumerate(panels):
        x, y = i % columns * (width + GAP), i // columns * (height + CAPTION + GAP)
        draw.text((x, y + CAPTION / 2), caption, fill=INK, font=font, anchor="lm")
        pixels = (picture.numpy() * 255).round().astype(np.uint8)
        canvas.paste(Image.fromarray(pixels), (x, y + CAPTION))
    return canvas


def turning(height: int = HEIGHT, width: int = WIDTH, frames: int = FRAMES) -> MotionField:
    """A formula: a slow pan, and a part of the picture that turns."""
    x, y = pixel_grid(height, width)
    x, y = x - 0.42 * width, y - 0.48 * height
    turn = 0.055 * torch.exp(-(x.square() + y.square()) / (2 * (0.24 * height) ** 2))
    field = torch.stack([0.6 - turn * y, turn * x - 0.3])
    return MotionField(field.expand(frames - 1, -1, -1, -1).clone()).bidirectional()


def hatched(picture: Tensor, where: Tensor) -> Tensor:
    """``picture [h, w, 3]``, hatched where the mask ``[h, w]`` is True."""
    stripes = torch.from_numpy(hatching(*where.shape, hatch_period(*where.shape)))
    return torch.where(where[..., None], stripes, picture)


def carried(photo: Tensor, motion: MotionField) -> Tensor:
    """The clip ``[F, 3, h, w]`` that the photograph becomes, hatched where it leaves the frame open."""
    clip, _ = advect(photo, motion)
    for t in range(1, motion.frames):
        back, _ = motion.between_valid(t, 0)
        outside = ~inside(back + pixel_grid(*motion.size), *motion.size)
        clip[t] = hatched(clip[t].permute(1, 2, 0), outside).permute(2, 0, 1)
    return clip


def previews() -> Image.Image:
    """The four styles of the preview node."""
    photo, motion = photograph()[None], turning()
    moved = carried(photo[0], motion)
    world = make_world(5, HEIGHT, WIDTH, 4)
    exact = world.motion()
    energy = cycle_energy(exact.forward, exact.backward)
    valid = cycle_mask(exact.forward, exact.backward)
    panels = [
        ("colours", flow_colours(motion.forward, motion.forward_valid, photo)[0]),
        ("arrows", flow_arrows(motion.forward, motion.forward_valid, photo)[0]),
        (f"grid, in frame {FRAMES - 1}", warped_grid(motion, moved)[-1]),
        ("energy (another clip)", energy_heat(energy, valid, world.clip())[1]),
    ]
    return sheet(panels, columns=2)


def cycle() -> Image.Image:
    """Two frames of a world whose occlusion is known, the energy, and what the test says."""
    world = make_world(5, HEIGHT, WIDTH, 4)
    exact = world.motion()
    energy = cycle_energy(exact.forward, exact.backward)
    hidden = ~cycle_mask(exact.forward, exact.backward)[1]
    frame, following = (muted(world.frame(t)) for t in (1, 2))
    panels = [
        ("frame i", frame),
        ("frame i+1", following),
        ("cycle energy on frame i", energy_heat(energy, ~hidden.expand(3, -1, -1), world.clip())[1]),
        ("occluded: the test (hatched)", hatched(frame, hidden)),
    ]
    return sheet(panels, columns=2)


def muted(frame: Tensor) -> Tensor:
    """``[3, h, w]`` -> ``[h, w, 3]`` with little colour: masks drawn over it are seen."""
    grey = frame.mean(0, keepdim=True)
    return (0.35 + 0.5 * (grey + 0.35 * (frame - grey))).permute(1, 2, 0)


def drawn(frames: int = FRAMES) -> Tracks:
    """The roof goes right; sky, shore and the trees below are static."""
    share = torch.linspace(0, 1, frames)[:, None]
    starts = torch.tensor([[0.05, 0.15], [0.33, 0.30], [0.75, 0.30], [0.80, 0.58], [0.25, 0.90], [0.70, 0.90]])
    starts = starts * torch.tensor([float(WIDTH), float(HEIGHT)])
    ways = torch.zeros(len(starts), 2)
    ways[1] = torch.tensor([44.0, 8.0])
    places = starts + share[..., None] * ways
    return Tracks(places, torch.ones(places.shape[:2], dtype=torch.bool), (HEIGHT, WIDTH))


def densifiers() -> Image.Image:
    """The same tracks by every densifier."""
    photo, tracks = photograph(), drawn()
    shown = draw_tracks(tracks.positions, tracks.visible, tracks.size, photo[None])[-1]
    panels = [("one track moves, five are static", shown)]
    for name in DENSIFIERS:
        motion = motion_from_tracks(tracks, name, image=photo)
        panels.append((name, last_grid(photo, motion)))
    return sheet(panels, columns=3)


def advected() -> Image.Image:
    """One photograph carried along, and what it never showed."""
    moved, unseen = advect(photograph(), turning())
    clip = moved.permute(0, 2, 3, 1)
    panels = [
        ("the image", clip[0]),
        (f"frame {FRAMES - 1}", clip[-1]),
        ("never seen (hatched)", hatched(clip[-1], unseen[-1])),
    ]
    return sheet(panels, columns=3)


def chain() -> Image.Image:
    """One step of the adjacent motion, the paths along it, and the whole way as one field."""
    photo, motion = photograph(), turning()
    moved = carried(photo, motion)
    whole = motion.between(0, motion.steps)
    y, x = torch.meshgrid(torch.arange(12, HEIGHT, 32), torch.arange(20, WIDTH, 32), indexing="ij")
    ways = torch.stack([motion.between(0, t)[:, y, x] for t in range(FRAMES)])
    places = (torch.stack([x, y]) + ways).flatten(2).transpose(1, 2)
    seen = torch.ones(places.shape[:2], dtype=torch.bool)
    panels = [
        ("forward[0]: from frame 0 to frame 1", flow_arrows(motion.forward[:1], None, photo[None])[0]),
        (f"16 steps, one after the other; frame {FRAMES - 1}", draw_tracks(places, seen, (HEIGHT, WIDTH), moved)[-1]),
        ("between(0, 16): the whole way, on frame 0", flow_arrows(
            whole[None], None, photo[None], spacing=24, factor=1.0, legend=False
        )[0]),
    ]
    return sheet(panels, columns=3)


def filmed(*poses: Keyframe) -> MotionField:
    return camera_motion(FRAMES, HEIGHT, WIDTH, poses)


def last_grid(photo: Tensor, motion: MotionField) -> Tensor:
    return warped_grid(motion, carried(photo, motion), legend=False)[-1]


def cameras() -> Image.Image:
    """What the signs mean: pan, zoom and roll, each on its own."""
    photo, start = photograph(), Keyframe(0)
    panels = [
        ("pan_x 0.12, pan_y -0.08", last_grid(photo, filmed(start, Keyframe(1, pan_x=0.12, pan_y=-0.08)))),
        ("zoom 0.7", last_grid(photo, filmed(start, Keyframe(1, zoom=0.7)))),
        ("roll 15", last_grid(photo, filmed(start, Keyframe(1, roll=15)))),
    ]
    return sheet(panels, columns=3)


def composed() -> Image.Image:
    """An object's motion, a camera's, and what the moving camera sees of the object."""
    photo, tracks = photograph(), drawn()
    moving = motion_from_tracks(tracks, "gaussian", image=photo)
    camera = filmed(Keyframe(0), Keyframe(1, zoom=0.75, roll=10))
    panels = [
        ("the picture moves", last_grid(photo, moving)),
        ("the camera moves", last_grid(photo, camera)),
        ("both: camera over motion", last_grid(photo, over(camera, moving))),
    ]
    return sheet(panels, columns=3)
