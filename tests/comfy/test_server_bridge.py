"""A bridge in the real server, over HTTP. AqueductSNRAlign and AqueductPosteriorMeanPrior run in `test_workflows`."""

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from einops import rearrange
from PIL import Image
from safetensors.torch import load_file

from aqueduct.core import checkpoints
from aqueduct.core.bridges import guided, sample_bridge, times
from aqueduct.scripts._client import PromptError
from aqueduct.scripts._server import ComfyServer
from aqueduct.tests.comfy import bridge_files
from aqueduct.tests.comfy.bridge_files import FRAMES, NULL, SIZE, Core
from aqueduct.tests.comfy.own_models import server_with

FILE, SEED, STEPS, CFG = "shipped-float32.safetensors", 3, 4, 2.0


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    bridge_files.write(folder, "shipped")
    bridge_files.write_prior(folder)
    return folder


@pytest.fixture(scope="module")
def bridge_server(comfyui_path, models) -> Iterator[ComfyServer]:
    """A server that finds the small files, as it would find a user's through extra_model_paths.yaml."""
    with server_with(comfyui_path, models, {"aqueduct": "."}) as running:
        yield running


@pytest.fixture(scope="module")
def pixels(bridge_server, tmp_path_factory) -> np.ndarray:
    """An image of the model's size, in the server's input folder."""
    pixels = np.random.default_rng(1).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    path = tmp_path_factory.mktemp("input") / "start.png"
    Image.fromarray(pixels).save(path)
    bridge_server.upload_image(path)
    return pixels


def node(kind: str, /, **inputs) -> dict:
    return {"class_type": kind, "inputs": inputs, "_meta": {"title": kind}}


def graph(**changes) -> dict:
    """Image -> z_T -> clip, and what else can be made on the way. ``changes``: node -> inputs to replace."""
    prompt = {
        "load": node("AqueductLoadBridgeModel", file=FILE, vae="from the model file"),
        "image": node("LoadImage", image="start.png"),
        "latent": node("VAEEncode", pixels=["image", 0], vae=["load", 1]),
        "prior": node("AqueductReplicatePrior", latent=["latent", 0], frames=FRAMES, temporal_compression=1),
        "positive": node("AqueductMotionClass", motion="down"),
        "negative": node("AqueductMotionClass", motion="none"),
        "guider": node("CFGGuider", model=["load", 0], positive=["positive", 0], negative=["negative", 0], cfg=CFG),
        "noise": node("RandomNoise", noise_seed=SEED),
        "sampler": node("AqueductBridgeSampler", bridge=["load", 2], solver="sde", eta=1.0),
        "times": node("AqueductBridgeTimes", bridge=["load", 2], steps=STEPS, spacing="uniform"),
        "sample": node(
            "SamplerCustomAdvanced", noise=["noise", 0], guider=["guider", 0], sampler=["sampler", 0],
            sigmas=["times", 0], latent_image=["prior", 0],
        ),
        "clip": node("SaveLatent", samples=["sample", 0], filename_prefix="clip"),
    }  # fmt: skip
    for name, inputs in changes.items():
        prompt[name]["inputs"] |= inputs
    return prompt


def saved(server: ComfyServer, outputs: dict, name: str, folder: Path) -> torch.Tensor:
    [entry] = outputs[name]["latents"]
    return load_file(server.download(entry, folder / entry["filename"]))["latent_tensor"]


def pictures(server: ComfyServer, outputs: dict, name: str, folder: Path) -> np.ndarray:
    files = [server.download(entry, folder / entry["filename"]) for entry in outputs[name]["images"]]
    return np.stack([np.asarray(Image.open(file).convert("RGB")) for file in files])


def image_latent(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pixels.astype("float32") / 255).permute(2, 0, 1)[None] * 2 - 1


def core_clip(models: Path, pixels: np.ndarray) -> torch.Tensor:
    """What the graph must give, without ComfyUI: NOISE of core's generator, then that of seed + 1."""
    core = Core.load(models / FILE)
    prior = image_latent(pixels).repeat_interleave(FRAMES, dim=0)
    noise = torch.randn(prior.shape, generator=torch.Generator().manual_seed(SEED))
    later = torch.Generator().manual_seed(SEED + 1)
    given = [noise]
    denoiser = guided(core.denoiser(prior, [1], noise), core.denoiser(prior, [NULL], noise), CFG)
    z_0 = sample_bridge(
        denoiser, core.clips(prior), times(core.video.bridge, STEPS), core.video.bridge,
        noise_sampler=lambda s, t: core.clips(given.pop() if given else torch.randn(prior.shape, generator=later)),
    )  # fmt: skip
    return core.latents(z_0)


def test_image_to_clip_is_what_core_computes(bridge_server, models, pixels, tmp_path):
    prompt = graph()
    prompt["frames"] = node("VAEDecode", samples=["sample", 0], vae=["load", 1])
    prompt["video"] = node("SaveImage", images=["frames", 0], filename_prefix="clip")
    outputs = bridge_server.run(prompt)["outputs"]
    clip = saved(bridge_server, outputs, "clip", tmp_path)
    torch.testing.assert_close(clip, core_clip(models, pixels), rtol=1e-4, atol=1e-4)
    shown = pictures(bridge_server, outputs, "video", tmp_path)
    expected = ((clip.clamp(-1, 1) + 1) * 127.5).permute(0, 2, 3, 1).numpy()
    assert np.abs(shown - expected).max() <= 1.01


