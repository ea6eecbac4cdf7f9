"""Bilinear warping as the linear map it is, and its exact adjoint.

``core.motion.warp`` reads an image at ``p + flow(p)``. With the flow fixed that is ``A x`` for a sparse matrix A of
four taps a pixel, border rule included; a gradient with respect to the image is ``A^T v``. Both are written here on the
same taps, so they are transposes by construction, and the second needs no autograd and works in inference mode.

The taps are exact on flow of whole pixels, where ``grid_sample`` rounds its normalised coordinates. Guidance scales
its step by the inverse of the error's root: there a residual of rounding would become a step of full length.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..motion.sampling import pixel_grid


@dataclass(frozen=True, eq=False)
class BilinearTaps:
    """Where each pixel reads and with which weight: ``index`` int64, ``weight``, both ``[4, N, 1, H W]``.

    Pixel centres are integers; outside the frame the border's value holds, so the border's pixel collects the adjoint
    of all that was read beyond it.
    """

    index: Tensor
    weight: Tensor

    def warp(self, x: Tensor) -> Tensor:
        """``A x``: ``x(p + flow(p))`` for ``x [N, C, H, W]``. Differentiable."""
        planes = x.flatten(2)
        taps = zip(self.index, self.weight, strict=True)
        return sum(weight * planes.gather(2, index.expand_as(planes)) for index, weight in taps).view_as(x)

    def adjoint(self, v: Tensor) -> Tensor:
        """``A^T v``: every pixel of ``v [N, C, H, W]`` goes back, by its weights, to the pixels it was read from."""
        planes = v.flatten(2)
        back = torch.zeros_like(planes)
        for index, weight in zip(self.index, self.weight, strict=True):
            back = back.scatter_add(2, index.expand_as(planes), weight * planes)
        return back.view_as(v)


def bilinear_taps(flow: Tensor) -> BilinearTaps:
    """The taps of ``flow [N, 2, H, W]`` in pixels (x, y), in the flow's precision."""
    height, width = flow.shape[-2:]
    x, y = (flow + pixel_grid(height, width, flow.device, flow.dtype)).flatten(2).unbind(1)
    columns, rows = _neighbours(x, width), _neighbours(y, height)
    index = torch.stack([row * width + column for row, _ in rows for column, _ in columns])
    weight = torch.stack([down * across for _, down in rows for _, across in columns])
    return BilinearTaps(index[:, :, None], weight[:, :, None])


def warp_adjoint(v: Tensor, flow: Tensor) -> Tensor:
    """The adjoint of ``warp(x, flow)`` in x: ``<warp(x, flow), v> = <x, warp_adjoint(v, flow)>``.

    ``v [N, C, H, W]`` and ``flow [N, 2, H, W]`` in pixels (x, y), on one grid.
    """
    dtype = torch.promote_types(v.dtype, flow.dtype)
    return bilinear_taps(flow.to(dtype)).adjoint(v.to(dtype)).to(v.dtype)


def _neighbours(at: Tensor, size: int) -> list[tuple[Tensor, Tensor]]:
    """The two pixels around each coordinate of one axis, held at the border, with their weights."""
    at = at.clamp(0, size - 1)
    low = at.floor()
    part = at - low
    first = low.long()
    return [(first, 1 - part), ((first + 1).clamp(max=size - 1), part)]
