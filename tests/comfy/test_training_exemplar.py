"""The trainer of exemplar models: both stages, in pixels and latents, from folders and batches, and its refusals."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from aqueduct.core import checkpoints
from aqueduct.scripts._pack import ROOT
from aqueduct.tests.comfy import adapter_files, exemplar_files, sd_host
from aqueduct.tests.comfy.graph import node_class, run, run_one
from aqueduct.tests.comfy.test_host_training_nodes import stopped_after

NODE, SIDE = "AqueductTrainExemplar", 16
TEXT = 14  # pixels: the line above a row of a sample


@pytest.fixture
def models(comfy, tmp_path, monkeypatch) -> Path:
    """Folders of this test's own: where models are found and saved, input and output."""
    import folder_paths

    folder = tmp_path / "models"
    folder.mkdir()
    listed = ([str(folder), str(ROOT / "models")], {".safetensors"})
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "aqueduct", listed)
    monkeypatch.setattr(folder_paths, "models_dir", str(tmp_path / "others"))
    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path / "output"))
    monkeypatch.setattr(folder_paths, "input_directory", str(tmp_path / "input"))
    return folder


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return exemplar_files.picture(24, 24, batch=2)


def train(**inputs) -> tuple:
    """(MODEL, file, losses, samples)"""
    common = {"steps": 2, "batch": 2, "sample_every": 0, "resolution": SIDE, "size": "tiny", "ema": 0.0}
    return run(NODE, **{**common, **inputs})


def part(file: str | Path, name: str) -> dict[str, torch.Tensor]:
    return {key: value for key, value in load_file(file).items() if key.startswith(name + ".")}


def write_pictures(folder: Path, names: list[str], side: int = 20) -> None:
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (side, side, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)


def test_two_stages_make_a_model_that_takes_exemplars(models, images):
    first, file, losses, samples = train(images=images, sample_every=2)
    assert Path(file) == models / "exemplar_00001.safetensors" and losses.shape == (1, 400, 640, 3)
    assert samples.shape[:2] == (1, 4 * (TEXT + SIDE + 2) - 2) and samples.shape[2] >= 2 * (SIDE + 2) - 2
    second, whole, _, _ = train(images=images, stage="2", model=first, filename_prefix="second")
    assert set(checkpoints.read_config(whole)["parts"]) == {"model", "exemplar", "encoder"}
    before, after = part(file, "model"), part(whole, "model")
    moved = {key for key in before if not torch.equal(before[key], after[key])}
    assert moved and all(".attention." in key for key in moved)
    picture = exemplar_files.picture(SIDE, SIDE)
    _, vae, _, _ = run("AqueductLoadBridgeModel", file="second_00001.safetensors")
    shown = run_one("AqueductExemplarEncode", image=picture, vae=vae)
    assert run_one("AqueductApplyExemplar", model=second, exemplar=shown) is not second
    with pytest.raises(ValueError, match="holds no exemplar network"):
        run_one("AqueductApplyExemplar", model=first, exemplar=shown)


def test_the_shipped_model_can_be_trained_on(models, images):
    """At rate 0 it comes out as it went in, its own exemplar network and encoder included."""
    shipped = run_one("AqueductLoadBridgeModel", file="exemplar_scenes.safetensors")
    _, file, _, _ = train(images=images, stage="2", model=shipped, learning_rate=0.0, steps=1)
    own, theirs = load_file(file), load_file(ROOT / "models" / "exemplar_scenes.safetensors")
    assert own.keys() == theirs.keys() and all(torch.equal(own[key], theirs[key]) for key in own)
    config = checkpoints.read_config(file)
    its = checkpoints.read_config(ROOT / "models" / "exemplar_scenes.safetensors")
    assert config["bridge"] == its["bridge"] and config["exemplar"]["encoder"] == "part"


def test_latents_of_a_vae(models, images, tmp_path):
    """TAESD: an eighth of the size, four channels. Stage 2 needs the same one."""
    import comfy.sd
    import comfy.utils

    sd_host.write_tiny_vae(tmp_path / "vae.safetensors")
    vae = comfy.sd.VAE(sd=comfy.utils.load_torch_file(str(tmp_path / "vae.safetensors")))
    large = exemplar_files.picture(80, 80, batch=2)
    model, file, _, samples = train(images=large, vae=vae, resolution=64, sample_every=2)
    assert samples.shape == (1, 4 * (TEXT + 66) - 2, 2 * 66 - 2, 3)
    assert checkpoints.read_config(file)["latent"]["format"] == "sd15"
    assert model.model.diffusion_model.in_channels == 4
    with pytest.raises(ValueError, match="latents have 4 channels, and here they have 3: wire the VAE"):
        train(images=large, stage="2", model=model, resolution=64)
    with pytest.raises(ValueError, match="pictures of 20 pixels: this VAE takes multiples of 8"):
        train(images=large, vae=vae, resolution=20)


