"""Our small network from a picture and a few vectors to motion everywhere: what moves with which hint.

It says for every hint which pixels go with it, as in interactive segmentation, and for all of the picture what rests;
the vectors themselves pass it by and are blended by these shares. So motion is as long as the hints, there may be any
number of them, and all there is to learn is what belongs together.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..motion.densify.blend import blended
from ..motion.densify.hints import check_hints, resized_hints, scattered_hints
from ..motion.densify.scattered import merged
from ..motion.sampling import pixel_grid
from .initial import start

REACH, RIDGE = 1 / 8, 1 / 10  # shares of the longer side, before training
REST = -1.0  # how likely rest is beside a hint, before training: a hint keeps 73 % of itself
SPOTS = (0.03, 0.12)  # standard deviations of the spots that mark hints, shares of the longer side
ALIKE = 0.25  # of the longest hint: vectors closer than this may be one object's, which turns
MOST = 64  # hints; more are averaged over a grid
MAPS = 3 * len(SPOTS) + 1


class Residual(nn.Module):
    """``x`` and two convolutions of it."""

    def __init__(self, channels: int, groups: int, *, operations, **factory):
        super().__init__()
        self.norm = operations.GroupNorm(groups, channels, **factory)
        self.first = operations.Conv2d(channels, channels, 3, padding=1, **factory)
        self.second = operations.Conv2d(channels, channels, 3, padding=1, **factory)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.silu(self.first(F.silu(self.norm(x)))))


class Looks(nn.Module):
    """The picture without hints ``[N, 3, H, W]`` -> features ``[N, wide, H/4, W/4]`` and looks ``[N, looks, H, W]``."""

    def __init__(self, channels: int, wide: int, looks: int, groups: int, *, operations, **factory):
        super().__init__()
        self.first = operations.Conv2d(3 * 4, channels, 3, padding=1, **factory)
        self.second = operations.Conv2d(channels, wide, 3, stride=2, padding=1, **factory)
        self.third = operations.Conv2d(wide, wide, 3, stride=2, padding=1, **factory)
        self.down = nn.ModuleList(
            Residual(width, groups, operations=operations, **factory) for width in (channels, wide, wide)
        )
        self.up = Residual(wide, groups, operations=operations, **factory)
        self.widened = operations.Conv2d(wide, wide, 1, **factory)
        self.narrowed = operations.Conv2d(wide, channels, 1, **factory)
        self.out = operations.Conv2d(channels, looks * 4, 3, padding=1, **factory)

    def forward(self, picture: Tensor) -> tuple[Tensor, Tensor]:
        fine = self.down[0](self.first(F.pixel_unshuffle(2 * picture - 1, 2)))
        features = self.down[1](self.second(fine))
        features = self.up(features + doubled(self.widened(self.down[2](self.third(features)))))
        return features, F.pixel_shuffle(self.out(F.silu(fine + doubled(self.narrowed(features)))), 2)


class Sought(nn.Module):
    """The looks that each hint seeks, and a bias: ``[M, looks + 1, H/4, W/4]`` for M hints on N pictures."""

    def __init__(self, channels: int, wide: int, looks: int, groups: int, *, operations, **factory):
        super().__init__()
        self.features = operations.Conv2d(wide, channels, 1, **factory)
        self.keys = operations.Conv2d(wide, channels, 1, **factory)
        self.likeness = operations.Conv2d(channels, channels, 1, **factory)
        self.maps = operations.Conv2d(MAPS, channels, 3, padding=1, **factory)
        self.blocks = nn.ModuleList(Residual(channels, groups, operations=operations, **factory) for _ in range(5))
        self.out = operations.Conv2d(channels, looks + 1, 1, **factory)

    def forward(self, features: Tensor, which: Tensor, own: Tensor, maps: Tensor) -> Tensor:
        """``which [M]``: each hint's picture; ``own [M, 1, H/4, W/4]``: where it reads what it lies on; ``maps``."""
        keys = F.normalize(self.keys(features), dim=1)[which]
        key = (keys * own).sum((2, 3), keepdim=True)
        x = self.features(features)[which] + self.likeness(3 * keys * key) + self.maps(maps)
        first, second, deepest, second_up, first_up = self.blocks
        fine = first(x)
        coarse = second(F.avg_pool2d(fine, 2))
        coarse = second_up(coarse + doubled(deepest(F.avg_pool2d(coarse, 2))))
        return self.out(F.silu(first_up(fine + doubled(coarse))))


