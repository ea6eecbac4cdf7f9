"""Our own files: what goes in comes out, and damaged or foreign files say what is wrong with them."""

import json
import pickle
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from aqueduct.core import checkpoints, tensor_file
from aqueduct.core.bridges import PARAMETERISATIONS, PRECONDITIONS, PROCESSES
from aqueduct.core.networks import LatteVideo, NeuralPrior
from aqueduct.core.networks.layout import InputLayout

SIZES = {
    "in_channels": 3, "out_channels": 3, "frames": 2, "height": 4, "width": 4, "patch": 2, "hidden": 8, "depth": 2,
    "heads": 2, "classes": 2,
}  # fmt: skip
CONFIG = {
    "about": "a test",
    "parts": {"model": {"architecture": "LatteVideo", "arguments": SIZES}},
    "bridge": {"kind": "brownian", "constants": {"variance": 1.0}},
    "parameterisation": "x0",
    "precondition": "raw",
    "layout": {"concat_prior": False, "concat_first_frame": False, "prepend_first_frame": False},
    "class_names": ["left", "right"],
    "latent": {"format": "pixel", "channels": 3, "vae": "pixel_space"},
    "image_condition": "first frame of the prior",
}
BOTH = {**CONFIG, "parts": {**CONFIG["parts"], "prior": {"architecture": "NeuralPrior", "arguments": SIZES}}}


def randomised(network: torch.nn.Module) -> torch.nn.Module:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return network


@pytest.fixture
def network() -> LatteVideo:
    return randomised(LatteVideo(**SIZES))


@pytest.fixture
def saved(tmp_path, network):
    checkpoints.save(network, tmp_path / "model.safetensors", CONFIG)
    return tmp_path / "model.safetensors"


# --- round trips ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_round_trip(tmp_path, network, dtype):
    path = tmp_path / "model.safetensors"
    checkpoints.save(network, path, CONFIG, dtype=dtype)
    loaded, config = checkpoints.load(path)
    assert config == {"format": 1, **CONFIG} == checkpoints.read_config(path)
    assert not loaded.training and not any(p.requires_grad for p in loaded.parameters())
    for key, value in network.state_dict().items():
        assert loaded.state_dict()[key].dtype == torch.float32  # the network's, whatever the file's
        assert torch.equal(loaded.state_dict()[key], value.to(dtype).float()), key
    checkpoints.save(loaded, tmp_path / "again.safetensors", config, dtype=dtype)
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


def test_factory_arguments_reach_the_network(saved):
    loaded, _ = checkpoints.load(saved, dtype=torch.float16, operations=torch.nn)
    assert {p.dtype for p in loaded.parameters()} == {torch.float16}


def test_two_parts_in_one_file(tmp_path, network):
    prior = randomised(NeuralPrior(**SIZES))
    checkpoints.save({"model": network, "prior": prior}, tmp_path / "both.safetensors", BOTH, dtype=torch.float32)
    loaded, config = checkpoints.load(tmp_path / "both.safetensors", part="prior")
    assert isinstance(loaded, NeuralPrior) and config["parts"] == BOTH["parts"]
    first, y = torch.randn(1, 3, 4, 4), torch.tensor([1])
    assert torch.equal(loaded(first, y), prior(first, y))
    assert isinstance(checkpoints.load(tmp_path / "both.safetensors")[0], LatteVideo)


def test_reading_the_configuration_reads_no_weights(saved, monkeypatch):
    blind = replace(tensor_file.open_tensors(saved), read=None)
    monkeypatch.setattr(checkpoints, "open_tensors", lambda path: blind)
    assert checkpoints.read_config(saved)["about"] == "a test"


def test_parts_must_match_the_configuration(tmp_path, network):
    with pytest.raises(ValueError, match=r"\['model'\] do not match the configuration's parts \['model', 'prior'\]"):
        checkpoints.save(network, tmp_path / "model.safetensors", BOTH)


def test_documented_example():
    text = (Path(__file__).resolve().parents[2] / "docs" / "formats.md").read_text(encoding="utf-8")
    config = json.loads(text.split("```json")[1].split("```")[0])
    network = checkpoints.build(config, device="meta")
    layout = InputLayout(**config["layout"])
    assert layout.channels(config["latent"]["channels"]) == network.in_channels
    assert network.classes == len(config["class_names"]) and config["format"] == checkpoints.FORMAT
    assert config["bridge"]["kind"] in PROCESSES
    assert config["parameterisation"] in PARAMETERISATIONS and config["precondition"] in PRECONDITIONS
    assert tensor_file.CONVERT.format(source="model.pt", target="model.safetensors") in text


def test_failed_save_leaves_the_old_file(saved, network, monkeypatch):
    before = saved.read_bytes()

    def disk_full(tensors, path, metadata):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints, "save_file", disk_full)
    with pytest.raises(OSError, match="No space left"):
        checkpoints.save(network, saved, CONFIG)
    assert saved.read_bytes() == before and list(saved.parent.iterdir()) == [saved]


# --- what does not fit ------------------------------------------------------------------------------------------------


def test_missing_part(saved):
    with pytest.raises(ValueError, match="no 'prior'; its parts are model"):
        checkpoints.load(saved, part="prior")


