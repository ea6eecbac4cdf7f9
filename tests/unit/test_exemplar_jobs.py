"""EBDM's stages, their encoder and what they are compared with, as files."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from aqueduct.core import checkpoints
from aqueduct.core.training.config import Recipe, read
from aqueduct.core.training.exemplar import STAGES, ebdm, exemplar_loss, late_times
from aqueduct.core.training.jobs.exemplar import FirstStageJob, Goal, Token
from aqueduct.core.training.jobs.exemplar_data import FolderTriples, SceneTriples, pooled_token
from aqueduct.core.training.jobs.style_encoder import Views
from aqueduct.core.training.loop import LoopSettings, train_task
from aqueduct.tests.unit import training_stand_ins as stand_ins
from aqueduct.tests.unit.first_losses import check
from aqueduct.tests.unit.job_checks import check_file, check_halves, check_unknown_key, recipe

RUNS = [
    "exemplar_encoder", "exemplar_global", "exemplar_scenes", "exemplar_baseline", "exemplar_pooled",
    "exemplar_diffusion",
]  # fmt: skip


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> stand_ins.StandIns:
    folder = tmp_path_factory.mktemp("runs")
    stand_ins.write_starts(folder)
    return stand_ins.StandIns(folder)


@pytest.mark.parametrize("name", RUNS)
def test_runs_begin_as_they_did(name, files):
    check(name, files, 1)


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_runs_go_on_as_they_did(name, files):
    check(name, files)


@pytest.mark.parametrize("name", RUNS)
def test_files_that_come_out(name, files):
    check_file(name, files)


def test_a_second_stage_goes_on_from_one(files):
    check_file("exemplar_scenes", files)
    first = files.folder / "made_exemplar_scenes.safetensors"
    network, _ = checkpoints.load(first, "exemplar")
    first.rename(files.folder / "exemplar_scenes.safetensors")
    asked = recipe("exemplar_scenes_on")
    task = asked.job.make(asked, files)
    theirs = network.float().state_dict()
    assert all(torch.equal(theirs[key], value) for key, value in task.parts["exemplar"].state_dict().items())
    assert {id(p) for p in task.parts["exemplar"].parameters()} < {id(p) for p in task.parameters}


@pytest.mark.parametrize("share", [0.0, 0.5, 0.9])
def test_share_of_late_times(share):
    times = Goal(times="late", share=share).objective().times(20000, torch.Generator().manual_seed(0))
    late = (times > 0.95).double().mean().item()
    expected = share + 0.05 * (1 - share)
    assert late == pytest.approx(expected, abs=4.5 * (expected * (1 - expected) / 20000) ** 0.5)  # one in 10^5


FEW = {"exemplar_encoder": Views(scenes=3, crops=3)}  # the others: a scene or two of each kind


def few(name: str) -> Recipe:
    asked = recipe(name)
    return replace(asked, job=replace(asked.job, data=FEW.get(name, SceneTriples(32, edges=2, masks=1, crops=1))))


@pytest.mark.parametrize("name", RUNS)
def test_two_steps(name, files):
    asked = replace(few(name), run=LoopSettings(2, warmup=0))
    task = asked.job.make(asked, files)
    before = [p.detach().clone() for p in task.parameters]
    train_task(task, asked.run, torch.Generator().manual_seed(asked.data_seed))
    moved = [not torch.equal(p, q) for p, q in zip(task.parameters, before, strict=True)]
    assert any(moved)  # behind what starts at zero the rest waits


@pytest.mark.parametrize("name", RUNS[1:])
def test_loss_of_a_batch_is_the_mean_of_its_halves(name, files):
    check_halves(few(name), files)


def test_rows_of_the_encoder_are_groups(files):
    """VICReg compares the pictures of a group with one another."""
    asked = recipe("exemplar_encoder")
    asked = replace(asked, job=replace(asked.job, data=Views(scenes=3, crops=3, groups=2)))
    check_halves(asked, files)
    drawn = asked.job.make(asked, files).draw(torch.Generator().manual_seed(0), 0)
    assert drawn["views"].shape == (2, 12, 3, 64, 64)


@pytest.mark.parametrize("table", ["data", "network", "token", "objective"])
def test_unknown_keys_are_named(table, tmp_path):
    check_unknown_key("exemplar_pooled", table, tmp_path)


def test_start_and_views_have_their_keys(tmp_path):
    check_unknown_key("exemplar_scenes", "start", tmp_path)
    check_unknown_key("exemplar_encoder", "data", tmp_path)


def test_stage_loss_is_what_was_drawn_and_computed_at_once(files):
    """`Stage.loss` with a generator, and `draw` with `loss_at`: bit for bit."""
    asked = few("exemplar_global")
    task = asked.job.make(asked, files)
    drawn = task.draw(torch.Generator().manual_seed(3), 0)
    generator = torch.Generator().manual_seed(3)
    triples = asked.job.data.open(files)(generator)
    encode = asked.job.token.encode(files)
    objective = replace(ebdm(), bridge=asked.job.objective.objective().bridge, times=late_times)
    own = STAGES[0].loss(
        task.parts["model"], None, triples.control, triples.photo, triples.photo, encode(triples.photo), generator,
        objective,
    )  # fmt: skip
    assert torch.equal(task.loss(drawn), own)


def test_baseline_looks_at_no_exemplar(files):
    """What it draws is what `exemplar_loss` draws, and nothing of the exemplar's side is trained."""
    asked = few("exemplar_baseline")
    task = asked.job.make(asked, files)
    drawn = task.draw(torch.Generator().manual_seed(3), 0)
    assert "kept" not in drawn
    generator = torch.Generator().manual_seed(3)
    triples = asked.job.data.open(files)(generator)
    own = exemplar_loss(
        task.parts["model"], triples.control, triples.photo, None, generator, asked.job.objective.objective()
    )
    assert torch.equal(task.loss(drawn), own)
    own.backward()
    assert all(p.grad is not None for p in task.parameters)


