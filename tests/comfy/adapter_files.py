"""Tiny motion adapters with random weights for the tiny hosts, and a small backbone of our own, as native files."""

from pathlib import Path

import torch
from torch import Tensor

from aqueduct.core import checkpoints
from aqueduct.core.motion import MotionField
from aqueduct.tests.comfy.bridge_files import GMAX, PIXEL

FRAMES, HEIGHT, WIDTH = 4, 16, 24
UNET = {
    "in_channels": 6, "out_channels": 3, "frames": FRAMES, "channels": 16, "multipliers": [1, 2], "fold": 2, "groups": 4
}  # fmt: skip
SVD = {
    "stem": [4, 4, 6, 8], "in_channels": 8, "widths": [64], "layers": 1, "heads": [1], "attention": [True],
    "context": 64, "added": 768, "groups": 32,
}  # fmt: skip
WAN = {"width": 128, "depth": 1, "blocks": [0], "patch": 2, "stride": 16, "features": 8, "hidden": 16}
BRIDGE = {
    "bridge": GMAX, "parameterisation": "prior_residual", "precondition": "unit_noise", "class_names": [],
    "layout": {"concat_prior": True, "concat_first_frame": False, "prepend_first_frame": False}, "latent": PIXEL,
    "image_condition": "first frame of the prior",
}  # fmt: skip
# kind of host -> architecture of its adapter, arguments
KINDS = {
    "unet": ("VideoMotionAdapter", {**UNET, "features": [4, 6, 8]}),
    "svd": ("SvdAdapter", SVD),
    "wan": ("TokenMotionAdapter", WAN),
}


def described(part: str, architecture: str, arguments: dict) -> dict:
    return {"parts": {part: {"architecture": architecture, "arguments": arguments}}, **BRIDGE}


def write(folder: Path, name: str, part: str, architecture: str, arguments: dict, seed: int) -> str:
    """A file of one random network; its name."""
    config = described(part, architecture, arguments)
    network = checkpoints.build(config, part)
    generator = torch.Generator().manual_seed(seed)
    for key, parameter in network.named_parameters():
        scale = 0.2 if "norm" not in key else 1.0
        parameter.data = torch.randn(parameter.shape, generator=generator) * scale
    checkpoints.save({part: network}, folder / name, config, dtype=torch.float32)
    return name


def write_all(folder: Path) -> None:
    """`backbone`, and `<kind>-0`, `<kind>-1`, `<kind>-zero` for each of `KINDS`."""
    write(folder, "backbone.safetensors", "model", "VideoUNet", UNET, 1)
    for kind, (architecture, arguments) in KINDS.items():
        for seed in (0, 1):
            write(folder, f"{kind}-{seed}.safetensors", "adapter", architecture, arguments, 10 + seed)
        network, config = checkpoints.load(folder / f"{kind}-0.safetensors", "adapter")
        checkpoints.save({"adapter": network.zero()}, folder / f"{kind}-zero.safetensors", config, torch.float32)
    wider = {**UNET, "channels": 32, "features": [4, 6, 8]}
    write(folder, "wide.safetensors", "adapter", "VideoMotionAdapter", wider, 3)
    arguments = {"channels": 8, "wide": 8, "looks": 4, "side": 16}
    write(folder, "dense.safetensors", "densifier", "SparseToDense", arguments, 4)


def sliding(frames: int, height: int, width: int, across: float, down: float = 0.0) -> MotionField:
    """Everything moves by so many pixels a frame."""
    flow = torch.tensor([across, down])[:, None, None].expand(frames - 1, 2, height, width).clone()
    return MotionField(flow, -flow)


def picture(height: int, width: int, seed: int = 0) -> Tensor:
    """An IMAGE."""
    return torch.rand(1, height, width, 3, generator=torch.Generator().manual_seed(seed))
