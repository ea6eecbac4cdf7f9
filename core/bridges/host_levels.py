"""Noise levels of released diffusion hosts, as what SNR alignment asks of them.

A variance-preserving host is a list of angles: at index ``i`` its input is ``cos(angle_i) z_0 + sin(angle_i) eps``. So
is an aligned bridge state, ``(z_t - b z_T) / sqrt(a^2 + c^2)``, at the angle ``atan2(c, a)``; alignment is looking that
angle up. Angles stay finite where the signal vanishes, so a schedule with zero terminal SNR needs no special case.
"""

from functools import lru_cache

import torch
from torch import Tensor


def scaled_linear(
    beta_start: float = 0.00085, beta_end: float = 0.012, steps: int = 1000, shift: float = 1.0,
    zero_terminal: bool = False,
) -> Tensor:  # fmt: skip
    """Angles, float64 ``[steps]``, of Stable Diffusion's schedule: ``sqrt(beta)`` linear (Rombach et al. 2022).

    ``shift`` divides the SNR; ``zero_terminal`` then makes the last level pure noise, shifting and scaling
    ``sqrt(alpha_bar)`` with its first value held (Lin et al. 2024, algorithm 1).
    """
    betas = torch.linspace(beta_start**0.5, beta_end**0.5, steps, dtype=torch.float64).square()
    alpha_bar = torch.cumprod(1 - betas, 0)
    alpha_bar = alpha_bar / (shift + (1 - shift) * alpha_bar)
    signal = alpha_bar.sqrt()
    if zero_terminal:
        signal = (signal - signal[-1]) * (signal[0] / (signal[0] - signal[-1]))
    return torch.atan2((1 - signal.square()).sqrt(), signal)


@lru_cache
def stable_diffusion() -> Tensor:
    """Stable Diffusion 1, 2 and XL."""
    return scaled_linear()


@lru_cache
def cogvideox() -> Tensor:
    """CogVideoX-2B: SNR divided by 3, the last level pure noise (its released scheduler's settings)."""
    return scaled_linear(shift=3.0, zero_terminal=True)


def index_of(angles: Tensor, angle: Tensor) -> Tensor:
    """The (fractional) index at which a host has ``angle``: linear in between.

    States cleaner than the host's first level are told index 0 and noisier ones its last: it was trained on no others.
    """
    right = torch.searchsorted(angles, angle.contiguous()).clamp(1, len(angles) - 1)
    low, high = angles[right - 1], angles[right]
    return right - 1 + ((angle - low) / (high - low)).clamp(0, 1)
