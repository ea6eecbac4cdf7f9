"""The first steps of the recipes that ship, beside what they were: `tests/data/first_losses.json`.

Those numbers were written by the scripts that trained the shipped models, before there were tasks and files of
recipes, in steps of the whole run (its learning rate, its cosine), on one thread.
"""

import json
from pathlib import Path

import torch

from aqueduct.core.training.config import CONFIGS, Files, read
from aqueduct.core.training.loop import train_task

ROOT = Path(__file__).resolve().parents[2]
WRITTEN: dict[str, list[float]] = json.loads((ROOT / "tests" / "data" / "first_losses.json").read_text())
# The numbers come out bit for bit on the CPU they were made on. Another one adds up in another order: without vector
# instructions (ATEN_CPU_CAPABILITY=default) eight steps of framebridge_digits are up to 4e-7 apart. But AdamW's first
# steps are the sign of each gradient, so weights whose gradient is next to nothing may go the other way, and that
# grows. A generator read in another order is off by far more at once: losses of other batches differ by a hundredth.
TOLERANCE = 1e-4


class Enough(Exception):
    """So many steps will do."""


def replay(name: str, steps: int, files: Files) -> list[float]:
    """The first losses of ``configs/small/<name>.toml``."""
    recipe, losses = read(CONFIGS / "small" / f"{name}.toml"), []

    def report(step: int, progress) -> None:
        losses[:] = progress.losses
        if step + 1 == steps:
            raise Enough

    task = recipe.job.make(recipe, files)
    try:
        train_task(task, recipe.run, torch.Generator().manual_seed(recipe.data_seed), report=report)
    except Enough:
        return losses
    raise AssertionError(f"{name} ended after {len(losses)} steps")
