"""The first losses of the recipes that ship, beside what they were: `tests/data/first_losses.json`.

There are one or two records of a recipe, of fifty steps each (its learning rate, its cosine), on one thread. "run" is
of what it was trained on, from the runs that it started from. "stand_ins" is of what the checkout alone has in the
place of those: `training_stand_ins`, or the models that ship. A record's "source" says who wrote the losses down, and
that was never the code that is tested: the run itself, in its checkpoint, or the scripts that trained before there were
tasks and files of recipes.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from aqueduct.core.training.config import CONFIGS, Files, read
from aqueduct.core.training.loop import train_task

ROOT = Path(__file__).resolve().parents[2]
RECORDS: dict[str, dict[str, dict]] = json.loads((ROOT / "tests" / "data" / "first_losses.json").read_text())
STEPS = 50
# The numbers come out bit for bit on the CPU they were made on, and are written down to six digits. Another one adds up
# in another order: without vector instructions (ATEN_CPU_CAPABILITY=default) eight steps of framebridge_digits are up
# to 4e-7 apart, and with AVX2 alone fifty steps of emg_adapter's stand-ins, in bfloat16, 1.2e-5. A generator read in
# another order is off by far more at once: losses of other batches differ by a hundredth.
TOLERANCE = 1e-4  # of the first three
# But AdamW's first steps are the sign of each gradient, so weights whose gradient is next to nothing may go the other
# way, and that grows: exemplar_encoder's pictures drawn in bfloat16 moved its fifty losses by up to 4.8e-3.
GROWN = 1e-2  # of all


class Enough(Exception):
    """So many steps will do."""


def replay(name: str, steps: int, files: Files) -> list[float]:
    """The first losses of ``configs/small/<name>.toml``."""
    recipe, losses = read(CONFIGS / "small" / f"{name}.toml"), []

    def report(step: int, progress) -> None:
        losses[:] = progress.losses
        if step + 1 == steps:
            raise Enough

    with without_comfyui():
        task = recipe.job.make(recipe, files)
        try:
            train_task(task, recipe.run, torch.Generator().manual_seed(recipe.data_seed), report=report)
        except Enough:
            return losses
    raise AssertionError(f"{name} ended after {len(losses)} steps")


@contextmanager
def without_comfyui() -> Iterator[None]:
    """As where ComfyUI was never imported: it lets attention in bfloat16 add up in bfloat16, in the whole process, and
    the first losses of exemplar_scenes_on are a thousandth apart then."""
    before = torch.backends.cuda.fp16_bf16_reduction_math_sdp_allowed()
    torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(False)
    try:
        yield
    finally:
        torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(before)


def check(name: str, files: Files, steps: int = STEPS, of: str | None = None) -> None:
    """The first losses are those that were written down of the run or, unless asked for, of stand-ins for what it
    starts from, where it starts from anything."""
    records = RECORDS[name]
    written = torch.tensor(records[of or ("stand_ins" if "stand_ins" in records else "run")]["losses"][:steps])
    losses = torch.tensor(replay(name, steps, files))
    torch.testing.assert_close(losses[:3], written[:3], rtol=TOLERANCE, atol=0)
    torch.testing.assert_close(losses, written, rtol=GROWN, atol=0)
