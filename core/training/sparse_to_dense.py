"""Training of networks that make a few vectors dense: hints as people draw them, from motion that is known exactly."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from ..motion.sampling import pixel_grid
from .worlds import LayeredWorld

MOST = 8  # tracks
PINNED = 0.5  # share of the tracks after the first that lie on what does not move, or moves with the ground
ALL = 0.5  # share of scenes in which someone aims at all objects, not at one
LEAST = 1e-4  # share: less is as wrong as that
RIM = 2  # pixels: nobody aims closer to an outline


class Worlds(Protocol):
    """Random worlds, as `core.training.motion_clips.PhotoWorlds`."""

    def draw(self, generator: torch.Generator) -> LayeredWorld: ...


@dataclass(frozen=True, eq=False)
class HintedScenes:
    """``picture [N, 3, H, W]`` in 0..1, ``hints [N, 2, H, W]`` where ``known``, bool ``[N, 1, H, W]``, and ``flow``.

    All in pixels. ``flow [N, 2, H, W]`` is the motion that the hints were read from, for what they were read from: a
    layer that no hint lies on moves with the ground, as if painted on it, and the ground rests if it has no hint. So
    there is one answer to the hints, and it is what someone means who draws nothing there. ``layer [N, H, W]``, int64:
    what each pixel goes with, a hinted object (above 0), the hinted ground (0), or nothing, it rests (-1).
    """

    picture: Tensor
    hints: Tensor
    known: Tensor
    flow: Tensor
    layer: Tensor

    @property
    def objects(self) -> Tensor:
        """bool ``[N, H, W]``: all of what a hint lies on, but the ground."""
        return self.layer > 0

    @classmethod
    def draw(cls, worlds: Worlds, count: int, generator: torch.Generator) -> "HintedScenes":
        """The first frames of ``count`` worlds and their motion to the second."""
        return Scenes.draw(worlds, count, generator).hinted(range(count), generator)


@dataclass(frozen=True, eq=False)
class Scenes:
    """Scenes before anyone draws on them, stored small: hints are drawn anew each time.

    ``picture`` uint8 ``[N, 3, H, W]``; ``layer`` uint8 ``[N, H, W]``, 0 the ground; ``flow`` and ``ground`` float16
    ``[N, 2, H, W]``: the motion in pixels, and what it were if all went with the ground.
    """

    picture: Tensor
    layer: Tensor
    flow: Tensor
    ground: Tensor

    def __len__(self) -> int:
        return len(self.picture)

    @classmethod
    def draw(cls, worlds: Worlds, count: int, generator: torch.Generator) -> "Scenes":
        """The first frames of ``count`` worlds and their motion to the second."""
        scenes = [cls._one(worlds.draw(generator)) for _ in range(count)]
        return cls(*(torch.stack(parts) for parts in zip(*scenes, strict=True)))

    @staticmethod
    def _one(world: LayeredWorld) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        top = world.visible(pixel_grid(world.height, world.width, dtype=torch.float64), 0)
        picture = (world.frame(0) * 255).round().byte()
        ground = replace(world, layers=world.layers[:1]).flow(0, 1)
        return picture, top.byte(), world.flow(0, 1).half(), ground.half()

    def hinted(self, which: Iterable[int], generator: torch.Generator, turned: bool = False) -> HintedScenes:
        """The scenes ``which`` with new hints; ``turned``: each in one of the eight positions of a square."""
        scenes = [self._hinted(int(n), generator, turned) for n in which]
        return HintedScenes(*(torch.stack(parts) for parts in zip(*scenes, strict=True)))

    def _hinted(self, n: int, generator: torch.Generator, turned: bool) -> tuple[Tensor, ...]:
        picture, layer = self.picture[n] / 255, self.layer[n]
        flow, ground = self.flow[n].float(), self.ground[n].float()
        if turned:
            mirror, flip, swap = (torch.rand(3, generator=generator) < 0.5).tolist()
            picture, layer = (_turned(one, mirror, flip, swap) for one in (picture, layer))
            flow, ground = (_turned_flow(one, mirror, flip, swap) for one in (flow, ground))
        hints, known = draw_hints(flow, _aimed_at(layer, generator), generator)
        told = torch.bincount(layer[known[0]], minlength=int(layer.max()) + 1) > 0
        hinted = told[layer.long()]
        goes_with = torch.where(hinted, layer.long(), int(told[0]) - 1)
        return picture, hints, known, torch.where(hinted, flow, ground * told[0]), goes_with


def draw_hints(
    flow: Tensor, moving: Tensor | None, generator: torch.Generator, most: int = MOST
) -> tuple[Tensor, Tensor]:
    """1 to ``most`` vectors of ``flow [2, H, W]`` at random pixels -> (``[2, H, W]``, known bool ``[1, H, W]``).

    The first lies on what moves, ``moving`` bool ``[H, W]``, each other one there or elsewhere, as likely; all at least
    2 pixels inside where there is room. ``moving`` None: what is faster than half the fastest pixel. A place that is
    missing (nothing moves, or everything) leaves its tracks to the other.
    """
    if moving is None:
        speed = flow.norm(dim=0)
        moving = speed > speed.max() / 2
    count = 1 + int(torch.randint(most, (), generator=generator))
    pins = int((torch.rand(count - 1, generator=generator) < PINNED).sum())
    pins = count if not moving.any() else 0 if moving.all() else pins
    chosen = torch.cat([_somewhere(moving, count - pins, generator), _somewhere(~moving, pins, generator)])
    known = torch.zeros(moving.numel(), dtype=torch.bool).index_fill_(0, chosen, True).view(1, *moving.shape)
    return flow * known, known


def sparse_to_dense_loss(flow: Tensor, target: Tensor, softness: float = 0.1) -> Tensor:
    """The mean endpoint error of ``flow [N, 2, H, W]``, pixels, squared below about ``softness`` (Charbonnier).

    Its minimum is the median of what may be: where an outline is unclear, one side's motion and not half of both.
    """
    return ((flow - target).square().sum(1) + softness**2).sqrt().mean() - softness


def belonging_loss(shares: Sequence[Tensor], layer: Tensor, known: Tensor) -> Tensor:
    """Cross-entropy of each picture's ``shares [K, H, W]`` of its K hints, in the order of the pixels they lie on.

    The hints on what a pixel goes with, ``layer [N, H, W]`` as in `HintedScenes`, ought to have it all between them, or
    what rests. It teaches also where little moves, and as much of slow objects as of fast ones.
    """
    total = layer.new_zeros((), dtype=torch.float32)
    for share, goes_with, there in zip(shares, layer, known, strict=True):
        right = (share * (goes_with[there[0]][:, None, None] == goes_with)).sum(0)
        right = torch.where(goes_with < 0, 1 - share.sum(0), right)
        total = total - right.clamp(min=LEAST).log().mean()
    return total / len(shares)


def endpoint_error(flow: Tensor, target: Tensor) -> Tensor:
    """``[N]``: the mean distance in pixels between the vectors of two fields ``[N, 2, H, W]``."""
    return (flow - target).norm(dim=1).mean((1, 2))


def _aimed_at(layer: Tensor, generator: torch.Generator) -> Tensor:
    """bool ``[H, W]``: all objects, or as often one alone."""
    seen = layer[layer > 0].unique()
    if not len(seen) or torch.rand((), generator=generator) < ALL:
        return layer > 0
    return layer == seen[torch.randint(len(seen), (), generator=generator)]


def _turned(x: Tensor, mirror: bool, flip: bool, swap: bool) -> Tensor:
    """``[..., H, W]`` mirrored left to right, upside down, rows for columns."""
    x = x.flip([-1] * mirror + [-2] * flip)
    return x.mT if swap else x


def _turned_flow(flow: Tensor, mirror: bool, flip: bool, swap: bool) -> Tensor:
    """`_turned`, and the vectors ``[2, H, W]`` with the picture."""
    flow = _turned(flow, mirror, flip, swap) * flow.new_tensor([1 - 2 * mirror, 1 - 2 * flip])[:, None, None]
    return flow.flip(0) if swap else flow


def _somewhere(mask: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """The flat indices of up to ``count`` random pixels inside ``mask``."""
    outside = F.max_pool2d((~mask)[None].float(), 2 * RIM + 1, stride=1, padding=RIM)[0] > 0
    inner = mask & ~outside
    index = (inner if inner.any() else mask).flatten().nonzero()[:, 0]
    return index[torch.randperm(len(index), generator=generator)[:count]]
