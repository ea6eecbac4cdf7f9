#!/usr/bin/env python3
"""The numbers behind docs/scaling.md, measured on this machine or counted.

    python3 benchmarks/scaling.py                  # everything
    python3 benchmarks/scaling.py --only data      # some of: memory, networks, shares, encoders, seconds, data
    python3 benchmarks/scaling.py --only           # the tables again, from the stored numbers

Writes `results/scaling.json` after every part; a part that is measured again replaces what was there. Seconds are those
of one thread of the processor (`time.process_time`), so that other work on the machine counts little. Needs diffusers
and transformers for the hosts and PyAV for the videos.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "scripts")]
from _pack import load_pack

load_pack()

import torch
from _results import as_text, rounded
from _scaling_data import PARTS
from _scaling_model import tables
from _scaling_networks import NETWORKS, costs, encoders, latte, shares

from aqueduct.core.data.shards import Clip, write_dataset
from aqueduct.core.training.config import CONFIGS, Files, read
from aqueduct.core.training.jobs.gp_noise import Field
from aqueduct.core.training.loop import train_task
from aqueduct.core.training.memory import estimate

RESULTS = HERE / "results" / "scaling.json"
SMALL = ("framebridge_digits", "neural_prior_digits")


def networks() -> dict:
    return {name: costs(name) for name in NETWORKS}


def seconds() -> dict:
    """One row forward and back through Latte-S/2 at full size, and steps of small models as they were trained."""
    network = read(CONFIGS / "papers" / "framebridge_ucf101.toml").job.network.build()
    found = {"latte_s2_row": min(_seconds(lambda: latte(network).sum().backward()) for _ in range(2))}
    for name in SMALL:
        recipe = read(CONFIGS / "small" / f"{name}.toml", ["run.steps=6"])
        task = recipe.job.make(recipe, Files(HERE))
        ends = [time.process_time()]
        train_task(
            task, recipe.run, torch.Generator().manual_seed(0),
            report=lambda step, progress, ends=ends: ends.append(time.process_time()),
        )  # fmt: skip
        found[name] = (ends[-1] - ends[1]) / (len(ends) - 2)
    field, like = Field(0.004977), torch.empty(1, 4, 128, 128)
    found["gp_noise_row"] = min(_seconds(lambda n=n: field.rows(torch.tensor([n]), like)) for n in range(3))
    return found


def memory() -> dict:
    """What `core.training.memory.estimate` says of Latte-S/2 at full size, with eight rows at once."""
    with tempfile.TemporaryDirectory() as folder:
        latents = ({"latent": torch.randn(4, 16, 32, 32).half()} for _ in range(8))
        clips = ((Clip(f"{n}.mp4", label=n), made) for n, made in enumerate(latents))
        write_dataset(Path(folder) / "ucf101_latents", clips, {})
        found = {}
        for precision in ("float32", "bfloat16"):
            for again in ("false", "true"):
                changes = [f"run.precision={precision}", f"run.recompute={again}", "data.batch=8"]
                recipe = read(CONFIGS / "papers" / "framebridge_ucf101.toml", changes)
                task = recipe.job.make(recipe, Files(Path(folder)))
                found[f"{precision}, recompute {again}"] = vars(estimate(task, recipe.run, 8))
        return found


def _seconds(run) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start


def data() -> dict:
    return {name: run() for name, run in PARTS.items()}


ALL = {"memory": memory, "networks": networks, "shares": shares, "encoders": encoders, "seconds": seconds, "data": data}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=ALL, default=list(ALL))
    torch.set_num_threads(1)
    for part in parser.parse_args().only:
        measured = rounded(ALL[part]())
        found = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        found[part] = measured
        found["environment"] = {"torch": torch.__version__, "threads": 1}
        RESULTS.write_text(as_text(found))
        print(part, json.dumps(measured, indent=1), flush=True)
    print("\n\n".join(tables(json.loads(RESULTS.read_text()))))


if __name__ == "__main__":
    main()
