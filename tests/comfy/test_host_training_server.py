"""Trainers of bridges in the real server: a tiny Wan and a tiny LTXV, loaded by core's nodes, learn from a folder; and
the workflows that ship, on tiny models for a few steps."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from aqueduct.core.bridges import bridge_gmax
from aqueduct.core.data.dataset import LatentDataset
from aqueduct.scripts import _shipped
from aqueduct.scripts._client import PromptError
from aqueduct.scripts._server import ComfyServer
from aqueduct.scripts._workflow import find_nodes, set_input
from aqueduct.tests.comfy.hosts import Host, normal, random_state, text
from aqueduct.tests.comfy.own_models import server_with
from aqueduct.tests.comfy.sd_host import stand_in_checkpoint, write_tiny_sd15
from aqueduct.tests.comfy.test_host_training_nodes import probe
from aqueduct.tests.comfy.test_server_bridge import node, saved
from aqueduct.tests.comfy.wan_host import stand_in_text, write_texts, write_tiny_wan

LTXV_SIZES = {
    "in_channels": 128, "cross_attention_dim": 64, "attention_head_dim": 32, "num_attention_heads": 2,
    "caption_channels": 64, "num_layers": 1,
}  # fmt: skip
HALVED = ["compress_all", 1]
LTXV_VAE = {
    "dims": 3, "latent_channels": 128, "patch_size": 4, "norm_layer": "pixel_norm", "latent_log_var": "uniform",
    "blocks": [["res_x", 1], HALVED, HALVED, HALVED, ["res_x", 1]],
}  # fmt: skip
FILES = {"wan": "wan2.1_t2v_1.3B_fp16.safetensors", "ltxv": "tiny_ltxv.safetensors"}
FRAMES = {"wan": 5, "ltxv": 9}
WIDTH = {"wan": 4096, "ltxv": 64}  # of the text
SIDE = 64


def write_tiny_ltxv(folder: Path) -> None:
    import comfy.ldm.lightricks.model
    import comfy.ldm.lightricks.vae.causal_video_autoencoder as autoencoder
    import comfy.ops
    from safetensors.torch import save_file

    network = comfy.ldm.lightricks.model.LTXVModel(
        **LTXV_SIZES, dtype=torch.float32, operations=comfy.ops.disable_weight_init
    )
    state = {f"model.diffusion_model.{name}": value for name, value in random_state(network, 0).items()}
    for name, value in random_state(autoencoder.VideoVAE(config=LTXV_VAE), 1).items():
        if name.startswith("per_channel_statistics"):
            value = torch.ones_like(value) if "std" in name else torch.zeros_like(value)
        state[f"vae.{name}"] = value
    save_file(state, folder / FILES["ltxv"], {"config": json.dumps({"transformer": LTXV_SIZES, "vae": LTXV_VAE})})


def write_videos(folder: Path) -> None:
    """Two runs of frames: a smooth picture that slides."""
    for n, name in enumerate(("one", "two")):
        (folder / name).mkdir(parents=True)
        small = normal(3, 8, 16, seed=n)[None]
        wide = torch.nn.functional.interpolate(small, (SIDE, 2 * SIDE), mode="bicubic")[0] * 50 + 128
        for frame in range(max(FRAMES.values())):
            picture = wide[:, :, 3 * frame : 3 * frame + SIDE].clamp(0, 255).byte().movedim(0, -1)
            Image.fromarray(np.ascontiguousarray(picture.numpy())).save(folder / name / f"{frame:04}.png")


@pytest.fixture(scope="module")
def models(comfy, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("training_models")
    write_tiny_wan(folder, "t2v", FILES["wan"])
    write_tiny_ltxv(folder)
    write_tiny_sd15(folder)
    write_videos(folder / "videos")
    for kind in ("loras", "aqueduct"):
        (folder / kind).mkdir()
    return folder


@pytest.fixture(scope="module")
def training_server(comfyui_path, models) -> Iterator[ComfyServer]:
    kinds = {"diffusion_models": ".", "checkpoints": ".", "vae": ".", "loras": "loras", "aqueduct": "aqueduct"}
    with server_with(comfyui_path, models, kinds, saves=True) as running:
        yield running


def conditions(kind: str) -> dict:
    """LTXV's attention has a mask."""
    return {"attention_mask": torch.ones(1, 8, dtype=torch.long)} if kind == "ltxv" else {}


def loaders(kind: str) -> tuple[dict, list, list]:
    """Core's own, and their MODEL and VAE."""
    if kind == "ltxv":
        return {"load": node("CheckpointLoaderSimple", ckpt_name=FILES[kind])}, ["load", 0], ["load", 2]
    unet = node("UNETLoader", unet_name=FILES[kind], weight_dtype="default")
    return {"load": unet, "vae": node("VAELoader", vae_name="wan_2.1_vae.safetensors")}, ["load", 0], ["vae", 0]


