"""A plain diffusion with a bridge's interface: the bridge whose prior is never reached (``b = 0``)."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .process import checked_time


@dataclass(frozen=True)
class CosineDiffusion:
    """``alpha = cos(pi t/2)``, ``sigma = sin(pi t/2)``: the variance-preserving schedule of the small hosts."""

    kind: str = "cosine-diffusion"

    def alpha(self, t) -> Tensor:
        return torch.sin((1 - checked_time(t)) * (math.pi / 2))

    def sigma(self, t) -> Tensor:
        return torch.sin(checked_time(t) * (math.pi / 2))

    def coefficients(self, t) -> tuple[Tensor, Tensor, Tensor]:
        """``(alpha, 0, sigma)``: ``z_t = alpha z_0 + sigma eps``."""
        alpha = self.alpha(t)
        return alpha, torch.zeros_like(alpha), self.sigma(t)


def sample_diffusion(
    denoiser, noise: Tensor, times: Tensor, process: CosineDiffusion, eta: float, noise_sampler
) -> Tensor:
    """Ancestral (``eta = 1``) or DDIM (``eta = 0``) sampling from ``noise``; one call of ``denoiser(z, t)`` a step.

    ``times`` descend from 1 and end in 0; the last step returns ``z0_hat``.
    Source: DDIM eqs. 12 and 16, in alpha, sigma.
    """
    z = noise
    for s, t in zip(times[:-1], times[1:], strict=True):
        z0_hat = denoiser(z, s)
        if t == 0:
            return z0_hat
        alpha_s, _, sigma_s = process.coefficients(s)
        alpha_t, _, sigma_t = process.coefficients(t)
        std = eta * sigma_t / sigma_s * (1 - (alpha_s / alpha_t) ** 2).sqrt()
        eps = (z - alpha_s.to(z) * z0_hat) / sigma_s.to(z)
        z = alpha_t.to(z) * z0_hat + (sigma_t**2 - std**2).sqrt().to(z) * eps
        if eta > 0:
            z = z + std.to(z) * noise_sampler(s, t)
    raise ValueError("times must end in 0")
