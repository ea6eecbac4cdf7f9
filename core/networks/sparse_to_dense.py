"""Our small network from a picture and a few vectors to motion everywhere: a U-Net that corrects a formula.

The formula is a densifier of `core.motion.densify`, which knows nothing of the picture. The network is shown what the
formula makes of the hints and adds what it lacks; before any training that is nothing.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..motion.densify.gaussian import gaussian
from ..motion.densify.hints import check_hints, resized_hints, scattered_hints
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
            (3 + 2 + 1 + 2) * fold**2, 2 * fold**2, channels, multipliers, blocks, attention, head_channels, groups,
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

    def forward(self, picture: Tensor, hints: Tensor, known: Tensor, start: Tensor) -> Tensor:
        """What ``start [N, 2, H, W]`` lacks, in the unit of ``start`` and ``hints``; as `flow`, at any size.

        The border is repeated up to a multiple of `step`, but no hint is.
        """
        height, width = picture.shape[-2:]
        edges = (0, -width % self.step, 0, -height % self.step)
        seen = F.pad(torch.cat([2 * picture - 1, start], dim=1), edges, mode="replicate")
        told = F.pad(torch.cat([hints, known.to(hints)], dim=1), edges)
        folded = F.pixel_unshuffle(torch.cat([seen, told], dim=1), self.fold)
        lacking = self.unet(folded, folded.new_zeros(len(folded)))
        return F.pixel_shuffle(lacking, self.fold)[..., :height, :width]

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
        lacking = self(seen, vectors / unit, there, _resized_flow(start, small) / unit) * longest
        return start + _resized_flow(lacking, size)


def classical_start(hints: Tensor, known: Tensor) -> Tensor:
    """``[N, 2, H, W]``: the Gaussian densifier of each picture's hints, rest where there are none."""
    size = tuple(hints.shape[-2:])
    fields = []
    for one, there in zip(hints, known, strict=True):
        points, vectors = scattered_hints(one, there)
        made = gaussian(points, vectors, size, RADIUS * max(size)) if len(points) else torch.zeros_like(one)
        fields.append(made.to(hints))
    return torch.stack(fields)


def _resized(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear, averaging what is reduced; itself at its own size."""
    return x if x.shape[-2:] == size else F.interpolate(x, size, mode="bilinear", antialias=True)


def _resized_flow(flow: Tensor, size: tuple[int, int]) -> Tensor:
    scale = flow.new_tensor([size[1] / flow.shape[-1], size[0] / flow.shape[-2]])
    return _resized(flow, size) * scale[:, None, None]
