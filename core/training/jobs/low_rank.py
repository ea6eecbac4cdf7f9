"""What of a network a training on prepared clips moves: all of it, or a LoRA beside a host of the diffusers library.

The file of a LoRA names its tensors as diffusers reads them, ``transformer.<layer>.lora_A.weight`` (``unet.`` of
SDXL), with alpha the rank. Input channels that the host did not have are trained whole and lie beside, in ``entry``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from ...networks.diffusers_hosts import CogVideo, SdxlUNet
from ...networks.lora import ATTENTION_AND_FEED_FORWARD, Lora, chosen_layers
from .prepared import Network

PARTS: dict[type[nn.Module], str] = {CogVideo: "transformer", SdxlUNet: "unet"}  # as diffusers' pipelines call them


@dataclass(frozen=True)
class LowRank:
    """``layers``: a regular expression that their names hold."""

    rank: int
    layers: str = ATTENTION_AND_FEED_FORWARD


@dataclass(frozen=True, eq=False)
class Moved:
    """``parts`` of the file and what it says of them, what moves, and the ``networks`` that run."""

    parts: dict[str, nn.Module]
    described: dict[str, dict]
    parameters: list[nn.Parameter]
    networks: list[nn.Module]


def moved(network: nn.Module, table: Network, low: LowRank | None, widened: Sequence[str], seed: int) -> Moved:
    """``widened``: names of the weights with input channels that the start did not have. A LoRA is put on the network
    for good: the backward pass may run it again.

    Raises ValueError for a LoRA beside another network than a host's, or beside other layers than linear ones.
    """
    if low is None:
        return Moved({"model": network}, {"model": table.part}, list(network.parameters()), [network])
    if type(network) not in PARTS:
        raise ValueError(f"a LoRA is trained beside hosts of diffusers; {table.architecture} is trained whole")
    network.requires_grad_(False)
    layers = chosen_layers(network, low.layers)
    other = [name for name, layer in layers.items() if not isinstance(layer, nn.Linear)]
    if other:
        raise ValueError(f"[lora] layers = {low.layers!r} finds {', '.join(other[:3])}, and only linear layers will do")
    lora = Lora(layers, low.rank, low.rank, torch.Generator().manual_seed(seed))
    names = {f"{name}.{key}": value for name, one in lora.named().items() for key, value in _library_names(one).items()}
    parts = {PARTS[type(network)]: tree({name.removeprefix("network."): value for name, value in names.items()})}
    if widened:
        entry = {name: network.get_parameter(name).requires_grad_(True) for name in widened}
        parts["entry"] = tree(entry)
    said = {"host": table.part, "rank": low.rank, "layers": low.layers}
    described = {part: {"architecture": "LoRA", "arguments": said} for part in parts}
    lora.add()
    return Moved(parts, described, [p for part in parts.values() for p in part.parameters()], [network, lora])


def _library_names(low: nn.Module) -> dict[str, nn.Parameter]:
    return {"lora_A.weight": low.down, "lora_B.weight": low.up}


def tree(parameters: Mapping[str, nn.Parameter]) -> nn.Module:
    """A module whose state dict has those names: to be saved, not to be run."""
    root = nn.Module()
    for name, parameter in parameters.items():
        module, *path = root, *name.split(".")
        for step in path[:-1]:
            if step not in module._modules:
                module.add_module(step, nn.Module())
            module = module._modules[step]
        module.register_parameter(path[-1], parameter)
    return root
