"""Exemplar attention: a picture being made attends to itself and to an exemplar that is not aligned with it."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

Weight = float | Tensor  # a number, or a map [n or 1, 1, h, w] (h and w may be 1: a number for each picture)


@dataclass(frozen=True, eq=False)
class Memory:
    """What an exemplar brings to one attention: ``keys, values [n, heads, l, d]``; ``keep``: bool ``[n, l]``, or all.

    Time does not enter it, so one does for all steps.
    """

    keys: Tensor
    values: Tensor
    keep: Tensor | None = None


class ExemplarAttention(nn.Module):
    """Self-attention over the picture beside the exemplar, of which the picture's half is kept (EBDM eq. 6).

    ``F_in = [F_1; F_2]`` (exemplar and picture along the width), ``q, k, v`` are 1x1 convolutions of it, and
    ``F_EA = W softmax(q k^T / sqrt(d)) v + F_in``. Only rows of the picture's half are forwarded, so only its queries
    are computed: the same numbers at half the work. ``d`` is the width of a head (the paper prints the root of V).
    Each half is normalised by itself, which the paper leaves open: an exemplar's keys then do not depend on the
    picture, and are computed once. ``W`` starts at zero: a new module is the identity.
    """

    def __init__(self, channels: int, heads: int, groups: int = 32, *, operations=nn, dtype=None, device=None):
        super().__init__()
        layers = {"dtype": dtype, "device": device}
        self.heads = heads
        self.norm = operations.GroupNorm(groups, channels, **layers)
        self.q = operations.Conv2d(channels, channels, 1, **layers)
        self.k = operations.Conv2d(channels, channels, 1, **layers)
        self.v = operations.Conv2d(channels, channels, 1, **layers)
        self.proj = operations.Conv2d(channels, channels, 1, **layers)
        nn.init.zeros_(self.proj.weight)
        nn.init.zeros_(self.proj.bias)

    def remember(self, features: Tensor, keep: Tensor | None = None) -> Memory:
        """Of an exemplar's ``features [n, c, h, w]``; ``keep``: bool ``[n, h', w']``, the part of it that counts.

        A cell of the features counts if at least half of its pixels do, and where none does, those with the most: all
        of them for a ``keep`` of nothing. The norm is of the whole exemplar.
        """
        normed = self.norm(features)
        kept = None if keep is None else kept_cells(keep, *features.shape[2:]).flatten(1)
        return Memory(self._split(self.k(normed)), self._split(self.v(normed)), kept)

    def forward(self, x: Tensor, memory: Memory, weight: Weight = 1.0) -> Tensor:
        """``x [n, c, h, w]``; a memory of one exemplar serves all n pictures, one of n serves each its own."""
        return x + resized(weight, x) * self.addition(x, memory)

    def addition(self, x: Tensor, memory: Memory) -> Tensor:
        """``W softmax(...) v``: what is added to ``x``."""
        normed = self.norm(x)
        keys, values = (
            torch.cat([self._split(own), held.to(x).expand(len(x), -1, -1, -1)], dim=2)
            for own, held in ((self.k(normed), memory.keys), (self.v(normed), memory.values))
        )
        allowed = None
        if memory.keep is not None:  # beside all of the picture itself
            allowed = F.pad(memory.keep.to(x.device), (x[0, 0].numel(), 0), value=True)[:, None, None]
        attended = F.scaled_dot_product_attention(self._split(self.q(normed)), keys, values, attn_mask=allowed)
        return self.proj(rearrange(attended, "n heads (h w) d -> n (heads d) h w", h=x.shape[2]))

    def _split(self, x: Tensor) -> Tensor:
        # Dense along d, as the fused kernels of processors ask for: a training step takes a sixth less.
        return rearrange(x, "n (heads d) h w -> n heads (h w) d", heads=self.heads).contiguous()


def resized(weight: Weight, like: Tensor) -> Weight:
    """A map as means over the cells of ``like [n, c, h, w]``; numbers, and one number for each picture, stay.

    A tensor comes back in the type and on the device of ``like``.
    """
    if not isinstance(weight, Tensor):
        return weight
    weight = weight.to(like)
    fits = weight.shape[-2:] in ((), (1, 1), like.shape[-2:])
    return weight if fits else F.adaptive_avg_pool2d(weight, like.shape[-2:])


def shared(weights: Sequence[Weight]) -> list[Weight]:
    """Where exemplars overlap they share the strongest one's weight in proportion: ``w_i max_j w_j / sum_j w_j``.

    One exemplar, and exemplars with disjoint maps, keep what they have; two equal ones get half each.
    """
    if len(weights) < 2:
        return list(weights)
    given = [torch.as_tensor(weight) for weight in weights]
    maps = [weight.to(given[-1].device, torch.float32) for weight in given]
    strongest = maps[0]
    for weight in maps[1:]:
        strongest = torch.maximum(strongest, weight)
    share = torch.where(strongest > 0, strongest / sum(maps).clamp_min(torch.finfo(torch.float32).tiny), 0.0)
    return [weight * share for weight in maps]


def kept_cells(keep: Tensor, height: int, width: int) -> Tensor:
    """``keep``, bool ``[n, H, W]``, in cells ``[n, height, width]``, never none: those of which at least half is kept;
    where there is none, those of which the most is."""
    share = F.adaptive_avg_pool2d(keep[:, None].float(), (height, width))[:, 0]
    return share >= share.amax((-2, -1), keepdim=True).clamp_max(0.5)