class SparseToDense(nn.Module):
    """`flow`: picture and hints to flow, of any size. ``forward``: what goes with which hint.

    Pictures are reduced to ``side`` pixels along the longer side, never enlarged. ``channels``: at half the size and
    of each hint; ``wide``: at a quarter; ``looks``: features of each pixel that a hint seeks.
    """

    step = 16  # pictures are padded to multiples of this

    def __init__(
        self, channels: int = 32, wide: int = 48, looks: int = 8, groups: int = 4, side: int = 96,
        *, operations=nn, dtype=None, device=None,
    ):  # fmt: skip
        super().__init__()
        self.side = side
        factory = {"operations": operations, "dtype": dtype, "device": device}
        self.looks = Looks(channels, wide, looks, groups, **factory)
        self.sought = Sought(channels, wide, looks, groups, **factory)
        self.scales = nn.Parameter(torch.tensor([REACH, RIDGE], dtype=dtype, device=device).log())
        self.rest = nn.Parameter(torch.tensor([REST], dtype=dtype, device=device))

    def initialise(self, generator: torch.Generator) -> "SparseToDense":
        """Start of a training: hints share by distance alone; the last layer of every block zero, the rest Xavier."""
        with torch.no_grad():
            self.scales.copy_(torch.tensor([REACH, RIDGE]).log())
            self.rest.fill_(REST)
        start(self, generator, {Residual: lambda m: m.second})
        nn.init.zeros_(self.sought.out.weight)
        return self

    def forward(self, picture: Tensor, points: Sequence[Tensor], vectors: Sequence[Tensor]) -> list[Tensor]:
        """The shares ``[K, H, W]`` of each picture's K hints; what they lack to 1 rests.

        ``picture [N, 3, H, W]``; of each, ``points [K, 2]`` in pixels and ``vectors [K, 2]`` in units of the longest.
        """
        height, width = picture.shape[-2:]
        longer = max(height, width)
        padded = F.pad(picture, (0, -width % self.step, 0, -height % self.step), mode="replicate")
        features, looks = self.looks(padded)
        marks = [marked(*one, features.shape[-2:], longer) for one in zip(points, vectors, strict=True)]
        own, maps = (torch.cat(parts) for parts in zip(*marks, strict=True))
        counts = [len(one) + 1 for one in points]
        which = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts)).to(picture.device)
        sought = F.interpolate(self.sought(features, which, own, maps), scale_factor=4, mode="bilinear")
        reach = self.scales[0].exp().to(picture) * longer
        shares = []
        for seen, wanted, places in zip(looks, sought.split(counts), points, strict=True):
            likeness = torch.einsum("chw,kchw->khw", seen, wanted[:, :-1]) + wanted[:, -1]
            likeness = likeness[:, :height, :width]
            nearness = -squared_distances(places, (height, width)) / (2 * reach**2)
            shares.append(torch.cat([likeness[:1] + self.rest.to(seen), likeness[1:] + nearness]).softmax(0)[1:])
        return shares

    def flow(self, picture: Tensor, hints: Tensor, known: Tensor) -> Tensor:
        """``[N, 2, H, W]`` in pixels, for ``picture [N, 3, H, W]`` in 0..1.

        ``hints [N, 2, H, W]`` in pixels, read where ``known``, bool ``[N, 1, H, W]``. The unit of length is the longest
        hint of each picture: hints twice as long make motion twice as long. Where all hints rest, or there is none,
        everything does. More than 64 hints are averaged over the cells of a grid (`merged`).
        """
        return self.shared(picture, hints, known)[0]

    def shared(self, picture: Tensor, hints: Tensor, known: Tensor) -> tuple[Tensor, list[Tensor]]:
        """`flow`, and the shares of each picture's hints at the size that it is worked on; see `forward`."""
        check_hints(picture, hints, known)
        size = picture.shape[-2:]
        reduction = max(1.0, max(size) / self.side)
        small = tuple(max(1, round(length / reduction)) for length in size)
        given = [few(*scattered_hints(*one)) for one in zip(*resized_hints(hints, known, small), strict=True)]
        points, vectors = zip(*given, strict=True)
        units = [longest(one) for one in vectors]
        shares = self(_resized(picture, small), points, [one / unit for one, unit in zip(vectors, units, strict=True)])
        ridge = self.scales[1].exp().to(picture) * max(small)
        fields = [blended(*one, ridge) for one in zip(shares, points, vectors, strict=True)]
        return _resized_flow(torch.stack(fields), size), shares


