"""Small restoration files with random weights, the graphs around them, and what core makes of them."""

from pathlib import Path

import torch
from torch import Tensor

from aqueduct.core import checkpoints
from aqueduct.core.networks import Restorer
from aqueduct.core.restoration import Precondition, image_denoiser, make_problem
from aqueduct.tests.comfy import bridge_files
from aqueduct.tests.comfy.graph import FixedNoise, run, run_one

PROBLEMS = {"superres": {"kind": "super-resolution", "factor": 4}, "inpaint": {"kind": "inpainting"}}
LEVELS = {"minimum": 0.02, "maximum": 10.0}
STD = 0.5  # not what any problem has by itself: the file's counts
FRAMES, HEIGHT, WIDTH = 3, 16, 24
CLOSE = {"rtol": 1e-4, "atol": 2e-5}
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
        "restoration": PROBLEMS[problem], "noise": "gp", "precondition": {"kind": "edm", "std_data": STD},
        "levels": LEVELS, "latent": {"format": "pixel", "channels": 3, "vae": "pixel_space"},
    }  # fmt: skip
    checkpoints.save(network, folder / f"{name}.safetensors", config, dtype=dtype)


def core_denoiser(path: Path, condition: Tensor, outer: bool = False):
    """The file without ComfyUI: ``(z, sigma, frames) -> z0_hat``."""
    network, config = checkpoints.load(path)
    precondition = Precondition(make_problem(config["restoration"]), config["precondition"]["std_data"])
    return image_denoiser(network.float(), precondition, condition, outer)


def write_all(folder: Path) -> Path:
    """Every problem's file in ``folder``, where ComfyUI finds them."""
    for problem in PROBLEMS:
        write(folder, problem)
    bridge_files.offer(folder)
    return folder


def load(name: str):
    return run_one("AqueductLoadRestorationModel", file=f"{name}.safetensors")


def images(*size: int, seed: int = 0) -> Tensor:
    return torch.rand(size or (FRAMES, HEIGHT, WIDTH, 3), generator=torch.Generator().manual_seed(seed))


def holes(frames: int = FRAMES) -> Tensor:
    mask = torch.zeros(frames, HEIGHT, WIDTH)
    for frame in range(frames):
        mask[frame, 4:12, 5 + frame : 15 + frame] = 1
    return mask


def damaged(name: str, model) -> tuple:
    """(positive, negative, LATENT) of the node, and the condition by core's own functions."""
    problem = make_problem(PROBLEMS[name])
    if name == "inpaint":
        pictures, mask = images(), holes()
        condition = problem.condition(pictures.movedim(-1, 1) * 2 - 1, mask[:, None])
        return *run("AqueductRestorationCondition", model=model, images=pictures, mask=mask), condition
    small = images(FRAMES, HEIGHT // 4, WIDTH // 4, 3)
    return *run("AqueductRestorationCondition", model=model, images=small), problem.condition(
        small.movedim(-1, 1) * 2 - 1
    )


def noise(seed: int = 5) -> Tensor:
    return torch.randn(FRAMES, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(seed))


class Asks:
    """A SAMPLER that asks the guider once, ``z = noise`` at each level of ``sigmas``."""

    def sample(self, guider, sigmas, extra_args, callback, noise, *_, **__):
        options = {"model_options": extra_args["model_options"]}
        return torch.stack([guider(noise, sigma.expand(len(noise)), **options) for sigma in sigmas])


def predictions(model, positive, negative, latent, sigmas, cfg: float = 1.0, z=None) -> Tensor:
    """``[sigmas, F, 3, H, W]``: what a CFGGuider predicts for ``z``."""
    guider = run_one("CFGGuider", model=model, positive=positive, negative=negative, cfg=cfg)
    with torch.inference_mode():
        return guider.sample(noise() if z is None else z, latent["samples"], Asks(), torch.tensor(sigmas), seed=0)


def sampled(model, positive, negative, latent, sigmas, sampler="euler", source=None) -> Tensor:
    """``sampler``: the name of a stock one, or a SAMPLER."""
    out = run_one(
        "SamplerCustomAdvanced",
        noise=FixedNoise(noise() if source is None else source),
        guider=run_one("CFGGuider", model=model, positive=positive, negative=negative, cfg=1.0),
        sampler=run_one("KSamplerSelect", sampler_name=sampler) if isinstance(sampler, str) else sampler,
        sigmas=sigmas,
        latent_image=latent,
    )
    return out["samples"]


def levels(model, steps: int = 5, scheduler: str = "karras") -> Tensor:
    return run_one("BasicScheduler", model=model, scheduler=scheduler, steps=steps, denoise=1.0)
