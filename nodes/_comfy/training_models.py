"""Networks of MODELs as trainings take them: in core's own layers and float32, apart from what ComfyUI manages."""

import hashlib

import torch
from torch import nn

from ...core.checkpoints import ARCHITECTURES
from .hosted import HOSTED
from .identity import filled
from .model import BridgeModel

PATCHES = ("patches", "object_patches", "model_options", "wrappers", "injections", "hook_patches")


def architecture_of(model) -> str | None:
    """The name of the core network in a MODEL of this pack; None for all others."""
    network = model.model.diffusion_model
    return next((name for name, hosted in HOSTED.items() if type(network) is hosted), None)


def described(model) -> str:
    """As messages call a MODEL: core's own name of a network of this pack, else ComfyUI's names."""
    whole = model.model
    return architecture_of(model) or f"{type(whole).__name__} around a {type(whole.diffusion_model).__name__}"


def arguments_of(model) -> dict:
    """What the network of a MODEL of this pack was made with."""
    config = model.model.model_config.unet_config
    return {name: value for name, value in config.items() if name not in ("image_model", "dtype")}


def copied(model, device: torch.device) -> nn.Module:
    """The network of a MODEL of this pack, frozen, with copies of its weights.

    Raises ValueError for a MODEL with something on it (LoRAs, adapters, ...), which the copy would not have.
    """
    if any(filled(getattr(model, name, None)) is not None for name in PATCHES):
        raise ValueError(
            "this MODEL has something on it (a LoRA, an adapter, guidance, another patch), and training is on the "
            "MODEL alone: wire it as its loader gives it"
        )
    network = ARCHITECTURES[architecture_of(model)](**arguments_of(model))
    network.load_state_dict({key: value.float() for key, value in model.model.diffusion_model.state_dict().items()})
    return network.requires_grad_(False).to(device)


def bridge_config(model: BridgeModel) -> dict:
    """What a file's configuration says of the bridge, read back from the MODEL."""
    video = model.video
    return {
        "bridge": {"kind": video.bridge.kind, "constants": dict(video.bridge.constants)},
        "parameterisation": video.parameterisation.name,
        "precondition": video.precondition.name,
        "layout": vars(video.layout),
        "image_condition": "image" if model.takes_image else "first frame of the prior",
        "class_names": list(model.class_names),
    }


def computes_in(model: nn.Module) -> torch.dtype:
    """Of a `BaseModel`: its weights may be of another type, and cast layer by layer."""
    return model.manual_cast_dtype or model.get_dtype()


def digest(*networks: nn.Module) -> str:
    """Of their weights: another text where any is another."""
    found = hashlib.sha256()
    for key, value in (pair for network in networks for pair in network.state_dict().items()):
        found.update(f"{key} {value.dtype} {tuple(value.shape)}".encode())
        found.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return found.hexdigest()[:16]
