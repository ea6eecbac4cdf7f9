"""Tiny hosts with random weights, of the families people have: Wan (text and image to video), LTXV, SD1.5, SVD.

All but SVD go through ComfyUI's own detection, whose smallest SVD has 185 million weights; a narrow one of the same
class and layout is put together as `comfy.sd` does it.
"""

import json
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Host:
    """A MODEL with what it takes to sample it.

    ``latent``: of one image; ``frames`` and ``compression`` make AqueductReplicatePrior turn it into a short clip.
    ``flow``: its levels are those of rectified flow, else ``x = z_0 + sigma eps``.
    """

    model: Any
    positive: list
    negative: list
    latent: Tensor
    frames: int
    compression: int
    flow: bool


def random_state(network: torch.nn.Module, seed: int) -> dict[str, Tensor]:
    """Weights for a network whose own are not initialised: norms 1, the rest small."""
    generator = torch.Generator().manual_seed(seed)
    return {
        key: torch.ones(value.shape)
        if "norm" in key and key.endswith("weight")
        else torch.randn(value.shape, generator=generator) * 0.02
        for key, value in network.state_dict().items()
    }


def load(state: dict[str, Tensor], metadata: dict | None = None):
    import comfy.sd

    with torch.inference_mode():
        return comfy.sd.load_diffusion_model_state_dict(
            state, model_options={"dtype": torch.float32}, metadata=metadata
        )


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def text(tokens: int, width: int, **values) -> tuple[list, list]:
    """(positive, negative) CONDITIONING; ``values`` go into both."""
    return [[normal(1, tokens, width, seed=1), values]], [[torch.zeros(1, tokens, width), values]]


def wan(kind: str) -> Host:
    import comfy.ldm.wan.model
    import comfy.ops

    image = kind == "i2v"
    network = comfy.ldm.wan.model.WanModel(
        model_type=kind, in_dim=36 if image else 16, dim=128, ffn_dim=64, num_heads=1, num_layers=1, text_dim=4096,
        dtype=torch.float32, operations=comfy.ops.disable_weight_init,
    )  # fmt: skip
    values = {}
    if image:  # what WanImageToVideo adds
        mask = torch.ones(1, 1, 2, 8, 8)
        mask[:, :, :1] = 0
        values = {"concat_latent_image": normal(1, 16, 2, 8, 8, seed=3), "concat_mask": mask}
    return Host(
        load(random_state(network, 0)), *text(8, 4096, **values), normal(1, 16, 1, 8, 8, seed=2), 5, 4, flow=True
    )


def ltxv() -> Host:
    import comfy.ldm.lightricks.model
    import comfy.ops

    sizes = {
        "in_channels": 128, "cross_attention_dim": 64, "attention_head_dim": 32, "num_attention_heads": 2,
        "caption_channels": 64, "num_layers": 1,
    }  # fmt: skip
    network = comfy.ldm.lightricks.model.LTXVModel(
        **sizes, dtype=torch.float32, operations=comfy.ops.disable_weight_init
    )
    model = load(random_state(network, 0), {"config": json.dumps({"transformer": sizes})})
    attention = torch.ones(1, 8, dtype=torch.long)
    return Host(model, *text(8, 64, attention_mask=attention), normal(1, 128, 1, 4, 4, seed=2), 9, 8, flow=True)


def sd15() -> Host:
    import comfy.ldm.modules.diffusionmodules.openaimodel as openai
    import comfy.ops

    network = openai.UNetModel(
        image_size=32, in_channels=4, out_channels=4, model_channels=320, num_res_blocks=[1], channel_mult=[1],
        transformer_depth=[1], transformer_depth_output=[1, 1], transformer_depth_middle=-1, context_dim=768,
        num_heads=8, use_spatial_transformer=True, dtype=torch.float32, operations=comfy.ops.disable_weight_init,
    )  # fmt: skip
    return Host(load(random_state(network, 0)), *text(8, 768), normal(1, 4, 8, 8, seed=2), 2, 1, flow=False)


def svd() -> Host:
    import comfy.model_management as mm
    import comfy.model_patcher
    import comfy.supported_models

    config = comfy.supported_models.SVD_img2vid(
        {
            **comfy.supported_models.SVD_img2vid.unet_config, "image_size": 32, "out_channels": 4, "model_channels": 64,
            "num_res_blocks": [1], "channel_mult": [1], "transformer_depth": [1], "transformer_depth_output": [1, 1],
            "transformer_depth_middle": 1, "context_dim": 64, "num_classes": "sequential",
            "use_spatial_transformer": True, "legacy": False, "extra_ff_mix_layer": True, "use_spatial_context": True,
            "merge_strategy": "learned_with_images", "merge_factor": 0.0, "video_kernel_size": [3, 1, 1],
            "disable_temporal_crossattention": False,
        }
    )  # fmt: skip
    config.set_inference_dtype(torch.float32, None)
    with torch.inference_mode():
        model = config.get_model({}, "", device="cpu")
        model.load_model_weights(random_state(model.diffusion_model, 0), "")
    patcher = comfy.model_patcher.ModelPatcher(model, mm.get_torch_device(), mm.unet_offload_device())
    values = {
        "concat_latent_image": normal(1, 4, 8, 8, seed=3),
        "motion_bucket_id": 127,
        "fps": 6,
        "augmentation_level": 0.0,
    }
    return Host(patcher, *text(1, 64, **values), normal(1, 4, 8, 8, seed=2), 3, 1, flow=False)


HOSTS = {"wan-t2v": lambda: wan("t2v"), "wan-i2v": lambda: wan("i2v"), "ltxv": ltxv, "sd15": sd15, "svd": svd}
