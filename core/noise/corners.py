"""Bilinear reading that is exact where nothing lies between pixels.

`core.motion.sampling.sample` goes through normalised coordinates and is off by a rounding error at whole pixels. Noise
under motion by whole pixels has to come back bit for bit.
"""

import torch
from torch import Tensor


def corners(points: Tensor) -> tuple[Tensor, Tensor]:
    """The four pixels around each of ``points [2, ...]`` (x, y): ``(pixels int64 [2, 4, ...], weights [4, ...])``.

    Weights are bilinear, at least 0, with sum 1; at whole pixels exactly one of them is not 0. Pixels may lie outside
    of any frame.
    """
    low = points.floor()
    right, down = (points - low).unbind(0)
    left, up = 1 - right, 1 - down
    x, y = low.to(torch.int64).unbind(0)
    pixels = torch.stack([torch.stack([x, x + 1, x, x + 1]), torch.stack([y, y, y + 1, y + 1])])
    return pixels, torch.stack([left * up, right * up, left * down, right * down])


def read(x: Tensor, points: Tensor) -> Tensor:
    """``x [C, H, W]`` at ``points [2, h, w]`` -> ``[C, h, w]``: bilinear; outside, the border's value holds."""
    height, width = x.shape[-2:]
    (columns, rows), weights = corners(points)
    index = rows.clamp_(0, height - 1).mul_(width).add_(columns.clamp_(0, width - 1))
    weights = weights.to(x.dtype)
    return sum(x.flatten(1)[:, index[k].flatten()].unflatten(1, index.shape[1:]) * weights[k] for k in range(4))


def read_nearest(x: Tensor, points: Tensor) -> Tensor:
    """`read` from the nearest pixel; half way between two, the even one."""
    height, width = x.shape[-2:]
    columns, rows = points.round().to(torch.int64).unbind(0)
    index = rows.clamp_(0, height - 1).mul_(width).add_(columns.clamp_(0, width - 1))
    return x.flatten(1)[:, index.flatten()].unflatten(1, index.shape)
