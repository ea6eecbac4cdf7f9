"""Does the object go where it was told? Tracks as users draw them, and the same points tracked in the answer."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from _emg_models import BACKBONE, DENSIFIER, FRAMES, SHIPPED, SIZE, Models, animate, held_out_pictures
from _emg_quality import joined
from _emg_store import Store
from torch import Tensor

from aqueduct.core.motion.carry import Carry, carry
from aqueduct.core.motion.densify.motion import motion_from_tracks
from aqueduct.core.motion.estimators import DisEstimator
from aqueduct.core.motion.sampling import pixel_grid, sample
from aqueduct.core.motion.tracks import Tracks
from aqueduct.core.training.motion_clips import PhotoWorlds

SCENES, SEED = 50, 9102
SHORTEST, LONGEST = 6.0, 20.0  # pixels a track covers
MARGIN = 4  # pixels: tracks stay so far inside
PINS, CLEARANCE = 4, 8.0  # static points, so many pixels from what moves
# A tracker holds what has texture in both directions (Shi and Tomasi 1994): the least eigenvalue of the structure
# tensor, a mean over 7 x 7 pixels of squared grey values 0..1. Chosen on 24 other scenes, by the pure warp alone.
TEXTURE, WINDOW = 1e-3, 7
ENLARGED = 4  # times, before motion is estimated in the answer
# The Gaussian default, 64 pixels, is for pictures of 512; at a side of 64 it would move everything with everything.
CLASSICAL = {"gaussian": {"radius": 8.0}, "edge-aware": {}}


@dataclass(frozen=True, eq=False)
class Drawn:
    """A picture ``[3, H, W]``, and tracks on it of which the first ``moving`` move."""

    picture: Tensor
    tracks: Tracks
    moving: int


def drawn_scenes(count: int, seed: int = SEED) -> list[Drawn]:
    generator = torch.Generator().manual_seed(seed)
    worlds = PhotoWorlds(held_out_pictures(), SIZE, SIZE, FRAMES)
    found = []
    while len(found) < count:
        world = worlds.draw(generator)
        scene = _drawn(world, generator)
        found += [] if scene is None else [scene]
    return found


def _drawn(world, generator: torch.Generator) -> Drawn | None:
    """1 to 3 points, each on an object of its own, and pins around; None where no object has room or texture."""
    top = world.visible(pixel_grid(SIZE, SIZE, dtype=torch.float64), 0)
    picture = world.frame(0).clamp(0, 1)
    trackable = texture(picture) > TEXTURE
    objects = [mask for n in range(1, len(world.layers)) if (mask := _inner(top == n) & trackable).any()]
    order = torch.randperm(len(objects), generator=generator).tolist()
    count = int(torch.randint(1, 4, (), generator=generator))
    paths = [path for n in order[:count] if (path := _path(objects[n], generator)) is not None]
    if not paths:
        return None
    moving = torch.stack(paths, dim=1)
    still = _pins(top > 0, moving, generator)
    positions = torch.cat([moving, still[None].expand(FRAMES, -1, -1)], dim=1).float()
    visible = torch.ones(positions.shape[:2], dtype=torch.bool)
    return Drawn(picture, Tracks(positions, visible, (SIZE, SIZE)), len(paths))


def texture(picture: Tensor) -> Tensor:
    """``[H, W]``: the least eigenvalue of the structure tensor of ``picture [3, H, W]``."""
    grey = F.pad(picture.mean(0)[None, None], (1, 1, 1, 1), mode="replicate")
    dx = (grey[..., 1:-1, 2:] - grey[..., 1:-1, :-2]) / 2
    dy = (grey[..., 2:, 1:-1] - grey[..., :-2, 1:-1]) / 2
    xx, xy, yy = (
        F.avg_pool2d(product, WINDOW, stride=1, padding=WINDOW // 2)[0, 0] for product in (dx * dx, dx * dy, dy * dy)
    )
    return (xx + yy) / 2 - (((xx - yy) / 2).square() + xy.square()).sqrt()


def _path(mask: Tensor, generator: torch.Generator) -> Tensor | None:
    """``[F, 2]`` from somewhere in ``mask``, straight, curved or stopping on its way; None if it will not fit."""
    for _ in range(50):
        start = _somewhere(mask, generator)
        length, angle, bend, kind = torch.rand(4, generator=generator, dtype=torch.float64).tolist()
        length, angle = SHORTEST + (LONGEST - SHORTEST) * length, 2 * math.pi * angle
        along = torch.tensor([math.cos(angle), math.sin(angle)], dtype=torch.float64)
        across = torch.stack([-along[1], along[0]])
        time = torch.linspace(0, 1, FRAMES, dtype=torch.float64)[:, None]
        if kind > 2 / 3:
            time = (time / 0.6).clamp(max=1)  # there before the end, and rests
        curve = (bend - 0.5) * 1.2 * length if 1 / 3 < kind <= 2 / 3 else 0.0
        path = start + time * length * along + 4 * time * (1 - time) * curve / 2 * across
        if ((path >= MARGIN) & (path <= SIZE - 1 - MARGIN)).all():
            return path
    return None


def _pins(objects: Tensor, moving: Tensor, generator: torch.Generator) -> Tensor:
    """``[n, 2]`` on the ground, clear of every path."""
    grid = pixel_grid(SIZE, SIZE, dtype=torch.float64)
    distance = (grid[None] - moving.reshape(-1, 2, 1, 1)).norm(dim=1).amin(0)
    free = ~objects & (distance > CLEARANCE)
    return torch.stack([_somewhere(free, generator) for _ in range(PINS)]) if free.any() else moving.new_empty(0, 2)


def _inner(mask: Tensor, rim: int = 2) -> Tensor:
    return F.max_pool2d((~mask)[None].float(), 2 * rim + 1, stride=1, padding=rim)[0] == 0


def _somewhere(mask: Tensor, generator: torch.Generator) -> Tensor:
    rows, columns = mask.nonzero(as_tuple=True)
    n = int(torch.randint(len(rows), (), generator=generator))
    return torch.stack([columns[n], rows[n]]).double()


def retracked(clip: Tensor, starts: Tensor, estimate) -> Tensor:
    """``[F, N, 2]``: where the points ``starts [N, 2]`` of frame 0 go in ``clip [F, 3, H, W]``, by chained flow."""
    large = F.interpolate(clip, scale_factor=ENLARGED, mode="bicubic").clamp(0, 1)
    flow = estimate(large[:-1], large[1:])
    points = ((starts + 0.5) * ENLARGED - 0.5).T[None, :, :, None]
    found = [points]
    for step in flow:
        points = points + sample(step[None], points)
        found.append(points)
    return (torch.cat(found)[..., 0].transpose(1, 2) + 0.5) / ENLARGED - 0.5


def measure_control(models: Models, store: Store, quick: bool) -> None:
    """Endpoint errors for every densifier, of the adapter as it ships (from the carried picture) and of what it is
    measured against; and what zero tracks give."""
    if not models.has(SHIPPED):
        return print(f"control: no {SHIPPED}.safetensors", flush=True)
    scenes = drawn_scenes(2 if quick else SCENES)
    part, digest = f"control of {len(scenes)} scenes", models.digest(BACKBONE, SHIPPED, DENSIFIER)
    backbone, adapter = models.backbone(), models.adapter(SHIPPED)
    densifiers = {name: (name, given) for name, given in CLASSICAL.items()} | {"learned": (models.densifier(), {})}
    pictures = torch.stack([scene.picture for scene in scenes])
    seeds = range(SEED * 1000, SEED * 1000 + len(scenes))
    for name, (densifier, given) in densifiers.items():
        if densifier is None:
            print(f"control: no {DENSIFIER}.safetensors", flush=True)
            continue

        def measured(densifier=densifier, given=given) -> dict:
            fields = [motion_from_tracks(one.tracks, densifier, image=one.picture, **given) for one in scenes]
            way = joined(carry(motion) for motion in fields)
            carried = way.stretched(pictures)
            clips = {
                "adapter": animate(models, backbone, adapter, pictures, way, seeds, carried),
                "adapter, from the repeated picture": animate(models, backbone, adapter, pictures, way, seeds),
                "carried picture, no adapter": animate(models, backbone, None, pictures, way, seeds, carried),
                "pure warp": carried,
            }
            return {made: endpoints(clip, scenes) for made, clip in clips.items()}

        store.once(part, name, digest, measured)
    store.once(part, "zero tracks", digest, lambda: stillness(models, backbone, adapter, pictures, seeds))


def endpoints(clips: Tensor, scenes: list[Drawn]) -> dict:
    """A value for each moving track: how far its end is off, how far it is off on average, and how far it went."""
    estimate = DisEstimator(threads=1)
    ends, means, lengths = [], [], []
    for clip, scene in zip(clips, scenes, strict=True):
        drawn = scene.tracks.positions[:, : scene.moving]
        off = (retracked(clip, drawn[0], estimate) - drawn).norm(dim=-1)
        ends += off[-1].tolist()
        means += off[1:].mean(0).tolist()
        lengths += (drawn[-1] - drawn[0]).norm(dim=-1).tolist()
    return {"end": ends, "mean": means, "length": lengths}


def stillness(models: Models, backbone, adapter, pictures: Tensor, seeds) -> dict:
    """Grey levels of 255, a value for each clip: between neighbouring frames, and to the picture."""
    grid = pixel_grid(SIZE, SIZE).expand(len(pictures), FRAMES, -1, -1, -1)
    still = Carry(grid, torch.ones_like(grid[:, :, 0], dtype=torch.bool), torch.zeros_like(grid))
    found = {}
    for name, own in (("adapter", adapter), ("backbone alone", None)):
        clips = animate(models, backbone, own, pictures, still, seeds)
        between = 255 * clips.diff(dim=1).abs().flatten(1)
        apart = 255 * (clips - pictures[:, None]).abs().flatten(1)
        found[name] = {
            "between mean": between.mean(1).tolist(), "between max": between.amax(1).tolist(),
            "to picture mean": apart.mean(1).tolist(), "to picture max": apart.amax(1).tolist(),
        }  # fmt: skip
    return found
