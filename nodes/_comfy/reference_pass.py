"""One call of a host's network: whose rows it has, and an exemplar's features in each of its self-attentions."""

import inspect
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .exemplar import Exemplar
from .reference_blocks import Block
from .reference_hosts import Family, Grid, Site, Turn
from .runs import Run, bound, negatives

OVERRIDE = "optimized_attention_override"  # in transformer_options: asked in the place of each attention, with it
OTHERS = ("patches", "patches_replace", "wrappers", "callbacks", OVERRIDE)  # how packs reach into a network
SEED = 0  # of the noise that exemplars are shown in, the same at every level

Pair = tuple[Tensor, Tensor]  # keys and values [rows or 1, tokens, d] or [rows or 1, heads, tokens, d]


@dataclass(frozen=True, eq=False)
class Branch:
    """A condition, and the rows of a call that are asked under it, one for each picture of the LATENT.

    ``key``: the same for it in every call of a run, None where nothing tells. ``negative``: of CFG.
    """

    rows: slice
    key: tuple | None
    negative: bool


@dataclass(frozen=True, eq=False)
class Part:
    """Rows, and what an exemplar brings to each self-attention of theirs."""

    rows: slice
    features: dict[Site, Pair]

    def behind(self, start: int) -> "Part":
        return Part(slice(start + self.rows.start, start + self.rows.stop), self.features)


class Call:
    """A call of a network as a DIFFUSION_MODEL wrapper sees it, its arguments by name."""

    def __init__(self, executor, args: Sequence, kwargs: dict):
        self.network, self.original = executor.class_obj, executor.original
        self.bound = bound(executor, args, kwargs)
        self.arguments: dict[str, Any] = self.bound.arguments
        self.places = self.options.get("cond_or_uncond") or [0]
        self.pictures = len(self.x) // len(self.places)  # of the LATENT

    @property
    def x(self) -> Tensor:
        return self.arguments["x"]

    @property
    def options(self) -> dict:
        return self.arguments["transformer_options"]

    def branches(self, run: Run) -> list[Branch]:
        """In the order of their rows."""
        keys = self.options.get("uuids") or [None] * len(self.places)
        told = zip(self.places, keys, negatives(run, self.options), strict=True)
        return [
            Branch(slice(i * self.pictures, (i + 1) * self.pictures), None if key is None else (key, place), negative)
            for i, (place, key, negative) in enumerate(told)
        ]

    def whole(self, run: Run) -> bool:
        """Whether it is for all pictures of the LATENT: samplers, and context windows, can ask for some at a time."""
        return self.pictures == run.shape[0]

    def check_whole(self, run: Run, each: str) -> None:
        """ValueError where it is not, for what there is one ``each`` of."""
        if not self.whole(run):
            raise ValueError(
                f"this sampler asks for {self.pictures} of {run.shape[0]} pictures at once, and does not say for "
                f"which, so they cannot have {each} each: give one for all, or ask for all at once (frames_at_once 0)"
            )

    @property
    def time(self) -> str:
        """The argument that says at which level."""
        return "timesteps" if "timesteps" in self.arguments else "timestep"

    def of_rows(self, rows: Tensor, without: Sequence[str]) -> inspect.BoundArguments:
        """Its arguments for these rows alone, less those named and all that other packs put in."""
        total = len(self.x)

        def taken(value):
            if isinstance(value, Tensor):
                return value[rows.to(value.device)] if value.dim() and len(value) == total else value
            if isinstance(value, dict):
                return {name: taken(inner) for name, inner in value.items() if name not in without}
            return [taken(inner) for inner in value] if isinstance(value, list) else value

        arguments = {name: None if name in without else taken(value) for name, value in self.arguments.items()}
        left_out = (*OTHERS, *without)
        arguments["transformer_options"] = {name: it for name, it in self.options.items() if name not in left_out}
        return inspect.BoundArguments(self.bound.signature, arguments)

    def given(self, rows: slice, channels: int, without: Sequence[str]) -> list[Tensor]:
        """What these rows are asked under: all their inputs but those arguments, the level, and what is being made, the
        first ``channels`` of the input."""
        left_out = (*without, "transformer_options", self.time)
        given = _tensors({**self.arguments, "x": self.x[:, channels:]}, left_out)
        return [value[rows] for value in given if value.dim() and len(value) == len(self.x)]


def _alike(given: Sequence[Tensor]) -> bool:
    return all(torch.equal(value, value[:1].expand_as(value)) for value in given)


def _tensors(tree, without: Sequence[str]) -> Iterator[Tensor]:
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, dict | list):
        inner = [it for name, it in tree.items() if name not in without] if isinstance(tree, dict) else tree
        for value in inner:
            yield from _tensors(value, without)


