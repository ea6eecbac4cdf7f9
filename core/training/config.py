"""A training as a file: TOML with the run's settings and, in tables of its own, those of its kind of training.

    task = "bridge"                  # a kind of training: core/training/jobs
    about = "one line, which the model's file says to its users"
    [run]                            # LoopSettings
    steps = 1750

All other tables are fields of the job. Every file under `configs/` is an example.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from ..tables import fill, read_table, unknown
from ..whole_file import replaced
from .loop import LoopSettings

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


@dataclass(frozen=True)
class PlateauSettings:
    """Arguments of `Plateau`: in the file's table ``[plateau]``, which takes the place of the cosine."""

    factor: float = 0.2
    patience: int = 10
    window: int = 100
    threshold: float = 1e-4
    lowest: float = 0.0


@dataclass(frozen=True)
class Recipe:
    """One run. ``seed`` is that of the weights, ``data_seed`` that of everything drawn in training.

    ``ema``: the decay of the average that is exported, None for the last weights. ``job``: one of `jobs.JOBS`.
    ``report``: so many losses are averaged where one is told, and steps are between.
    """

    name: str
    about: str
    job: object
    run: LoopSettings
    seed: int = 0
    data_seed: int = 1
    ema: float | None = None
    plateau: PlateauSettings | None = None
    report: int = 50

    def __post_init__(self) -> None:
        if self.report < 1:
            raise ValueError(f"report is 1 or more, got {self.report}")

    def training(self) -> dict[str, object]:
        """What every model's file says of its training; jobs add the data and the loss."""
        decay = "lowered on plateaus" if self.plateau else "cosine to zero" if self.run.cosine else "constant"
        average = f"EMA {self.ema}" if self.ema else "no EMA"
        half = "" if self.run.precision == "float32" else f", {self.run.precision}"
        optimiser = f"AdamW, peak rate {self.run.learning_rate}, {decay}, {average}{half}"
        return {"seed": self.seed, "data_seed": self.data_seed, "steps": self.run.steps, "optimiser": optimiser}


class Job(Protocol):
    """A kind of training: a frozen dataclass whose fields are the keys and tables of its files."""

    def make(self, recipe: Recipe, files: "Files"):
        """The `Task` of a recipe whose job this is."""


def read(path: str | Path, changes: Sequence[str] = ()) -> Recipe:
    """The recipe in a TOML file, named as the file is; ``changes`` such as ``run.steps=100`` come before the file.

    Raises ValueError naming file, table and key for whatever is unknown, missing or of another type.
    """
    from .jobs import JOBS  # which imports this file

    path, table = Path(path), read_table(path, changes)
    own = ["task", *(field.name for field in fields(Recipe) if field.name not in ("name", "job"))]
    task = table.pop("task", None)
    if task not in JOBS:
        told = f"the key 'task' is missing; there are {', '.join(JOBS)}" if task is None else None
        raise ValueError(f"{path}: {told or unknown('task', str(task), list(JOBS))}")
    head = {key: table.pop(key) for key in own if key in table}
    job = fill(JOBS[task], table, str(path), beside=own)
    return fill(Recipe, {"name": path.stem, "job": job, **head}, str(path))


def _no_source(*asked, **more):
    raise ValueError("this run takes pictures from outside, and none were given: see Files.pictures and Files.clip")


@dataclass(frozen=True, eq=False)
class Files:
    """What a run builds on: ``folder`` holds earlier runs and what is made once; pictures come from the caller.

    ``device``: where the training computes: its data go there, and networks that only help. With ``shared_out``
    networks of the task itself wait on the CPU, and the training moves them block by block: no device needs to hold a
    whole one.
    ``pictures(held_out=False, unrelated=False)`` gives uint8 ``[3, h, w]`` each, ``clip(name, frames, width)`` float
    ``[f, 3, h, w]`` in 0..1: the small models' pictures are downloads, and core knows no network.
    """

    folder: Path
    device: torch.device = torch.device("cpu")
    pictures: Callable[..., list[Tensor]] = field(default=_no_source)
    clip: Callable[..., Tensor] = field(default=_no_source)
    shared_out: bool = False

    @property
    def home(self) -> torch.device:
        """Where networks of the task are to be when it is made."""
        return torch.device("cpu") if self.shared_out else self.device

    def model(self, name: str) -> Path:
        """The file of the run called ``name``, or the file with this path. Raises FileNotFoundError saying what makes
        it."""
        path = Path(name) if name.endswith(".safetensors") else self.folder / f"{name}.safetensors"
        if path.is_file():
            return path
        made = next(CONFIGS.rglob(f"{name}.toml"), None)
        way = f"; python -m aqueduct.train {made} makes it" if made else ""
        raise FileNotFoundError(f"there is no {path}, which this run starts from{way}")

    def kept(self, name: str, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """What ``make`` returns, made once and kept as ``<name>.pt`` beside the runs; read through the page cache, so
        that runs at the same time share it."""
        path = self.folder / f"{name}.pt"
        if not path.exists():
            with replaced(path, shared=True) as beside:
                torch.save(make(), beside)
        return torch.load(path, weights_only=True, mmap=True)
