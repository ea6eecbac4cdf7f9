#!/usr/bin/env python3
"""What SNR-aligned fine-tuning buys: one diffusion of moving digits, made a bridge with and without it, as it learns.

    python3 benchmarks/saf.py --runs runs        # everything: about two hours of one CPU core; goes on where it stopped
    python3 benchmarks/saf.py --arms             # draw table and plot again from the stored numbers
    python3 benchmarks/saf.py --quick            # tiny networks, two iterations, to see that it runs; writes nothing

The host is `class_diffusion_digits` of `train_small.py`, taken from `--runs` or trained there; bridges are written
there too, at several iterations each (1 GB in all). Writes `results/saf.json` after every one of them that is measured,
and `saf.md`, `saf.png` from what there is whenever a training has ended.
"""

import argparse
import platform
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "scripts")]
from _pack import load_pack

load_pack()

import torch
from _digits import load_model
from _emg_store import Store
from _saf_figure import figure
from _saf_measure import QUICK as QUICK_EFFORT
from _saf_measure import Effort, Judge
from _saf_report import report
from _saf_training import ARMS, RAW, SAF, Plan, Trainings
from _saf_training import QUICK as QUICK_PLAN


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=HERE.parent / "runs", help="folder of trained files")
    parser.add_argument("--arms", nargs="*", choices=list(ARMS), default=list(ARMS), help="these only")
    parser.add_argument("--quick", action="store_true", help="tiny networks, two iterations, in a folder of their own")
    parser.add_argument("--results", type=Path, default=HERE / "results", help="folder to write to")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.quick:
        with tempfile.TemporaryDirectory() as folder:
            run(Path(folder), QUICK_PLAN, QUICK_EFFORT, options.arms, Path(folder))
            return print((Path(folder) / "saf.md").read_text())
    run(options.runs, Plan(), Effort(), options.arms, options.results)


def run(runs: Path, plan: Plan, effort: Effort, arms: list[str], results: Path) -> None:
    """Train and measure, seed after seed, so that what is there early can be compared."""
    settings = {
        "machine": f"{platform.machine()}, CPU", "torch": torch.__version__,
        "plan": {**vars(plan), "points": list(plan.points)},
        "effort": {key: list(value) if isinstance(value, tuple) else value for key, value in vars(effort).items()},
    }  # fmt: skip
    store = Store(results / "saf.json", settings)
    pairs = sorted(((arm, seed) for arm in arms for seed in ARMS[arm].seeds), key=lambda pair: order(*pair))
    if pairs:
        trainings, judge = Trainings(runs, plan), Judge.make(runs, effort)
        digest = trainings.written.name
        for name in ("curve", "end"):
            store.once("floors", name, digest, lambda name=name: judge.floors(getattr(effort, name)[0]))
    for arm, seed in pairs:
        measured(trainings, judge, store, arm, seed)
        write(store, results)
    if not pairs:
        write(store, results)


def order(arm: str, seed: int) -> tuple:
    """SAF and its absence first, what they are compared with besides last."""
    return arm not in (SAF, RAW), len(ARMS[arm].seeds) == 1, seed


def measured(trainings: Trainings, judge: Judge, store: Store, arm: str, seed: int) -> None:
    names, folder = trainings.bridges(arm, seed), trainings.written
    row = f"{arm}, seed {seed}"
    for iteration, name in names.items():
        store.once(row, str(iteration), folder.name, lambda name=name: judge.point(load_model(folder, name)))
    last = names[trainings.plan.steps]
    store.once("end", row, folder.name, lambda: judge.end(load_model(folder, last)))


def write(store: Store, results: Path) -> None:
    store.save()
    (results / "saf.md").write_text(report(store.result))
    figure(store.result, results / "saf.png")


if __name__ == "__main__":
    main()
