"""Files of bridge models: one safetensors file that holds the weights and, in its metadata, the whole configuration.

A file has parts: ``model`` (the bridge network) and, for models with a neural prior, ``prior``. Tensors are named
``<part>.<key>``; the metadata entry ``aqueduct`` is JSON (see ``docs/formats.md``). Released checkpoints of other
layouts are converted in memory by ``core.released``: whoever loads a file need not know which it is.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from .networks import Cmp, LatteVideo, NeuralPrior, Restorer, SparseToDense, UNet, VideoMotionAdapter, VideoUNet
from .networks.diffusers_hosts import CogVideo, SdxlUNet
from .networks.exemplar_unet import ExemplarNetwork, ExemplarUNet
from .networks.mofa import SvdAdapter
from .networks.style_encoder import StyleEncoder
from .networks.token_adapter import TokenMotionAdapter
from .released import recognise
from .tensor_file import TensorFile, differences, open_tensors, shapes_of
from .whole_file import replaced

METADATA_KEY = "aqueduct"
FORMAT = 1
NETWORKS = (
    LatteVideo, NeuralPrior, Restorer, Cmp, SparseToDense, VideoUNet,
    VideoMotionAdapter, SvdAdapter, TokenMotionAdapter, ExemplarUNet, ExemplarNetwork, StyleEncoder, UNet,
    CogVideo, SdxlUNet,
)  # fmt: skip
ARCHITECTURES: dict[str, type[nn.Module]] = {network.__name__: network for network in NETWORKS}

Config = dict[str, Any]


@dataclass(frozen=True)
class Checkpoint:
    """An opened model file of any kind. ``state(part)``: the weights of one part, by the network's own key names."""

    name: str
    config: Config
    state: Callable[[str], dict[str, Tensor]]


def open_checkpoint(path: str | Path) -> Checkpoint:
    """A native file or a released one; reads the description, not the weights. Raises ValueError for anything else."""
    file = open_tensors(path)
    if METADATA_KEY in file.metadata:
        return Checkpoint(file.name, _native_config(file), lambda part: _native_state(file, part))
    conversion = recognise(file)
    return Checkpoint(file.name, {"format": FORMAT, **conversion.config}, lambda part: conversion.state())


def read_config(path: str | Path) -> Config:
    """The configuration of a file, without its weights. Raises ValueError if it is not one that is understood."""
    return open_checkpoint(path).config


def _native_config(file: TensorFile) -> Config:
    try:
        config = json.loads(file.metadata[METADATA_KEY])
    except json.JSONDecodeError as error:
        raise ValueError(f"{file.name}: its metadata entry {METADATA_KEY!r} is no JSON ({error})") from error
    found = config.get("format") if isinstance(config, dict) else None
    if found != FORMAT:
        raise ValueError(f"{file.name} has format {found}, this version reads format {FORMAT}: update the pack")
    if not isinstance(config.get("parts"), dict) or not config["parts"]:
        raise ValueError(f"{file.name}: its configuration names no parts")
    return config


def _native_state(file: TensorFile, part: str) -> dict[str, Tensor]:
    prefix = part + "."
    keys = [key for key in file.shapes if key.startswith(prefix)]
    return {key[len(prefix) :]: value for key, value in file.read(keys).items()}


def build(config: Config, part: str = "model", **factory) -> nn.Module:
    """The network of ``part`` without its weights; ``factory`` is ``operations``, ``dtype``, ``device``."""
    if part not in config["parts"]:
        raise ValueError(f"this file has no {part!r}; its parts are {', '.join(config['parts'])}")
    spec = config["parts"][part]
    if spec["architecture"] not in ARCHITECTURES:
        raise ValueError(f"unknown architecture {spec['architecture']!r}; known: {', '.join(ARCHITECTURES)}")
    return ARCHITECTURES[spec["architecture"]](**spec["arguments"], **factory)


def load(path: str | Path, part: str = "model", **factory) -> tuple[nn.Module, Config]:
    """``(network, config)`` of a native or released file, loaded strictly, in evaluation mode and frozen.

    ``factory``: ``operations``, ``dtype``, ``device`` of the network. Raises ValueError for a part the file does not
    have, and naming missing, unexpected and misshapen tensors.
    """
    checkpoint = open_checkpoint(path)
    network = build(checkpoint.config, part, **factory)
    load_strictly(network, checkpoint.state(part), checkpoint.name)
    return network.eval().requires_grad_(False), checkpoint.config


def load_strictly(network: nn.Module, state: dict[str, Tensor], name: str) -> None:
    """``load_state_dict`` whose error says what differs, in a few lines rather than a few hundred."""
    told = differences(shapes_of(network.state_dict()), shapes_of(state))
    if told:
        raise ValueError(f"{name} does not fit {type(network).__name__}: {told}")
    network.load_state_dict(state, strict=True)


def save(parts: nn.Module | dict[str, nn.Module], path: str | Path, config: Config, dtype=torch.float16) -> None:
    """Write ``parts`` (one network, or several by name) in ``dtype``, and ``config``; the file changes whole or not."""
    path = Path(path)
    parts = {"model": parts} if isinstance(parts, nn.Module) else parts
    if set(parts) != set(config["parts"]):
        raise ValueError(f"networks {sorted(parts)} do not match the configuration's parts {sorted(config['parts'])}")
    tensors = {
        f"{part}.{key}": value.detach().to("cpu", dtype).contiguous()
        for part, network in parts.items()
        for key, value in network.state_dict().items()
    }
    with replaced(path) as beside:
        save_file(tensors, beside, metadata={METADATA_KEY: json.dumps({"format": FORMAT, **config})})
