"""Trainer nodes as ComfyUI's executor calls them, on a handful of tiny clips: files, stops, resumption, refusals."""

import logging
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from aqueduct.core.training.ema import Ema
from aqueduct.tests.comfy import adapter_files, bridge_files
from aqueduct.tests.comfy.graph import run, run_one
from aqueduct.tests.comfy.training_files import FRAMES, SIDE, Clips, write_clips

PRIOR, ADAPTER = "AqueductTrainNeuralPrior", "AqueductTrainMotionAdapter"
STEPS = 4


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Clips:
    return Clips(write_clips(tmp_path_factory.mktemp("clips"), count=3))


@pytest.fixture
def models(comfy, tmp_path, monkeypatch) -> Path:
    """Folders of this test's own: where models are found and saved, and the output."""
    import folder_paths

    folder = tmp_path / "models"
    folder.mkdir()
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "aqueduct", ([str(folder)], {".safetensors"}))
    monkeypatch.setattr(folder_paths, "models_dir", str(tmp_path / "others"))
    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path / "output"))
    return folder


def train(data: Clips, node: str = PRIOR, **inputs) -> tuple:
    """(what was trained, file, losses, samples)"""
    settings = {"steps": STEPS, "batch": 2, "sample_every": 0, "learning_rate": 1e-2}
    return run(node, **{"dataset": data, **settings, **inputs})


def stopped_after(monkeypatch, steps: int) -> None:
    """The stop button is pressed while the report of that step is made; it is asked for twice in each step."""
    import comfy.model_management as mm

    asked = []

    def pressed():
        asked.append(1)
        if len(asked) == 2 * steps:
            raise mm.InterruptProcessingException()

    monkeypatch.setattr(mm, "throw_exception_if_processing_interrupted", pressed)


def same_weights(one: str | Path, other: str | Path) -> bool:
    first, second = load_file(one), load_file(other)
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def unfinished(models: Path, name: str = "neural_prior") -> Path:
    return models.parent / "output" / "aqueduct" / "training" / f"{name}.resume"


def test_a_prior_is_trained_and_its_file_is_what_the_loader_reads(models, data):
    before = torch.get_rng_state()
    prior, file, losses, samples = train(data, sample_every=2)
    assert torch.equal(before, torch.get_rng_state())
    assert Path(file) == models / "neural_prior_00001.safetensors" and not unfinished(models).exists()
    assert losses.shape == (1, 400, 640, 3) and losses.min() >= 0 and losses.max() <= 1
    assert len(samples) == STEPS // 2 and samples.shape[2] == FRAMES * (SIDE + 2) - 2
    loaded = run_one("AqueductLoadNeuralPrior", file="neural_prior_00001.safetensors")
    first = {"samples": data.latents.tensor(0, "latent")[None, :, 0]}
    words = run_one("AqueductMotionClass", motion="right")
    made = [
        run_one("AqueductNeuralPrior", prior=one, latent=first, conditioning=words)["samples"]
        for one in (prior, loaded)
    ]
    assert torch.equal(*made) and made[0].shape == (FRAMES, 3, SIDE, SIDE)


def test_the_same_seed_gives_the_same_weights_and_another_others(models, data):
    files = [train(data, filename_prefix=f"runs/{n}", seed=seed)[1] for n, seed in enumerate((7, 7, 8))]
    assert same_weights(files[0], files[1]) and not same_weights(files[0], files[2])
    assert Path(files[0]) == models / "runs" / "0_00001.safetensors"


def test_a_stopped_training_goes_on_exactly(models, data, monkeypatch, caplog):
    import comfy.model_management as mm

    _, whole, _, _ = train(data, filename_prefix="whole")
    with monkeypatch.context() as patch:
        stopped_after(patch, 2)
        with pytest.raises(mm.InterruptProcessingException):
            train(data)
    assert unfinished(models).exists() and not list(models.glob("neural_prior*"))
    with caplog.at_level(logging.INFO):
        _, file, _, _ = train(data)
    assert f"neural_prior: goes on from step 2 of {STEPS}" in caplog.text
    assert same_weights(whole, file) and not unfinished(models).exists()


