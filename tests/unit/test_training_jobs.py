"""The recipes of digits and restoration: their losses are what they were, and a batch is the mean of its parts."""

import shutil
from dataclasses import replace

import pytest
import torch

pytest.importorskip("sklearn")
from aqueduct.core import checkpoints  # noqa: E402
from aqueduct.core.networks import Restorer  # noqa: E402
from aqueduct.core.restoration import make_problem  # noqa: E402
from aqueduct.core.training.config import CONFIGS, Files, Recipe, read  # noqa: E402
from aqueduct.core.training.jobs.digits import Process  # noqa: E402
from aqueduct.core.training.jobs.join import JoinJob  # noqa: E402
from aqueduct.core.training.jobs.restoration import CropData, Damaged  # noqa: E402
from aqueduct.core.training.loop import LoopSettings  # noqa: E402
from aqueduct.core.training.task import rows  # noqa: E402
from aqueduct.scripts._console import HouseError  # noqa: E402
from aqueduct.scripts._training_pictures import training_pictures  # noqa: E402
from aqueduct.tests.unit.first_losses import RECORDS, ROOT, check  # noqa: E402

DIGITS = [
    "framebridge_digits", "framebridge_long_digits", "neural_prior_digits", "framebridge_np_digits",
    "framebridge_np_long_digits", "diffusion_digits", "class_diffusion_digits", "saf_digits", "no_saf_digits",
]  # fmt: skip
RESTORATION = [f"{problem}_{noise}" for problem in ("superres", "inpaint") for noise in ("white", "white_on", "gp")]
# What the numbers start from, in place of earlier runs' files: models that ship, of the same shape.
STARTS = {
    "framebridge_digits": "framebridge_digits",
    "framebridge_np_digits": "framebridge_np_digits",
    "neural_prior_digits": "framebridge_np_digits",
    "superres_white": "warped_diffusion_superres_gp",
    "inpaint_white": "warped_diffusion_inpaint_gp",
}
SHIPPED = {  # file -> the run it is of
    "framebridge_digits": "framebridge_long_digits",
    "framebridge_np_digits": "framebridge_np_long_digits",
    "warped_diffusion_superres_gp": "superres_gp",
    "warped_diffusion_inpaint_gp": "inpaint_gp",
}


def small(name: str, changes=()) -> Recipe:
    return read(CONFIGS / "small" / f"{name}.toml", changes)


@pytest.fixture(scope="module")
def earlier(tmp_path_factory) -> Files:
    """A folder with every file that a run starts from."""
    folder = tmp_path_factory.mktemp("runs")
    for run, shipped in STARTS.items():
        shutil.copy(ROOT / "models" / f"{shipped}.safetensors", folder / f"{run}.safetensors")
    host = small("class_diffusion_digits")  # which does not ship: as it is before its first step
    task = host.job.make(host, Files(folder))
    checkpoints.save(dict(task.parts), folder / f"{host.name}.safetensors", task.config)
    return Files(folder)


@pytest.fixture(scope="module")
def pictured(earlier) -> Files:
    try:
        pictures = training_pictures()
    except (HouseError, ImportError) as error:
        pytest.skip(f"needs the pictures of the small models: {error}")
    return replace(earlier, pictures=lambda: pictures)


@pytest.mark.parametrize("name", DIGITS)
def test_digits_begin_as_they_did(name, earlier):
    check(name, earlier, 2)


@pytest.mark.parametrize("name", RESTORATION)
def test_restoration_begins_as_it_did(name, pictured):
    check(name, pictured, 3)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in DIGITS + RESTORATION if "stand_ins" in RECORDS[name]])
def test_second_legs_go_on_as_they_did(name, request):
    """On the stand-ins; all others start from nothing: `test_shipped_runs`."""
    check(name, request.getfixturevalue("pictured" if name in RESTORATION else "earlier"))


@pytest.mark.parametrize("file", SHIPPED)
def test_the_files_that_ship_are_of_these_recipes(file):
    """All that they say of themselves is what a run would write today, but for the one line for users and how the
    training went."""
    recipe = small(SHIPPED[file])
    written = checkpoints.read_config(ROOT / "models" / f"{file}.safetensors")
    went = {name: written["training"].pop(name) for name in ("final_loss", "seconds")}
    config = {"format": 1, **recipe.job.describe(recipe), "about": written["about"]}
    if "prior" in written["parts"]:
        prior = small("neural_prior_digits")
        config["parts"] |= prior.job.describe(prior)["parts"]
    assert config == written
    assert all(value > 0 for value in went.values())


# --- tasks ------------------------------------------------------------------------------------------------------------

TINY = ("network.hidden=16", "network.heads=2", "network.depth=2", "network.frames=3", "data.batch=4")


def tiny_task(name: str, folder):
    """A task of little of everything, whose weights are no longer those at the start."""
    if name in DIGITS:
        recipe = small(name, TINY)
        files = Files(folder)
    else:
        recipe = small(name, ("network.channels=16", "data.batch=4", "data.size=16"))
        files = Files(folder, pictures=lambda: [torch.arange(3 * 20 * 30).remainder(251).byte().view(3, 20, 30)])
    job = replace(recipe.job, start=type(recipe.job.start)()) if hasattr(recipe.job, "start") else recipe.job
    task = job.make(recipe, files)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in task.parameters:
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return task


