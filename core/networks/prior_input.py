"""The prior as another input of a network that was built without: FrameBridge concatenates ``z_T`` on channels.

A convolution of concatenated channels is the sum of two convolutions, so the network stays as it is and its first layer
gets a second weight beside it, zero at the start.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from .lora import linear_map


class PriorInput(nn.Module):
    """What ``z_T`` adds to a network's first layer: that of ``cat([x, z_T], 1)`` with a weight whose new channels are
    ``weight [out, channels, ...]``, zero at the start; a linear layer takes them last.

    Source: FrameBridge appendix C.3.
    """

    def __init__(self, layer: nn.Module, channels: int):
        super().__init__()
        out, _, *kernel = layer.weight.shape
        self.weight = nn.Parameter(torch.zeros(out, channels, *kernel, device=layer.weight.device))
        self._map = linear_map(layer)

    def forward(self, prior: Tensor) -> Tensor:
        return self._map(prior, self.weight.to(prior))

    @contextmanager
    def added(self, layer: nn.Module, laid_out) -> Iterator[None]:
        """Within it ``layer`` adds, the first time that it is called, what ``laid_out(x)`` makes: the prior as the
        layer takes its own input ``x``."""

        def hook(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            handle.remove()
            return output + self(laid_out(inputs[0])).to(output.dtype)

        handle = layer.register_forward_hook(hook)
        try:
            yield
        finally:
            handle.remove()
