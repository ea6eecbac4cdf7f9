"""Files of bridge models: one safetensors file that holds the weights and, in its metadata, the whole configuration.

A file has parts: ``model`` (the bridge network) and, for models with a neural prior, ``prior``. Tensors are named
``<part>.<key>``; the metadata entry ``aqueduct`` is JSON (see ``docs/formats.md``). Released checkpoints of other
layouts are converted in memory by ``core.released``.
"""

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from .networks import LatteVideo, NeuralPrior

METADATA_KEY = "aqueduct"
FORMAT = 1
ARCHITECTURES: dict[str, type[nn.Module]] = {"LatteVideo": LatteVideo, "NeuralPrior": NeuralPrior}

Config = dict[str, Any]


def read_config(path: str | Path) -> Config:
    """The configuration in a native file's metadata. Raises ValueError if the file is not one of ours."""
    path = Path(path)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except SafetensorError as error:
        raise ValueError(f"{path.name} is not a readable safetensors file ({error}); download or train it again") from error
    if METADATA_KEY not in metadata:
        raise ValueError(
            f"{path.name} holds no Aqueduct configuration (metadata entry {METADATA_KEY!r}; found "
            f"{sorted(metadata) or 'none'}); expected a file written by `core.checkpoints.save` or a released checkpoint"
        )
    config = json.loads(metadata[METADATA_KEY])
    if config.get("format") != FORMAT:
        raise ValueError(f"{path.name} has format {config.get('format')}, this version reads format {FORMAT}: update the pack")
    return config


def read_state(path: str | Path, part: str = "model") -> dict[str, Tensor]:
    """Weights of one part, by the network's own key names."""
    prefix = part + "."
    with safe_open(Path(path), framework="pt") as file:
        return {key[len(prefix) :]: file.get_tensor(key) for key in file.keys() if key.startswith(prefix)}


def build(config: Config, part: str = "model", **factory) -> nn.Module:
    """The network of ``part`` without its weights; ``factory`` is ``operations``, ``dtype``, ``device``."""
    if part not in config["parts"]:
        raise ValueError(f"this file has no {part!r}; its parts are {', '.join(config['parts'])}")
    spec = config["parts"][part]
    if spec["architecture"] not in ARCHITECTURES:
        raise ValueError(f"unknown architecture {spec['architecture']!r}; known: {', '.join(ARCHITECTURES)}")
    return ARCHITECTURES[spec["architecture"]](**spec["arguments"], **factory)


def load(path: str | Path, part: str = "model", **factory) -> tuple[nn.Module, Config]:
    """``(network, config)`` of a native file, loaded strictly; the network is in evaluation mode and frozen.

    Raises ValueError naming missing, unexpected and misshapen tensors.
    """
    config = read_config(path)
    network = build(config, part, **factory)
    load_strictly(network, read_state(path, part), Path(path).name)
    return network.eval().requires_grad_(False), config


def load_strictly(network: nn.Module, state: dict[str, Tensor], name: str) -> None:
    """``load_state_dict`` whose error says what differs, in a few lines rather than a few hundred."""
    expected = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    found = {key: tuple(value.shape) for key, value in state.items()}
    missing = sorted(expected.keys() - found.keys())
    unexpected = sorted(found.keys() - expected.keys())
    shapes = [f"{k}: got {found[k]}, expected {expected[k]}" for k in expected.keys() & found.keys() if found[k] != expected[k]]
    if missing or unexpected or shapes:
        parts = [("missing", missing), ("unexpected", unexpected), ("of another shape", sorted(shapes))]
        told = "; ".join(f"{len(v)} {label} ({', '.join(v[:3])}{', ...' if len(v) > 3 else ''})" for label, v in parts if v)
        raise ValueError(f"{name} does not fit {type(network).__name__}: {told}")
    network.load_state_dict(state, strict=True)


def save(parts: nn.Module | dict[str, nn.Module], path: str | Path, config: Config, dtype=torch.float16) -> None:
    """Write ``parts`` (one network, or several by name) with ``config``; weights in ``dtype``. Replaces the file whole."""
    path = Path(path)
    parts = {"model": parts} if isinstance(parts, nn.Module) else parts
    if set(parts) != set(config["parts"]):
        raise ValueError(f"networks {sorted(parts)} do not match the configuration's parts {sorted(config['parts'])}")
    tensors = {
        f"{part}.{key}": value.detach().to("cpu", dtype).contiguous()
        for part, network in parts.items()
        for key, value in network.state_dict().items()
    }
    beside = path.with_suffix(".part")
    save_file(tensors, beside, metadata={METADATA_KEY: json.dumps({"format": FORMAT, **config})})
    os.replace(beside, path)
