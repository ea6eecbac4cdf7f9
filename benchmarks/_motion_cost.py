"""What motion costs: one batch against a loop over pairs, time against the length of the clip, and peak memory."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "scripts"))  # also a program of its own: the child whose memory is measured
from _pack import load_pack

load_pack()

import torch

from aqueduct.core.motion.estimators import RELEASES, DisEstimator, estimate_motion, raft_from_module
from aqueduct.core.training.worlds import make_world

RAFT_SIZE = (128, 160)
DIS_SIZE = (180, 320)
FRAMES = 24  # as in EMG's figure 7
LENGTHS = (4, 8, 16, 24, 48)
MEMORY_SIZE, MEMORY_FRAMES = 512, 100


def measure_batching(quick: bool, device: str) -> dict:
    """Seconds for all pairs of a clip, both directions: looped and in one batch, taken in turns.

    Torch gets one thread: on a shared machine the wall time of two says more about the neighbours.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _batching(quick, device)
    finally:
        torch.set_num_threads(threads)


def _batching(quick: bool, device: str) -> dict:
    frames, rounds, few = (6, 2, 1) if quick else (FRAMES, 9, 3)
    cases = {"DIS fine": (DIS_SIZE, _dis, rounds, time.perf_counter)}
    for variant in RELEASES:
        cases[variant] = (RAFT_SIZE, _raft(variant, device), few, _clock(device))
    result = {
        "frames": frames, "device": _device_name(device), "torch_threads": torch.get_num_threads(),
        "dis_threads": DisEstimator().threads, "cases": {},
    }  # fmt: skip
    load = [os.getloadavg()[0]] if hasattr(os, "getloadavg") else [float("nan")]
    for name, (size, ways, rounds, clock) in cases.items():
        clip = make_world(1, *size, frames).clip()
        times = _in_turns(ways(clip), rounds, clock)
        ratio = torch.tensor([a / b for a, b in zip(times["loop"], times["batch"], strict=True)]).median().item()
        medians = {way: torch.tensor(values).median().item() for way, values in times.items()}
        result["cases"][name] = {"size": list(size), "rounds": rounds, "ratio": ratio} | medians
        print(name, result["cases"][name], flush=True)
    result["lengths"] = _lengths(quick, device)
    load.append(os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan"))
    return result | {"load": sorted(load)}


def _clock(device: str) -> Callable[[], float]:
    """Processor time of the one thread at work on the CPU; on an accelerator the time that passes."""
    return time.process_time if device == "cpu" else time.perf_counter


def _dis(clip: torch.Tensor) -> dict[str, Callable[[], object]]:
    loop, batch = DisEstimator(threads=1), DisEstimator()
    pairs = _pairs(clip)
    return {
        "loop": lambda: [loop(first[None], second[None]) for first, second in pairs],
        "batch": lambda: estimate_motion(clip, batch),
    }


def _raft(variant: str, device: str) -> Callable[[torch.Tensor], dict[str, Callable[[], object]]]:
    """Random weights: the cost does not depend on them."""
    import torchvision.models.optical_flow as models

    torch.manual_seed(0)
    estimator = raft_from_module(getattr(models, RELEASES[variant].builder)(weights=None).to(device))

    def ways(clip: torch.Tensor) -> dict[str, Callable[[], object]]:
        first, second = (torch.stack(images).to(device) for images in zip(*_pairs(clip), strict=True))
        return {
            "loop": lambda: [estimator(first[i : i + 1], second[i : i + 1]) for i in range(len(first))],
            "batch": lambda: estimator(first, second),
        }

    return ways


def _pairs(clip: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
    forward = list(zip(clip[:-1], clip[1:], strict=True))
    return forward + [(second, first) for first, second in forward]


def _in_turns(
    ways: dict[str, Callable[[], object]], rounds: int, clock: Callable[[], float]
) -> dict[str, list[float]]:
    times = {way: [] for way in ways}
    for round_ in range(rounds + 1):
        for way, work in ways.items():
            started = clock()
            work()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if round_:  # the first is a warm-up
                times[way].append(clock() - started)
    return times


def _lengths(quick: bool, device: str) -> dict[str, dict[str, float]]:
    """Seconds of the batch against the number of frames."""
    lengths = LENGTHS[:2] if quick else LENGTHS
    seconds: dict[str, dict[str, float]] = {}
    cases = {
        "DIS fine": (DIS_SIZE, _dis, time.perf_counter),
        "raft-small": (RAFT_SIZE, _raft("raft-small", device), _clock(device)),
    }
    for name, (size, ways, clock) in cases.items():
        clip = make_world(1, *size, lengths[-1]).clip()
        seconds[name] = {}
        for length in lengths:
            times = _in_turns({"batch": ways(clip[:length])["batch"]}, 1 if quick else 2, clock)["batch"]
            seconds[name][str(length)] = torch.tensor(times).median().item()
    return seconds


def _device_name(device: str) -> str:
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else "CPU"


def measure_memory(quick: bool) -> dict:
    """Peak resident memory of a fresh process that estimates, masks and advects a long clip on the CPU."""
    frames = 10 if quick else MEMORY_FRAMES
    done = subprocess.run([sys.executable, __file__, str(frames)], stdout=subprocess.PIPE, text=True, check=True)
    return {"frames": frames, "size": MEMORY_SIZE} | json.loads(done.stdout.splitlines()[-1])


def resident_peak() -> float:
    """GiB; VmHWM where there is one, because ru_maxrss of a child may be that of the parent it was forked from."""
    status = Path("/proc/self/status")
    if status.exists():
        peak = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(peak.split()[1]) / 2**20
    import resource

    scale = 2**30 if sys.platform == "darwin" else 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale


def _memory_child(frames: int) -> None:
    from aqueduct.core.motion import advect, cycle_mask

    torch.set_num_threads(2)
    world = make_world(3, MEMORY_SIZE, MEMORY_SIZE, 2)
    clip = torch.empty(frames, 3, MEMORY_SIZE, MEMORY_SIZE)
    base = world.frame(0)
    for index in range(frames):  # a slow pan: what it shows does not matter for memory
        clip[index] = base.roll(index, -1)
    result = {"clip_gib": clip.numel() * 4 / 2**30, "at_start_gib": resident_peak()}
    started = time.perf_counter()
    motion = estimate_motion(clip, DisEstimator())
    result |= {"after_estimation_gib": resident_peak(), "estimation_s": time.perf_counter() - started}
    masks = cycle_mask(motion.forward, motion.backward), cycle_mask(motion.backward, motion.forward)
    result |= {"after_masks_gib": resident_peak(), "valid": torch.stack(masks).float().mean().item()}
    started = time.perf_counter()
    advect(clip[0], motion)
    result |= {"peak_gib": resident_peak(), "advect_s": time.perf_counter() - started}
    print(json.dumps(result))


if __name__ == "__main__":
    _memory_child(int(sys.argv[1]))
