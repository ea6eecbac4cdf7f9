"""Distributions and dynamics of a bridge: marginal, posterior, score, drift.

Notation as in ``process.py``. Everything is written from ``(a, b, c)``, ``alpha`` and ``rho``; nothing here knows which
process it is.
"""

import torch
from torch import Tensor

from .broadcast import scalars_like
from .process import Bridge
from .steps import step_weights


def marginal(bridge: Bridge, z_0: Tensor, z_T: Tensor, t) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of ``z_t`` given both ends; ``t`` scalar or [batch]. Source: FrameBridge eq. 12."""
    a, b, c = scalars_like(z_0, *bridge.coefficients(t))
    return a * z_0 + b * z_T, c


def posterior(bridge: Bridge, z_s: Tensor, z_0: Tensor, z_T: Tensor, s, t) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of ``z_t`` given ``z_s`` (t < s) and both ends. Source: DDBM; DBIM eq. 9, eta = 1."""
    weights = step_weights(bridge, s, t, eta=1.0)
    k, x0, x_T, std = scalars_like(z_s, weights.state, weights.data, weights.prior, weights.std)
    return k * z_s + x0 * z_0 + x_T * z_T, std


def score(bridge: Bridge, z_t: Tensor, z_0: Tensor, z_T: Tensor, t) -> Tensor:
    """``grad log p(z_t | z_0, z_T)``; with ``z_0`` the denoiser's prediction, the score of the bridge.

    Not finite at the ends, where the law is a point. Source: FrameBridge eq. 19.
    """
    mean, std = marginal(bridge, z_0, z_T, t)
    return (mean - z_t) / std.square()


def host_rates(bridge: Bridge, t) -> tuple[Tensor, Tensor]:
    """``(f, g^2)`` of the unpinned ``dz = f z dt + g dw``: ``f = d log alpha/dt``, ``g^2 = alpha^2 d rho^2/dt``."""
    t = torch.as_tensor(t, dtype=torch.float64)
    with torch.inference_mode(False), torch.enable_grad():
        variable = t.detach().clone().requires_grad_(True)
        f = _derivative(bridge.log_alpha(variable), variable)
        d_var = _derivative(bridge.var_ratio(variable), variable)
    return f, bridge.alpha(t) ** 2 * d_var


def _derivative(value: Tensor, variable: Tensor) -> Tensor:
    if not value.requires_grad:  # constant, as log alpha = 0
        return torch.zeros_like(variable)
    (gradient,) = torch.autograd.grad(value.sum(), variable, allow_unused=True)
    return torch.zeros_like(variable) if gradient is None else gradient.detach()


def pull(bridge: Bridge, z_t: Tensor, z_T: Tensor, t) -> Tensor:
    """``h = grad log p(z_T | z_t)``, Doob's transform towards the prior. Infinite at T. Source: FrameBridge eqs. 4, 13.

    ``z_T | z_t ~ N((alpha_T/alpha_t) z_t, alpha_T^2 (rho_T^2 - rho_t^2))``. The gradient printed in eq. 15 has the
    opposite sign and lacks the inner ``alpha_T/alpha_t``; this is the gradient of eq. 13.
    """
    t = torch.as_tensor(t, dtype=torch.float64)
    ratio = bridge.alpha(torch.ones_like(t)) / bridge.alpha(t)
    var = bridge.alpha(torch.ones_like(t)) ** 2 * bridge.var_ahead(t)
    ratio, var = scalars_like(z_t, ratio, var)
    return ratio * (z_T - ratio * z_t) / var


def drift(bridge: Bridge, z_t: Tensor, z_T: Tensor, t) -> Tensor:
    """Drift of the forward bridge SDE, ``f z + g^2 h``. Source: FrameBridge eq. 4."""
    f, var_rate = scalars_like(z_t, *host_rates(bridge, t))
    return f * z_t + var_rate * pull(bridge, z_t, z_T, t)


def reverse_drift(bridge: Bridge, z_t: Tensor, z_0: Tensor, z_T: Tensor, t, noise_share: float = 1.0) -> Tensor:
    """Drift (in increasing ``t``) of the backward SDE, or of the ODE with ``noise_share = 0``.

    ``f z - g^2 ((1 + noise_share)/2 s - h)`` with score ``s``; the diffusion is ``g sqrt(noise_share)``.
    Source: FrameBridge eq. 5 (noise share 1); DDBM's probability-flow ODE (0).
    """
    f, var_rate = scalars_like(z_t, *host_rates(bridge, t))
    s = score(bridge, z_t, z_0, z_T, t)
    return f * z_t - var_rate * (0.5 * (1 + noise_share) * s - pull(bridge, z_t, z_T, t))
