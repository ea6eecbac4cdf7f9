"""Marginals, posteriors, score and drifts against conditioning of Gaussians, autograd and the moment equations."""

import pytest
import torch
from torch import Tensor

from aqueduct.core.bridges import Bridge, drift, marginal, posterior, pull, reverse_drift, score
from aqueduct.core.bridges.laws import host_rates
from aqueduct.tests.unit.oracles import BRIDGES

TIMES = [0.05, 0.3, 0.5, 0.8, 0.97]
PAIRS = [(0.9, 0.2), (0.6, 0.55), (0.3, 0.01), (1.0, 0.4), (0.99, 0.95)]
z_0, z_T, z_t = (torch.tensor([value], dtype=torch.float64) for value in (0.7, -1.3, 0.4))

pytestmark = pytest.mark.parametrize("bridge", BRIDGES.values(), ids=BRIDGES)


def pinned(bridge: Bridge, t: float, known: dict[float, float]) -> tuple[float, float]:
    """Mean and std of the *unpinned* diffusion at ``t`` from ``z_0``, conditioned on its values at other times.

    Independent of eq. 12: only ``Cov(z_s, z_t) = alpha_s alpha_t rho_min^2`` and the Schur complement are used.
    """
    times = torch.tensor([t, *known], dtype=torch.float64)
    alpha, var = bridge.alpha(times), bridge.rho(times).square()
    cov = torch.outer(alpha, alpha) * torch.minimum(var[:, None], var[None])
    mean = alpha * z_0
    gain = torch.linalg.solve(cov[1:, 1:], cov[1:, 0])
    values = torch.tensor(list(known.values()), dtype=torch.float64)
    return (mean[0] + gain @ (values - mean[1:])).item(), (cov[0, 0] - gain @ cov[1:, 0]).clamp_min(0).sqrt().item()


@pytest.mark.parametrize("t", TIMES)
def test_marginal_is_the_conditioned_diffusion(bridge, t):
    """Oracle: the Gaussian ``z_t | z_0`` conditioned on ``z_T``."""
    mean, std = marginal(bridge, z_0, z_T, t)
    assert (mean.item(), std.item()) == pytest.approx(pinned(bridge, t, {1.0: z_T.item()}), rel=1e-9)


@pytest.mark.parametrize(("s", "t"), PAIRS)
def test_posterior_is_the_conditioned_diffusion(bridge, s, t):
    """Oracle: the Gaussian ``z_t | z_0`` conditioned on ``z_s`` and ``z_T``; no Markov property is assumed."""
    z_s = z_T if s == 1 else torch.tensor([0.25], dtype=torch.float64)
    mean, std = posterior(bridge, z_s, z_0, z_T, s, t)
    assert (mean.item(), std.item()) == pytest.approx(pinned(bridge, t, {s: z_s.item(), 1.0: z_T.item()}), rel=1e-7)


@pytest.mark.parametrize(("s", "t"), PAIRS)
def test_chapman_kolmogorov(bridge, s, t):
    """Marginal at s, then posterior to t, is the marginal at t: means by tower rule, variances by total variance."""
    mean_s, std_s = marginal(bridge, z_0, z_T, s)
    mean, std = posterior(bridge, mean_s, z_0, z_T, s, t)
    slope = posterior(bridge, mean_s + 1, z_0, z_T, s, t)[0] - mean
    expected_mean, expected_std = marginal(bridge, z_0, z_T, t)
    torch.testing.assert_close(mean, expected_mean, rtol=1e-12, atol=1e-14)
    var = (slope * std_s) ** 2 + std**2
    torch.testing.assert_close(var, (expected_std**2).expand(1), rtol=1e-12, atol=0)


def gradient(log_density, at: Tensor) -> Tensor:
    at = at.clone().requires_grad_(True)
    return torch.autograd.grad(log_density(at).sum(), at)[0]


@pytest.mark.parametrize("t", TIMES)
def test_score_and_pull_are_gradients_of_log_densities(bridge, t):
    """Oracle: autograd of the densities of eqs. 11 and 13. (The paper's eq. 15 has the pull's sign reversed.)"""
    end = torch.ones((), dtype=torch.float64)
    mean, std = marginal(bridge, z_0, z_T, t)
    ratio = bridge.alpha(end) / bridge.alpha(t)
    left = (bridge.sigma(end) ** 2 - ratio**2 * bridge.sigma(t) ** 2).sqrt()
    expected = gradient(lambda z: torch.distributions.Normal(mean, std).log_prob(z), z_t)
    torch.testing.assert_close(score(bridge, z_t, z_0, z_T, t), expected, rtol=1e-10, atol=0)
    expected = gradient(lambda z: torch.distributions.Normal(ratio * z, left).log_prob(z_T), z_t)
    torch.testing.assert_close(pull(bridge, z_t, z_T, t), expected, rtol=1e-10, atol=0)


