"""A neural prior under ComfyUI's memory management (the AQUEDUCT_PRIOR socket)."""

from dataclasses import dataclass

import comfy.model_management as mm
import comfy.model_patcher
import comfy.ops
import comfy.utils
import torch
from einops import rearrange

from ...core import checkpoints
from .classes import class_indices
from .layers import with_weights
from .loading import LATENT_FORMATS
from .model import CLASS_KEY


@dataclass(frozen=True)
class LoadedPrior:
    """A neural prior network in its patcher, with its file's configuration."""

    patcher: comfy.model_patcher.ModelPatcher
    config: dict

    def predict(self, latent: torch.Tensor, conditioning, keep_image: bool) -> torch.Tensor:
        """First-frame LATENTs ``[b, c, h, w]`` -> z_T ``[b * frames, c, h, w]``, both in LATENT space; of video VAEs
        ``[b, c, 1, h, w]`` -> ``[b, c, frames, h, w]``."""
        network, of_video = self.patcher.model, latent.dim() == 5 and latent.shape[2] == 1
        latent = latent[:, :, 0] if of_video else latent
        self._check_latent(latent, network)
        latent_format = LATENT_FORMATS[self.config["latent"]["format"]]()
        mm.load_models_gpu([self.patcher])
        device = self.patcher.load_device
        first = latent_format.process_in(latent).to(device, torch.float32)
        y = self._classes(conditioning, len(first)).to(device) if self.config["class_names"] else None
        clip = network(first, y)
        if keep_image:
            clip[:, :, 0] = first
        laid_out = clip if of_video else rearrange(clip, "b c f h w -> (b f) c h w")
        return latent_format.process_out(laid_out).to(mm.intermediate_device())

    def _classes(self, conditioning, clips: int) -> torch.Tensor:
        names = self.config["class_names"]
        classes = class_indices(_wanted(conditioning), names, clips)
        if bool((classes == len(names)).any()):
            raise ValueError("a neural prior is trained with a class for every clip: name one, not 'none'")
        return classes

    def _check_latent(self, latent: torch.Tensor, network) -> None:
        expected = (network.network.in_channels, *network.network.size[1:])
        if latent.dim() != 4 or tuple(latent.shape[1:]) != expected:
            raise ValueError(
                f"this neural prior takes LATENTs [images, {', '.join(map(str, expected))}], got {list(latent.shape)}; "
                f"scale the image to the model's size and encode it with the model's VAE"
            )
        if not bool(torch.isfinite(latent).all()):
            raise ValueError("the LATENT holds NaN or infinite values; check the VAE and its precision")


def _wanted(conditioning) -> str | None:
    """The class a CONDITIONING carries; without one, a clear error comes from `class_indices`."""
    return conditioning[0][1].get(CLASS_KEY) if conditioning else None


def load_prior(path: str) -> LoadedPrior:
    """The neural prior of a file (a standalone prior, or one inside a bridge file)."""
    network, config = checkpoints.load(path, part="prior", operations=with_weights(comfy.ops.manual_cast), device="cpu")
    network.float()
    patcher = comfy.model_patcher.ModelPatcher(
        network, load_device=mm.get_torch_device(), offload_device=mm.unet_offload_device()
    )
    return LoadedPrior(patcher, config)
