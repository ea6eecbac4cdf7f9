"""A training that trains nothing: parts of several runs put into one file."""

from dataclasses import dataclass

from torch import Tensor

from ... import checkpoints
from ..config import Files, Recipe
from ..task import Batch, Task


@dataclass(frozen=True)
class JoinJob:
    """The parts of ``runs`` in one file; what the first of them says, holds."""

    runs: tuple[str, ...]

    def __post_init__(self):
        if not self.runs:
            raise ValueError("runs names at least one run")

    def make(self, recipe: Recipe, files: Files) -> Task:
        networks, parts, trainings, config = {}, {}, {}, {}
        for run in self.runs:
            path = files.model(run)
            own = checkpoints.read_config(path)
            config = config or own
            for part in own["parts"]:
                networks[part], parts[part] = checkpoints.load(path, part=part)[0], own["parts"][part]
            trainings[run] = own["training"]
        said = {"about": recipe.about, "parts": parts, "training": trainings}
        return Task(networks, [], _nothing, _nothing, config | said)


def _nothing(*asked) -> Batch | Tensor:
    raise ValueError("parts of several runs are joined, not trained: set run.steps = 0")
