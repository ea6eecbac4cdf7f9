#!/usr/bin/env python3
"""How good the motion is: masks against true occlusion, long horizons, real video, and what it all costs.

    python3 benchmarks/motion.py                        # everything, about 15 minutes on two cores
    python3 benchmarks/motion.py --only masks memory    # measure these again and keep the other numbers
    python3 benchmarks/motion.py --only                 # draw tables and plots again from the stored numbers
    python3 benchmarks/motion.py --quick                # a few scenes each, to see that it runs; writes nothing

Writes `results/motion.json`, `.md`, `.png` and `motion_masks.png` beside this file. Videos come from the registry into
the user's cache on first use.
"""

import argparse
import json
import platform
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "scripts")]
from _pack import load_pack

load_pack()

import cv2
import torch
from _motion_cost import measure_batching, measure_memory
from _motion_figures import figure, mask_picture
from _motion_horizon import measure_horizon
from _motion_masks import measure_masks, picture
from _motion_report import report
from _motion_video import measure_video
from _results import previous

PARTS = {
    "masks": lambda options: measure_masks(options.quick),
    "horizon": lambda options: measure_horizon(options.quick),
    "video": lambda options: measure_video(options.quick),
    "batching": lambda options: measure_batching(options.quick, options.device),
    "memory": lambda options: measure_memory(options.quick),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=PARTS, help="measure these parts and keep the others' numbers")
    parser.add_argument("--quick", action="store_true", help="few scenes and rounds; prints, and writes nothing")
    parser.add_argument("--device", default="cpu", help="where RAFT runs, such as cuda (DIS is on the CPU)")
    parser.add_argument("--threads", type=int, default=2, help="torch threads (RAFT's timing takes one)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    settings = {
        "command": "python3 benchmarks/motion.py", "machine": f"{platform.machine()}, CPU",
        "torch": torch.__version__, "opencv": cv2.__version__,
    }  # fmt: skip
    result = {} if options.quick else previous(HERE / "results" / "motion.json", settings)
    for name, measure in PARTS.items():
        if options.only is not None and name not in options.only:
            continue
        started = time.monotonic()
        result[name] = measure(options)
        print(f"{name}: {time.monotonic() - started:.0f} s", flush=True)
        if not options.quick:
            write(settings | result)
    if options.quick:
        print(json.dumps(result, indent=1))
    elif options.only == []:
        write(settings | result)


def write(result: dict) -> None:
    folder = HERE / "results"
    folder.mkdir(exist_ok=True)
    result = json.loads(json.dumps(result), parse_float=lambda text: float(f"{float(text):.5g}"))
    (folder / "motion.json").write_text(json.dumps(result, indent=1) + "\n")
    if all(name in result for name in PARTS):
        (folder / "motion.md").write_text(report(result))
        figure(result, folder / "motion.png")
        mask_picture(picture(), folder / "motion_masks.png")


if __name__ == "__main__":
    main()
