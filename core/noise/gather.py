"""Window-weighted sums of neighbouring lattice points: the read of a `lattice.Lattice`, for every device."""

import logging
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from .window import Window

log = logging.getLogger(__name__)


class Reader:
    """Reads tables of one lattice; remembers when the fused kernel of a device did not work.

    A table's row is a lattice point's channels, or, where ``packed``, those of the ``W`` points from there along x:
    then one read brings all taps of a line. ``local`` int32 ``[2, N]``: each point's first lattice point (x, y), in a
    table of ``columns`` rows a line; ``shares`` float32 ``[2, N]``: as `Window.taps` takes them.
    """

    def __init__(self, window: Window, channels: int):
        self.window, self.channels = window, channels
        self.fused_works = True

    def packed(self, nodes: Tensor) -> Tensor:
        """The packed table of ``nodes [rows, columns + W - 1, channels]``: ``[rows * columns, W * channels]``."""
        width = self.window.width
        return nodes.unfold(1, width, 1).transpose(-1, -2).reshape(-1, width * self.channels)

    def __call__(self, table: Tensor, columns: int, local: Tensor, shares: Tensor) -> Tensor:
        """float32 ``[N, channels]``"""
        if table.shape[1] > self.channels:
            return self._by_lines(table, columns, local, shares)
        kernel = fused_kernel(table.device) if self.fused_works else None
        if kernel is not None:
            try:
                return kernel(table, columns, local.contiguous(), shares.contiguous(), self.window)
            except Exception as error:  # no compiler, no driver, an unknown card: the same values come from torch
                self.fused_works = False
                log.warning("Gaussian noise: the Triton kernel does not work here, torch does it instead (%s)", error)
        return self._by_points(table, columns, local, shares)

    def _by_lines(self, table: Tensor, columns: int, local: Tensor, shares: Tensor) -> Tensor:
        along_x, along_y = self.window.taps(shares).unbind(1)  # [W, N]
        lines = (local[1] * columns + local[0])[:, None] + self._steps(local) * columns
        summed = F.embedding_bag(lines, table, mode="sum", per_sample_weights=along_y.T.contiguous())
        summed = summed.view(-1, self.channels)  # of each point W, one after the other; a bag is faster than a bmm
        taps = torch.arange(len(summed), device=lines.device, dtype=lines.dtype).view_as(lines)
        return F.embedding_bag(taps, summed, mode="sum", per_sample_weights=along_x.T.contiguous())

    def _by_points(self, table: Tensor, columns: int, local: Tensor, shares: Tensor) -> Tensor:
        along_x, along_y = self.window.taps(shares).unbind(1)
        weights = (along_y[:, None] * along_x).flatten(0, 1).T.contiguous()
        steps = self._steps(local)
        reach = (steps[:, None] * columns + steps).flatten()
        points = (local[1] * columns + local[0])[:, None] + reach
        return F.embedding_bag(points, table, mode="sum", per_sample_weights=weights)

    def _steps(self, like: Tensor) -> Tensor:
        return torch.arange(self.window.width, device=like.device, dtype=like.dtype)


def fused_kernel(device: torch.device) -> Callable[..., Tensor] | None:
    """The Triton kernel for CUDA devices, where triton is installed."""
    if device.type != "cuda":
        return None
    try:
        from .triton_gather import gather
    except ImportError:
        return None
    return gather
