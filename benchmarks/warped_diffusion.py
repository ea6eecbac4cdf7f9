#!/usr/bin/env python3
"""Warped Diffusion's tables at the scale of the small models: do clips restored frame by frame hold together?

    python3 benchmarks/warped_diffusion.py                       # everything, under half an hour on one core
    python3 benchmarks/warped_diffusion.py --only shifts cost    # measure these again and keep the other numbers
    python3 benchmarks/warped_diffusion.py --only                # draw tables and plots again from the stored numbers
    python3 benchmarks/warped_diffusion.py --quick               # one clip each, to see that it runs; writes nothing

Writes `results/warped_diffusion.json`, `.md`, `.png` and `warped_diffusion_slices.png` beside this file. The models
with GP noise ship in `models/`; those with white noise, which they are compared with, come from
`python3 scripts/train_small.py` into `runs/`. Pictures and videos come from the registry into the user's cache.
"""

import argparse
import platform
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "scripts")]
from _pack import ROOT, load_pack

load_pack()

import torch
from _results import as_text, previous, rounded
from _warped_figures import figure, slice_picture
from _warped_measure import measure_cost, measure_frames, measure_settings, measure_shifts, measure_video, slices
from _warped_report import report
from _warped_ways import load_models

PARTS = {
    "frames": measure_frames,
    "shifts": measure_shifts,
    "video": measure_video,
    "settings": measure_settings,
    "cost": measure_cost,
}
SLICES = 24  # frames


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=[*PARTS, "slices"], help="these parts; the others keep theirs")
    parser.add_argument("--quick", action="store_true", help="one clip each; prints, and writes nothing")
    parser.add_argument("--models", type=Path, nargs="*", default=[ROOT / "models", ROOT / "runs"], help="folders")
    parser.add_argument("--results", type=Path, default=HERE / "results", help="folder to write to")
    options = parser.parse_args()
    torch.set_num_threads(1)  # one core; frames this small leave nothing for a second
    settings = {
        "command": "python3 benchmarks/warped_diffusion.py", "machine": f"{platform.machine()}, CPU",
        "torch": torch.__version__,
    }  # fmt: skip
    result = {} if options.quick else previous(options.results / "warped_diffusion.json", settings)
    result.setdefault("took_s", {})
    wanted = [*PARTS, "slices"] if options.only is None else options.only
    models = load_models(options.models) if wanted else None
    for name in wanted:
        started = time.monotonic()
        if name == "slices":
            strips = slices(models, 4 if options.quick else SLICES)
            if not options.quick:
                slice_picture(strips, options.results / "warped_diffusion_slices.png")
        else:
            result[name] = PARTS[name](models, options.quick)
        result["took_s"][name] = time.monotonic() - started
        print(f"{name}: {result['took_s'][name]:.0f} s", flush=True)
        if not options.quick:
            write(settings | result, options.results)
    if not wanted:
        write(settings | result, options.results)


def write(result: dict, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    result = rounded(result)
    (folder / "warped_diffusion.json").write_text(as_text(result))
    if all(name in result for name in PARTS):
        (folder / "warped_diffusion.md").write_text(report(result))
        figure(result, folder / "warped_diffusion.png")


if __name__ == "__main__":
    main()
