"""Recipes as TOML files: what is read is what is written, and what is wrong is named."""

import re
from dataclasses import dataclass, field

import pytest
import torch

from aqueduct.core.tables import changed
from aqueduct.core.training import config, jobs
from aqueduct.core.training.config import Files, Recipe, read
from aqueduct.core.training.loop import LoopSettings


@dataclass(frozen=True)
class Sizes:
    hidden: int
    multipliers: tuple[int, ...] = (1, 2)

    def __post_init__(self):
        if self.hidden % 2:
            raise ValueError(f"hidden is even, got {self.hidden}")


@dataclass(frozen=True)
class Drawn:
    kind: str
    speed: float = 1.5


@dataclass(frozen=True)
class Folder:
    folder: str


@dataclass(frozen=True)
class Toy:
    network: Sizes
    data: Drawn | Folder
    constants: dict[str, float] = field(default_factory=dict)
    start: str | None = None
    share: float = 0.1
    whole: bool = False


TEXT = """
task = "toy"
about = "a toy"
data_seed = 3
whole = true
[network]
hidden = 4
multipliers = [1, 2, 4]
[data]
kind = "digits"
speed = 2
[constants]
beta = 1
[run]
steps = 7
learning_rate = 1e-4
"""


@pytest.fixture
def written(tmp_path, monkeypatch):
    monkeypatch.setitem(jobs.JOBS, "toy", Toy)

    def write(text: str = TEXT):
        path = tmp_path / "small_toy.toml"
        path.write_text(text)
        return path

    return write


def test_reads_what_is_written(written):
    recipe = read(written())
    run = LoopSettings(steps=7, learning_rate=1e-4)
    job = Toy(Sizes(4, (1, 2, 4)), Drawn("digits", 2.0), {"beta": 1.0}, whole=True)
    assert recipe == Recipe("small_toy", "a toy", job, run, seed=0, data_seed=3)
    assert type(recipe.job.data.speed) is float  # 2 in the file; a whole number is a number


def test_a_union_of_tables_is_told_apart_by_its_keys(written):
    text = TEXT.replace('kind = "digits"\nspeed = 2', 'folder = "clips"')
    assert read(written(text)).job.data == Folder("clips")


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("learning_rate", "learning_rat", r"table \[run\].*'learning_rat', did you mean 'learning_rate'"),
        ("speed = 2", "sped = 2", r"toml, table \[data\].*'sped', did you mean 'speed'\? There are kind"),
        ("whole = true", "hole = true", r"small_toy.toml: .*'hole', did you mean 'whole'\? There are task, .*, share"),
        ("about", "abut", r"'abut', did you mean 'about'"),
        ("[constants]", "[zzz]", r"no key 'zzz'\. There are"),
        ("hidden = 4", "", r"table \[network\]: the key 'hidden' is missing"),
        ('about = "a toy"', "", r"small_toy.toml: the key 'about' is missing"),
        ("[run]\nsteps = 7", "[run]", r"table \[run\]: the key 'steps' is missing"),
        ("hidden = 4", "hidden = 4.0", r"small_toy.toml: network.hidden is a whole number, got 4.0"),
        ("hidden = 4", "hidden = true", r"network.hidden is a whole number, got True"),
        ("hidden = 4", "hidden = 3", r"table \[network\]: hidden is even, got 3"),
        ("whole = true", "whole = 1", r"whole is true or false, got 1"),
        ("[1, 2, 4]", "[1, 2.5]", r"network.multipliers\[1\] is a whole number, got 2.5"),
        ("[1, 2, 4]", "3", r"network.multipliers is a list, got 3"),
        ("beta = 1", 'beta = "x"', r"constants.beta is a number, got 'x'"),
        ("whole = true", "start = 3", r"start is a text in quotes, got 3"),
        ('"toy"', '"toi"', r"small_toy.toml: there is no task 'toi', did you mean 'toy'\?"),
        ('task = "toy"', "", r"small_toy.toml: the key 'task' is missing; there are .*toy"),
        ("steps = 7", "steps =", r"small_toy.toml is no TOML"),
        ("[network]\nhidden = 4\nmultipliers = [1, 2, 4]", "[[network]]\nhidden = 4", r"network is a table, got \["),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(written, old, new, told):
    with pytest.raises(ValueError, match=told):
        read(written(TEXT.replace(old, new)))


def test_changes_come_before_the_file(written):
    changes = ["run.steps=3", "network.multipliers=[1]", "start=models/a-1.safetensors", "ema=0.5"]
    recipe = read(written(), changes)
    assert (recipe.run.steps, recipe.job.network.multipliers, recipe.ema) == (3, (1,), 0.5)
    assert recipe.job.start == "models/a-1.safetensors"  # no TOML: a text
    assert recipe.run.learning_rate == 1e-4


@pytest.mark.parametrize("change", ["run.steps", "=3", "run..steps=3", ".steps=3"])
def test_a_change_names_a_key_and_a_value(change):
    with pytest.raises(ValueError, match="table.key=value"):
        changed({}, change)


def test_changes_leave_the_table_they_were_given_as_it_was():
    table = {"run": {"steps": 1}}
    assert changed(table, "run.steps=2") == {"run": {"steps": 2}}
    assert table == {"run": {"steps": 1}}
    with pytest.raises(ValueError, match="about is 'x' and no table"):
        changed({"about": "x"}, "about.steps=2")


def test_changes_are_as_strict_as_the_file(written):
    with pytest.raises(ValueError, match=r"no key 'stepz', did you mean 'steps'"):
        read(written(), ["run.stepz=3"])
    with pytest.raises(ValueError, match=r"run.steps is a whole number, got 'many'"):
        read(written(), ["run.steps=many"])


# --- files ------------------------------------------------------------------------------------------------------------


def test_models_are_found_by_run_and_by_path(tmp_path):
    (tmp_path / "first.safetensors").touch()
    files = Files(tmp_path)
    assert files.model("first") == tmp_path / "first.safetensors"
    assert files.model(str(tmp_path / "first.safetensors")) == tmp_path / "first.safetensors"


def test_a_missing_model_says_what_makes_it(tmp_path, monkeypatch):
    (tmp_path / "small").mkdir()
    made = tmp_path / "small" / "first.toml"
    made.touch()
    monkeypatch.setattr(config, "CONFIGS", tmp_path)
    with pytest.raises(FileNotFoundError, match=re.escape(f"aqueduct.train {made} makes it")):
        Files(tmp_path).model("first")
    with pytest.raises(FileNotFoundError, match="which this run starts from$"):
        Files(tmp_path).model("second")


def test_pictures_come_from_the_caller(tmp_path):
    with pytest.raises(ValueError, match="Files.pictures"):
        Files(tmp_path).pictures(held_out=True)


def test_what_is_made_once_is_kept(tmp_path):
    made = []

    def make():
        made.append(torch.arange(3))
        return {"x": made[0]}

    for _ in range(2):
        assert torch.equal(Files(tmp_path).kept("pool", make)["x"], torch.arange(3))
    assert len(made) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["pool.pt"]
