"""What the motion part promises, held at modest cost; benchmarks/motion.py measures the same at length."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from aqueduct.core.motion import MotionField, cycle_mask
from aqueduct.core.motion.estimators import DisEstimator, estimate_motion
from aqueduct.core.training.worlds import make_world

ROOT = Path(__file__).resolve().parents[2]


def f1_of_occluded(motion, occluded):
    said = ~torch.cat([cycle_mask(motion.forward, motion.backward), cycle_mask(motion.backward, motion.forward)])
    hits = (said & occluded).sum().item()
    return hits, said.sum().item() + occluded.sum().item()


@pytest.fixture(scope="module")
def worlds():
    """Six worlds as they come, two frames each from the middle of the clip."""
    scenes = []
    for seed in range(6):
        world = make_world(seed, 192, 256, 6)
        clip = torch.stack([world.frame(2), world.frame(3)])
        occluded = torch.stack([world.occluded(2, 3), world.occluded(3, 2)])
        truth = torch.stack([world.flow(2, 3), world.flow(3, 2)])
        scenes.append((clip, occluded, truth))
    return scenes


def pooled(scenes, motion_of):
    hits, total = zip(*(f1_of_occluded(motion_of(clip, truth), hidden) for clip, hidden, truth in scenes), strict=True)
    return 2 * sum(hits) / sum(total)


def test_the_cycle_test_finds_what_is_hidden_from_exact_flow(worlds):
    assert pooled(worlds, lambda clip, truth: MotionField(truth[:1], truth[1:])) >= 0.9


def test_the_cycle_test_finds_what_is_hidden_from_dis_flow(worlds):
    assert pooled(worlds, lambda clip, truth: estimate_motion(clip, DisEstimator())) >= 0.6


def test_dis_is_close_to_the_true_motion_where_both_frames_show_the_pixel(worlds):
    errors = []
    for clip, hidden, truth in worlds:
        motion = estimate_motion(clip, DisEstimator())
        found = torch.cat([motion.forward, motion.backward])
        errors.append((found - truth).norm(dim=1)[~hidden])
    assert torch.cat(errors).mean() < 0.15


def test_one_step_stays_good_where_the_long_way_does_not():
    """EMG's theorems 1 and 2: the error of a direct estimate grows with the distance, that of a step does not."""
    far, steps, first, last = 12, [], [], []
    for seed in range(2):
        world = make_world(seed, 128, 176, far + 1, speed=3.0)
        clip, estimator = world.clip(), DisEstimator()
        motion = estimate_motion(clip, estimator)
        for t, errors in ((0, first), (far - 1, last)):
            errors.append((motion.forward[t] - world.flow(t, t + 1)).norm(dim=0)[~world.occluded(t, t + 1)])
        direct = estimator(clip[:1], clip[far:])[0]
        steps.append((direct - world.flow(0, far)).norm(dim=0)[~world.occluded(0, far)])
    first, last, direct = (torch.cat(errors).mean().item() for errors in (first, last, steps))
    assert last < 2 * first
    assert direct > 5 * last


@pytest.mark.slow
def test_a_hundred_frames_stay_under_four_gigabytes():
    """A fresh process, torch itself included: both directions, both masks, and as much of advecting as shows its need.

    Each frame of `advect` needs the same again, beside the clip and the mask it fills, which are counted as full.
    """
    if not Path("/proc/self/status").exists():
        pytest.skip("reads the peak of resident memory from Linux's /proc")
    done = subprocess.run([sys.executable, "-c", HUNDRED_FRAMES], stdout=subprocess.PIPE, text=True, check=True)
    result = json.loads(done.stdout)
    filled = 100 * 512 * 512 * (3 * 4 + 1)
    assert result["clip"] > 3e8 and result["peak"] > 2 * result["clip"]
    assert result["peak"] + filled < 4e9


HUNDRED_FRAMES = f"""
import sys
sys.path.insert(0, {str(ROOT / "scripts")!r})
from _pack import load_pack
load_pack()
import json, pathlib, torch
from aqueduct.core.motion import advect, cycle_mask
from aqueduct.core.motion.estimators import DisEstimator, estimate_motion

image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
image = torch.nn.functional.interpolate(image, (512, 512), mode="bilinear")[0]
clip = torch.stack([image.roll(t, -1) for t in range(100)])
motion = estimate_motion(clip, DisEstimator("ultrafast"))
masks = cycle_mask(motion.forward, motion.backward), cycle_mask(motion.backward, motion.forward)

class Enough(Exception):
    pass

def report(done, total):
    if done == 3:
        raise Enough

try:
    advect(clip[0], motion, report=report)
except Enough:
    pass
status = pathlib.Path("/proc/self/status").read_text()
peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
print(json.dumps({{"clip": clip.numel() * 4, "peak": int(peak.split()[1]) * 1024}}))
"""
