"""Cycle masks against true occlusion, on worlds where motion and occlusion are formulas."""

from collections.abc import Iterable

import torch
from torch.nn import functional as F

from aqueduct.core.motion import MotionField, cycle_mask
from aqueduct.core.motion.cycle import ALPHA1, ALPHA2
from aqueduct.core.motion.estimators import DEFAULT_PRESET, PRESETS, DisEstimator, estimate_motion
from aqueduct.core.training.worlds import LayeredWorld, make_world

HEIGHT, WIDTH, FRAMES = 192, 256, 6
SPEED = 6.0  # make_world's own: pixels per frame of the foreground, a quarter of it for the background
SPEEDS = (1.5, 3.0, SPEED, 10.0)
GRID_ALPHA1 = (0.0, 0.003, ALPHA1, 0.03, 0.1, 0.3)
GRID_ALPHA2 = (0.05, 0.1, 0.25, ALPHA2, 1.0, 2.0, 4.0)


class Scenes:
    """Worlds of one speed, their clips and truth, and motion from the truth or from an estimator."""

    def __init__(self, count: int, speed: float):
        self.worlds = [make_world(seed, HEIGHT, WIDTH, FRAMES, speed=speed) for seed in range(count)]
        self.clips = [world.clip() for world in self.worlds]
        self.occluded = [torch.cat(world.occlusions()) for world in self.worlds]
        self.exact = [world.motion() for world in self.worlds]

    def estimated(self, preset: str) -> list[MotionField]:
        return [estimate_motion(clip, DisEstimator(preset)) for clip in self.clips]

    def scores(self, motions: Iterable[MotionField], alpha1: float = ALPHA1, alpha2: float = ALPHA2) -> dict:
        """Precision, recall and F1 of "occluded", both directions of all worlds pooled."""
        said = [
            ~torch.cat([
                cycle_mask(motion.forward, motion.backward, alpha1, alpha2),
                cycle_mask(motion.backward, motion.forward, alpha1, alpha2),
            ])
            for motion in motions
        ]  # fmt: skip
        return precision_recall(torch.cat(said), torch.cat(self.occluded))

    def endpoint_error(self, motions: Iterable[MotionField]) -> float:
        """Mean distance in pixels to the true vectors, where the pixel is seen in both frames."""
        errors = []
        for motion, exact, occluded in zip(motions, self.exact, self.occluded, strict=True):
            found, true = (torch.cat([field.forward, field.backward]) for field in (motion, exact))
            errors.append((found - true).norm(dim=1)[~occluded])
        return torch.cat(errors).mean().item()


def precision_recall(said: torch.Tensor, true: torch.Tensor) -> dict:
    hits = (said & true).sum().item()
    precision, recall = hits / max(said.sum().item(), 1), hits / max(true.sum().item(), 1)
    # a false alarm next to a hidden pixel is an outline drawn a pixel too thick
    near = F.max_pool2d(true[:, None].float(), 3, 1, 1)[:, 0] > 0
    alarms = said & ~true
    return {
        "precision": precision,
        "recall": recall,
        "f1": 2 * hits / max(said.sum().item() + true.sum().item(), 1),
        "alarms_beside_truth": (alarms & near).sum().item() / max(alarms.sum().item(), 1),
    }


def measure_masks(quick: bool) -> dict:
    """At the defaults, over presets and speeds; and over the grid of both thresholds."""
    count = 2 if quick else 8
    sources, speeds, grid = {}, {}, {}
    for speed in SPEEDS:
        scenes = Scenes(count, speed)
        motions = {"exact flow": scenes.exact, "DIS flow": scenes.estimated(DEFAULT_PRESET)}
        speeds[f"{speed:g}"] = {name: scenes.scores(found) for name, found in motions.items()} | {
            "occluded": torch.cat(scenes.occluded).float().mean().item()
        }
        if speed != SPEED:
            continue
        sources["exact flow"] = scenes.scores(scenes.exact) | {"endpoint_error_px": 0.0}
        for preset in PRESETS:
            found = motions["DIS flow"] if preset == DEFAULT_PRESET else scenes.estimated(preset)
            sources[f"DIS {preset}"] = scenes.scores(found) | {"endpoint_error_px": scenes.endpoint_error(found)}
        for name, found in motions.items():
            grid[name] = [[scenes.scores(found, a1, a2) for a2 in GRID_ALPHA2] for a1 in GRID_ALPHA1]
    return {
        "worlds": count, "size": [HEIGHT, WIDTH], "frames": FRAMES, "speed": SPEED,
        "sources": sources, "speeds": speeds, "alpha1": GRID_ALPHA1, "alpha2": GRID_ALPHA2, "grid": grid,
    }  # fmt: skip


def picture(seed: int = 0) -> dict[str, torch.Tensor]:
    """One scene to look at: two frames, true occlusion, and what the mask says from exact and from DIS flow."""
    world: LayeredWorld = make_world(seed, HEIGHT, WIDTH, FRAMES, speed=SPEED)
    clip = world.clip()[2:4]
    found = estimate_motion(clip, DisEstimator())
    exact = world.motion().sliced(2, 4)
    return {
        "frame t": clip[0],
        "frame t + 1": clip[1],
        "hidden in frame t + 1 (truth)": world.occluded(2, 3),
        "cycle test, exact flow": ~cycle_mask(exact.forward, exact.backward)[0],
        f"cycle test, DIS {DEFAULT_PRESET}": ~cycle_mask(found.forward, found.backward)[0],
    }
