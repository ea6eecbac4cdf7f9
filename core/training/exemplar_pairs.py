"""Triples to learn exemplar-guided translation from, and those out of single photographs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from ..controls import COCOSNET_CANNY, canny
from .restoration import Crops

# photographs [n, 3, h, w] in 0..1 -> control images [n, 1 or 3, h, w] in 0..1 (controls.py)
PhotoControl = Callable[[Tensor], Tensor]
CONTROLS: dict[str, PhotoControl] = {"canny": canny, "canny-cocosnet": partial(canny, **COCOSNET_CANNY)}


@dataclass(frozen=True, eq=False)
class Triples:
    """What is asked for, the answer, and what the answer should look like: each ``[n, 3, h, w]`` in -1..1."""

    control: Tensor
    photo: Tensor
    exemplar: Tensor


@dataclass(frozen=True, eq=False)
class PictureCrops:
    """Two crops of one picture at one scale, the second the exemplar of the first; each mirrored at random.

    ``pictures``: uint8 ``[3, h, w]``; several levels of a `restoration.pyramid` in the list give several scales.
    Raises ValueError for a picture that leaves no room for two different crops.
    """

    pictures: Sequence[Tensor]
    size: int

    def __post_init__(self):
        tight = [tuple(p.shape) for p in self.pictures if min(p.shape[1:]) < self.size or max(p.shape[1:]) == self.size]
        if tight or not self.pictures:
            raise ValueError(
                f"two crops of {self.size} pixels need pictures of at least this size and larger on one side, "
                f"got {tight[:3] or 'no pictures'}"
            )

    def sample(self, count: int, generator: torch.Generator, control: PhotoControl) -> Triples:
        """Every picture is as likely, and every two places in it."""
        which = torch.randint(len(self.pictures), (count,), generator=generator).tolist()
        crops = torch.stack([Crops([self.pictures[n]], self.size).sample(2, generator) for n in which])
        photos, exemplars = crops.unbind(1)
        return Triples(2 * control((photos + 1) / 2).expand_as(photos) - 1, photos, exemplars)
