"""A Stable Diffusion 1.5 with tiny random weights in place of the checkpoint that a shipped workflow asks for."""

from pathlib import Path

import torch

from aqueduct.scripts._server import ComfyServer
from aqueduct.scripts._workflow import find_nodes
from aqueduct.tests.comfy.hosts import random_state
from aqueduct.tests.comfy.wan_host import stand_in_text

UNET, VAE = "tiny_sd15_unet.safetensors", "tiny_sd15_vae.safetensors"
CHECKPOINT_OUTPUTS = {0: "UNETLoader", 2: "VAELoader"}  # MODEL and VAE of CheckpointLoaderSimple


def write_tiny_sd15(folder: Path) -> None:
    """A U-Net of one level and a TAESD, which ComfyUI knows by their keys; no text encoder."""
    import comfy.ldm.modules.diffusionmodules.openaimodel as openai
    import comfy.ops
    from safetensors.torch import save_file

    network = openai.UNetModel(
        image_size=32, in_channels=4, out_channels=4, model_channels=320, num_res_blocks=[1], channel_mult=[1],
        transformer_depth=[1], transformer_depth_output=[1, 1], transformer_depth_middle=-1, context_dim=768,
        num_heads=8, use_spatial_transformer=True, dtype=torch.float32, operations=comfy.ops.disable_weight_init,
    )  # fmt: skip
    save_file(random_state(network, 0), folder / UNET)
    write_tiny_vae(folder / VAE)


def write_tiny_vae(path: Path) -> None:
    """A TAESD: four channels at an eighth of the size."""
    from comfy.taesd.taesd import TAESD
    from safetensors.torch import save_file

    save_file(_lively(TAESD()), path)


def _lively(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Random weights that keep a signal's size through ReLUs; ComfyUI's layers come with none."""
    generator = torch.Generator().manual_seed(0)
    return {
        key: torch.randn(value.shape, generator=generator) * (2 / value[0].numel()) ** 0.5
        if value.dim() > 1
        else torch.ones(())
        if key == "vae_scale"
        else torch.zeros(value.shape)
        for key, value in network.state_dict().items()
    }


def stand_in_checkpoint(prompt: dict, server: ComfyServer) -> None:
    """`write_tiny_sd15`'s files through core's own loaders, and random text."""
    (checkpoint,) = find_nodes(prompt, "CheckpointLoaderSimple")
    files = {"UNETLoader": {"unet_name": UNET, "weight_dtype": "default"}, "VAELoader": {"vae_name": VAE}}
    for kind, inputs in files.items():
        prompt[kind] = {"class_type": kind, "inputs": inputs, "_meta": {"title": kind}}
    stand_in_text(prompt, server, 768, "CheckpointLoaderSimple")
    for node in prompt.values():
        for name, value in node["inputs"].items():
            if isinstance(value, list) and value[0] == checkpoint:
                node["inputs"][name] = [CHECKPOINT_OUTPUTS[value[1]], 0]
