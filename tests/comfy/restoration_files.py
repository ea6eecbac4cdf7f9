"""Small restoration files with random weights, one for each problem, and what core makes of them."""

from pathlib import Path

import torch
from torch import Tensor

from aqueduct.core import checkpoints
from aqueduct.core.networks import Restorer
from aqueduct.core.restoration import image_denoiser, make_problem

PROBLEMS = {"superres": {"kind": "super-resolution", "factor": 4}, "inpaint": {"kind": "inpainting"}}
LEVELS = {"minimum": 0.02, "maximum": 10.0}
SIZES = {"channels": 8, "multipliers": [1, 2], "blocks": 1, "head_channels": 8, "groups": 4, "fold": 2}  # step 4


def write(folder: Path, problem: str, dtype: torch.dtype = torch.float32, name: str | None = None) -> None:
    """`<name>.safetensors` in ``folder``; ``problem`` is one of `PROBLEMS`, and the name where none is given."""
    name = name or problem
    arguments = {"condition_channels": make_problem(PROBLEMS[problem]).condition_channels, **SIZES}
    network = Restorer(**arguments)
    generator = torch.Generator().manual_seed(3)
    for parameter in network.parameters():
        spread = 1.2 / parameter[0].numel() ** 0.5 if parameter.dim() > 1 else 0.3
        parameter.data = torch.randn(parameter.shape, generator=generator) * spread
    config = {
        "about": f"test file {name}", "parts": {"model": {"architecture": "Restorer", "arguments": arguments}},
        "restoration": PROBLEMS[problem], "noise": "gp", "precondition": {"kind": "edm", "std_data": 0.5},
        "levels": LEVELS, "latent": {"format": "pixel", "channels": 3, "vae": "pixel_space"},
    }  # fmt: skip
    checkpoints.save(network, folder / f"{name}.safetensors", config, dtype=dtype)


def core_denoiser(path: Path, condition: Tensor, outer: bool = False):
    """The file without ComfyUI: ``(z, sigma, frames) -> z0_hat``."""
    network, _ = checkpoints.load(path)
    return image_denoiser(network.float(), condition, outer=outer)