@pytest.mark.parametrize("name", ["framebridge_digits", "diffusion_digits", "neural_prior_digits", *RESTORATION[::2]])
def test_a_batch_is_the_mean_of_its_halves(name, tmp_path):
    """And all that is random lies in the draw: which process takes which rows makes no difference."""
    task = tiny_task(name, tmp_path)
    batch, again, other = (task.draw(torch.Generator().manual_seed(seed), 0) for seed in (1, 1, 2))
    assert all(len(value) == 4 for value in batch.values())
    assert all(torch.equal(batch[key], again[key]) for key in batch)
    assert any(not torch.equal(batch[key], other[key]) for key in batch)
    with torch.no_grad():
        whole = task.loss(batch)
        halves = [task.loss(rows(batch, which)) for which in (slice(0, 2), slice(2, 4))]
        assert torch.equal(task.loss(batch), whole)
    torch.testing.assert_close(sum(halves) / 2, whole, rtol=1e-5, atol=0)
    assert abs(halves[0] / halves[1] - 1) > 1e-3


def test_directions_are_dropped_as_often_as_asked():
    """Six deviations of 4000 rows: an error rate of 2e-9."""
    recipe = small("framebridge_digits", (*TINY, "data.batch=4000", "data.class_dropout=0.3"))
    drawn = recipe.job.make(recipe, Files(ROOT)).draw(torch.Generator().manual_seed(0), 0)
    assert abs(drawn["dropped"].float().mean() - 0.3) < 6 * (0.3 * 0.7 / 4000) ** 0.5
    assert drawn["t"].min() >= 1e-3 and drawn["t"].max() < 1


def test_a_host_that_knew_no_prior_ignores_it_at_first(earlier):
    recipe = small("no_saf_digits")
    network = recipe.job.make(recipe, earlier).parts["model"].eval()
    host, _ = checkpoints.load(earlier.model("class_diffusion_digits"))
    for n, parameter in enumerate(p for m in (network, host) for p in m.final_layer.parameters()):
        torch.nn.init.normal_(parameter.data, generator=torch.Generator().manual_seed(n % 4))
    z, prior = torch.randn(2, 1, 3, 8, 32, 32, generator=torch.Generator().manual_seed(0))
    t, y = torch.tensor([300.0]), torch.tensor([2])
    with torch.no_grad():
        expected = host(z, t, y)
        assert expected.abs().max() > 0.1
        torch.testing.assert_close(network(torch.cat([z, prior], 1), t, y), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("bridge.kind=bridge-max", "no kind 'bridge-max', did you mean 'bridge-gmax'"),
        ("bridge.precondition=row", "no precondition 'row', did you mean 'raw'"),
        ("bridge.parameterisation=noise", "no parameterisation 'noise'"),
        ("bridge.constants.beta=1", r"table \[bridge\]: bridge-gmax: .*'beta'"),
        ("network.height=16", "a square, got 32 x 16"),
    ],
)
def test_bridges_refuse_what_they_do_not_know(change, told):
    with pytest.raises(ValueError, match=told):
        small("framebridge_digits", [change])


def test_restoration_refuses_what_it_does_not_know():
    for change, told in (("restoration.noise=grey", "no noise 'grey'"), ("restoration.kind=paint", "no kind 'paint'")):
        with pytest.raises(ValueError, match=told):
            small("superres_white", [change])
    with pytest.raises(ValueError, match="inpainting: .*'factor'"):
        small("inpaint_white", ["restoration.factor=4"])
    assert Damaged("super-resolution", "gp", 4).problem() == make_problem({"kind": "super-resolution", "factor": 4})
    assert Process(constants={"beta_max": 9.0}).config()["bridge"]["constants"] == {"beta_min": 0.01, "beta_max": 9.0}


def test_pictures_of_a_folder_are_reduced_and_cropped(tmp_path):
    Image = pytest.importorskip("PIL.Image")
    with pytest.raises(ValueError, match="no pictures in"):
        CropData(folder=str(tmp_path)).crops(Files(tmp_path))
    Image.new("RGB", (80, 40), (255, 0, 51)).save(tmp_path / "wide.png")
    crops = CropData(size=16, folder=str(tmp_path), shortest=(8, 16, 32, 64)).crops(Files(tmp_path))
    # A shorter side of 8 is too small, and 64 would be larger than it is.
    assert [tuple(picture.shape) for picture in crops.pictures] == [(3, 16, 32), (3, 32, 64)]
    crop = crops.sample(1, torch.Generator().manual_seed(0))
    torch.testing.assert_close(crop[0, :, 3, 5], torch.tensor([1.0, -1.0, -0.6]))
    with pytest.raises(ValueError, match="crops of 48 pixels need pictures at least as large, got none"):
        CropData(size=48, folder=str(tmp_path)).crops(Files(tmp_path))
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    with pytest.raises(ValueError, match="broken.jpg cannot be read"):
        CropData(folder=str(tmp_path)).crops(Files(tmp_path))


def test_joined_files_hold_the_parts_of_all(tmp_path):
    networks, arguments = {}, {"condition_channels": 3, "channels": 16, "multipliers": [1, 2]}
    for n, part in enumerate(("model", "other")):
        networks[part] = Restorer(**arguments).initialise(torch.Generator().manual_seed(n))
        spec = {part: {"architecture": "Restorer", "arguments": arguments}}
        config = {"about": part, "noise": f"of {part}", "parts": spec, "training": {"steps": n}}
        checkpoints.save({part: networks[part]}, tmp_path / f"run_{part}.safetensors", config, torch.float32)
    recipe = Recipe("both", "two in one", JoinJob(("run_model", "run_other")), LoopSettings(steps=0))
    task = recipe.job.make(recipe, Files(tmp_path))
    checkpoints.save(dict(task.parts), tmp_path / "both.safetensors", task.config, torch.float32)
    for part, network in networks.items():
        loaded, config = checkpoints.load(tmp_path / "both.safetensors", part)
        assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), network.parameters(), strict=True))
    assert (config["about"], config["noise"]) == ("two in one", "of model")
    assert config["training"] == {"run_model": {"steps": 0}, "run_other": {"steps": 1}}
    assert list(task.parameters) == []
