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
