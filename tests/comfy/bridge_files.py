"""Small model files with random weights, one for each way a bridge network can be fed, and what core makes of them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from einops import rearrange
from torch import Tensor

from aqueduct.core import checkpoints
from aqueduct.core.networks import LatteVideo, NeuralPrior
from aqueduct.core.networks.layout import InputLayout
from aqueduct.core.networks.video_bridge import VideoBridge

FRAMES, SIZE = 4, 8
NAMES = ["right", "down", "left"]
NULL = len(NAMES)
SIZES = {"height": SIZE, "width": SIZE, "patch": 4, "hidden": 16, "depth": 2, "heads": 2}
PIXEL = {"format": "pixel", "channels": 3, "vae": "pixel_space"}
SD15 = {"format": "sd15", "channels": 4, "vae": "sd-vae-ft-ema", "scale": 0.18215}
GMAX = {"kind": "bridge-gmax", "constants": {"beta_min": 0.01, "beta_max": 50.0}}

# name -> bridge, parameterisation, precondition, layout, latent, classes, needs the image, has a neural prior
VARIANTS = {
    "shipped": (GMAX, "prior_residual", "unit_noise", InputLayout(concat_prior=True), PIXEL, NAMES, False, True),
    "released": (GMAX, "psi", "frame_index", InputLayout(prepend_first_frame=True), SD15, NAMES, False, False),
    "with-image": (
        GMAX, "psi", "frame_index", InputLayout(concat_prior=True, prepend_first_frame=True), SD15, NAMES, True, False,
    ),
    "aligned": (
        {"kind": "vp", "constants": {"beta_min": 0.1, "beta_d": 2.0}}, "v", "aligned_cosine",
        InputLayout(concat_first_frame=True), PIXEL, NAMES, False, False,
    ),
    "no-class": (
        {"kind": "brownian", "constants": {"variance": 1.0}}, "residual", "raw", InputLayout(), PIXEL, [], False, True,
    ),
}  # fmt: skip


def randomised(network: torch.nn.Module, seed: int) -> torch.nn.Module:
    """Weights large enough for every input to show in the output."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in network.named_parameters():
        if "pos_embed" not in name and "temp_embed" not in name:
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.3
    return network.eval().requires_grad_(False)


def write(folder: Path, variant: str, dtype: torch.dtype = torch.float32) -> str:
    """A native file of this variant in ``folder``; returns its name."""
    bridge, parameterisation, precondition, layout, latent, names, takes_image, has_prior = VARIANTS[variant]
    channels = latent["channels"]
    common = {**SIZES, "out_channels": channels, "classes": len(names)}
    arguments = {
        "model": {**common, "in_channels": layout.channels(channels), "frames": FRAMES + layout.prepend_first_frame},
        "prior": {**common, "in_channels": channels, "frames": FRAMES, "residual": True},
    }
    networks = {"model": randomised(LatteVideo(**arguments["model"]), 1)}
    if has_prior:
        networks["prior"] = randomised(NeuralPrior(**arguments["prior"]), 2)
    parts = {
        part: {"architecture": type(network).__name__, "arguments": arguments[part]}
        for part, network in networks.items()
    }
    config = {
        "about": f"test file {variant}", "parts": parts, "bridge": bridge, "parameterisation": parameterisation,
        "precondition": precondition, "layout": vars(layout), "class_names": names, "latent": latent,
        "image_condition": "image" if takes_image else "first frame of the prior",
    }  # fmt: skip
    name = f"{variant}-{str(dtype)[6:]}.safetensors"
    checkpoints.save(networks, folder / name, config, dtype=dtype)
    return name


def write_prior(folder: Path) -> str:
    """A file that holds a neural prior alone."""
    arguments = {**SIZES, "in_channels": 3, "out_channels": 3, "frames": FRAMES, "classes": len(NAMES)}
    config = {
        "about": "a prior", "class_names": NAMES, "latent": PIXEL,
        "parts": {"prior": {"architecture": "NeuralPrior", "arguments": arguments}},
    }  # fmt: skip
    checkpoints.save({"prior": randomised(NeuralPrior(**arguments), 3)}, folder / "prior.safetensors", config)
    return "prior.safetensors"


def offer(folder: Path) -> None:
    """Let ComfyUI find the model files in ``folder``, as extra_model_paths.yaml does."""
    import folder_paths

    from aqueduct.nodes._comfy.files import FOLDER, register_folder

    register_folder()
    folder_paths.add_model_folder_path(FOLDER, str(folder))


def image(variant: str, clips: int = 1, seed: int = 0) -> Tensor:
    """LATENTs of first frames."""
    channels = VARIANTS[variant][4]["channels"]
    return torch.randn(clips, channels, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))


@dataclass(frozen=True)
class Core:
    """The same file without ComfyUI: what the graph must give. Clips are ``[b, c, f, h, w]`` in the model's space."""

    video: VideoBridge
    network: torch.nn.Module
    scale: float

    @classmethod
    def load(cls, path: Path) -> "Core":
        network, config = checkpoints.load(path)
        return cls(VideoBridge.from_config(config), network.float(), config["latent"].get("scale", 1.0))

    def clips(self, frames: Tensor) -> Tensor:
        return rearrange(frames, "(b f) c h w -> b c f h w", f=FRAMES)

    def denoiser(self, prior: Tensor, y: list[int] | None, noise: Tensor, images: Tensor | None = None) -> Callable:
        """From LATENTs: ``prior`` and ``noise`` with frames in the batch axis, ``images`` one per clip."""
        z_T = self.clips(prior) * self.scale
        first = z_T[:, :, 0] if images is None else images * self.scale
        classes = None if y is None else torch.tensor(y)
        aligned = self.video.precondition.name == "aligned_cosine"
        return self.video.denoiser(
            lambda x, t, y: self.network(x, t, y), z_T, first, classes, self.clips(noise) if aligned else None
        )

    def latents(self, z_0: Tensor) -> Tensor:
        return rearrange(z_0, "b c f h w -> (b f) c h w") / self.scale