@pytest.mark.parametrize("within", [False, True])
def test_samples_from_before_a_stop_are_shown_with_the_others(models, data, monkeypatch, within):
    """Stopped as the first has been made, or ``within`` the second."""
    import comfy.model_management as mm

    from aqueduct.nodes import training_prior

    *_, whole = train(data, filename_prefix="whole", sample_every=1)
    compared = training_prior.compared

    def stopping(*given):
        if within and given[-1] == 2:
            raise mm.InterruptProcessingException()
        return compared(*given)

    with monkeypatch.context() as patch, pytest.raises(mm.InterruptProcessingException):
        patch.setattr(training_prior, "compared", stopping)
        if not within:
            stopped_after(patch, 2)
        train(data, sample_every=1)
    kept = unfinished(models).with_name("neural_prior.resume.samples")
    assert kept.exists()
    *_, file, _, samples = train(data, sample_every=1)
    assert len(whole) == STEPS and torch.equal(samples, whole) and not kept.exists()
    assert torch.equal(train(data, sample_every=1)[3], whole)


def test_samples_begin_anew_with_the_training_and_broken_ones_are_left(models, data, monkeypatch, caplog):
    import comfy.model_management as mm

    kept = unfinished(models).with_name("neural_prior.resume.samples")
    for resume, count in ((True, STEPS - 1), (False, STEPS)):
        with monkeypatch.context() as patch, pytest.raises(mm.InterruptProcessingException):
            stopped_after(patch, 2)
            train(data, sample_every=1, seed=count)
        kept.write_text("broken")
        assert len(train(data, sample_every=1, seed=count, resume=resume)[3]) == count
    assert "the samples that were made before are lost" in caplog.text


def test_what_is_left_of_another_training_is_not_taken(models, data, monkeypatch):
    import comfy.model_management as mm

    with monkeypatch.context() as patch:
        stopped_after(patch, 2)
        with pytest.raises(mm.InterruptProcessingException):
            train(data)
    with pytest.raises(ValueError, match=r"another training: steps is 4 there and 5 here"):
        train(data, steps=5)
    with pytest.raises(ValueError, match=r"file parts prior arguments hidden is 64 there and 128 here"):
        train(data, size="small")
    assert unfinished(models).exists()
    told = unfinished(models).with_name("neural_prior.resume.json")
    known = told.read_text()
    told.write_text("no JSON")
    with pytest.raises(ValueError, match="neural_prior.resume is, cannot be read .* turn resume off"):
        train(data)
    told.write_text(known)
    _, file, _, _ = train(data, steps=5, resume=False)
    assert Path(file).exists() and not unfinished(models).exists()


def test_a_finished_training_is_found_not_repeated(models, data, monkeypatch):
    _, file, losses, samples = train(data, sample_every=STEPS)
    with monkeypatch.context() as patch:
        patch.setattr("aqueduct.nodes._comfy.training.train_task", lambda *_, **__: pytest.fail("it is trained again"))
        _, again, same, shown = train(data, sample_every=STEPS, save_every=3)
        assert again == file and torch.equal(losses, same)
        assert (samples - shown).abs().max() <= 0.5 / 255 + 1e-6
    Path(file).unlink()
    _, anew, _, _ = train(data, sample_every=STEPS)
    assert Path(anew).exists()


def test_other_data_are_another_training(models, data, tmp_path):
    _, file, _, _ = train(data)
    more = Clips(write_clips(tmp_path / "more", count=4))
    assert train(more)[1] != file


def test_the_average_is_what_is_saved(models, data, monkeypatch):
    """An average that is never updated is the weights that the training began with."""
    monkeypatch.setattr(Ema, "update", lambda self: None)
    _, averaged, _, _ = train(data, ema=0.5, filename_prefix="averaged")
    _, untouched, _, _ = train(data, learning_rate=0.0, filename_prefix="untouched")
    _, moved, _, _ = train(data, filename_prefix="moved")
    assert same_weights(averaged, untouched) and not same_weights(moved, untouched)


def test_without_samples_the_output_is_blocked(models, data):
    from comfy_execution.graph_utils import ExecutionBlocker

    samples = train(data)[3]
    assert isinstance(samples, ExecutionBlocker) and "sample_every" in samples.message


