"""A hundred frames: what is left of the first one, window after window."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from _emg_models import BACKBONE, FRAMES, SHIPPED, SIZE, Models, animate, held_out_pictures
from _emg_quality import exact_pairs, lagrangian
from _emg_store import Store
from _model_files import EYES
from torch import Tensor

from aqueduct.core.animation import Window, eulerian_chain
from aqueduct.core.guidance import Pairs, previous_frame
from aqueduct.core.metrics.consistency import self_warping_error
from aqueduct.core.metrics.drift import identity, sharpness
from aqueduct.core.metrics.restoration import psnr
from aqueduct.core.motion.carry import Carry, carry
from aqueduct.core.motion.estimators import DisEstimator
from aqueduct.core.motion.field import MotionField
from aqueduct.core.motion.sampling import pixel_grid
from aqueduct.core.training.motion_clips import PhotoWorlds
from aqueduct.core.training.worlds import LayeredWorld
from aqueduct.scripts._media import read_clip

LENGTH, OVERLAP, LATE = 100, 4, 50
WORLDS, SEED = 8, 9201
SLOW = {"speed": 0.25, "spin": 0.006, "still": 0.0}  # so that things stay in frame
# name -> (top, left, side) of the square that is cut out and reduced
VIDEOS = {"carphone": (8, 24, 128)}  # bikes has a cut at frame 30


@dataclass(frozen=True, eq=False)
class LongScene:
    """``truth [F, 3, H, W]``; ``motion`` as DIS sees it; ``way`` and ``pairs``: what is compared, exact in worlds."""

    truth: Tensor
    motion: MotionField
    way: Carry
    pairs: Pairs


def long_world(world: LayeredWorld) -> LongScene:
    grid, times = pixel_grid(SIZE, SIZE), range(world.frames)
    points = torch.stack([grid + world.flow(t, 0) for t in times])
    onward = torch.stack([world.flow(0, t) for t in times])
    seen = torch.stack([~world.occluded(t, 0) for t in times])
    truth = world.clip().clamp(0, 1)
    return LongScene(truth, dis_motion(truth), Carry(points[None], seen[None], onward[None]), exact_pairs(world))


def long_video(name: str, frames: int) -> LongScene:
    top, left, side = VIDEOS[name]
    piece = read_clip(name, range(frames))[:, :, top : top + side, left : left + side]
    truth = F.interpolate(piece, (SIZE, SIZE), mode="bilinear", antialias=True)
    motion = dis_motion(truth)
    return LongScene(truth, motion, carry(motion), previous_frame(motion))


def dis_motion(video: Tensor) -> MotionField:
    estimate = DisEstimator(threads=1)
    return MotionField(estimate(video[:-1], video[1:]), estimate(video[1:], video[:-1]))


# (models, scene, seed) -> clip [F, 3, H, W]
Way = Callable[[Models, LongScene, int], Tensor]


def truth(models: Models, scene: LongScene, seed: int) -> Tensor:
    return scene.truth


def pure_warp(models: Models, scene: LongScene, seed: int) -> Tensor:
    return carry(scene.motion).stretched(scene.truth[:1])[0]


def pure_lagrangian(models: Models, scene: LongScene, seed: int) -> Tensor:
    return lagrangian(scene.truth, DisEstimator(threads=1)).stretched(scene.truth[:1])[0]


def chained(file: str | None, anchor: bool, carried: bool = False) -> Way:
    """Windows along the adjacent fields. ``file`` None: no adapter. ``carried``: from the carried picture, else from
    the window's first frame, repeated."""

    def make(models: Models, scene: LongScene, seed: int) -> Tensor:
        backbone = models.backbone()
        adapter = None if file is None else models.adapter(file)

        def generate(window: Window) -> Tensor:
            prior = window.prior[None] if carried else None
            own = [1000 * seed + window.index]
            return animate(models, backbone, adapter, window.first[None], carry(window.motion), own, prior)[0]

        frames = eulerian_chain(scene.truth[0], scene.motion, generate, FRAMES, OVERLAP, anchor)
        return torch.stack([frame for frame, _ in frames])

    return make