@pytest.mark.parametrize("t", TIMES)
def test_proposition_1(bridge, t):
    """Oracle: eq. 16, the score written with ``psi = (z_t - alpha z_0)/sigma``."""
    end = torch.ones((), dtype=torch.float64)
    alpha, sigma = bridge.alpha(t), bridge.sigma(t)
    ratio = (bridge.alpha(end) / bridge.sigma(end) / (alpha / sigma)) ** 2
    psi = (z_t - alpha * z_0) / sigma
    expected = -psi / sigma - ratio * (z_t - alpha / bridge.alpha(end) * z_T) / (sigma**2 * (1 - ratio))
    torch.testing.assert_close(score(bridge, z_t, z_0, z_T, t), expected, rtol=1e-10, atol=0)


def rate_of(function, t: float, step: float = 1e-4) -> Tensor:
    """Central difference of fourth order."""
    near, far = (function(t + h) - function(t - h) for h in (step, 2 * step))
    return (8 * near - far) / (12 * step)


@pytest.mark.parametrize("t", [0.2, 0.4, 0.7, 0.9])
def test_drifts_move_the_moments(bridge, t):
    """The linear SDE ``dz = (j z + k) dt + g dw`` must move the marginal's mean and variance as eq. 12 says:

    ``mean' = j mean + k`` and ``var' = 2 j var + g^2`` forward (eq. 4), ``- noise_share g^2`` backward (eq. 5; 0: ODE).
    """
    f, var_rate = host_rates(bridge, t)
    log_alpha_rate = rate_of(lambda x: bridge.alpha(x).log(), t)
    torch.testing.assert_close(f, log_alpha_rate, rtol=1e-6, atol=1e-10)
    expected = bridge.alpha(t) ** 2 * rate_of(lambda x: bridge.rho(x) ** 2, t)
    torch.testing.assert_close(var_rate, expected, rtol=1e-6, atol=0)

    mean, std = marginal(bridge, z_0, z_T, t)
    mean_rate = rate_of(lambda x: marginal(bridge, z_0, z_T, x)[0], t)
    spread_rate = rate_of(lambda x: marginal(bridge, z_0, z_T, x)[1] ** 2, t)
    flows = [(lambda z: drift(bridge, z, z_T, t), var_rate)]
    for share in (0.0, 0.3, 1.0):
        flows.append((lambda z, share=share: reverse_drift(bridge, z, z_0, z_T, t, share), -share * var_rate))
    for flow, noise in flows:
        slope = flow(mean + 0.5) - flow(mean - 0.5)
        torch.testing.assert_close(flow(mean), mean_rate, rtol=1e-6, atol=1e-9)
        torch.testing.assert_close(2 * slope * std**2 + noise, spread_rate.expand(1), rtol=1e-6, atol=1e-9)


def test_one_time_per_item_and_inference_mode(bridge):
    """A batch of times is the loop over it; the rates need autograd and get it inside ``inference_mode`` too."""
    times = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    data, prior, state = torch.randn(3, 3, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    laws = {
        "score": lambda i, t: score(bridge, state[i], data[i], prior[i], t),
        "pull": lambda i, t: pull(bridge, state[i], prior[i], t),
        "drift": lambda i, t: drift(bridge, state[i], prior[i], t),
        "reverse": lambda i, t: reverse_drift(bridge, state[i], data[i], prior[i], t),
        "posterior": lambda i, t: posterior(bridge, state[i], data[i], prior[i], t, t / 2)[0],
    }
    with torch.inference_mode():
        for name, law in laws.items():
            looped = torch.cat([law(slice(i, i + 1), times[i]) for i in range(3)])
            torch.testing.assert_close(law(slice(None), times), looped, rtol=1e-14, atol=0, msg=name)
    with pytest.raises(ValueError, match=r"one per batch item; got shape \[2\] for a batch of 3"):
        marginal(bridge, data, prior, times[:2])
