"""What is checked of every kind of training that draws stand-ins (`training_stand_ins`), on the files that ship."""

from functools import cache
from pathlib import Path

import pytest
import torch

from aqueduct.core import checkpoints
from aqueduct.core.training.config import CONFIGS, Recipe, read
from aqueduct.core.training.task import Task, count_rows, rows


@cache
def recipe(name: str) -> Recipe:
    return read(CONFIGS / "small" / f"{name}.toml")


def check_file(name: str, files) -> Task:
    """What moves is what requires a gradient, and the parts can be saved and read."""
    asked = recipe(name)
    task = asked.job.make(asked, files)
    moving = {id(p) for p in task.parameters}
    of_parts = [p for part in task.parts.values() for p in part.parameters()]
    assert moving and all(p.requires_grad == (id(p) in moving) for p in of_parts)
    path = files.folder / f"made_{name}.safetensors"
    checkpoints.save(dict(task.parts), path, task.config)
    for part, network in task.parts.items():
        kept, _ = checkpoints.load(path, part)
        assert all(torch.equal(kept.state_dict()[key], value.half()) for key, value in network.state_dict().items())
    assert {"data", "seed", "steps", "batch", "loss"} <= task.config["training"].keys()
    return task


def check_halves(asked: Recipe | str, files) -> None:
    """A whole batch is the mean of its halves, which differ; and all that is random lies in the draw."""
    asked = recipe(asked) if isinstance(asked, str) else asked
    task = asked.job.make(asked, files)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():  # what starts at zero would hide the rest
        for parameter in task.parameters:
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    drawn, again, other = (task.draw(torch.Generator().manual_seed(seed), 0) for seed in (1, 1, 2))
    assert all(torch.equal(drawn[key], again[key]) for key in drawn)
    assert any(not torch.equal(drawn[key], other[key]) for key in drawn)
    half = count_rows(drawn) // 2
    with torch.no_grad():
        whole = task.loss(drawn)
        halves = [task.loss(rows(drawn, which)) for which in (slice(0, half), slice(half, 2 * half))]
        assert torch.equal(task.loss(drawn), whole)
    torch.testing.assert_close(sum(halves) / 2, whole, rtol=1e-5, atol=0)
    assert abs(halves[0] / halves[1] - 1) > 1e-4


def check_unknown_key(name: str, table: str, folder: Path) -> None:
    """A key that the table does not have is named, with the file and the table."""
    text = (CONFIGS / "small" / f"{name}.toml").read_text()
    key = "colour = 3\n"
    text = text.replace(f"[{table}]", f"[{table}]\n{key}") if f"[{table}]" in text else f"{text}\n[{table}]\n{key}"
    path = folder / "wrong.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=rf"wrong.toml.*\[{table}\].*colour"):
        read(path)
