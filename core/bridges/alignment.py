"""SNR alignment: a bridge state as the input of a diffusion or flow model (FrameBridge section 4.3, Proposition 2).

``z_t - b z_T = a z_0 + c eps`` is what every diffusion host was trained on, up to scale: a signal and a noise in the
ratio ``a : c``. So a host needs only its own two coefficients, ``x = signal z_0 + noise eps``, and no schedule
inversion: find the host's level where ``noise / signal = c / a`` and rescale.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .broadcast import scalars_like
from .process import Bridge

Levels = Callable[[Tensor], tuple[Tensor, Tensor]]


def align_snr(bridge: Bridge, t) -> tuple[Tensor, Tensor]:
    """``(half_log_snr, scale)`` with ``z_tilde = (z_t - b z_T) * scale`` a variance-preserving sample of that SNR.

    ``half_log_snr = log(a/c)``, ``scale = 1/sqrt(a^2 + c^2)``: infinite at T, where the limit is pure noise.
    Source: FrameBridge eq. 24.
    """
    a, _, c = bridge.coefficients(t)
    return bridge.half_log_snr(t), 1 / torch.hypot(a, c)


def variance_exploding_levels(level: Tensor) -> tuple[Tensor, Tensor]:
    """``(signal, noise)`` of eps, v and EDM hosts in k-diffusion's coordinates: ``x = z_0 + sigma eps``."""
    return torch.ones_like(level), level


def flow_levels(level: Tensor) -> tuple[Tensor, Tensor]:
    """``(signal, noise)`` of rectified-flow hosts: ``x = (1 - s) z_0 + s eps``."""
    return 1 - level, level


@dataclass(frozen=True)
class HostInput:
    """What a host is given for a bridge state: ``x = state (z_t - b z_T) + fresh eps`` at ``level``.

    ``fresh`` is not zero only at T, where the state carries no noise yet. ``clamped``: the bridge is noisier here than
    the host's last level; the state's noise is scaled down to it.
    """

    level: Tensor
    state: Tensor
    prior: Tensor
    fresh: Tensor
    clamped: bool

    def input(self, z_t: Tensor, z_T: Tensor, noise: Tensor) -> Tensor:
        """The host's ``x``; ``noise`` is standard normal and used only at T."""
        state, prior, fresh = scalars_like(z_t, self.state, self.prior, self.fresh)
        return state * (z_t - prior * z_T) + fresh * noise


def host_input(bridge: Bridge, t, levels: Levels, level_max: float) -> HostInput:
    """Align a host with coefficients ``levels(level) -> (signal, noise)``, ``noise/signal`` increasing, at time ``t``.

    ``level_max`` is the host's noisiest level; bridge times beyond it are clamped there, with the noise at its right
    size and the faint signal scaled with it.
    Source: FrameBridge Proposition 2.
    """
    t = torch.as_tensor(t, dtype=torch.float64)
    a, b, c = bridge.coefficients(t)
    top = torch.tensor(float(level_max), dtype=torch.float64)
    signal_top, noise_top = levels(top)
    if not (signal_top >= 0 and noise_top > 0):
        raise ValueError(
            f"the host has no level {level_max}: signal {signal_top.item()}, noise {noise_top.item()} there"
        )
    if t == 1:
        return HostInput(top, torch.zeros_like(t), b, noise_top, clamped=False)
    if c * signal_top > noise_top * a:
        return HostInput(top, noise_top / c, b, torch.zeros_like(t), clamped=True)
    level = _level_of(levels, top, a, c)
    signal, noise = levels(level)
    return HostInput(level, torch.hypot(signal, noise) / torch.hypot(a, c), b, torch.zeros_like(t), clamped=False)


def _level_of(levels: Levels, top: Tensor, a: Tensor, c: Tensor) -> Tensor:
    """Bisect for ``noise a = signal c``; relative precision, since levels span many decades."""
    low, high = torch.zeros_like(top), top
    for _ in range(200):
        middle = 0.5 * (low + high)
        if middle in (low, high):
            break
        signal, noise = levels(middle)
        low, high = (middle, high) if noise * a < signal * c else (low, middle)
    return high
