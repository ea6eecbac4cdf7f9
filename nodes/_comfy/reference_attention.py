"""Self-attention of a host with exemplars' tokens beside its own."""

import functools
import math
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from ...core.networks.exemplar_attention import shared
from .images import check_aspect, mask_frames
from .reference_blocks import Block
from .reference_hosts import Family, Grid, Turn
from .reference_pass import OVERRIDE, Call, Part
from .runs import Run


class Acting(Protocol):
    """An exemplar that acts in a call."""

    strength: float
    mask: Tensor | None
    blocks: frozenset[Block]


class JointAttention:
    """What ComfyUI asks in the place of each attention during one call (see ``OVERRIDE``).

    In a self-attention where exemplars act, ``own + sum_i w_i (joint_i - own)``: ``own`` is the answer of whatever was
    asked before (another pack's override, else the host's attention), ``joint_i`` its answer with exemplar i's keys and
    values behind the host's. Where they overlap, ``w`` is `shared`. All other attention passes through.
    """

    def __init__(self, family: Family, call: Call, run: Run, acting: Sequence[tuple[Acting, list[Part]]]):
        self.family, self.call, self.acting = family, call, acting
        self.turn = Turn(frozenset().union(*(exemplar.blocks for exemplar, _ in acting)))
        self.before = call.options.get(OVERRIDE)
        self.weighed: dict[tuple, list[Tensor]] = {}
        for exemplar, _ in acting:
            _check_mask(exemplar.mask, call, run)

    def __call__(self, attend, q: Tensor, k: Tensor, v: Tensor, *args, **kwargs) -> Tensor:
        asked = attend if self.before is None else functools.partial(self.before, attend)
        options = kwargs["transformer_options"]
        site = self.turn.take(self.family.site(options))
        own = asked(q, k, v, *args, **kwargs)
        here = [] if site is None else [each for each in self.acting if site[:2] in each[0].blocks]
        if not here:
            return own
        self._check(q, k, args[1] if len(args) > 1 else kwargs.get("mask"))
        grid = self.family.grid(self.call.network, self.call.x, options)
        out = own.clone()
        for (_, parts), weight in zip(here, self._weights(here, grid, q), strict=True):
            weight = weight.to(own).reshape(len(own), *[1] * (own.dim() - 3), -1, 1)
            for rows, pair in ((part.rows, part.features[site]) for part in parts):
                keys, values = (_behind(there[rows], more) for there, more in zip((k, v), pair, strict=True))
                joint = asked(q[rows], keys, values, *args, **kwargs)
                out[rows] += weight[rows] * (joint - own[rows])
        return out

    def _weights(self, here: Sequence[tuple[Acting, list[Part]]], grid: Grid, q: Tensor) -> list[Tensor]:
        """Of each exemplar, ``[rows, 1 or tokens]``."""
        key = (*(id(exemplar) for exemplar, _ in here), *grid)
        if key not in self.weighed:
            alone = [self._weight(exemplar, parts, grid, q.shape[-2]) for exemplar, parts in here]
            self.weighed[key] = [weight.to(q.device) for weight in shared(alone)]
        return self.weighed[key]

    def _weight(self, exemplar: Acting, parts: list[Part], grid: Grid, tokens: int) -> Tensor:
        """0 in rows that it does not act on."""
        weight = torch.zeros(len(self.call.x), 1)
        for part in parts:
            weight[part.rows] = exemplar.strength
        if exemplar.mask is None:
            return weight
        if math.prod(grid) != tokens:
            raise ValueError(
                f"this MODEL's self-attention has {tokens} tokens, the LATENT {math.prod(grid)}: the exemplar's mask "
                f"does not tell where the others are; leave out the mask, or what adds, merges or regroups tokens"
            )
        frames, *cells = grid
        pooled = F.adaptive_avg_pool2d(mask_frames(exemplar.mask).float()[:, None], cells)
        where = pooled.flatten(1).repeat(1, frames)
        return weight * where[torch.arange(len(weight)) % self.call.pictures % len(where)].to(weight)

    def _check(self, q: Tensor, k: Tensor, mask: Tensor | None) -> None:
        """ValueError for self-attention that another pack made into something else."""
        if len(q) != len(self.call.x) or k.shape[-2] < q.shape[-2] or mask is not None:
            raise ValueError(
                f"another patch on this MODEL changes its self-attention ({list(q.shape)} queries, {list(k.shape)} keys"
                f"{', with a mask' if mask is not None else ''}, for {len(self.call.x)} pictures) in a way that an "
                f"exemplar does not go together with: leave one of them out (HyperTile is one), or this block"
            )


def _behind(own: Tensor, more: Tensor) -> Tensor:
    """An exemplar's tokens behind the picture's own; one row of them serves all."""
    return torch.cat([own, more.expand(*own.shape[:-2], *more.shape[-2:])], dim=-2)


def _check_mask(mask: Tensor | None, call: Call, run: Run) -> None:
    if mask is None:
        return
    frames, cells = mask_frames(mask), tuple(call.x.shape[-2:])
    if len(frames) > 1:
        call.check_whole(run, "a mask of the exemplar")
    if frames.dim() != 3 or len(frames) not in (1, call.pictures):
        raise ValueError(
            f"expected one MASK [height, width] for the exemplar or {call.pictures}, one for each picture of the "
            f"LATENT, got {list(mask.shape)}"
        )
    if cells != tuple(run.shape[-2:]):
        raise ValueError(
            f"the network is asked for a part of the LATENT ({cells[1]} x {cells[0]} of {run.shape[-1]} x "
            f"{run.shape[-2]}), and the exemplar's mask does not tell which: give the CONDITIONING masks in place of "
            f"areas, or leave the exemplar's out"
        )
    check_aspect("mask", tuple(frames.shape[1:]), cells, "crop it first, or draw it on a picture of that shape")
