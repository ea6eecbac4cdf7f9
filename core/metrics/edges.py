"""Whether a picture has its edges where they were asked for."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True, eq=False)
class EdgeScores:
    """``precision``: share of the found edge pixels that were wanted; ``recall``: of the wanted ones found. ``[N]``."""

    precision: Tensor
    recall: Tensor

    @property
    def f1(self) -> Tensor:
        """The harmonic mean; 0 where nothing agrees."""
        both = self.precision + self.recall
        return torch.where(both > 0, 2 * self.precision * self.recall / both, both)


def edge_scores(found: Tensor, wanted: Tensor, tolerance: int = 1) -> EdgeScores:
    """Of binary maps ``found, wanted [N, 1, H, W]``, bool: a pixel agrees if the other map has one near it.

    Near: within ``tolerance`` pixels in x and in y, so within 3 x 3 for 1. Many pixels may agree with the same one, so
    thick or doubled edges cost little and dense maps agree by chance: compare with the score of another picture's
    edges. Of an empty map all pixels agree (Martin, Fowlkes and Malik 2004 match one to one; that is dearer, and as
    strict only for thin edges).
    """
    if found.dtype != torch.bool or wanted.dtype != torch.bool or found.shape != wanted.shape or found.dim() != 4:
        raise ValueError(
            f"expected two bool maps alike [N,1,H,W], got {found.dtype} {list(found.shape)} and "
            f"{wanted.dtype} {list(wanted.shape)}"
        )
    return EdgeScores(_agreeing(found, wanted, tolerance), _agreeing(wanted, found, tolerance))


def _agreeing(one: Tensor, other: Tensor, tolerance: int) -> Tensor:
    near = F.max_pool2d(other.float(), 2 * tolerance + 1, stride=1, padding=tolerance) > 0
    count = one.flatten(1).sum(1)
    hits = (one & near).flatten(1).sum(1)
    return torch.where(count > 0, hits / count.clamp(min=1), 1.0)
