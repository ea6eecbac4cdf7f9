"""Tiny exemplar models with random weights as native files, and tiny CLIP_VISIONs as ComfyUI makes them."""

import json
from pathlib import Path

import torch
from torch import Tensor

from aqueduct.core import checkpoints
from aqueduct.tests.comfy.bridge_files import PIXEL

SIDE, STEP = 16, 4  # of the pictures; the network takes multiples of STEP
WIDTH = 64  # of the tiny DINOv2's tokens
FEATURES = 12
TRUNK = {
    "in_channels": 3, "out_channels": 3, "channels": 16, "multipliers": [1, 2], "blocks": 1, "sites": [1],
    "head_channels": 16, "groups": 4, "features": FEATURES, "context": 8, "expansion": 2, "fold": 2,
}  # fmt: skip
ENCODER = {"features": FEATURES, "widths": [8, 8, 8], "groups": 4, "size": 16}
# name -> parts, where the [CLS] is from, its width
KINDS = {
    "own": (("model", "exemplar", "encoder"), "part", FEATURES),
    "dino": (("model", "exemplar"), "dinov2", WIDTH),
    "bare": (("model",), "part", FEATURES),
    "broken": (("model", "exemplar"), "part", FEATURES),
    "encoder": (("encoder",), "part", FEATURES),
}
ARCHITECTURES = {"model": "ExemplarUNet", "exemplar": "ExemplarNetwork", "encoder": "StyleEncoder"}


def described(parts: tuple[str, ...], source: str, features: int) -> dict:
    arguments = {part: ENCODER if part == "encoder" else {**TRUNK, "features": features} for part in parts}
    return {
        "parts": {part: {"architecture": ARCHITECTURES[part], "arguments": arguments[part]} for part in parts},
        "bridge": {"kind": "brownian", "constants": {"variance": 1.0}}, "parameterisation": "residual",
        "precondition": "raw", "class_names": [], "latent": PIXEL, "image_condition": "first frame of the prior",
        "layout": {"concat_prior": False, "concat_first_frame": False, "prepend_first_frame": False},
        "exemplar": {"features": features, "encoder": source, "size": SIDE},
    }  # fmt: skip


def write(folder: Path, name: str) -> str:
    """A file of this kind, its weights large enough for every input to show in the output; its name."""
    config = described(*KINDS[name])
    generator = torch.Generator().manual_seed(sorted(KINDS).index(name))
    networks = {}
    for part in config["parts"]:
        network = networks[part] = checkpoints.build(config, part)
        for key, parameter in network.named_parameters():
            scale = 2.0 if "sites" in key else 0.7
            deviation = scale / parameter[0].numel() ** 0.5 if parameter.dim() > 1 else 0.5
            parameter.data = torch.randn(parameter.shape, generator=generator) * deviation
    checkpoints.save(networks, folder / f"{name}.safetensors", config, dtype=torch.float32)
    return f"{name}.safetensors"


def picture(height: int = SIDE, width: int = SIDE, seed: int = 0, batch: int = 1, channels: int = 3) -> Tensor:
    """An IMAGE."""
    return torch.rand(batch, height, width, channels, generator=torch.Generator().manual_seed(seed))


def vision(folder: Path, kind: str):
    """A tiny random CLIP_VISION: ``dinov2``, ``clip_vision_model`` or ``siglip_vision_model``."""
    from comfy.clip_vision import ClipVisionModel

    path = folder / f"{kind}.json"
    path.write_text(
        json.dumps(
            {
                "model_type": kind, "hidden_size": WIDTH, "num_attention_heads": 2, "num_hidden_layers": 2,
                "layer_norm_eps": 1e-6, "use_swiglu_ffn": False, "image_size": 518 if kind == "dinov2" else 28,
                "intermediate_size": 16, "hidden_act": "gelu", "num_channels": 3, "patch_size": 14,
                "projection_dim": 8, "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225],
            }
        )
    )  # fmt: skip
    made = ClipVisionModel(str(path))
    generator = torch.Generator().manual_seed(5)
    state = {
        key: torch.randn(value.shape, generator=generator) * 0.1 + (1.0 if "norm" in key and "weight" in key else 0.0)
        for key, value in made.get_sd().items()
        if value.is_floating_point()
    }
    missing, unexpected = made.load_sd(state)
    assert not unexpected and not [key for key in missing if "position_ids" not in key]
    return made
