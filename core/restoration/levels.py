"""Noise levels to sample at."""

import torch
from torch import Tensor


def karras_levels(highest: float, lowest: float, steps: int, rho: float = 7.0) -> Tensor:
    """``[steps + 1]``, float64: from ``highest`` to ``lowest``, even in their rho-th root, then 0.

    Karras et al. 2022 (EDM), eq. 5.
    """
    share = torch.linspace(0, 1, steps, dtype=torch.float64)
    root = highest ** (1 / rho) + share * (lowest ** (1 / rho) - highest ** (1 / rho))
    return torch.cat([root**rho, share.new_zeros(1)])