def prompt_of(kind: str, server: ComfyServer, models: Path, **inputs) -> dict:
    """A training, and a sample of what came of it."""
    positive, _ = text(8, WIDTH[kind], **conditions(kind))
    texts = write_texts(server, f"texts_{kind}", positive)
    files, model, vae = loaders(kind)
    spec = server.object_info()["AqueductTrainBridge"]["input"]
    settings = {name: value[1]["default"] for name, value in spec["required"].items() if "default" in value[1]}
    settings |= {"steps": 25, "batch": 2, "learning_rate": 0.01, "weight": "even", "rank": 4, "alpha": 4.0}
    settings |= {"layers": ""}  # the random last layer of a tiny network is too weak for the others to show
    settings |= {"filename_prefix": f"made_{kind}", "sample_every": 25}
    data = {"width": SIDE, "height": SIDE, "frames": FRAMES[kind], "stride": 1, "fps": 0.0, "clips_per_file": 0}
    return {
        **files,
        "text": node("LoadTrainingDataset", folder_name=texts),
        "data": node(
            "AqueductVideoDataset", folder=str(models / "videos"), vae=vae, buckets=False, motion=False,
            caption="", **data,
        ),
        "train": node(
            "AqueductTrainBridge", dataset=["data", 0], model=model, conditioning=["text", 1], vae=vae,
            **{**settings, **inputs},
        ),
        "file": node("PreviewAny", source=["train", 2]),
        "losses": node("PreviewImage", images=["train", 3]),
        "samples": node("PreviewImage", images=["train", 4]),
    }  # fmt: skip


def host_of(kind: str, models: Path) -> Host:
    """The same host in this process."""
    import comfy.sd

    path = str(models / FILES[kind])
    with torch.inference_mode():
        if kind == "ltxv":
            model = comfy.sd.load_checkpoint_guess_config(path, output_vae=False, output_clip=False)[0]
        else:
            model = comfy.sd.load_diffusion_model(path, model_options={"dtype": torch.float32})
    positive, negative = text(8, WIDTH[kind], **conditions(kind))
    return Host(model, positive, negative, torch.zeros(0), FRAMES[kind], {"wan": 4, "ltxv": 8}[kind], flow=True)


@pytest.mark.parametrize("kind", FILES)
def test_a_core_model_is_fine_tuned_and_its_lora_loads(kind, training_server, models, tmp_path):
    """The loss of a fixed batch, before and after; measured: 0.750 to 0.520 (Wan), 0.642 to 0.578 (LTXV)."""
    from aqueduct.nodes._comfy.alignment import align_model
    from aqueduct.nodes._comfy.bridge_lora import load_bridge_lora

    server = training_server
    outputs = server.run(prompt_of(kind, server, models), timeout=900)["outputs"]
    file = models / "loras" / f"made_{kind}_00001.safetensors"
    assert outputs["file"]["text"] == [str(file)] and file.is_file()
    assert len(outputs["losses"]["images"]) == 1 and len(outputs["samples"]["images"]) == 1

    host = host_of(kind, models)
    folders = [path.parent for path in (server.folder / "output/aqueduct/datasets").rglob("index.json")]
    channels = host.model.model.latent_format.latent_channels
    (clips,) = (c for c in map(LatentDataset.open, folders) if next(iter(c.buckets))[0] == channels)
    before = probe(host, clips, lambda clone: align_model(clone, bridge_gmax()))
    after = probe(host, clips, lambda clone: load_bridge_lora(clone, file, 1.0)[0])
    assert after < 0.95 * before

    begun = len(server.log())
    prompt = {"text": prompt_of(kind, server, models)["text"], **loaders(kind)[0]}
    empty = {"wan": "EmptyHunyuanLatentVideo", "ltxv": "EmptyLTXVLatentVideo"}[kind]
    prompt["latent"] = node(empty, width=SIDE, height=SIDE, length=FRAMES[kind], batch_size=1)
    prompt["with"] = node("LoraLoaderModelOnly", model=["load", 0], lora_name=file.name, strength_model=1.0)
    for name, model in {"made": "with", "plain": "load"}.items():
        prompt[f"sample {name}"] = node(
            "KSampler", model=[model, 0], positive=["text", 1], negative=["text", 1], latent_image=["latent", 0],
            seed=1, steps=2, cfg=1.0, sampler_name="euler", scheduler="simple", denoise=1.0,
        )  # fmt: skip
        prompt[name] = node("SaveLatent", samples=[f"sample {name}", 0], filename_prefix=name)
    outputs = server.run(prompt, timeout=600)["outputs"]
    made, plain = (saved(server, outputs, name, tmp_path) for name in ("made", "plain"))
    assert torch.isfinite(made).all() and (made - plain).abs().max() > 1e-3 * plain.abs().max()
    told = [line for line in server.log()[begun:].splitlines() if "not loaded" in line.lower()]
    assert all("aqueduct.prior_input.weight" in line for line in told)


def test_a_layer_that_is_not_there_is_told_and_the_server_goes_on(training_server, models):
    with pytest.raises(PromptError, match="no layer's name holds 'nowhere'"):
        training_server.run(prompt_of("ltxv", training_server, models, layers="nowhere"), timeout=600)


