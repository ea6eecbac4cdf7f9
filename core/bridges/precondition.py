"""How ``z_t`` and ``t`` enter a network: ``input = p z_t + r z_T`` and a timestep, both functions of time."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from . import host_levels
from .broadcast import scalars_like
from .parameterisation import ddbm_scalings
from .process import Bridge


@dataclass(frozen=True)
class Precondition:
    """``weights(bridge, t) -> (p, r)``; ``timestep(bridge, t)`` is what the network's time embedding is given."""

    name: str
    weights: Callable[[Bridge, Tensor], tuple[Tensor, Tensor]]
    timestep: Callable[[Bridge, Tensor], Tensor]

    def vanishes(self, t: Tensor, bridge: Bridge) -> bool:
        """Whether nothing of ``z_t`` and ``z_T`` enters at the time ``t`` (a scalar)."""
        return t.dim() == 0 and not any(self.weights(bridge, t))

    def input(self, z_t: Tensor, z_T: Tensor, t, bridge: Bridge) -> Tensor:
        p, r = scalars_like(z_t, *self.weights(bridge, torch.as_tensor(t, dtype=torch.float64)))
        return p * z_t + r * z_T


def _raw(bridge: Bridge, t: Tensor):
    return torch.ones_like(t), torch.zeros_like(t)


def _unit_noise(bridge: Bridge, t: Tensor):
    _, _, c = bridge.coefficients(t)
    return (1 + c**2).rsqrt(), torch.zeros_like(t)


def _aligned(bridge: Bridge, t: Tensor):
    """SAF: ``(z_t - b z_T) / sqrt(a^2 + c^2)`` (FrameBridge eq. 24); at T, where it is 0/0, its caller gives noise."""
    a, b, c = bridge.coefficients(t)
    scale = 1 / torch.hypot(a, c).clamp_min(torch.finfo(torch.float64).tiny)
    scale = torch.where(t < 1, scale, torch.zeros_like(scale))
    return scale, -b * scale


def aligned_to(name: str, angles: Callable[[], Tensor]) -> Precondition:
    """SAF for a host with a list of levels (`host_levels`): FrameBridge eq. 24 and Proposition 2.

    Beyond the host's last level the noise keeps its right size there and the faint signal is scaled with it, as in
    `alignment.host_input`; at T, where nothing of the state enters, its caller gives noise.
    """

    def weights(bridge: Bridge, t: Tensor):
        _, b, c = bridge.coefficients(t)
        scale, _ = _aligned(bridge, t)
        top = angles()[-1].to(t.device)
        scale = torch.where((_angle(bridge, t) > top) & (t < 1), top.sin() / c, scale)
        return scale, -b * scale

    def timestep(bridge: Bridge, t: Tensor):
        return host_levels.index_of(angles().to(t.device), _angle(bridge, t))

    return Precondition(name, weights, timestep)


def _angle(bridge: Bridge, t: Tensor) -> Tensor:
    """``atan2(c, a)``, 0 at the data; at T, where both vanish, its limit pi/2."""
    a, _, c = bridge.coefficients(t)
    return torch.where(t < 1, torch.atan2(c, a), torch.full_like(c, math.pi / 2))


def _cosine_time(bridge: Bridge, t: Tensor) -> Tensor:
    """1000 times the time at which ``alpha = cos(pi t/2), sigma = sin(pi t/2)`` has the SNR ``a^2/c^2``."""
    return 1000 * (_angle(bridge, t) * (2 / math.pi))


def ddbm_precondition(std_data: float = 0.5, std_end: float = 0.5, covariance: float = 0.0) -> Precondition:
    """DDBM's ``c_in`` and ``c_noise = 250 log t`` (its appendix A.5). ``t = 0`` is never evaluated."""

    def weights(bridge: Bridge, t: Tensor):
        return ddbm_scalings(bridge, t, std_data, std_end, covariance)[2], torch.zeros_like(t)

    return Precondition("ddbm", weights, lambda bridge, t: 250 * t.log())


PRECONDITIONS: dict[str, Precondition] = {
    # FrameBridge's released models: z_t as it is, t_i = (i + 1)/1001 enters as the index i
    "frame_index": Precondition("frame_index", _raw, lambda bridge, t: 1001 * t - 1),
    # BBDM's released models: index i of m = linspace(0.001, 0.999, 1000), the share of the prior in z_t's mean
    "bbdm_index": Precondition("bbdm_index", _raw, lambda bridge, t: (t - 0.001) * (999 / 0.998)),
    # the small models of this project: noise scaled to at most unit variance
    "unit_noise": Precondition("unit_noise", _unit_noise, lambda bridge, t: 1000 * t),
    # SAF for a host trained with the cosine schedule
    "aligned_cosine": Precondition("aligned_cosine", _aligned, _cosine_time),
    # SAF for CogVideoX-2B, and for Stable Diffusion 1, 2 and XL
    "aligned_cogvideox": aligned_to("aligned_cogvideox", host_levels.cogvideox),
    "aligned_stable_diffusion": aligned_to("aligned_stable_diffusion", host_levels.stable_diffusion),
    "raw": Precondition("raw", _raw, lambda bridge, t: 1000 * t),
    "ddbm": ddbm_precondition(),
}
