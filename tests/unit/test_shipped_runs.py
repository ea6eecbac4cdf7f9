"""The runs of `configs/small` begin today as they did, on what they were trained on.

Second legs start from what the first ones came to. What ships stands in for the runs that it is of; the files of others
are looked for in the folder that AQUEDUCT_RUNS names, and have to be of those very runs: trained again on another kind
of CPU, they are others. Animated clips are made there, too, once (a quarter of an hour). With such a folder all fifty
steps of every run are replayed (half an hour), without one a few steps of those that can begin.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor

pytest.importorskip("sklearn")
from aqueduct.core import checkpoints  # noqa: E402
from aqueduct.core.training.config import CONFIGS, Files, read  # noqa: E402
from aqueduct.scripts._console import HouseError  # noqa: E402
from aqueduct.scripts._media import read_clip  # noqa: E402
from aqueduct.scripts._training_pictures import training_pictures  # noqa: E402
from aqueduct.tests.unit.first_losses import RECORDS, ROOT, STEPS, check  # noqa: E402

MODELS = ROOT / "models"
FEW = 5
SHIPPED = {  # run -> the file that has its weights
    "neural_prior_digits": "framebridge_np_digits",
    "emg_backbone": "animate_photos",
    "exemplar_encoder": "exemplar_scenes",
    "exemplar_scenes": "exemplar_scenes",
}


@cache
def pictures() -> list[Tensor]:
    try:
        return training_pictures()
    except (HouseError, ImportError) as error:
        pytest.skip(f"needs the pictures of the small models: {error}")


@dataclass(frozen=True, eq=False)
class Runs:
    """In the place of `core.training.config.Files`; skips where something cannot be had."""

    folder: Path | None
    device: torch.device = torch.device("cpu")
    pictures: Callable[..., list[Tensor]] = pictures
    clip: Callable[..., Tensor] = read_clip

    def model(self, name: str) -> Path:
        own = self.folder and self.folder / f"{name}.safetensors"
        if own and own.is_file():
            return own
        if name not in SHIPPED:
            pytest.skip(f"starts from {name}, which does not ship: AQUEDUCT_RUNS names a folder with its file")
        return MODELS / f"{SHIPPED[name]}.safetensors"

    def kept(self, name: str, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        if self.folder is None:
            pytest.skip("makes its clips first: AQUEDUCT_RUNS names the folder to keep them in")
        return Files(self.folder).kept(name, make)


@pytest.fixture(scope="module")
def runs() -> Runs:
    named = os.environ.get("AQUEDUCT_RUNS")
    return Runs(Path(named) if named else None)


def test_every_run_has_records_of_others():
    trained = {path.stem for path in (CONFIGS / "small").glob("*.toml") if read(path).run.steps}
    assert RECORDS.keys() == trained and all("run" in records for records in RECORDS.values())
    for record in (record for records in RECORDS.values() for record in records.values()):
        assert len(record["losses"]) == STEPS and len(set(record["losses"])) > STEPS // 2 and record["source"]


@pytest.mark.slow
@pytest.mark.parametrize("name", RECORDS)
def test_runs_begin_as_they_did(name, runs):
    check(name, runs, steps=STEPS if runs.folder else FEW, of="run")


def test_parts_of_runs_are_the_file_that_ships(runs):
    """Which names each run's own training, and holds its weights as they are."""
    recipe = read(CONFIGS / "small" / "animate_photos.toml")
    task = recipe.job.make(recipe, runs)
    shipped = MODELS / "animate_photos.safetensors"
    assert checkpoints.read_config(shipped) == {"format": 1, **task.config}
    for part, network in task.parts.items():
        theirs = checkpoints.load(shipped, part=part)[0].state_dict()
        assert all(torch.equal(value, theirs[key]) for key, value in network.state_dict().items())