def few(points: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
    """At most `MOST` hints ``[K, 2]`` in place of any number."""
    if len(points) <= MOST:
        return points, vectors
    return tuple(one.to(points) for one in merged(points, vectors, MOST))


def longest(vectors: Tensor) -> Tensor:
    """The length of the longest of ``[K, 2]``, 1 where nothing moves."""
    length = vectors.norm(dim=1).amax() if len(vectors) else vectors.new_zeros(())
    return torch.where(length > 0, length, torch.ones_like(length))


def marked(points: Tensor, vectors: Tensor, size: tuple[int, int], longer: int) -> tuple[Tensor, Tensor]:
    """What rests, and K hints, on a grid of every fourth pixel -> ``own [1 + K, 1, h, w]``, ``[1 + K, MAPS, h, w]``.

    ``own``: shares of the pixels that a hint lies on, in sum 1. The maps: spots where the hint is, where others are
    that move like it and where others that do not, and its speed in the unit of the vectors. What rests is a hint that
    is nowhere. ``longer``: the picture's longer side.
    """
    squares = squared_distances(points, size, stride=4)
    spots = torch.stack([torch.exp(-squares / (2 * (width * longer) ** 2)) for width in SPOTS], 1)
    spots = torch.cat([spots.new_zeros(1, *spots.shape[1:]), spots])
    vectors = torch.cat([vectors.new_zeros(1, 2), vectors])
    alike = torch.exp(-(vectors[:, None] - vectors).square().sum(-1) / (2 * ALIKE**2))
    other = 1 - torch.eye(len(vectors), device=vectors.device)
    with_it, against_it = (torch.einsum("kj,jchw->kchw", other * one, spots) for one in (alike, 1 - alike))
    speed = vectors.norm(dim=1)[:, None, None, None].expand(-1, 1, *size)
    near = torch.exp(-squares / (2 * 2.0**2))  # the grid's neighbours
    own = torch.cat([near.new_zeros(1, *size), near / near.sum((1, 2), keepdim=True)])[:, None]
    return own, torch.cat([spots, with_it.clamp(max=2), against_it.clamp(max=2), speed], 1)


def squared_distances(points: Tensor, size: tuple[int, int], stride: int = 1) -> Tensor:
    """``[K, h, w]``: pixels squared from each of ``points [K, 2]`` to the middle of each ``stride x stride`` pixels."""
    grid = pixel_grid(*size, points.device) * stride + (stride - 1) / 2
    return (grid - points[:, :, None, None]).square().sum(1)


def doubled(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="nearest")


def _resized(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear, averaging what is reduced; itself at its own size."""
    return x if x.shape[-2:] == size else F.interpolate(x, size, mode="bilinear", antialias=True)


def _resized_flow(flow: Tensor, size: tuple[int, int]) -> Tensor:
    scale = flow.new_tensor([size[1] / flow.shape[-1], size[0] / flow.shape[-2]])
    return _resized(flow, size) * scale[:, None, None]
