"""Both adapter nodes in the real server, over HTTP, on a tiny backbone of our own."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from PIL import Image

from aqueduct.scripts._client import PromptError
from aqueduct.scripts._server import ComfyServer
from aqueduct.tests.comfy import adapter_files
from aqueduct.tests.comfy.adapter_files import FRAMES, HEIGHT, WIDTH
from aqueduct.tests.comfy.own_models import server_with
from aqueduct.tests.comfy.test_server_bridge import node, saved


@pytest.fixture(scope="module")
def server(comfyui_path, tmp_path_factory) -> Iterator[ComfyServer]:
    folder = tmp_path_factory.mktemp("models")
    adapter_files.write_all(folder)
    pixels = np.random.default_rng(1).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "start.png")
    with server_with(comfyui_path, folder, {"aqueduct": "."}) as running:
        running.upload_image(folder / "start.png")
        yield running


def prompt_of(files: dict[str, str], frames: int = FRAMES) -> dict:
    """A plain run, and one with an adapter for each entry of ``files``."""
    prompt = {
        "load": node("AqueductLoadBridgeModel", file="backbone.safetensors", vae="from the model file"),
        "image": node("LoadImage", image="start.png"),
        "latent": node("VAEEncode", pixels=["image", 0], vae=["load", 1]),
        "prior": node("AqueductReplicatePrior", latent=["latent", 0], frames=FRAMES, temporal_compression=1),
        "text": node("AqueductMotionClass", motion="none"),
        "noise": node("RandomNoise", noise_seed=2),
        "sampler": node("AqueductBridgeSampler", bridge=["load", 2], solver="sde", eta=1.0),
        "times": node("AqueductBridgeTimes", bridge=["load", 2], steps=3, spacing="uniform"),
        "motion": node(
            "AqueductCameraMotion", frames=frames, width=WIDTH, height=HEIGHT, pan_x=0.25, pan_y=0.0, zoom=1.0,
            roll=0.0, ease="linear", centre_x=0.5, centre_y=0.5, shake=0.0, shake_cycles=4.0, seed=0, keyframes="",
        ),
    }  # fmt: skip
    for name, file in {"plain": None, **files}.items():
        model = ["load", 0]
        if file is not None:
            prompt[f"file {name}"] = node("AqueductLoadMotionAdapter", file=file)
            prompt[f"apply {name}"] = node(
                "AqueductApplyMotionAdapter", model=model, adapter=[f"file {name}", 0], motion=["motion", 0],
                image=["image", 0], strength=1.0, start_percent=0.0, end_percent=1.0,
            )  # fmt: skip
            model = [f"apply {name}", 0]
        prompt[f"guider {name}"] = node("BasicGuider", model=model, conditioning=["text", 0])
        prompt[f"sample {name}"] = node(
            "SamplerCustomAdvanced", noise=["noise", 0], guider=[f"guider {name}", 0], sampler=["sampler", 0],
            sigmas=["times", 0], latent_image=["prior", 0],
        )  # fmt: skip
        prompt[name] = node("SaveLatent", samples=[f"sample {name}", 0], filename_prefix=name)
    return prompt


def test_an_adapter_changes_the_clip_and_zero_does_not(server, tmp_path):
    files = {"moved": "unet-0.safetensors", "zero": "unet-zero.safetensors"}
    outputs = server.run(prompt_of(files))["outputs"]
    clips = {name: saved(server, outputs, name, tmp_path) for name in ("plain", *files)}
    assert torch.equal(clips["zero"], clips["plain"])
    assert clips["moved"].isfinite().all() and not torch.allclose(clips["moved"], clips["plain"], atol=1e-3)


def test_what_is_wrong_is_told_and_the_server_goes_on(server, tmp_path):
    with pytest.raises(PromptError, match="node apply m .*is for Wan, the MODEL is the small video U-Net"):
        server.run(prompt_of({"m": "wan-0.safetensors"}))
    with pytest.raises(PromptError, match="node sample m .*the motion has 3 frames, the clip 4: make them equal"):
        server.run(prompt_of({"m": "unet-0.safetensors"}, frames=3))
    assert "m" not in server.run(prompt_of({"m": "dense.safetensors"}))["outputs"]  # no adapter in it: blocked
    again = server.run(prompt_of({"moved": "unet-1.safetensors"}))["outputs"]
    assert saved(server, again, "moved", tmp_path).isfinite().all()
