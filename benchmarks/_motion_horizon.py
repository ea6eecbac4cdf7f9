"""EMG's theory as a measurement: motion over t frames, estimated directly (Lagrangian) or step by step (Eulerian).

Three ways to say how frame 0 moved: `direct` estimates 0 -> t from the two images, `composed` follows the estimated
adjacent fields, and `step` is one adjacent field, t-1 -> t, by itself: what EMG supervises with (theorem 2).
"""

import torch

from aqueduct.core.motion import cycle_mask, warp
from aqueduct.core.motion.estimators import DisEstimator, estimate_motion
from aqueduct.core.training.worlds import make_world
from aqueduct.scripts._media import read_clip

HEIGHT, WIDTH, SPEED = 160, 224, 3.0
HORIZONS = (1, 2, 4, 6, 8, 12, 16, 24)
CLIPS = {"bikes": (320, range(0, 220, 30)), "bigbuckbunny": (320, range(0, 100, 25)), "carphone": (None, (0, 40, 80))}


def measure_horizon(quick: bool) -> dict:
    horizons = HORIZONS[:4] if quick else HORIZONS
    return {
        "size": [HEIGHT, WIDTH], "speed": SPEED, "horizons": horizons, "worlds": 2 if quick else 12,
        "world": _pooled([_world(seed, horizons) for seed in range(2 if quick else 12)], horizons),
        "video": {
            name: _pooled([_video(name, width, start, horizons) for start in list(starts)[: 1 if quick else None]],
                          horizons)
            for name, (width, starts) in CLIPS.items()
        },
    }  # fmt: skip


def _world(seed: int, horizons: tuple[int, ...]) -> dict:
    world = make_world(seed, HEIGHT, WIDTH, horizons[-1] + 1, speed=SPEED)
    motions = _Both(world.clip())
    rows = {}
    never_hidden = torch.ones(HEIGHT, WIDTH, dtype=torch.bool)
    for t in range(1, horizons[-1] + 1):
        seen = ~world.occluded(0, t)
        never_hidden &= seen
        if t not in horizons:
            continue
        true = world.flow(0, t)
        flow, valid = motions.at(t)
        step = (motions.motion.forward[t - 1] - world.flow(t - 1, t)).norm(dim=0)
        step_seen = ~world.occluded(t - 1, t)
        rows[t] = {
            "direct_px": (flow["direct"] - true).norm(dim=0)[never_hidden].mean().item(),
            "composed_px": (flow["composed"] - true).norm(dim=0)[never_hidden].mean().item(),
            "step_px": step[step_seen].mean().item(),
            "direct_valid_px": (flow["direct"] - true).norm(dim=0)[valid["direct"] & never_hidden].mean().item(),
            "composed_valid_px": (flow["composed"] - true).norm(dim=0)[valid["composed"] & never_hidden].mean().item(),
            "truly_seen": seen.float().mean().item(),
        } | {f"{name}_valid": mask.float().mean().item() for name, mask in valid.items()}
    return rows


def _video(name: str, width: int | None, start: int, horizons: tuple[int, ...]) -> dict:
    clip = read_clip(name, range(start, start + horizons[-1] + 1), width)
    motions = _Both(clip)
    rows = {}
    for t in horizons:
        flow, valid = motions.at(t)
        common = valid["direct"] & valid["composed"]
        later = {"still": clip[t]} | {way: warp(clip[t][None], flow[way][None])[0] for way in flow}
        row = {f"{way}_valid": mask.float().mean().item() for way, mask in valid.items()}
        for way, image in later.items():
            row[f"{way}_error"] = 255 * (image - clip[0]).abs().mean(0)[common].mean().item()
        rows[t] = row
    return rows


class _Both:
    """Both kinds of motion from frame 0 of one clip, with their cycle tests."""

    def __init__(self, clip: torch.Tensor):
        self.clip, self.estimator = clip, DisEstimator()
        self.motion = estimate_motion(clip, self.estimator)
        self.checked = self.motion.checked()

    def at(self, t: int) -> tuple[dict, dict]:
        """``flow [2, H, W]`` and validity of ``direct`` and ``composed`` 0 -> t; validity of the ``step`` to t."""
        direct = estimate_motion(self.clip[[0, t]], self.estimator)
        onward, onward_valid = self.checked.between_valid(0, t)
        back = self.motion.between(t, 0)
        flow = {"direct": direct.forward[0], "composed": onward}
        valid = {
            "direct": cycle_mask(direct.forward, direct.backward)[0],
            "composed": onward_valid & cycle_mask(onward[None], back[None])[0],
            "step": self.checked.forward_valid[t - 1],
        }
        return flow, valid


def _pooled(runs: list[dict], horizons: tuple[int, ...]) -> dict:
    """Means over runs and their standard errors: ``{quantity: {t: [mean, error]}}``."""
    pooled = {}
    for key in runs[0][horizons[0]]:
        pooled[key] = {}
        for t in horizons:
            values = torch.tensor([run[t][key] for run in runs], dtype=torch.float64)
            values = values[values.isfinite()]  # nothing valid at that distance: no error to speak of
            spread = values.std().item() / len(values) ** 0.5 if len(values) > 1 else 0.0
            pooled[key][str(t)] = [values.mean().item() if len(values) else None, spread]
    return pooled
