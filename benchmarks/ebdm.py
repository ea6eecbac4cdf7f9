#!/usr/bin/env python3
"""EBDM's experiments at the scale of the small models: is the control kept, is the style taken, at what cost?

    python3 benchmarks/ebdm.py --models runs             # everything; rows that are there already are kept
    python3 benchmarks/ebdm.py --only ablation steps     # only these parts
    python3 benchmarks/ebdm.py --only                    # draw the tables and the plot again from the stored numbers
    python3 benchmarks/ebdm.py --quick                   # few pictures and steps, to see that it runs; writes nothing

Writes `results/ebdm.json` after every row, and `ebdm.md`, `ebdm_steps.png` at the end; the part `pictures` writes
`ebdm_grid.jpg` and `ebdm_ablation.jpg`. The shipped model is in `models/`; those of the ablation come from
`python3 scripts/train_small.py exemplar_baseline` and its like, and a row whose file is missing is left out. Held-out
photographs come from the registry into the user's cache. FLOPs at the paper's sizes need a ComfyUI, of which the
networks' classes are taken: the one of `COMFYUI_PATH`, or the one that the tests have fetched.
"""

import argparse
import platform
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "scripts")]
from _pack import load_pack

load_pack()

import torch
from _ebdm_cost import measure_cost
from _ebdm_figures import steps_figure
from _ebdm_models import Models
from _ebdm_pictures import ablation_sheet, grid_sheet
from _ebdm_quality import measure_ablation, measure_diversity, measure_steps
from _ebdm_report import report
from _emg_store import Store
from _model_files import folders

PARTS = {
    "ablation": measure_ablation,
    "diversity": measure_diversity,
    "steps": measure_steps,
    "cost": measure_cost,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, help="folder of trained files, looked up before runs/ and models/")
    parts = [*PARTS, "pictures"]
    parser.add_argument("--only", nargs="*", choices=parts, default=parts, help="these parts only")
    parser.add_argument("--quick", action="store_true", help="few pictures, two steps")
    parser.add_argument("--results", type=Path, default=HERE / "results", help="folder to write to")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    models = Models(folders(options.models))
    settings = {"machine": f"{platform.machine()}, CPU", "torch": torch.__version__}
    store = Store(None if options.quick else options.results / "ebdm.json", settings)
    for name in options.only:
        if name in PARTS:
            PARTS[name](models, store, options.quick)
    text = report(store.result)
    if options.quick:
        return print(text)
    store.save()
    (options.results / "ebdm.md").write_text(text)
    sweep = next((rows for part, rows in store.result.items() if part.startswith("steps, ")), None)
    if sweep is not None:
        steps_figure(sweep, options.results / "ebdm_steps.png")
    if "pictures" in options.only:
        grid_sheet(models, options.results / "ebdm_grid.jpg")
        ablation_sheet(models, options.results / "ebdm_ablation.jpg")


if __name__ == "__main__":
    main()