def test_dinov2_from_outside(models, images, tmp_path):
    dino = exemplar_files.vision(tmp_path, "dinov2")
    model, file, _, _ = train(images=images, clip_vision=dino)
    config = checkpoints.read_config(file)
    assert set(config["parts"]) == {"model"}
    assert config["exemplar"] == {"features": exemplar_files.WIDTH, "encoder": "dinov2", "size": SIDE}
    with pytest.raises(ValueError, match="took its token from DINOv2: wire the same one"):
        train(images=images, stage="2", model=model)
    with pytest.raises(ValueError, match="this CLIP_VISION is a CLIP"):
        train(images=images, clip_vision=exemplar_files.vision(tmp_path, "clip_vision_model"))


def test_a_folder_with_controls_of_its_own(models, tmp_path):
    names = [f"{style}/{n}.png" for style in ("one", "two") for n in range(2)]
    write_pictures(tmp_path / "input" / "photos", names)
    write_pictures(tmp_path / "input" / "maps", names)
    _, file, _, _ = train(folder="photos", controls="maps", plateau=True)
    told = checkpoints.read_config(file)["training"]
    assert told["data"].startswith("4 pictures of ") and told["control"] == "maps" and told["plateau"] is True


def test_other_pictures_are_another_training(models, tmp_path):
    place = tmp_path / "input" / "photos"
    write_pictures(place, ["a.png", "b.png"])
    fingerprint = node_class(NODE).fingerprint_inputs
    before = fingerprint(folder="photos", controls="", steps=2)
    assert before == fingerprint(folder=str(place), controls="", steps=2)
    _, file, _, _ = train(folder="photos")
    assert train(folder="photos")[1] == file
    write_pictures(place, ["b.png", "a.png"])
    assert fingerprint(folder="photos", controls="", steps=2) != before
    assert train(folder="photos")[1] != file


def test_pictures_that_are_none_are_refused(models, images, tmp_path):
    (tmp_path / "input" / "empty").mkdir(parents=True)
    with pytest.raises(ValueError, match="no picture in .*empty can be used"):
        train(folder="empty")
    with pytest.raises(FileNotFoundError, match="there is no folder 'nowhere'"):
        train(folder="nowhere")
    with pytest.raises(ValueError, match="a folder of pictures or a batch of images, one of the two"):
        train()
    with pytest.raises(ValueError, match="one of the two"):
        train(folder="empty", images=images)
    with pytest.raises(ValueError, match="two crops of 32 pixels need pictures"):
        train(images=images, resolution=32)
    with pytest.raises(ValueError, match="pairs and controls are files beside a folder"):
        train(images=images, pairs="pairs.txt")


def test_models_that_take_no_exemplars_are_refused(models, images):
    with pytest.raises(ValueError, match="the second stage goes on from the first: wire its MODEL"):
        train(images=images, stage="2")
    adapter_files.write(models, "backbone.safetensors", "model", "VideoUNet", adapter_files.UNET, 1)
    other = run_one("AqueductLoadBridgeModel", file="backbone.safetensors")
    with pytest.raises(ValueError, match="MODELs that take them, this one is VideoUNet"):
        train(images=images, stage="2", model=other)


def test_pictures_that_prove_broken_are_left_out_from_the_beginning(models, tmp_path, monkeypatch):
    """Whole in their header, cut off behind: so that a training that goes on has the pictures of before."""
    import comfy.model_management as mm

    write_pictures(tmp_path / "photos", ["a/1.png", "a/2.png", "a/3.png", "b/1.png", "b/2.png"], 64)
    cut = tmp_path / "photos" / "a" / "2.png"
    cut.write_bytes(cut.read_bytes()[:4000])
    given = {"folder": str(tmp_path / "photos"), "steps": 4}
    _, whole, _, _ = train(**given, filename_prefix="whole")
    assert checkpoints.read_config(whole)["training"]["data"].endswith("1 files skipped")
    with monkeypatch.context() as patch, pytest.raises(mm.InterruptProcessingException):
        stopped_after(patch, 2)
        train(**given)
    _, file, _, _ = train(**given)
    assert all(torch.equal(part(whole, "model")[key], value) for key, value in part(file, "model").items())


def test_a_new_network_has_the_shipped_models_bridge(models, images):
    _, file, _, _ = train(images=images)
    shipped = checkpoints.read_config(ROOT / "models" / "exemplar_scenes.safetensors")
    assert checkpoints.read_config(file)["bridge"] == shipped["bridge"]
