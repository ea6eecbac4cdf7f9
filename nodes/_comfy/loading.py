"""What every network of the pack needs to be a MODEL: latents, dtype, and ComfyUI's memory management around it."""

from collections.abc import Callable
from dataclasses import dataclass

import comfy.latent_formats
import comfy.model_base
import comfy.model_management as mm
import comfy.model_patcher
import comfy.ops
import comfy.supported_models_base
import comfy.utils

from ...core import checkpoints
from ...core.networks.diffusers_hosts import DiffusersHost
from .layers import with_weights


class PixelLatents(comfy.latent_formats.LatentFormat):
    """RGB in [-1, 1]: what the pixel-space VAE makes of an IMAGE."""

    latent_channels = 3
    spacial_downscale_ratio = 1
    latent_rgb_factors = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]


class VqLatents(comfy.latent_formats.LatentFormat):
    """Of latent diffusion's VQ-f4, before its quantiser and unscaled."""

    latent_channels = 3
    spacial_downscale_ratio = 4


class RawLatents(comfy.latent_formats.LatentFormat):
    """As some other VAE gives them; a network that was trained on them so."""


LATENT_FORMATS = {
    "pixel": PixelLatents, "sd15": comfy.latent_formats.SD15, "vq-f4": VqLatents, "raw": RawLatents,
}  # fmt: skip

# (configuration with dtype and latents settled, the file's description) -> the MODEL without its weights
Make = Callable[[comfy.supported_models_base.BASE, dict], comfy.model_base.BaseModel]


@dataclass(frozen=True)
class Holding:
    """What a file can hold, the node that loads it, and how its configuration says so."""

    kind: str
    node_id: str
    says: Callable[[checkpoints.Config], bool]


HOLDINGS = (
    Holding("an image restoration model", "AqueductLoadRestorationModel", lambda config: "restoration" in config),
    Holding(
        "a bridge model", "AqueductLoadBridgeModel",
        lambda config: "model" in config["parts"] and "restoration" not in config,
    ),
    Holding(
        "a motion adapter", "AqueductLoadMotionAdapter",
        lambda config: "adapter" in config["parts"] or "densifier" in config["parts"],
    ),
    Holding("only a prior", "AqueductLoadNeuralPrior", lambda config: set(config["parts"]) == {"prior"}),
)  # fmt: skip


def check_loader(node_id: str, file: str, config: checkpoints.Config) -> None:
    """ValueError, naming the node to take, unless ``node_id`` loads files of this configuration."""
    network = config["parts"].get("model", {}).get("architecture")
    if issubclass(checkpoints.ARCHITECTURES.get(network, object), DiffusersHost):
        raise ValueError(
            f"{file} holds {network}, a network of the diffusers library: no node runs it. Use it in Python, as "
            f"docs/scaling.md shows, or train a MODEL of ComfyUI with AqueductTrainBridge or AqueductTrainGPNoise"
        )
    found = [holding for holding in HOLDINGS if holding.says(config)]
    if not found:
        raise ValueError(
            f"{file} holds {', '.join(config['parts'])} alone: no node loads that, it is a part of a model"
        )
    if all(holding.node_id != node_id for holding in found):
        kinds = " and ".join(holding.kind for holding in found)
        nodes = " or ".join(holding.node_id for holding in found)
        raise ValueError(f"{file} holds {kinds}: load it with {nodes}")


def load_model(
    path: str, family: type[comfy.supported_models_base.BASE], make: Make, disable_dynamic: bool = False
) -> tuple[comfy.model_patcher.ModelPatcher, dict]:
    """MODEL and configuration of a file's part `model`, under ComfyUI's memory management.

    ``disable_dynamic``: take the plain patcher even where ComfyUI has one that loads weights piece by piece.
    """
    network, description = checkpoints.load(path, device="cpu")
    state = network.state_dict()
    device, offload = mm.get_torch_device(), mm.unet_offload_device()
    config = family({**family.unet_config, **description["parts"]["model"]["arguments"]})
    config.latent_format = LATENT_FORMATS[description["latent"]["format"]]()
    supported, weights = list(config.supported_inference_dtypes), comfy.utils.weight_dtype(state)
    dtype = mm.unet_dtype(device, comfy.utils.calculate_parameters(state), supported, weight_dtype=weights)
    config.set_inference_dtype(dtype, mm.unet_manual_cast(dtype, device, supported))
    model = make(config, description).to(offload)
    model.diffusion_model.load_state_dict(state, strict=True)
    patcher_class = getattr(comfy.model_patcher, "CoreModelPatcher", comfy.model_patcher.ModelPatcher)
    if disable_dynamic:
        patcher_class = comfy.model_patcher.ModelPatcher
    patcher = patcher_class(model, load_device=device, offload_device=offload)
    if hasattr(patcher, "cached_patcher_init"):
        patcher.cached_patcher_init = (_reload, (path, family, make))
    return patcher, description


def load_beside(checkpoint: checkpoints.Checkpoint, part: str) -> comfy.model_patcher.ModelPatcher:
    """A part of a file that runs beside a MODEL's network. Raises ValueError where the file has none.

    Weights are kept in the type ComfyUI would keep a diffusion model of this size in; layers compute in the MODEL's.
    """
    device, offload = mm.get_torch_device(), mm.unet_offload_device()
    checkpoints.build(checkpoint.config, part, device="meta")  # says so where there is none
    state = checkpoint.state(part)
    weights = comfy.utils.weight_dtype(state)
    dtype = mm.unet_dtype(device, comfy.utils.calculate_parameters(state), weight_dtype=weights)
    layers = with_weights(comfy.ops.manual_cast)
    network = checkpoints.build(checkpoint.config, part, operations=layers, dtype=dtype, device="cpu")
    checkpoints.load_strictly(network, state, checkpoint.name)
    return comfy.model_patcher.ModelPatcher(network.eval().requires_grad_(False), device, offload)


def _reload(path, family, make, disable_dynamic: bool = False) -> comfy.model_patcher.ModelPatcher:
    return load_model(path, family, make, disable_dynamic)[0]
