"""Flow of a training clip: all pairs in one batch against one pair after the other (EMG section 4.3, Figure 7)."""

import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from _emg_models import BACKBONE, FRAMES, SIZE, SIZES, Models, autocast, controlled
from _emg_quality import Scenes
from _emg_store import Store

from aqueduct.core.motion.estimators import DisEstimator
from aqueduct.core.networks.video_unet import VideoMotionAdapter, start_from
from aqueduct.core.training.geometric import batched_motion, sequential_motion

LENGTHS, SIDES = (8, 16, 24, 32, 48), (64, 256)
ROUNDS = 7


def measure_flow_cost(models: Models, store: Store, quick: bool) -> None:
    """Wall time, because the batch's gain is that pairs run side by side; interleaved, medians."""
    lengths, rounds = (LENGTHS[:2], 1) if quick else (LENGTHS, ROUNDS)
    world = Scenes(1, frames=lengths[-1]).truth[0]
    estimator = DisEstimator()
    step = training_step(models)
    for side in SIDES[:1] if quick else SIDES:
        video = F.interpolate(world, (side, side), mode="bilinear") if side != SIZE else world
        for length in lengths:
            clip = video[:length].transpose(0, 1)[None]
            works = {
                "batched": lambda clip=clip: batched_motion(clip, estimator),
                "sequential": lambda clip=clip: sequential_motion(clip, estimator),
            }
            if side == SIZE:
                works["training step"] = lambda length=length: step(length)
            part = f"flow, DIS on {estimator.threads} threads, {rounds} rounds"
            store.once(part, f"{side} px, {length} frames", "", lambda works=works: interleaved(works, rounds))


def interleaved(works: dict[str, Callable[[], object]], rounds: int) -> dict:
    """Medians over rounds in which each is run once; the first round warms up. Seconds, and ratios of a round."""
    times = {name: [] for name in works}
    for n in range(rounds + 1):
        for name, work in works.items():
            started = time.perf_counter()
            work()
            if n:
                times[name].append(time.perf_counter() - started)
    ratios = [slow / fast for slow, fast in zip(times["sequential"], times["batched"], strict=True)]
    return {
        "seconds": {name: statistics.median(values) for name, values in times.items()},
        "ratio": statistics.median(ratios), "ratios": ratios,
    }  # fmt: skip


def training_step(models: Models) -> Callable[[int], None]:
    """Forward and backward of an adapter beside its frozen backbone, one clip of so many frames."""
    backbone = models.backbone() if models.path(BACKBONE) else None
    if backbone is None:
        raise FileNotFoundError(f"no {BACKBONE}.safetensors: the training step cannot be timed")
    adapter = start_from(VideoMotionAdapter(**SIZES), backbone, torch.Generator().manual_seed(0)).train()
    scenes = Scenes(1, frames=FRAMES)
    way = scenes.chain()

    def step(frames: int) -> None:
        chosen = torch.arange(frames) % FRAMES
        own = type(way)(way.points[:, chosen], way.seen[:, chosen], way.onward[:, chosen])
        x = torch.randn(1, SIZES["in_channels"], frames, SIZE, SIZE)
        network = autocast(controlled(backbone, adapter, scenes.first, own))
        network(x, torch.full((1,), 0.5), None).square().mean().backward()
        adapter.zero_grad()

    return step