def test_nan_stops_and_says_what_is_left(models, data):
    with pytest.raises(FloatingPointError, match=r"became (nan|inf) at step .*kept in .*neural_prior\.resume"):
        train(data, learning_rate=1e30, save_every=1, steps=20)
    assert unfinished(models).exists() and not list(models.glob("*"))


def test_no_memory_leaves_the_training_and_the_type_that_comfyui_knows(models, data, monkeypatch):
    """ComfyUI frees its models on this type of error."""
    import comfy.model_management as mm

    from aqueduct.core.networks.neural_prior import NeuralPrior

    whole = NeuralPrior.forward
    for most, told in ((1, "nothing had been saved before.*recompute"), (12, "kept in .*recompute")):
        calls = []  # the first is to see what memory it takes

        def forward(self, *arguments, calls=calls, most=most):
            calls.append(1)
            if len(calls) > most:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return whole(self, *arguments)

        with monkeypatch.context() as patch:
            patch.setattr(NeuralPrior, "forward", forward)
            with pytest.raises(mm.OOM_EXCEPTION, match=told):
                train(data, steps=20)
    assert unfinished(models).exists()
    assert Path(train(data, steps=20)[1]).exists()


def test_a_training_that_cannot_fit_is_refused_before_the_first_step(models, data, monkeypatch):
    import comfy.model_management as mm

    def free(device=None, torch_free_too=False):
        return (5e7, 5e7) if torch_free_too else 5e7

    monkeypatch.setattr(mm, "get_free_memory", free)
    with pytest.raises(ValueError, match=r"50 MB are free:\n(.*\n)*activations"):
        train(data, batch=512)


def test_where_one_row_alone_is_too_much_no_more_of_it_is_tried(models, data, monkeypatch):
    """On a CPU, where nobody else would stop it."""
    import comfy.model_management as mm

    monkeypatch.setattr(mm, "get_free_memory", lambda *_, **__: 10_000)
    with pytest.raises(ValueError, match="a row or two of a batch take more than the 10 kB that are free"):
        train(data, batch=1)


def test_a_stop_in_the_last_sample_costs_no_step(models, data, monkeypatch):
    """The samples at the end are made behind the last checkpoint."""
    import comfy.model_management as mm

    def stop(*_):
        raise mm.InterruptProcessingException()

    with monkeypatch.context() as patch:
        patch.setattr("aqueduct.nodes.training_prior.compared", stop)
        with pytest.raises(mm.InterruptProcessingException):
            train(data, sample_every=STEPS)
    with monkeypatch.context() as patch:
        patch.setattr("aqueduct.core.training.clip_tasks.z0_loss", lambda *_: pytest.fail("it is trained again"))
        patch.setattr("aqueduct.nodes._comfy.training._make_room", lambda *_: None)  # which asks for a loss, too
        assert len(train(data, sample_every=STEPS)[3]) == 1


def test_a_full_disk_at_the_end_costs_nothing_but_the_writing(models, data, monkeypatch):
    _, whole, _, _ = train(data, filename_prefix="whole")

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("aqueduct.core.checkpoints.save_file", full)
        with pytest.raises(OSError, match="No space left.*finished training is kept in .*neural_prior.resume"):
            train(data)
    with monkeypatch.context() as patch:
        patch.setattr("aqueduct.core.training.clip_tasks.z0_loss", lambda *_: pytest.fail("it is trained again"))
        patch.setattr("aqueduct.nodes._comfy.training._make_room", lambda *_: None)  # which asks for a loss, too
        _, file, _, _ = train(data)
    assert same_weights(whole, file)


def test_folders_that_cannot_be_written_to_are_named_before_the_first_step(models, data, tmp_path, monkeypatch):
    import folder_paths

    (tmp_path / "file").write_text("no folder")
    with monkeypatch.context() as patch:
        patch.setitem(folder_paths.folder_names_and_paths, "aqueduct", ([], {".safetensors"}))
        patch.setattr(folder_paths, "models_dir", str(tmp_path / "file" / "models"))
        with pytest.raises(ValueError, match=r"no folder of models/aqueduct can be written to:\n.*file/models"):
            train(data)
    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path / "file"))
    with pytest.raises(ValueError, match="cannot be saved on its way: .*file.*cannot be written to"):
        train(data)