def test_pooled_token_has_twelve_numbers(files):
    pictures = torch.stack([torch.full((3, 8, 8), 0.5), torch.rand(3, 8, 8)])
    token = pooled_token(pictures)
    assert token.shape == (2, 12)
    assert torch.allclose(token[0], torch.tensor([0.5] * 3 + [0.0] * 9))


@pytest.mark.parametrize(
    "wrong, told",
    [
        (lambda: Goal(times="early"), "no times 'early'.*uniform, late"),
        (lambda: Token("a", pooled=True), "not both"),
        (lambda: FolderTriples("f", 32, control="cany"), "did you mean 'canny'"),
    ],
)
def test_wrong_values_are_named(wrong, told):
    with pytest.raises(ValueError, match=told):
        wrong()


def test_diffusion_needs_a_token(files):
    asked = recipe("exemplar_diffusion")
    asked = replace(asked, job=replace(asked.job, token=Token()))
    with pytest.raises(ValueError, match=r"\[token\]"):
        asked.job.make(asked, files)


# --- a folder of one's own --------------------------------------------------------------------------------------------

FILE = """
task = "exemplar_stage_1"
about = "mine"
[token]
pooled = true
[network]
channels = 8
multipliers = [1, 2]
sites = [1]
head_channels = 8
groups = 4
features = 12
context = 8
[data]
folder = "{folder}"
size = 16
batch = 4
[run]
steps = 2
"""


def photographs(folder: Path) -> Path:
    for n, picture in enumerate(stand_ins.pictures()):
        folder.mkdir(exist_ok=True)
        Image.fromarray(picture.movedim(0, -1).numpy()).save(folder / f"{n}.png")
    return folder


def test_a_folder_of_pictures(tmp_path, files):
    """A whole batch is drawn and read at once; it trains, and the file says what on."""
    path = tmp_path / "mine.toml"
    path.write_text(FILE.format(folder=photographs(tmp_path / "photos").as_posix()))
    asked = read(path)
    assert isinstance(asked.job, FirstStageJob) and isinstance(asked.job.data, FolderTriples)
    task = asked.job.make(asked, files)
    assert task.draw(torch.Generator().manual_seed(0), 0)["photo"].shape == (4, 3, 16, 16)
    check_halves(asked, files)
    assert "photos, 16 pixels; control: canny" in task.config["training"]["data"]
    assert task.config["exemplar"] == {"features": 12, "encoder": "part", "size": 16}


def test_a_folder_without_pictures(tmp_path, files):
    path = tmp_path / "mine.toml"
    path.write_text(FILE.format(folder=tmp_path.as_posix()))
    asked = read(path)
    with pytest.raises(ValueError, match="no picture in"):
        asked.job.make(asked, files)
