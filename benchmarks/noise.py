#!/usr/bin/env python3
"""What Gaussian noise costs along motion, and how near each way of evaluating it is to the float64 sum.

    python3 benchmarks/noise.py                  # everything, some minutes on one core
    python3 benchmarks/noise.py --only bar       # measure this part again and keep the other numbers
    python3 benchmarks/noise.py --only           # draw the table and the plot again from the stored numbers
    python3 benchmarks/noise.py --quick          # one round each, to see that it runs; writes nothing

Writes `results/noise.json`, `.md` and `.png` beside this file. One torch thread, the ways taken in turns, medians over
rounds; processor time, which neighbours on a shared machine disturb less than the time that passes. The sums over
waves are timed on one piece of 128 x 128 points and scaled: their cost is proportional to the points.
"""

import argparse
import json
import math
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "scripts")]
from _pack import load_pack

load_pack()

import torch
from _noise_report import figure, report
from _results import previous
from torch import Tensor

from aqueduct.core.motion import MotionField
from aqueduct.core.noise import FullRank, GaussianField, drawn, pixel_centres, warp_noise
from aqueduct.core.noise.lattice import Lattice
from aqueduct.core.noise.waves import Waves

RESOLUTION, CHANNELS, FEATURES = 128, 4, 3000  # the paper's: SDXL latents, appendix F.2
SCALE = 2 / (math.pi * RESOLUTION)
SIDES, FRAMES, WIDTHS = (128, 256, 512), (1, 16, 64), (4, 6)
BLOCKS = (64, 128, 256, 512)  # points at a time of the chunked sum, of which the fastest counts
PIECE = RESOLUTION * RESOLUTION
SEED = 7


def warped(side: int, frame: int) -> Tensor:
    """float32 ``[side^2, 2]``: pixel centres that a smooth motion has carried along, up to 8% out of the frame."""
    points = pixel_centres(side, side).reshape(-1, 2)
    reach = 0.08 * math.sin(0.3 * frame + 0.5)
    wave = torch.stack([(7 * points[:, 1] + frame / 5).sin(), (5 * points[:, 0] - frame / 7).cos()], dim=1)
    return (points + reach * wave).float()


# --- the ways ---------------------------------------------------------------------------------------------------------


class PlainSums:
    """The paper's sum in float32: naive, with the points x waves block in memory, and chunked, in place."""

    def __init__(self, waves: Waves):
        self.z, self.b, self.w = waves.frequencies.float().T.contiguous(), waves.phases.float(), waves.weights.float()
        self.block = 0

    def naive(self, points: Tensor) -> Tensor:
        return torch.cos(points @ self.z + self.b) @ self.w

    def chunked(self, points: Tensor) -> Tensor:
        """In place in one buffer: fresh blocks cost as much again where the allocator returns them to the system."""
        buffer, result = torch.empty(self.block, len(self.b)), torch.empty(len(points), CHANNELS)
        for rows, values in zip(points.split(self.block), result.split(self.block), strict=True):
            torch.mm(torch.addmm(self.b, rows, self.z, out=buffer[: len(rows)]).cos_(), self.w, out=values)
        return result

    def choose_block(self, points: Tensor) -> int:
        times = dict.fromkeys(BLOCKS, math.inf)
        for self.block in BLOCKS * 4:
            times[self.block] = min(times[self.block], seconds(lambda: self.chunked(points)))
        self.block = min(times, key=times.get)
        return self.block


def prepared(width: int, frames: list[Tensor], features: int | FullRank = FEATURES, scale: float = SCALE) -> Tensor:
    """All that the fast way needs, from the seed on, and the last frame's values."""
    lattice = Lattice(GaussianField(SEED, CHANNELS, scale, features).waves, width)
    for points in frames:
        values = lattice.evaluate(points)
    return values