@pytest.mark.parametrize("prefix", ["", "../up", "/etc/x", "a/..", "what?"])
def test_names_that_lead_elsewhere_are_refused(models, data, prefix):
    with pytest.raises(ValueError, match="filename_prefix .* is no name"):
        train(data, filename_prefix=prefix)


def test_a_prior_has_one_size(models, tmp_path):
    clips = Clips(write_clips(tmp_path / "mixed", sizes=((16, 16), (16, 24))))
    with pytest.raises(ValueError, match=r"these clips have 2 .*3 of \[3, 4, 16, 16\], 3 of \[3, 4, 16, 24\]"):
        train(clips)


def test_clips_without_classes_make_a_prior_without(models, tmp_path):
    prior, _, _, _ = train(Clips(write_clips(tmp_path / "plain", count=2, classes=False)))
    first = {"samples": torch.zeros(2, 3, SIDE, SIDE)}
    made = run_one("AqueductNeuralPrior", prior=prior, latent=first, conditioning=[[torch.zeros(1, 1, 1), {}]])
    assert made["samples"].shape == (2 * FRAMES, 3, SIDE, SIDE)


@pytest.fixture(scope="module")
def moving(tmp_path_factory) -> Clips:
    """Of the size of `adapter_files`' backbone."""
    size = (adapter_files.HEIGHT, adapter_files.WIDTH)
    return Clips(write_clips(tmp_path_factory.mktemp("moving"), count=3, sizes=(size,)))


class TestMotionAdapter:
    @pytest.fixture
    def model(self, models):
        adapter_files.write(models, "backbone.safetensors", "model", "VideoUNet", adapter_files.UNET, 1)
        return run_one("AqueductLoadBridgeModel", file="backbone.safetensors")

    def test_it_is_trained_applied_and_trained_on(self, models, model, moving):
        adapter, file, _, samples = train(moving, ADAPTER, model=model, sample_every=STEPS, carried=0.5)
        assert Path(file) == models / "motion_adapter_00001.safetensors" and len(samples) == 1
        motion = adapter_files.sliding(FRAMES, 16, 24, 1.0)
        applied = run_one(
            "AqueductApplyMotionAdapter", model=model, adapter=adapter, motion=motion, image=torch.rand(1, 16, 24, 3)
        )
        assert applied is not model
        _, on, _, _ = train(moving, ADAPTER, model=model, adapter=adapter, learning_rate=0.0, filename_prefix="on")
        assert same_weights(file, on)
        loaded, _ = run("AqueductLoadMotionAdapter", file="motion_adapter_00001.safetensors")
        assert loaded.config["training"]["lambda_geo"] == 0.1

    def test_what_it_cannot_be_trained_on_is_refused(self, models, model, moving, data, tmp_path):
        still = Clips(write_clips(tmp_path / "still", sizes=((16, 24),), motion=False))
        with pytest.raises(ValueError, match="6 of 6 clips have no motion, the first right/0.mp4"):
            train(still, ADAPTER, model=model)
        long = Clips(write_clips(tmp_path / "long", count=2, sizes=((16, 24),), frames=6))
        with pytest.raises(ValueError, match=r"for clips \[3, 4, 16, 24\].*2 are \[3, 6, 16, 24\]"):
            train(long, ADAPTER, model=model)
        adapter_files.write(models, "unet.safetensors", "adapter", *adapter_files.KINDS["unet"], 2)
        adapter, _ = run("AqueductLoadMotionAdapter", file="unet.safetensors")
        motion = adapter_files.sliding(FRAMES, 16, 24, 1.0)
        with_it = run_one(
            "AqueductApplyMotionAdapter", model=model, adapter=adapter, motion=motion, image=torch.rand(1, 16, 24, 3)
        )
        with pytest.raises(ValueError, match="has something on it"):
            train(moving, ADAPTER, model=with_it)

    def test_models_of_others_are_named(self, models, moving):
        from aqueduct.tests.comfy.hosts import sd15

        with pytest.raises(ValueError, match="adapters are for .*Wan; this MODEL is BaseModel around a UNetModel"):
            train(moving, ADAPTER, model=sd15().model)
        latte = run_one("AqueductLoadBridgeModel", file=bridge_files.write(models, "shipped"))
        with pytest.raises(ValueError, match="adapters are for .*this MODEL is LatteVideo: wire animate_photos"):
            train(moving, ADAPTER, model=latte)
