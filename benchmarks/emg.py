#!/usr/bin/env python3
"""EMG's experiments at the scale of the small models: does the animation follow its motion, and does it last?

    python3 benchmarks/emg.py --runs runs              # everything; rows that are there already are kept
    python3 benchmarks/emg.py --parts control drift    # only these
    python3 benchmarks/emg.py --parts                  # draw table, plot and pictures again from the stored numbers
    python3 benchmarks/emg.py --quick                  # two clips and two steps, to see that it runs; writes nothing

Writes `results/emg.json` after every row, and `emg.md`, `emg.png` at the end; `pictures`, which is not among the parts
unless named, `emg_<clip>.jpg`: frames 1, 10, 50 and 100 side by side. The backbone and the shipped adapter
are in `models/`; those of the ablation come from `python3 scripts/train_small.py emg_bgc` and its like. Pictures and
videos come from the registry into the user's cache.
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
from _emg_control import measure_control
from _emg_drift import VIDEOS, long_clips, measure_drift
from _emg_figures import figure, frame_sheet
from _emg_flow_cost import measure_flow_cost
from _emg_models import STEPS, Models
from _emg_quality import measure_ablation, measure_alphas
from _emg_report import report
from _emg_store import Store
from _model_files import folders

PARTS = {
    "ablation": measure_ablation,
    "alphas": measure_alphas,
    "control": measure_control,
    "drift": measure_drift,
    "flow": measure_flow_cost,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, help="folder of trained files, looked up before runs/ and models/")
    parser.add_argument(
        "--parts", nargs="*", choices=[*PARTS, "pictures"], default=list(PARTS), help="these parts only"
    )
    parser.add_argument("--quick", action="store_true", help="two clips, two steps; missing adapters are new ones")
    parser.add_argument("--results", type=Path, default=HERE / "results", help="folder to write to")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    models = Models(folders(options.runs), 2 if options.quick else STEPS, options.quick)
    settings = {"machine": f"{platform.machine()}, CPU", "torch": torch.__version__}
    store = Store(None if options.quick else options.results / "emg.json", settings)
    for name in options.parts:
        if name == "pictures":
            write_sheets(models, options.results)
        else:
            PARTS[name](models, store, options.quick)
    text = report(store.result)
    if options.quick:
        with tempfile.TemporaryDirectory() as folder:
            figure(store.result, Path(folder) / "emg.png")
        return print(text)
    store.save()
    (options.results / "emg.md").write_text(text)
    figure(store.result, options.results / "emg.png")


def write_sheets(models: Models, folder: Path) -> None:
    for kind in VIDEOS:
        frame_sheet(long_clips(models, kind), folder / f"emg_{kind}.jpg")
        print(f"pictures: {kind}", flush=True)


if __name__ == "__main__":
    main()
