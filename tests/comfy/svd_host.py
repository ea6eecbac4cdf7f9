"""A Stable Video Diffusion with random weights in place of the files that a shipped workflow asks for.

ComfyUI knows SVD by its width and by how its encoder's transformers lie: eight layers of 320 channels are the least.
"""

from pathlib import Path

import torch

from aqueduct.core import checkpoints
from aqueduct.scripts._server import ComfyServer
from aqueduct.scripts._workflow import find_nodes
from aqueduct.tests.comfy.hosts import random_state
from aqueduct.tests.comfy.sd_host import write_tiny_vae
from aqueduct.tests.comfy.wan_host import random_texts

UNET, VAE = "svd_unet.safetensors", "svd_vae.safetensors"
ADAPTER, DENSIFIER = "mofa_controlnet.safetensors", "ckpt_iter_42000.pth.tar"  # as the workflow calls them
WIDTH, LAYERS, CONTEXT, ADDED = 320, 8, 1024, 768
BRANCH = {
    "stem": [4, 4, 6, 8], "in_channels": 8, "widths": [WIDTH], "layers": LAYERS, "heads": [5], "attention": [False],
    "context": CONTEXT, "added": ADDED, "groups": 32,
}  # fmt: skip
CHECKPOINT_OUTPUTS = {0: "UNETLoader", 2: "VAELoader"}  # MODEL and VAE of ImageOnlyCheckpointLoader


def write_small_svd(folder: Path) -> None:
    """A U-Net of one level and a TAESD, which ComfyUI knows by their keys, and an adapter for them."""
    import comfy.ops
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
    from safetensors.torch import save_file

    network = UNetModel(
        image_size=32, in_channels=8, out_channels=4, model_channels=WIDTH, num_res_blocks=[LAYERS], channel_mult=[1],
        transformer_depth=[1] * 6 + [0] * 2, transformer_depth_output=[0] * (LAYERS + 1), transformer_depth_middle=1,
        num_head_channels=64, num_heads=-1, use_spatial_transformer=True, use_linear_in_transformer=True,
        context_dim=CONTEXT, num_classes="sequential", adm_in_channels=ADDED, use_temporal_resblock=True,
        extra_ff_mix_layer=True, use_spatial_context=True, use_temporal_attention=True,
        merge_strategy="learned_with_images", merge_factor=0.0, video_kernel_size=[3, 1, 1], dtype=torch.float32,
        operations=comfy.ops.disable_weight_init,
    )  # fmt: skip
    save_file({key: value.half() for key, value in random_state(network, 0).items()}, folder / UNET)
    write_tiny_vae(folder / VAE)
    _write(folder / ADAPTER, "adapter", "SvdAdapter", BRANCH)
    _write(folder / DENSIFIER, "densifier", "SparseToDense", {})


def _write(path: Path, part: str, architecture: str, arguments: dict) -> None:
    """A file of one network with the weights it starts with; what starts at zero, random."""
    config = {"parts": {part: {"architecture": architecture, "arguments": arguments}}}
    network = checkpoints.build(config, part)
    generator = torch.Generator().manual_seed(0)
    for weight in network.parameters():
        if not weight.any():
            torch.nn.init.normal_(weight, std=0.02, generator=generator)
    checkpoints.save({part: network}, path, config)


def stand_in_svd(prompt: dict, server: ComfyServer, frames: int, side: int) -> None:
    """`write_small_svd`'s files through core's own loaders; random texts for what CLIP sees in the picture.

    The picture itself reaches the MODEL as in SVD_img2vid_Conditioning: encoded, as more channels of its input.
    """
    (checkpoint,) = find_nodes(prompt, "ImageOnlyCheckpointLoader")
    (start,) = find_nodes(prompt, "SVD_img2vid_Conditioning")
    nodes = {
        "UNETLoader": {"unet_name": UNET, "weight_dtype": "default"},
        "VAELoader": {"vae_name": VAE},
        "LoadTrainingDataset": {"folder_name": random_texts(server, CONTEXT)},
        "EmptyLatentImage": {"width": side, "height": side, "batch_size": frames},
    }
    for kind, inputs in nodes.items():
        prompt[kind] = {"class_type": kind, "inputs": inputs, "_meta": {"title": kind}}
    texts = ["LoadTrainingDataset", 1]
    picture, vae = (prompt[start]["inputs"][name] for name in ("init_image", "vae"))
    prompt[start] |= {
        "class_type": "InstructPixToPixConditioning",
        "inputs": {"positive": texts, "negative": texts, "pixels": picture, "vae": vae},
    }
    del prompt[checkpoint]
    for node in prompt.values():
        for name, value in node["inputs"].items():
            if isinstance(value, list) and value[0] == checkpoint:
                node["inputs"][name] = [CHECKPOINT_OUTPUTS[value[1]], 0]
            if isinstance(value, list) and list(value) == [start, 2]:
                node["inputs"][name] = ["EmptyLatentImage", 0]
