"""A plain diffusion with a bridge's interface: the bridge whose prior is never reached (``b = 0``)."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .process import checked_time


@dataclass(frozen=True)
class CosineDiffusion:
    """``alpha = cos(pi t/2)``, ``sigma = sin(pi t/2)``: the variance-preserving schedule of the small diffusion hosts."""

    kind: str = "cosine-diffusion"

    def alpha(self, t) -> Tensor:
        return torch.sin((1 - checked_time(t)) * (math.pi / 2))

    def sigma(self, t) -> Tensor:
        return torch.sin(checked_time(t) * (math.pi / 2))

    def coefficients(self, t) -> tuple[Tensor, Tensor, Tensor]:
        """``(alpha, 0, sigma)``: ``z_t = alpha z_0 + sigma eps``."""
        alpha = self.alpha(t)
        return alpha, torch.zeros_like(alpha), self.sigma(t)
