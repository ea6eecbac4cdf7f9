"""Our small network from a picture and a few vectors to motion everywhere: a U-Net that corrects a formula.

The formula is a densifier of `core.motion.densify`, which knows nothing of the picture. The network is shown what the
formula makes of the hints and adds what it lacks; before any training that is nothing. It says mostly how much of the
nearest hint, and how much of the formula, belongs to each pixel: numbers that are the same whichever way things move.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..motion.densify.gaussian import gaussian
from ..motion.densify.hints import check_hints, resized_hints, scattered_hints
from ..motion.densify.nearest import nearest
from .unet import UNet

RADIUS = 1 / 8  # of the start's Gaussians, of the longer side: the 64 pixels of `gaussian` at a side of 512


class SparseToDense(nn.Module):
    """`flow`: picture and hints to flow, of any size. ``forward``: the network's part, at its own scale.

    Pictures are reduced to ``side`` pixels along the longer side, never enlarged; ``fold``: so many pixels a side
    become channels; the other arguments are `UNet`'s.
    """

    def __init__(
        self, channels: int = 16, multipliers=(1, 2, 2, 2), blocks: int = 1, attention=(), head_channels: int = 16,
        groups: int = 8, fold: int = 2, side: int = 256, *, operations=nn, dtype=None, device=None,
    ):  # fmt: skip
        super().__init__()
        self.fold, self.side = fold, side
        self.unet = UNet(
            (3 + 4 + 2 + 1) * fold**2, 4 * fold**2, channels, multipliers, blocks, attention, head_channels, groups,
            operations=operations, dtype=dtype, device=device,
        )  # fmt: skip

    @property
    def step(self) -> int:
        """Pictures are padded to multiples of this."""
        return self.fold * 2 ** (self.unet.levels - 1)

    def initialise(self, generator: torch.Generator) -> "SparseToDense":
        """Start of a training: the start of `flow` is all there is of it. See `UNet.initialise`."""
        self.unet.initialise(generator)
        return self

    def forward(self, picture: Tensor, hints: Tensor, known: Tensor, fields: Tensor) -> Tensor:
        """What the formula lacks, ``[N, 2, H, W]``, in the unit of ``fields`` and ``hints``; as `flow`, at any size.

        ``fields [N, 4, H, W]``: the formula's motion, and everywhere the vector of the nearest hint. The border is
        repeated up to a multiple of `step`, but no hint is.
        """
        height, width = picture.shape[-2:]
        edges = (0, -width % self.step, 0, -height % self.step)
        seen = F.pad(torch.cat([2 * picture - 1, fields], dim=1), edges, mode="replicate")
        told = F.pad(torch.cat([hints, known.to(hints)], dim=1), edges)
        folded = F.pixel_unshuffle(torch.cat([seen, told], dim=1), self.fold)
        answer = F.pixel_shuffle(self.unet(folded, folded.new_zeros(len(folded))), self.fold)[..., :height, :width]
        shares, free = answer.split(2, dim=1)
        return (shares[:, :, None] * fields.unflatten(1, (2, 2))).sum(1) + free

    def flow(self, picture: Tensor, hints: Tensor, known: Tensor) -> Tensor:
        """``[N, 2, H, W]`` in pixels, for ``picture [N, 3, H, W]`` in 0..1.

        ``hints [N, 2, H, W]`` in pixels, read where ``known``, bool ``[N, 1, H, W]``. The network's unit of length is
        the longest hint of each picture: things move together whatever the time between two frames, and hints twice as
        long make motion twice as long. Where all hints rest, or there is none, everything does.
        """
        check_hints(picture, hints, known)
        size = picture.shape[-2:]
        reduction = max(1.0, max(size) / self.side)
        small = tuple(max(1, round(length / reduction)) for length in size)
        start = classical_start(hints, known)
        seen = _resized(picture, small)
        vectors, there = resized_hints(hints, known, small)
        longest = vectors.norm(dim=1, keepdim=True).amax((2, 3), keepdim=True)
        unit = torch.where(longest > 0, longest, 1.0)
        fields = torch.cat([_resized_flow(start, small), closest(vectors, there)], dim=1)
        lacking = self(seen, vectors / unit, there, fields / unit) * longest
        return start + _resized_flow(lacking, size)


def classical_start(hints: Tensor, known: Tensor) -> Tensor:
    """``[N, 2, H, W]``: the Gaussian densifier of each picture's hints, rest where there are none."""
    return _each(gaussian, hints, known, radius=RADIUS * max(hints.shape[-2:]))


def closest(hints: Tensor, known: Tensor) -> Tensor:
    """``[N, 2, H, W]``: the vector of the nearest hint, however far; rest where there are none."""
    return _each(nearest, hints, known, radius=math.inf)


def _each(densifier, hints: Tensor, known: Tensor, **settings) -> Tensor:
    fields = torch.zeros_like(hints)
    for field, one, there in zip(fields, hints, known, strict=True):
        points, vectors = scattered_hints(one, there)
        if len(points):
            field.copy_(densifier(points, vectors, tuple(hints.shape[-2:]), **settings))
    return fields


def _resized(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear, averaging what is reduced; itself at its own size."""
    return x if x.shape[-2:] == size else F.interpolate(x, size, mode="bilinear", antialias=True)


def _resized_flow(flow: Tensor, size: tuple[int, int]) -> Tensor:
    scale = flow.new_tensor([size[1] / flow.shape[-1], size[0] / flow.shape[-2]])
    return _resized(flow, size) * scale[:, None, None]
