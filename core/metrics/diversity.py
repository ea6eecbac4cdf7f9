"""How much answers to one question differ, against how much answers to different questions do."""

from collections.abc import Callable, Sequence
from itertools import combinations, product
from typing import TypeVar

from torch import Tensor

Sample = TypeVar("Sample")  # a picture [3, H, W], or what a network has seen in it
Distance = Callable[[Sample, Sample], float]


def diversity(samples: Sequence[Sample], distance: Distance) -> float:
    """Mean distance over all pairs of ``samples``: of one control and exemplar, by different seeds."""
    pairs = list(combinations(samples, 2))
    if not pairs:
        raise ValueError(f"diversity takes at least two samples, got {len(samples)}")
    return sum(distance(one, other) for one, other in pairs) / len(pairs)


def spread(groups: Sequence[Sequence[Sample]], distance: Distance) -> float:
    """Mean distance between samples of different groups: of one control, a group for each exemplar.

    As large as `diversity` if the exemplar makes no difference, larger if it does.
    """
    between = [distance(*pair) for one, other in combinations(groups, 2) for pair in product(one, other)]
    if not between:
        raise ValueError(f"spread takes at least two groups, got {len(groups)}")
    return sum(between) / len(between)


def root_mean_square(one: Tensor, other: Tensor) -> float:
    """A plain `Distance` of pictures, in their own unit."""
    return (one - other).square().mean().sqrt().item()