def seconds(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def in_turns(ways: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    times = {name: [] for name in ways}
    for _ in range(rounds):
        for name, work in ways.items():
            times[name].append(seconds(work))
    return times


# --- the parts --------------------------------------------------------------------------------------------------------


def measure_accuracy(quick: bool) -> dict:
    """Relative RMS error of each way against the float64 sum, on warped points."""
    points = warped(128, 3)[:: 64 if quick else 4]
    field = GaussianField(SEED, CHANNELS, SCALE, FEATURES)
    reference, sums = field.reference(points), PlainSums(field.waves)
    sums.block = 128
    ways = {"naive": sums.naive(points), "chunked": sums.chunked(points)}
    ways |= {f"lattice, {width} taps": Lattice(field.waves, width).evaluate(points) for width in range(3, 9)}
    return {name: ((got - reference).norm() / reference.norm()).item() for name, got in ways.items()}


def measure_bar(quick: bool) -> dict:
    """16 frames of 128 x 128 points: all that is prepared included, against both plain sums in the same rounds."""
    frames = [warped(RESOLUTION, frame) for frame in range(16)]
    sums = PlainSums(GaussianField(SEED, CHANNELS, SCALE, FEATURES).waves)
    block = sums.choose_block(frames[0])
    ways = {"naive": lambda: sums.naive(frames[3]), "chunked": lambda: sums.chunked(frames[3])}
    ways |= {f"lattice, {width} taps": lambda width=width: prepared(width, frames) for width in WIDTHS}
    times = in_turns(ways, 1 if quick else 9)
    for name in ("naive", "chunked"):
        times[name] = [value * len(frames) for value in times[name]]
    result = {"block": block, "frames": len(frames), "milliseconds": {}, "over_naive": {}, "over_chunked": {}}
    for name, values in times.items():
        result["milliseconds"][name] = 1e3 * statistics.median(values) / len(frames)
        for base in ("naive", "chunked"):
            ratios = [slow / fast for slow, fast in zip(times[base], values, strict=True)]
            result[f"over_{base}"][name] = [statistics.median(ratios), min(ratios), max(ratios)]
    return result


def measure_paths(quick: bool) -> dict:
    """Milliseconds a frame of every way, for every number of points and frames; all but *ready* prepare first."""
    result = {}
    sums = PlainSums(GaussianField(SEED, CHANNELS, SCALE, FEATURES).waves)
    piece = warped(128, 3)
    sums.choose_block(piece)
    for side in SIDES[:1] if quick else SIDES:
        for count in FRAMES[:2] if quick else FRAMES:
            frames = [warped(side, frame) for frame in range(min(count, 16))] * max(1, count // 16)
            ready = Lattice(GaussianField(SEED, CHANNELS, SCALE, FEATURES).waves)
            ready.evaluate(frames[0])
            ways = {"naive": lambda: sums.naive(piece), "chunked": lambda: sums.chunked(piece)}
            ways |= {f"lattice, {w} taps": lambda w=w, frames=frames: prepared(w, frames) for w in WIDTHS}
            ways["lattice, 6 taps, ready"] = lambda ready=ready, frames=frames: [ready.evaluate(one) for one in frames]
            ways["full rank, 6 taps"] = lambda frames=frames: prepared(6, frames, FullRank())
            times = in_turns(ways, 1 if quick or side * side * count > 2e6 else 3)
            scale = dict.fromkeys(ways, 1 / count) | dict.fromkeys(("naive", "chunked"), side * side / PIECE)
            row = {name: 1e3 * scale[name] * statistics.median(values) for name, values in times.items()}
            result[f"{side} x {side}, {count}"] = row
            print(side, count, {name: round(value, 2) for name, value in row.items()}, flush=True)
    return result


def measure_scaling(quick: bool) -> dict:
    """Milliseconds to prepare and to read one frame of 128 x 128 points, for numbers of waves and resolutions."""
    cases = {f"{count} waves": (count, RESOLUTION) for count in (300, 3000, 30_000)}
    cases["full rank"] = (FullRank(), RESOLUTION)
    if not quick:
        cases |= {f"3000 waves, resolution {side}": (3000, side) for side in (256, 512)}
        cases["full rank, resolution 256"] = (FullRank(), 256)
    result, points = {}, warped(128, 3)
    for name, (features, resolution) in cases.items():
        scale, rounds = 2 / (math.pi * resolution), 1 if quick else 5
        ready = Lattice(GaussianField(SEED, CHANNELS, scale, features).waves)
        ready.evaluate(points)
        ways = {
            "prepare": lambda features=features, scale=scale: prepared(6, [points[:1]], features, scale),
            "read": lambda ready=ready: ready.evaluate(points),
        }
        row = {key: 1e3 * statistics.median(values) for key, values in in_turns(ways, rounds).items()}
        result[name] = row | {"waves": len(ready.waves)}
    return result


def measure_leaving(quick: bool) -> dict:
    """A pan by a tenth of the frame each frame, over 16 frames: more tiles to prepare."""
    step = torch.tensor([0.1, 0.02])
    frames = [warped(128, 0) + frame * step for frame in range(16)]
    sums = PlainSums(GaussianField(SEED, CHANNELS, SCALE, FEATURES).waves)
    sums.choose_block(frames[0])
    ways = {"chunked": lambda: sums.chunked(frames[0]), "lattice, 6 taps": lambda: prepared(6, frames)}
    times = in_turns(ways, 1 if quick else 5)
    ratios = [16 * slow / fast for slow, fast in zip(*times.values(), strict=True)]
    milliseconds = 1e3 * statistics.median(times["lattice, 6 taps"]) / 16
    return {"milliseconds": milliseconds, "over_chunked": statistics.median(ratios)}


def measure_warpers(quick: bool) -> dict:
    """Milliseconds a frame of `warp_noise` as a whole, maps and all preparations included, over 16 frames.

    A smooth motion of 22.5 pixels a frame at 512 x 512 on average, which is what Go-with-the-Flow's were measured on.
    """

    def field(side: int) -> GaussianField:
        return GaussianField(SEED, CHANNELS, 2 / (math.pi * side), FEATURES)

    result, sums, piece = {}, PlainSums(field(RESOLUTION).waves), warped(128, 3)
    for side in (128,) if quick else (128, 512):
        generator = torch.Generator().manual_seed(SEED)
        flow = torch.nn.functional.interpolate(
            torch.randn(15, 2, 6, 6, generator=generator), (side, side), mode="bicubic"
        )
        flow = flow * (22.5 / 512 * side / flow.norm(dim=1).mean())
        motion = MotionField(flow, -flow)
        white = drawn((CHANNELS, side, side), SEED, 0)
        ways = {
            "naive": lambda: sums.naive(piece),
            "gp": lambda side=side, motion=motion: warp_noise(field(side), motion, "gp"),
            "white": lambda white=white, motion=motion: warp_noise(white, motion, "white"),
        }
        times = in_turns(ways, 1 if quick else 5)
        scale = {"naive": side * side / PIECE, "gp": 1 / 16, "white": 1 / 16}
        result[f"{side} x {side}"] = {
            name: 1e3 * scale[name] * statistics.median(values) for name, values in times.items()
        }
    return result


PARTS = {
    "accuracy": measure_accuracy,
    "bar": measure_bar,
    "paths": measure_paths,
    "scaling": measure_scaling,
    "leaving": measure_leaving,
    "warpers": measure_warpers,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=PARTS, help="measure these parts and keep the others' numbers")
    parser.add_argument("--quick", action="store_true", help="one round; prints, and writes nothing")
    options = parser.parse_args()
    torch.set_num_threads(1)
    settings = {
        "command": "python3 benchmarks/noise.py", "machine": f"{platform.machine()}, CPU", "torch": torch.__version__,
    }  # fmt: skip
    result = {} if options.quick else previous(HERE / "results" / "noise.json", settings)
    for name, measure in PARTS.items():
        if options.only is not None and name not in options.only:
            continue
        started = time.monotonic()
        result[name] = measure(options.quick)
        print(f"{name}: {time.monotonic() - started:.0f} s", flush=True)
    if options.quick:
        print(json.dumps(result, indent=1))
    elif set(PARTS) <= set(result):
        write(settings | result)
    else:
        print("not written: run all parts once before measuring some again")


def write(result: dict) -> None:
    folder = HERE / "results"
    folder.mkdir(exist_ok=True)
    (folder / "noise.json").write_text(json.dumps(result, indent=1) + "\n")
    (folder / "noise.md").write_text(report(result))
    figure(result, folder / "noise.png")


if __name__ == "__main__":
    main()
