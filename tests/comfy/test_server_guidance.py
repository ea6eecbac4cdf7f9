"""Equivariance guidance in the real server, over HTTP: executor, inference mode, caching and core's loaders as users
have them."""

import pytest
import torch

from aqueduct.scripts._client import PromptError
from aqueduct.tests.comfy.guided_hosts import error_along
from aqueduct.tests.comfy.test_server_bridge import node, saved
from aqueduct.tests.comfy.wan_host import stand_in_text

FRAMES, SIZE, PAN = 9, 64, 0.25  # three latent frames of 8 x 8, one latent pixel from one to the next

# name -> what the guidance node is told
RUNS = {"off": {"strength": 0.0}, "x0": {"mode": "x0"}, "full": {"mode": "full"}}


def prompt_of(server, runs: dict, frames: int = FRAMES) -> dict:
    """A plain run of core's Wan, and a guided one for each entry of ``runs``."""
    prompt = {
        "load": node("UNETLoader", unet_name="wan2.1_i2v_480p_14B_fp8_scaled.safetensors", weight_dtype="default"),
        "clip": node("CLIPLoader"), "text": node("CLIPTextEncode"),
        "noise": node("RandomNoise", noise_seed=1),
        "latent": node("EmptyHunyuanLatentVideo", width=SIZE, height=SIZE, length=FRAMES, batch_size=1),
        "sampler": node("KSamplerSelect", sampler_name="euler"),
        "sigmas": node("BasicScheduler", model=["load", 0], scheduler="simple", steps=4, denoise=1.0),
        "motion": node(
            "AqueductCameraMotion", frames=frames, width=SIZE, height=SIZE, pan_x=PAN, pan_y=0.0, zoom=1.0, roll=0.0,
            ease="linear", centre_x=0.5, centre_y=0.5, shake=0.0, shake_cycles=4.0, seed=0, keyframes="",
        ),
    }  # fmt: skip
    prompt["text"]["_meta"]["title"] = "Positive"
    prompt["negative"] = node("CLIPTextEncode")
    prompt["negative"]["_meta"]["title"] = "Negative"
    for name, given in {"plain": None, **runs}.items():
        model = ["load", 0]
        if given is not None:
            shared = {"strength": 10.0, "start_percent": 0.0, "end_percent": 1.0, "mode": "full", "share": 1.0}
            shared |= {"reference": "previous frame", "bounded": True, "motion": ["motion", 0], "model": model}
            prompt[f"guide {name}"] = node("AqueductEquivarianceGuidance", **shared | given)
            model = [f"guide {name}", 0]
        prompt[f"guider {name}"] = node("BasicGuider", model=model, conditioning=["text", 0])
        prompt[f"sample {name}"] = node(
            "SamplerCustomAdvanced", noise=["noise", 0], guider=[f"guider {name}", 0], sampler=["sampler", 0],
            sigmas=["sigmas", 0], latent_image=["latent", 0],
        )  # fmt: skip
        prompt[name] = node("SaveLatent", samples=[f"sample {name}", 0], filename_prefix=name)
    stand_in_text(prompt, server)
    return prompt


def test_guided_runs_of_a_core_model(host_server, tmp_path):
    outputs = host_server.run(prompt_of(host_server, RUNS))["outputs"]
    clips = {name: saved(host_server, outputs, name, tmp_path) for name in ("plain", *RUNS)}
    assert torch.equal(clips["off"], clips["plain"])
    across = -PAN * SIZE / (FRAMES - 1) * 4 / 8
    plain = error_along(clips["plain"], across, 0.0)
    for mode in ("x0", "full"):
        assert error_along(clips[mode], across, 0.0) < 0.7 * plain


def test_a_motion_that_does_not_fit_is_told_and_the_server_goes_on(host_server, tmp_path):
    with pytest.raises(PromptError, match="the motion has 8 frames, the LATENT 3 latent frames"):
        host_server.run(prompt_of(host_server, {"full": {}}, frames=8))
    again = host_server.run(prompt_of(host_server, {}))["outputs"]
    assert torch.isfinite(saved(host_server, again, "plain", tmp_path)).all()
