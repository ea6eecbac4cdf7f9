"""Training losses. Each is written in ``z_0``, so that processes and networks share one line and differ by a weight."""

from collections.abc import Callable

import torch
from torch import Tensor

from ..bridges.broadcast import scalars_like
from ..bridges.process import Bridge

Weight = Callable[[Bridge, Tensor], Tensor]


def psi_weight(bridge: Bridge, t: Tensor) -> Tensor:
    """``alpha^2 / sigma^2``: makes the loss in ``z_0`` FrameBridge's eq. 6, the loss on ``(z_t - alpha z_0)/sigma``."""
    return bridge.rho(t).square().reciprocal()


def uniform_weight(bridge: Bridge, t: Tensor) -> Tensor:
    """One at every time: eq. 6 reweighted by the noise-to-signal ratio ``sigma^2 / alpha^2``."""
    return torch.ones_like(t)


def step_weight(steps: int) -> Weight:
    """EBDM eq. 7's ``c_eps,t``, scaled to mean 1: ``1 / (H m)`` at ``m = n/steps``, ``H = 1 + 1/2 + ... + 1/steps``.

    The weight is how far one step of the sampler moves along the predicted residual. With ``deltahat_n = delta_n -
    delta_(n-1) (1 - m_n)^2 / (1 - m_(n-1))^2`` and ``delta = 2 s m (1 - m)`` it is

        c = (1 - m_(n-1)) deltahat_n / delta_n = (1 - m_(n-1)) - m_(n-1) (1 - m_n) / m_n = (m_n - m_(n-1)) / m_n = 1/n,

    exactly, whatever the variance ``s``; at ``n = steps``, where ``delta`` vanishes, it is the limit. For a Brownian
    bridge, then, and for no other process.

    A constant factor leaves AdamW's steps as they are, but not the clipping of gradients: as it stands, with mean
    ``H/steps`` (0.0075 at 1000), the gradients would stay far below the usual clip norm of 1. Hence the mean of 1.
    """
    harmonic = sum(1 / n for n in range(1, steps + 1))
    return lambda bridge, t: 1 / (harmonic * t)


def draw_times(count: int, steps: int, generator: torch.Generator) -> Tensor:
    """``n / steps``, float64 ``[count]``, with ``n`` uniform on ``1..steps`` (EBDM algorithm 1)."""
    return torch.randint(1, steps + 1, (count,), generator=generator, device=generator.device).double() / steps


def draw_between(count: int, generator: torch.Generator) -> Tensor:
    """Float64 ``[count]``, uniform on (0, 1) but for its very ends, where a state is one of the two it lies between."""
    return torch.rand(count, generator=generator, dtype=torch.float64).clamp(1e-3, 1 - 1e-6)


def draw_bridge(bridge: Bridge, z_0: Tensor, z_T: Tensor, t: Tensor, eps: Tensor) -> Tensor:
    """``z_t = a z_0 + b z_T + c eps`` at one time per clip (FrameBridge eq. 12)."""
    a, b, c = scalars_like(z_0, *bridge.coefficients(t))
    return a * z_0 + b * z_T + c * eps


def z0_loss(prediction: Tensor, z_0: Tensor, weight: Tensor) -> Tensor:
    """Mean over the batch of ``weight [b]`` times the mean squared error of each clip."""
    per_clip = (prediction - z_0).square().flatten(1).mean(1)
    return (weight.to(per_clip) * per_clip).mean()


def drop_condition(y: Tensor, classes: int, share: float, generator: torch.Generator) -> Tensor:
    """Replace a ``share`` of the classes by the null class ``classes`` (classifier-free guidance)."""
    dropped = torch.rand(y.shape, generator=generator) < share
    return torch.where(dropped.to(y.device), torch.full_like(y, classes), y)
