"""Frechet distance between sets of features."""

import torch
from torch import Tensor


def frechet_distance(first: Tensor, second: Tensor) -> float:
    """``|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2))`` of two feature sets ``[n, d]``, in float64.

    The trace of the root is the sum of the roots of the eigenvalues of ``C1 C2``, which are real and not negative.
    Source: Heusel et al. 2017, eq. 6.
    """
    first, second = first.double(), second.double()
    gap = (first.mean(0) - second.mean(0)).square().sum()
    one, two = torch.cov(first.T), torch.cov(second.T)
    roots = torch.linalg.eigvals(one @ two).real.clamp_min(0).sqrt().sum()
    return (gap + one.trace() + two.trace() - 2 * roots).item()
