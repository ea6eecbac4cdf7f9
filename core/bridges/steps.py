"""One step of a bridge sampler, s -> t with t < s, as four scalars and, for the higher orders, two more.

    z_t = state z_s + data z0_hat + prior z_T + std eps

Notation: DBIM (Zheng et al. 2024), whose own code calls a what we call b. With ``r = rho_t^2 / rho_s^2`` everything is
a product of terms that do not cancel: ``c_t^2 - std^2 = sigma_t^2 ((1 - eta^2)(1 - r) + r (1 - m_s))``.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from .process import Bridge, checked_time


@dataclass(frozen=True)
class StepWeights:
    """float64 scalars (or [batch]) multiplying the state, the predicted data, the prior and fresh noise."""

    state: Tensor
    data: Tensor
    prior: Tensor
    std: Tensor


def step_weights(bridge: Bridge, s, t, eta: float) -> StepWeights:
    """The first-order step. ``eta = 1``: the SDE step of Bridge-TTS/FrameBridge; ``eta = 0``: its ODE.

    From T, where ``c = 0``, every ``eta`` gives the boot step (``eta = 1``): the ODE cannot leave T by itself. To 0 it
    gives ``z0_hat``.

    Source: DBIM eq. 9 and algorithm 1; FrameBridge section 4.1. Raises ValueError unless t < s and 0 <= eta <= 1.
    """
    s, t = checked_time(s), checked_time(t)
    if not bool((t < s).all()):
        raise ValueError(f"a step goes down in time, got from {s.tolist()} to {t.tolist()}")
    if not 0 <= eta <= 1:
        raise ValueError(f"eta lies in [0, 1] (0: ODE, 1: SDE), got {eta}")
    a_s, b_s, _ = bridge.coefficients(s)
    a_t, b_t, _ = bridge.coefficients(t)
    _, rest_s = bridge.snr_share(s)
    var_eta = torch.where(rest_s > 0, torch.full_like(rest_s, eta * eta), torch.ones_like(rest_s))
    r = bridge.var_ratio(t) / bridge.var_ratio(s)
    gone = _share_gone(bridge, s, t)
    left = torch.where(rest_s > 0, (1 - var_eta) * gone / rest_s, torch.zeros_like(gone))
    state = bridge.sigma(t) / bridge.sigma(s) * (left + r).sqrt()
    std = bridge.sigma(t) * (var_eta * gone).sqrt()
    return StepWeights(state, a_t - state * a_s, b_t - state * b_s, std)


def _share_gone(bridge: Bridge, s: Tensor, t: Tensor) -> Tensor:
    """``1 - rho_t^2 / rho_s^2``, from whichever of ``rho^2`` and ``rho_T^2 - rho^2`` is small: neither end cancels."""
    past, ahead = bridge.var_ratio(s), bridge.var_ahead(s)
    return torch.where(past < ahead, past - bridge.var_ratio(t), bridge.var_ahead(t) - ahead) / past


def multistep_weights(bridge: Bridge, s, t, history: list[Tensor]) -> tuple[StepWeights, list[Tensor]]:
    """The ODE step with ``z0_hat`` extrapolated along ``lambda = log(a/c)`` through earlier evaluations.

    ``history`` holds the times of earlier evaluations, newest first, one for order 2 and two for order 3. Returns the
    weights of state and prior (``data`` is the weight of the prediction at ``s``) and those of the earlier predictions.

    With ``h = lambda_t - lambda_s`` the exact step is ``z_t = (c_t/c_s) z_s + (b_t - (c_t/c_s) b_s) z_T +
    c_t int e^lambda z0_hat dlambda``; the polynomial through the predictions is integrated exactly.

    Source: DBIM section 4.3, algorithms 2 and 3. Raises ValueError if an evaluation lies at T, where lambda is -inf.
    """
    s, t = checked_time(s), checked_time(t)
    nodes = [bridge.half_log_snr(x) for x in (s, *history)]
    if not all(bool(torch.isfinite(node)) for node in nodes):
        raise ValueError("higher orders need evaluations strictly between 0 and T")
    _, b_s, c_s = bridge.coefficients(s)
    a_t, b_t, c_t = bridge.coefficients(t)
    h = bridge.half_log_snr(t) - nodes[0]
    moments = exponential_moments(h, len(nodes))
    weights = [a_t * w for w in _lagrange_integrals(nodes, moments)]
    state = c_t / c_s
    return StepWeights(state, weights[0], b_t - state * b_s, torch.zeros_like(state)), weights[1:]


def exponential_moments(h: Tensor, count: int) -> list[Tensor]:
    """``M_k = int_0^h e^(x - h) x^k dx``, k < count <= 3: ``1 - e^-h``, ``h - M_0``, ``h^2 - 2 M_1``.

    Small ``h`` would cancel, so there the series ``M_k = k! sum_{j > k} (-1)^(j-k-1) h^j / j!`` is used.
    """
    exact = [-torch.expm1(-h)]
    for k in range(1, count):
        exact.append(h**k - k * exact[-1])
    return [torch.where(h.abs() < 0.05, _moment_series(h, k), exact[k]) for k in range(count)]


def _moment_series(h: Tensor, k: int) -> Tensor:
    term = h ** (k + 1) / (k + 1)
    total = torch.zeros_like(h)
    for j in range(k + 1, k + 11):
        total = total + term
        term = -term * h / (j + 1)
    return total


def _lagrange_integrals(nodes: list[Tensor], moments: list[Tensor]) -> list[Tensor]:
    """Integrals of ``e^(x-h)`` times each Lagrange polynomial through ``nodes`` (x measured from the first node)."""
    offsets = [node - nodes[0] for node in nodes]
    if len(nodes) == 1:
        return moments[:1]
    if len(nodes) == 2:
        slope = moments[1] / offsets[1]
        return [moments[0] - slope, slope]
    p, q = offsets[1], offsets[2]
    at_p = (moments[2] - q * moments[1]) / (p * (p - q))
    at_q = (moments[2] - p * moments[1]) / (q * (q - p))
    return [moments[0] - at_p - at_q, at_p, at_q]


def bbdm_step_weights(bridge: Bridge, s, t, eta: float) -> StepWeights:
    """BBDM's own step: the mean belongs to ``eta = 1`` whatever ``eta`` is, only the noise is scaled by it.

    So ``eta < 1`` is not DDIM-consistent (it loses variance); kept because its checkpoints were sampled like this.
    Source: BBDM eq. 14 and its released sampler.
    """
    full = step_weights(bridge, s, t, 1.0)
    return StepWeights(full.state, full.data, full.prior, eta * full.std)
