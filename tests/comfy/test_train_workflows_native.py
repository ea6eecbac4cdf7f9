"""The workflows that train the pack's own networks, as they ship but for fewer steps, in the real server."""

import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aqueduct.core import checkpoints
from aqueduct.scripts import _shipped
from aqueduct.scripts._client import PromptError
from aqueduct.scripts._server import ComfyServer
from aqueduct.scripts._workflow import find_nodes, set_input
from aqueduct.tests.comfy.own_models import server_with

TEXT = 14  # pixels: the line above a row of a sample


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def training_server(comfyui_path, models) -> Iterator[ComfyServer]:
    """A server that saves models into a folder of these tests."""
    with server_with(comfyui_path, models, {"aqueduct": "."}, saves=True) as running:
        yield running


def picture(outputs: dict, prompt: dict, title: str, server: ComfyServer, folder: Path) -> np.ndarray:
    """The last picture that the node called ``title`` showed."""
    (node,) = find_nodes(prompt, title)
    entry = outputs[node]["images"][-1]
    with Image.open(server.download(entry, folder / entry["filename"])) as shown:
        return np.asarray(shown.convert("RGB"))


def shortened(name: str, server: ComfyServer, trainers: list[str], **inputs) -> dict:
    prompt = _shipped.prepare(name, server, sys.executable)
    for title in trainers:
        for key, value in {"steps": 2, "batch": 2, "sample_every": 2, **inputs}.items():
            set_input(prompt, title, key, value)
    return prompt


def test_a_neural_prior(training_server, models, tmp_path):
    prompt = shortened("train_neural_prior", training_server, ["AqueductTrainNeuralPrior"])
    outputs = training_server.run(prompt, timeout=900)["outputs"]
    config = checkpoints.read_config(models / "my_neural_prior_00001.safetensors")
    assert config["parts"]["prior"]["arguments"]["frames"] == 8 and config["training"]["steps"] == 2
    assert picture(outputs, prompt, "Losses", training_server, tmp_path).shape == (400, 640, 3)
    assert picture(outputs, prompt, "Samples", training_server, tmp_path).shape == (6 * (TEXT + 34) - 2, 8 * 34 - 2, 3)
    (file,) = find_nodes(prompt, "File")
    assert "my_neural_prior_00001.safetensors" in outputs[file]["text"][0]


def test_a_motion_adapter(training_server, models, tmp_path):
    prompt = shortened("train_motion_adapter", training_server, ["AqueductTrainMotionAdapter"], batch=1)
    set_input(prompt, "Frames", "length", 16)
    outputs = training_server.run(prompt, timeout=900)["outputs"]
    config = checkpoints.read_config(models / "my_motion_adapter_00001.safetensors")
    assert config["training"]["mask"] == "bidirectional" and config["parts"]["adapter"]["arguments"]["channels"] == 48
    assert picture(outputs, prompt, "Samples", training_server, tmp_path).shape == (2 * (TEXT + 66) - 2, 8 * 66 - 2, 3)


def test_both_stages_of_an_exemplar_model(training_server, models, tmp_path):
    prompt = shortened("train_exemplar", training_server, ["Stage 1", "Stage 2"])
    outputs = training_server.run(prompt, timeout=900)["outputs"]
    first, second = (
        set(checkpoints.read_config(models / f"{name}_00001.safetensors")["parts"])
        for name in ("my_exemplar_stage_1", "my_exemplar")
    )
    assert first == {"model", "encoder"} and second == {"model", "exemplar", "encoder"}
    shown = picture(outputs, prompt, "Samples, stage 2", training_server, tmp_path)
    assert shown.shape == (4 * (TEXT + 34) - 2, 2 * 34 - 2, 3)


def test_the_stop_button_and_on_from_there(training_server, models):
    """Over HTTP: stopped on its way, the same prompt goes on and ends; the server says from which step."""
    prompt = shortened("train_neural_prior", training_server, ["AqueductTrainNeuralPrior"], steps=20)
    set_input(prompt, "AqueductTrainNeuralPrior", "filename_prefix", "stopped")
    left = training_server.folder / "output" / "aqueduct" / "training" / "stopped.resume"

    def stop():
        while not left.with_name("stopped.resume.json").exists():
            time.sleep(0.1)
        while "stopped: step 1 of 20" not in training_server.log():
            time.sleep(0.1)
        training_server.interrupt()

    threading.Thread(target=stop, daemon=True).start()
    with pytest.raises(PromptError, match="(?i)interrupt"):
        training_server.run(prompt, timeout=900)
    assert left.exists() and not list(models.glob("stopped*"))
    training_server.run(prompt, timeout=900)
    assert "stopped: goes on from step" in training_server.log()
    assert list(models.glob("stopped_00001.safetensors")) and not left.exists()