@torch.no_grad()
def observed(
    call: Call, family: Family, blocks: frozenset[Block], exemplar: Exemplar, latent: Tensor, level: Tensor, run: Run,
    branches: Sequence[Branch],
) -> list[list[Part]]:  # fmt: skip
    """The host's own features of an exemplar under each branch; rows of the parts count from the branch's first.

    The bare network, no wrapper or patch of others around it, is shown ``latent [n, c, (1,) h, w]`` (as the MODEL
    scales it) at ``level``, with the conditioning of each row, and once for rows that would be shown the same. Raises
    ValueError for an n that is neither 1 nor the LATENT's batch.
    """
    if len(latent) > 1:
        call.check_whole(run, "an exemplar")
    if len(latent) not in (1, call.pictures):
        raise ValueError(
            f"the exemplar is a batch of {len(latent)} pictures, the LATENT one of {call.pictures}: give one exemplar "
            f"for all, or one for each"
        )
    once = len(latent) == 1 and not family.clips
    alike = [once and _alike(call.given(branch.rows, latent.shape[1], family.own)) for branch in branches]
    counts = [1 if same else call.pictures for same in alike]
    starts = [branch.rows.start for branch in branches]
    rows = torch.cat([torch.arange(start, start + count) for start, count in zip(starts, counts, strict=True)])
    asked = call.of_rows(rows, family.own)
    _show(asked.arguments, call.time, latent[rows % len(latent)], level, run)
    features, grids = _watched(call, family, blocks, asked)
    ends = itertools.accumulate(counts)
    return [
        list(_parts(features, grids, exemplar, slice(end - count, end), call.pictures))
        for end, count in zip(ends, counts, strict=True)
    ]


def _show(arguments: dict[str, Any], time: str, latent: Tensor, level: Tensor, run: Run) -> None:
    """The exemplar in the place of what is being made. Channels joined to that (of inpainting, of a first frame) stay
    as they are, for the first frame, at the exemplar's size."""
    x = arguments["x"]
    noise = torch.randn(latent[:1].shape, generator=torch.Generator().manual_seed(SEED)).expand_as(latent)
    latent, noise, level = (value.to(x.device, torch.float32) for value in (latent, noise, level.flatten()[:1]))
    levels = level.expand(len(latent))
    shown = run.sampling.calculate_input(levels, run.sampling.noise_scaling(levels, noise, latent))
    joined = x[:, shown.shape[1] :]
    if joined.shape[1]:
        first = joined if x.dim() == 4 else joined[:, :, :1]
        shown = torch.cat([shown, F.interpolate(first.float(), shown.shape[2:], mode="nearest-exact")], dim=1)
    arguments |= {"x": shown.to(x.dtype), time: run.sampling.timestep(levels).float()}
    arguments["transformer_options"]["sigmas"] = levels


def _watched(
    call: Call, family: Family, blocks: frozenset[Block], asked: inspect.BoundArguments
) -> tuple[dict[Site, Pair], dict[Site, Grid]]:
    """The keys and values of the self-attentions of ``blocks`` while the bare network is asked, and their tokens."""
    turn, features, grids = Turn(blocks), {}, {}
    x = asked.arguments["x"]

    def watching(attend, q, k, v, *args, **kwargs):
        options = kwargs["transformer_options"]
        if (site := turn.take(family.site(options))) is not None:
            features[site], grids[site] = (k, v), family.grid(call.network, x, options)
        return attend(q, k, v, *args, **kwargs)

    options = {**asked.arguments["transformer_options"], OVERRIDE: watching}
    asked.arguments["transformer_options"] = family.marked(options, turn)
    call.original(*asked.args, **asked.kwargs)
    return features, grids


def _parts(
    features: dict[Site, Pair], grids: dict[Site, Grid], exemplar: Exemplar, rows: slice, pictures: int
) -> Iterator[Part]:
    """Of one branch, which has these rows of the features: its pictures together, or one by one where each exemplar of
    a batch keeps its own tokens."""

    def of(rows: slice, i: int) -> dict[Site, Pair]:
        return {site: _kept(pair, rows, grids[site], exemplar, i) for site, pair in features.items()}

    if exemplar.keep is None or len(exemplar.latent) == 1:
        yield Part(slice(0, pictures), of(rows, 0))
    else:
        for i in range(pictures):
            yield Part(slice(i, i + 1), of(slice(rows.start + i, rows.start + i + 1), i))


def _kept(pair: Pair, rows: slice, grid: Grid, exemplar: Exemplar, picture: int) -> Pair:
    kept, (keys, values) = exemplar.kept(*grid[1:]), (one[rows] for one in pair)
    if kept is None:
        return keys, values
    tokens = kept[picture].flatten().nonzero()[:, 0].to(keys.device)
    return keys.index_select(-2, tokens), values.index_select(-2, tokens)