def test_tensors_that_do_not_fit_are_listed(tmp_path, network):
    state = network.state_dict()
    del state["blocks.0.attn.qkv.bias"]
    state["stray"] = torch.zeros(1)
    state["temp_embed"] = torch.zeros(1, 3, 8)
    config = {checkpoints.METADATA_KEY: json.dumps({"format": 1, **CONFIG})}
    save_file({f"model.{key}": value for key, value in state.items()}, tmp_path / "odd.safetensors", metadata=config)
    with pytest.raises(ValueError) as caught:
        checkpoints.load(tmp_path / "odd.safetensors")
    message = str(caught.value)
    assert "1 missing (blocks.0.attn.qkv.bias)" in message and "1 unexpected (stray)" in message
    assert "1 of another shape (temp_embed: got (1, 3, 8), expected (1, 2, 8))" in message


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (json.dumps({**CONFIG, "format": 2}), "has format 2, this version reads format 1: update the pack"),
        (json.dumps(CONFIG), "has format None"),
        ("[]", "has format None"),
        ("{", "is no JSON"),
        (json.dumps({"format": 1}), "names no parts"),
    ],
)
def test_configurations_of_another_kind(tmp_path, metadata, message):
    save_file({"model.a": torch.zeros(1)}, tmp_path / "a.safetensors", metadata={checkpoints.METADATA_KEY: metadata})
    with pytest.raises(ValueError, match=message):
        checkpoints.read_config(tmp_path / "a.safetensors")


def test_unknown_architecture(tmp_path, network):
    config = {**CONFIG, "parts": {"model": {"architecture": "Colossus", "arguments": {}}}}
    checkpoints.save(network, tmp_path / "a.safetensors", config)
    with pytest.raises(ValueError, match="unknown architecture 'Colossus'; known: LatteVideo, NeuralPrior"):
        checkpoints.load(tmp_path / "a.safetensors")


# --- files that are none of ours --------------------------------------------------------------------------------------


def test_absent_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        checkpoints.load(tmp_path / "absent.safetensors")


@pytest.mark.parametrize("keep", [0, 5, 200, -100])
def test_cut_short(saved, keep):
    saved.write_bytes(saved.read_bytes()[:keep])
    with pytest.raises(ValueError, match="model.safetensors.*(download)"):
        checkpoints.load(saved)


@pytest.mark.parametrize("old_format", [False, True])
@pytest.mark.parametrize("damage", ["cut", "overwritten"])
def test_damaged_pickle(tmp_path, old_format, damage):
    path = tmp_path / "model.pt"
    torch.save({"ema": {"a": torch.zeros(100, 100)}}, path, _use_new_zipfile_serialization=not old_format)
    data = bytearray(path.read_bytes())
    data[60:100] = b"x" * 40
    path.write_bytes(data if damage == "overwritten" else data[: len(data) // 2])
    with pytest.raises(ValueError, match="model.pt is damaged.*download"):
        checkpoints.load(path)


@pytest.mark.parametrize("content", [b"<!DOCTYPE html>", b"\x00" * 64])
def test_no_file_of_tensors(tmp_path, content):
    (tmp_path / "page.pt").write_bytes(content)
    with pytest.raises(ValueError, match="neither a safetensors file nor a PyTorch checkpoint.*web page"):
        checkpoints.read_config(tmp_path / "page.pt")


def test_foreign_safetensors(tmp_path):
    save_file({f"unet.{k}": torch.zeros(1) for k in range(5)}, tmp_path / "a.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError) as caught:
        checkpoints.load(tmp_path / "a.safetensors")
    message = str(caught.value)
    assert "5 tensors (unet.0, unet.1, unet.2, ...), metadata ['format']" in message
    assert "Understood are files written by Aqueduct, and FrameBridge for UCF-101" in message


@pytest.mark.parametrize(
    ("content", "found"), [([1, 2], "list"), ({"step": 3, "lr": 0.1}, "step, lr"), ({"model": {}}, "nothing")]
)
def test_pickle_without_tensors(tmp_path, content, found):
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(ValueError, match=f"no tensors where a checkpoint keeps them .found: {found}"):
        checkpoints.read_config(tmp_path / "a.pt")


# --- pickles that hold code -------------------------------------------------------------------------------------------


class Touch:
    """Unpickled the ordinary way, it creates a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.mark.parametrize("old_format", [False, True])
def test_code_in_a_pickle_does_not_run(tmp_path, old_format):
    path, touched = tmp_path / "model.pt", tmp_path / "touched"
    content = {"ema": {"a": torch.ones(2, 2)}, "args": Touch(touched)}
    torch.save(content, path, _use_new_zipfile_serialization=not old_format)
    with pytest.raises(ValueError, match=r"holds code besides weights \(it calls for io\.open\).*convert") as caught:
        checkpoints.load(path)
    assert not touched.exists()
    command = shlex.split(str(caught.value).split("use the new file: ")[1])
    assert command[0] == "python"
    subprocess.run([sys.executable, *command[1:]], check=True)
    assert touched.exists()  # the payload was live
    assert tensor_file.open_tensors(tmp_path / "model.safetensors").shapes == {"a": (2, 2)}


def test_plain_pickle_does_not_run(tmp_path):
    (tmp_path / "model.pt").write_bytes(pickle.dumps(Touch(tmp_path / "touched"), protocol=2))
    with pytest.raises(ValueError, match="holds code"):
        checkpoints.load(tmp_path / "model.pt")
    assert not (tmp_path / "touched").exists()


def test_unsafe_pytorch_reads_no_pickles(tmp_path, monkeypatch):
    torch.save({"a": torch.zeros(1)}, tmp_path / "model.pt")
    monkeypatch.setattr(torch, "__version__", "2.5.1+cu124")
    with pytest.raises(ValueError, match="PyTorch 2.5.1.* cannot read model.pt safely.*2.6 or later"):
        checkpoints.load(tmp_path / "model.pt")