def test_neural_priors_of_both_kinds_of_file(bridge_server, models, pixels, tmp_path):
    prompt = {key: value for key, value in graph().items() if key in ("load", "image", "latent", "positive")}
    prompt["own file"] = node("AqueductLoadNeuralPrior", file="prior.safetensors")
    for name, source in {"a": ["load", 3], "b": ["own file", 0]}.items():
        prompt[name] = node(
            "AqueductNeuralPrior", prior=source, latent=["latent", 0], conditioning=["positive", 0], keep_image=False
        )
        prompt[f"save {name}"] = node("SaveLatent", samples=[name, 0], filename_prefix=name)
    outputs = bridge_server.run(prompt)["outputs"]
    for name, file in {"a": FILE, "b": "prior.safetensors"}.items():
        network = checkpoints.load(models / file, part="prior")[0].float()
        expected = rearrange(network(image_latent(pixels), torch.tensor([1])), "b c f h w -> (b f) c h w")
        torch.testing.assert_close(
            saved(bridge_server, outputs, f"save {name}", tmp_path), expected, rtol=1e-4, atol=1e-4
        )


def test_the_bridge_shows_itself_and_its_schedule(bridge_server, tmp_path):
    constants = {
        name: spec[1]["default"]
        for name, spec in bridge_server.object_info()["AqueductBridge"]["input"]["required"].items()
        if name != "kind"
    }
    prompt = {
        "bridge": node("AqueductBridge", kind="vp", **constants),
        "times": node("AqueductBridgeTimes", bridge=["bridge", 0], steps=5, spacing="karras"),
        "curves": node("AqueductBridgeCurves", bridge=["bridge", 0], sigmas=["times", 0]),
        "save": node("SaveImage", images=["curves", 0], filename_prefix="curves"),
    }
    outputs = bridge_server.run(prompt)["outputs"]
    own = pictures(bridge_server, outputs, "bridge", tmp_path)
    marked = pictures(bridge_server, outputs, "save", tmp_path)
    assert own.shape == marked.shape == (1, 400, 640, 3)
    assert 0 < np.abs(own.astype(int) - marked).mean() < 10  # the same plot, with marks


def test_a_mask_drawn_in_core_keeps_its_part(bridge_server, pixels, tmp_path):
    prompt = graph(sample={"latent_image": ["masked", 0]})
    prompt["half"] = node("SolidMask", value=0.0, width=SIZE, height=SIZE)
    prompt["masked"] = node("SetLatentNoiseMask", samples=["prior", 0], mask=["half", 0])
    clip = saved(bridge_server, bridge_server.run(prompt)["outputs"], "clip", tmp_path)
    torch.testing.assert_close(clip, image_latent(pixels).expand_as(clip))


def test_values_below_the_least_are_refused_before_anything_runs(bridge_server, pixels):
    with pytest.raises(PromptError, match="node prior .*Value 0 smaller than min of 1: frames"):
        bridge_server.run(graph(prior={"frames": 0}))
    with pytest.raises(PromptError, match="node times .*Value 0 smaller than min of 1: steps"):
        bridge_server.run(graph(times={"steps": 0}))


def test_errors_name_the_node_and_the_way_out(bridge_server, pixels):
    with pytest.raises(PromptError, match="(?s)node sample .*class 'sideways' is unknown.*right, down, left"):
        bridge_server.run(graph(positive={"motion": "sideways"}))
    with pytest.raises(PromptError, match="(?s)node sample .*set frames = 4 in AqueductReplicatePrior"):
        bridge_server.run(graph(prior={"frames": FRAMES + 1}))
    with pytest.raises(PromptError, match="gone.safetensors"):
        bridge_server.run(graph(load={"file": "gone.safetensors"}))


def test_an_interrupted_run_leaves_the_server_usable(bridge_server, models, pixels, tmp_path):
    prompt_id = bridge_server.queue(graph(times={"steps": 1000}, noise={"noise_seed": 99}, guider={"cfg": 4.0}))
    begun = time.monotonic()
    while "1000" not in bridge_server.log()[-400:]:  # the progress bar: sampling is under way
        assert time.monotonic() - begun < 60
        time.sleep(0.1)
    bridge_server.interrupt()
    with pytest.raises(PromptError, match="interrupted at node sample"):
        bridge_server.wait(prompt_id, timeout=60)
    clip = saved(bridge_server, bridge_server.run(graph(noise={"noise_seed": 5}))["outputs"], "clip", tmp_path)
    assert torch.isfinite(clip).all()
    again = saved(bridge_server, bridge_server.run(graph(clip={"filename_prefix": "z"}))["outputs"], "clip", tmp_path)
    torch.testing.assert_close(again, core_clip(models, pixels), rtol=1e-4, atol=1e-4)