def referenced(file: str) -> Way:
    """The Lagrangian form: every window is frame 0 and the next frames, which come straight from frame 0.

    Windows overlap and fade into each other as those of the chain do.
    """

    def make(models: Models, scene: LongScene, seed: int) -> Tensor:
        backbone, adapter = models.backbone(), models.adapter(file)
        way = lagrangian(scene.truth, DisEstimator(threads=1))
        clip, done = scene.truth.clone(), 1
        while done < len(clip):
            start = max(1, done - OVERLAP)
            chosen = [0, *range(start, min(start + FRAMES - 1, len(clip)))]
            part = Carry(way.points[:, chosen], way.seen[:, chosen], way.onward[:, chosen])
            own = animate(models, backbone, adapter, scene.truth[:1], part, [1000 * seed + start])[0, 1:]
            share = torch.arange(1, done - start + 1)[:, None, None, None] / (done - start + 1)
            clip[start:done] = torch.lerp(clip[start:done], own[: done - start], share)
            clip[done : start + len(own)] = own[done - start :]
            done = start + len(own)
        return clip

    return make


# row -> (files it needs, how it is made)
WAYS: dict[str, tuple[tuple[str, ...], Way]] = {
    "truth": ((), truth),
    "pure warp": ((), pure_warp),
    "pure warp, Lagrangian": ((), pure_lagrangian),
    "Lagrangian": (("emg_lagrangian",), referenced("emg_lagrangian")),
    "Eulerian, no mask": (("emg_eulerian",), chained("emg_eulerian", anchor=False)),
    "Eulerian + BGC": (("emg_bgc",), chained("emg_bgc", anchor=False)),
    "Eulerian + BGC, anchored": (("emg_bgc",), chained("emg_bgc", anchor=True)),
    "shipped adapter, carried": ((SHIPPED,), chained(SHIPPED, anchor=True, carried=True)),
    "shipped adapter, carried, without anchoring": ((SHIPPED,), chained(SHIPPED, anchor=False, carried=True)),
    "bridge from the carried picture": ((), chained(None, anchor=True, carried=True)),
}


def long_scenes(quick: bool) -> dict[str, list[LongScene]]:
    frames, count = (20, 1) if quick else (LENGTH, WORLDS)
    generator = torch.Generator().manual_seed(SEED)
    source = PhotoWorlds(held_out_pictures(), SIZE, SIZE, frames, **SLOW)
    scenes = {"worlds": [long_world(source.draw(generator)) for _ in range(count)]}
    return scenes | ({} if quick else {name: [long_video(name, frames)] for name in VIDEOS})


def measure_drift(models: Models, store: Store, quick: bool) -> None:
    eyes = models.eyes()
    for kind, scenes in long_scenes(quick).items():
        part = f"drift of {kind}"
        for name, (files, make) in WAYS.items():
            if not all(models.has(file) for file in files):
                print(f"{part}: no {', '.join(files)}", flush=True)
                continue

            def measured(make=make, scenes=scenes) -> dict:
                rows = []
                for n, scene in enumerate(scenes):
                    rows.append(curves_of(make(models, scene, SEED + n), scene, eyes))
                    print(f"  {n + 1} of {len(scenes)}", flush=True)
                return summary(rows)

            store.once(part, name, models.digest(EYES, BACKBONE, *files), measured)


def curves_of(clip: Tensor, scene: LongScene, eyes) -> dict[str, Tensor]:
    """Per frame, ``[F]``."""
    errors = 1e3 * self_warping_error(clip, scene.pairs)
    return {
        "identity": identity(clip, scene.way, eyes),
        "sharpness": sharpness(clip),
        "warping": F.pad(errors, (1, 0), value=torch.nan),
        "psnr": psnr(clip, scene.truth).clamp(max=99),
    }


def summary(rows: list[dict[str, Tensor]]) -> dict:
    """Means over clips for every frame, and each clip's mean over the late frames, which says how sure that is."""
    curves, late = {}, {}
    for key in rows[0]:
        values = torch.stack([row[key] for row in rows])
        means = values.nanmean(0)
        curves[key] = [None if value != value else value for value in means.tolist()]
        late[key] = values[:, min(LATE, values.shape[1] // 2) :].nanmean(1).tolist()
    return {"curves": curves, "late": late}


SHOWN = ("pure warp", "Lagrangian", "Eulerian + BGC, anchored", "shipped adapter, carried")


def long_clips(models: Models, kind: str, ways=SHOWN, frames: int = LENGTH) -> dict[str, Tensor]:
    """The clips of one scene, for pictures: ``kind`` is a video's name, or the number of a world as text."""
    if kind in VIDEOS:
        scene = long_video(kind, frames)
    else:
        generator = torch.Generator().manual_seed(SEED)
        source = PhotoWorlds(held_out_pictures(), SIZE, SIZE, frames, **SLOW)
        scene = long_world([source.draw(generator) for _ in range(int(kind) + 1)][-1])
    return {"truth": scene.truth} | {name: WAYS[name][1](models, scene, SEED) for name in ways}
