"""How our networks start a training: Xavier weights, and branches that add nothing yet."""

from collections.abc import Callable, Mapping

import torch
from torch import nn

LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)


@torch.no_grad()
def start(
    network: nn.Module, generator: torch.Generator, last: Mapping[type[nn.Module], Callable[[nn.Module], nn.Module]]
) -> None:
    """Convolutions and linear layers uniform as Glorot and Bengio 2010 (eq. 16) have it, in the order of `modules`,
    their biases zero; then zero weights in the ``last`` layer of each module of a type named there."""
    for module in network.modules():
        if isinstance(module, LAYERS):
            fans = (module.weight.shape[0] + module.weight.shape[1]) * module.weight[0, 0].numel()
            module.weight.copy_((2 * torch.rand(module.weight.shape, generator=generator) - 1) * (6 / fans) ** 0.5)
            if module.bias is not None:
                module.bias.zero_()
    for module in network.modules():
        if type(module) in last:
            last[type(module)](module).weight.zero_()