# --- workflows ------------------------------------------------------------------------------------------------------


def small(name: str, server: ComfyServer, inputs: dict[str, dict]) -> dict:
    """A shipped workflow with these inputs of its nodes, by class or title."""
    prompt = _shipped.prepare(name, server)
    for of, values in inputs.items():
        for key, value in values.items():
            set_input(prompt, of, key, value)
    return prompt


def made_by(server: ComfyServer, prompt: dict, *titles: str) -> dict:
    """What the nodes of these titles showed."""
    outputs = server.run(prompt, timeout=900)["outputs"]
    return {title: outputs[find_nodes(prompt, title)[0]] for title in titles}


SHOWN = ("File", "Losses", "Samples")


def test_the_workflow_that_trains_a_bridge(training_server, models):
    few = {"steps": 3, "batch": 2, "sample_every": 3, "filename_prefix": "small"}
    prompt = small("train_bridge", training_server, {
        "AqueductTrainBridge": few, "AqueductBridgeTimes": {"steps": 2}, "Frames": {"length": 24},
    })  # fmt: skip
    shown = made_by(training_server, prompt, *SHOWN, "Video")
    assert shown["File"]["text"] == [str(models / "aqueduct" / "small_00001.safetensors")] and shown["Video"]["images"]


def sampled_by(server: ComfyServer, prompt: dict, folder: Path) -> tuple[dict, torch.Tensor]:
    """What the nodes showed, by title, and the LATENT that the graph has sampled."""
    (sampler,) = find_nodes(prompt, "SamplerCustomAdvanced")
    prompt["state"] = node("SaveLatent", samples=[sampler, 0], filename_prefix="state")
    outputs = server.run(prompt, timeout=900)["outputs"]
    return {prompt[key]["_meta"]["title"]: shown for key, shown in outputs.items() if "_meta" in prompt[key]}, saved(
        server, outputs, "state", folder
    )


def test_the_workflows_that_fine_tune_wan_and_sample_it(training_server, models, tmp_path):
    """The file, loaded, makes of the film's first frame what the MODEL made that had just been trained."""
    side = {"width": SIDE, "height": SIDE}
    same = {"AqueductBridgeTimes": {"steps": 2}, "AqueductReplicatePrior": {"frames": 5}, "Size": side}
    few = {"steps": 2, "sample_every": 2, "learning_rate": 0.01, "filename_prefix": "saf"}
    prompt = small("train_saf_lora", training_server, {
        **same, "AqueductTrainBridge": few, "Frames": {"length": 6}, "AqueductVideoDataset": {**side, "frames": 5},
    })  # fmt: skip
    stand_in_text(prompt, training_server)
    shown, trained = sampled_by(training_server, prompt, tmp_path)
    assert shown["File"]["text"] == [str(models / "loras" / "saf_00001.safetensors")] and shown["Video"]["images"]
    assert shown["Losses"]["images"] and shown["Samples"]["images"]
    first = {key: prompt[key] for kind in ("LoadVideo", "GetVideoComponents") for key in find_nodes(prompt, kind)}
    (parts,) = find_nodes(prompt, "GetVideoComponents")
    made = {}
    for strength in (1.0, 0.0):
        wired = {"file": "saf_00001.safetensors", "strength": strength}
        prompt = small("bridge_lora", training_server, {**same, "AqueductLoadBridgeLoRA": wired})
        stand_in_text(prompt, training_server)
        prompt |= {f"film {key}": one for key, one in first.items()}
        (loader,) = find_nodes(first, "LoadVideo")
        prompt[f"film {parts}"] = node("GetVideoComponents", video=[f"film {loader}", 0])
        prompt["first"] = node("ImageFromBatch", image=[f"film {parts}", 0], batch_index=0, length=1)
        set_input(prompt, "Size", "image", ["first", 0])
        shown, made[strength] = sampled_by(training_server, prompt, tmp_path)
        assert shown["Video"]["images"][0]["filename"].endswith(".mp4")
    torch.testing.assert_close(made[1.0], trained)
    assert (made[0.0] - trained).abs().max() > 1e-3 * trained.abs().max()


def test_the_workflow_that_teaches_gaussian_process_noise(training_server, models):
    few = {"steps": 2, "sample_every": 2, "filename_prefix": "gp", "features": 50}
    side = {"width": SIDE, "height": SIDE}
    prompt = small("train_gp_noise", training_server, {
        "AqueductTrainGPNoise": few, "Frames": {"length": 2}, "Size": side, "AqueductVideoDataset": side,
        "EmptyLatentImage": side, "BasicScheduler": {"steps": 2}, "AqueductGPNoise": {"features": 50},
    })  # fmt: skip
    stand_in_checkpoint(prompt, training_server)
    shown = made_by(training_server, prompt, *SHOWN, "Picture", "Before")
    assert shown["File"]["text"] == [str(models / "loras" / "gp_00001.safetensors")]
    assert shown["Picture"]["images"] and shown["Before"]["images"]
