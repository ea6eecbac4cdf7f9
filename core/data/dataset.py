"""Prepared clips as training data: lazily mapped latents, and batches in an order that follows from seed and step."""

import hashlib
import math
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from .shards import Clip, Index, read_index

OPEN_SHARDS = 1024  # mapped at once: half a megabyte each at most, no file descriptors, 1 of 65,530 maps of a process
Shape = tuple[int, ...]


class LatentDataset:
    """The clips of a folder that `prepare` or `write_dataset` wrote; tensors are read when asked for.

    ``dataset[i]`` is a dict of

    - ``latent`` float32 ``[c, f, h, w]``: raw latents of the VAE, of an image VAE one for each frame; in pixel space
      the frames themselves, -1..1
    - ``first`` uint8 ``[3, H, W]``: the first frame
    - ``forward, backward`` float32 ``[F - 1, 2, h, w]`` of the clip's F frames, in pixels (x, y) of their own grid
    - ``mask`` bool ``[f - 1, 2, h, w]``: which cells the cycle test trusts on the way from a latent frame to the next,
      and back (`trusted_cells`); it was made where the flow was estimated, not on this grid
    - ``context [tokens, width]``, ``pooled [width]`` float32: the caption through the text encoders
    - ``caption`` str, ``class`` int, ``path`` str (of the source, relative)

    and lacks what was not prepared or is not known. ``buckets``: shape of the latents -> the clips of that shape.
    May be sent to other processes.
    """

    def __init__(self, folder: Path, index: Index):
        self.folder, self.index = Path(folder), index
        self.buckets = _buckets(index.clips)
        self._map = lru_cache(OPEN_SHARDS)(_opened)

    @classmethod
    def open(cls, folder: Path | str) -> "LatentDataset":
        """Raises FileNotFoundError for a folder without an index or a shard, ValueError for a set without clips."""
        folder = Path(folder)
        index = read_index(folder)
        if not index.clips:
            raise ValueError(f"{folder} holds no clips; {len(index.skipped)} were skipped, {_reasons(index)}")
        for shard in sorted({clip.shard for clip in index.clips}):
            if not (folder / shard).is_file():
                raise FileNotFoundError(f"{folder / shard} is missing: prepare the data again, it goes on from there")
        return cls(folder, index)

    def __len__(self) -> int:
        return len(self.index.clips)

    def __getitem__(self, i: int) -> dict[str, Any]:
        clip = self.index.clips[i]
        said = {"caption": clip.caption, "class": clip.label, "path": clip.path}
        return {name: self.tensor(i, name) for name in clip.tensors} | {k: v for k, v in said.items() if v is not None}

    def __getstate__(self) -> dict:
        return {"folder": self.folder, "index": self.index}

    def __setstate__(self, state: dict) -> None:
        self.__init__(**state)

    def tensor(self, i: int, name: str) -> Tensor:
        """One tensor of one clip; floating point as float32. Raises KeyError naming what the clip has."""
        value = self.stored(i, name)
        return value.float() if value.is_floating_point() else value

    def stored(self, i: int, name: str) -> Tensor:
        """`tensor` in the type it has on the disk."""
        clip = self.index.clips[i]
        if name not in clip.tensors:
            raise KeyError(f"{clip.path} was prepared without {name!r}; it has {', '.join(clip.tensors)}")
        return self._map(self.folder / clip.shard).get_tensor(clip.tensors[name])

    def order(self, batch: int, seed: int) -> "Order":
        return Order(list(self.buckets.values()), batch, seed)

    @property
    def largest(self) -> int:
        """A clip than whose latents none are larger."""
        return int(self.buckets[max(self.buckets, key=math.prod)][0])

    def batch(self, indices: Sequence[int] | Tensor, names: Sequence[str] = ("latent",)) -> dict[str, Tensor]:
        """``names`` of the clips, stacked ``[n, ...]``; ``class`` int64 ``[n]``.

        Raises ValueError for tensors of several shapes, KeyError for what a clip does not have.
        """
        rows = [int(i) for i in indices]
        return {name: self._labels(rows) if name == "class" else self._stacked(rows, name) for name in names}

    def _stacked(self, rows: list[int], name: str) -> Tensor:
        tensors = [self.tensor(i, name) for i in rows]
        shapes = sorted({tuple(tensor.shape) for tensor in tensors})
        if len(shapes) > 1:
            raise ValueError(f"{name} of these clips is of several shapes, {shapes}: batch clips of one bucket")
        return torch.stack(tensors)

    def _labels(self, rows: list[int]) -> Tensor:
        labels = [self.index.clips[i].label for i in rows]
        if None in labels:
            path = self.index.clips[rows[labels.index(None)]].path
            raise KeyError(f"{path} has no class: prepare a folder with one subfolder for each class")
        return torch.tensor(labels, dtype=torch.int64)


class Order:
    """Which clips make the batch of a step: ``rows(step)``, a pure function of the seed and the step.

    An epoch shows every clip of every bucket once, in an order of its own. A batch is of one bucket; the last of a
    bucket is filled up with clips of it again, from the front of its order. Since nothing is remembered, a run resumes
    anywhere, and every process of many finds the same batch.
    """

    def __init__(self, buckets: Sequence[Tensor], batch: int, seed: int):
        if batch < 1:
            raise ValueError(f"a batch has at least one clip, got {batch}")
        self.buckets, self.batch, self.seed = list(buckets), batch, seed
        self.steps = sum(-(-len(bucket) // batch) for bucket in self.buckets)  # of an epoch
        self._epoch = lru_cache(2)(self._shuffled)

    def rows(self, step: int) -> Tensor:
        """int64 ``[batch]``"""
        if step < 0:
            raise ValueError(f"steps count from 0, got {step}")
        epoch, within = divmod(step, self.steps)
        return self._epoch(epoch)[within]

    def first_with(self, clip: int) -> int:
        """The first step that shows this clip."""
        return int((self._epoch(0) == clip).any(1).nonzero()[0])

    def _shuffled(self, epoch: int) -> Tensor:
        """The batches ``[steps, batch]`` of an epoch."""
        generator = torch.Generator().manual_seed(seed_of(self.seed, epoch))
        batches = []
        for bucket in self.buckets:
            shuffled = bucket[torch.randperm(len(bucket), generator=generator)]
            count = -(-len(bucket) // self.batch)
            again = -(-count * self.batch // len(bucket))
            batches.append(shuffled.repeat(again)[: count * self.batch].view(count, self.batch))
        whole = torch.cat(batches)
        return whole[torch.randperm(len(whole), generator=generator)]


def seed_of(*parts: int | str) -> int:
    """A seed for a generator out of several numbers: neighbouring ones give unrelated seeds."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:7], "big")


def _opened(path: Path):
    return safe_open(path, framework="pt")


def _buckets(clips: Sequence[Clip]) -> dict[Shape, Tensor]:
    found: dict[Shape, list[int]] = {}
    for i, clip in enumerate(clips):
        found.setdefault(clip.shapes["latent"], []).append(i)
    return {shape: torch.tensor(found[shape]) for shape in sorted(found)}


def _reasons(index: Index) -> str:
    shown = "; ".join(f"{one.path}: {one.why}" for one in index.skipped[:3])
    return f"the first: {shown}" if shown else "and none were found"
