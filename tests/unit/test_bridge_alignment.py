"""SNR alignment as a statement about distributions: what a host is given has the law it was trained on."""

import math

import pytest
import torch

from aqueduct.core.bridges import (
    PRECONDITIONS,
    align_snr,
    brownian,
    flow_levels,
    host_input,
    sample_bridge,
    time_of_half_log_snr,
    variance_exploding_levels,
)
from aqueduct.core.bridges.diffusion import CosineDiffusion
from aqueduct.tests.unit.oracles import APART, BRIDGES, TWO_MODES, Mixture, assert_law, assert_seen_law, draws

ERROR_RATE = 1e-4  # of false alarms, for each statistical test below as a whole


def cosine_levels(level):
    """A variance-preserving host by its own time: ``(cos, sin)(pi t/2)``."""
    alpha, _, sigma = CosineDiffusion().coefficients(level)
    return alpha, sigma


HOSTS = {
    "cosine": (cosine_levels, 1.0),
    "variance exploding": (variance_exploding_levels, 80.0),
    "flow": (flow_levels, 1.0),
}
every_bridge = pytest.mark.parametrize("bridge", BRIDGES.values(), ids=BRIDGES)
every_host = pytest.mark.parametrize(("levels", "level_max"), HOSTS.values(), ids=HOSTS)


def joint(law: Mixture, count: int, seed: int):
    """``(z_0, z_T)`` that depend on each other: ``z_0`` from the mixture given ``z_T``, and the generator."""
    z_T, generator = draws(count, seed)
    return law.sample(z_T, generator), z_T, generator


@every_host
@every_bridge
def test_proposition_2(bridge, levels, level_max):
    """Oracle: the host's forward marginal ``signal z_0 + noise eps``, given the same ``z_T``, as a closed-form mixture.

    KS of the aligned state against it at four times.
    """
    z_0, z_T, generator = joint(TWO_MODES, 4000, seed=4)
    inner = [time_of_half_log_snr(bridge, torch.tensor(value)).item() for value in (-3.0, -0.5, 1.0, 2.5)]
    each = ERROR_RATE / (4 * len(BRIDGES) * len(HOSTS))
    for t in inner:
        a, b, c = bridge.coefficients(t)
        z_t = a * z_0 + b * z_T + c * torch.randn(z_0.shape, generator=generator, dtype=torch.float64)
        found = host_input(bridge, t, levels, level_max)
        assert not found.clamped
        signal, noise = (float(x) for x in levels(found.level))
        x = found.input(z_t, z_T, torch.zeros_like(z_t))
        assert_seen_law(TWO_MODES, x, z_T, signal, noise, each, f"aligned at {t},")
        half_log_snr, scale = align_snr(bridge, t)
        assert math.log(signal / noise) == pytest.approx(half_log_snr.item(), abs=1e-9)
        torch.testing.assert_close(x, (z_t - b * z_T) * scale * math.hypot(signal, noise), rtol=1e-9, atol=1e-9)


@every_host
def test_the_law_test_sees_missing_alignment(levels, level_max):
    """Power of the test above: the bridge's own state at the host's level of equal SNR is not what the host knows."""
    bridge = brownian()
    z_0, z_T, generator = joint(TWO_MODES, 4000, seed=4)
    t = time_of_half_log_snr(bridge, torch.tensor(-0.5))
    a, b, c = bridge.coefficients(t)
    z_t = a * z_0 + b * z_T + c * torch.randn(z_0.shape, generator=generator, dtype=torch.float64)
    signal, noise = (float(x) for x in levels(host_input(bridge, t, levels, level_max).level))
    with pytest.raises(AssertionError, match="KS distance"):
        assert_seen_law(TWO_MODES, z_t, z_T, signal, noise, ERROR_RATE)


@every_bridge
def test_host_input_is_the_closed_form_of_both_host_families(bridge):
    """Oracle: ``(z_t - b z_T)/a`` at ``sigma = c/a``; ``(z_t - b z_T)/(a + c)`` at ``s = c/(a + c)``; no inversion."""
    _, z_T, generator = joint(TWO_MODES, 5, seed=5)
    z_t, unused = torch.randn(2, 5, generator=generator, dtype=torch.float64)
    for t in (1e-3, 0.2, 0.5, 0.9, 0.999):
        a, b, c = bridge.coefficients(t)
        for levels, level_max, level, scale in (
            (variance_exploding_levels, 1e6, c / a, 1 / a),
            (flow_levels, 1.0, c / (a + c), 1 / (a + c)),
        ):
            found = host_input(bridge, t, levels, level_max)
            torch.testing.assert_close(found.level, level, rtol=1e-9, atol=0)
            torch.testing.assert_close(found.input(z_t, z_T, unused), (z_t - b * z_T) * scale, rtol=1e-9, atol=1e-9)


@every_bridge
def test_beyond_the_hosts_last_level(bridge):
    """The noise gets the size of the last level and the faint signal shrinks with it, at exactly that level."""
    z_T = torch.tensor([0.7, -1.0], dtype=torch.float64)
    z_0, eps = torch.tensor([2.0, 0.5], dtype=torch.float64), torch.tensor([1.0, -2.0], dtype=torch.float64)
    t = time_of_half_log_snr(bridge, torch.tensor(-5.0)).item()
    a, b, c = bridge.coefficients(t)
    found = host_input(bridge, t, variance_exploding_levels, 14.6)
    assert found.clamped and found.level == 14.6 and found.fresh == 0
    x = found.input(a * z_0 + b * z_T + c * eps, z_T, torch.zeros(2))
    torch.testing.assert_close(x, 14.6 * (eps + a / c * z_0), rtol=1e-6, atol=0)
    assert not host_input(bridge, t, flow_levels, 1.0).clamped  # a flow host's last level is pure noise


@every_host
@every_bridge
def test_at_T_the_host_gets_fresh_noise_at_its_last_level(bridge, levels, level_max):
    """The state is ``z_T`` itself, whatever that is; the limit of the aligned state is noise."""
    found = host_input(bridge, 1.0, levels, level_max)
    noise = torch.tensor([0.3, -1.1], dtype=torch.float64)
    z_T = torch.tensor([5.0, 6.0], dtype=torch.float64)
    _, std = levels(torch.tensor(level_max, dtype=torch.float64))
    assert found.level == level_max and not found.clamped
    torch.testing.assert_close(found.input(z_T, z_T, noise), std * noise, rtol=1e-14, atol=0)
    half_log_snr, scale = align_snr(bridge, 1.0)
    assert half_log_snr == -torch.inf and scale == torch.inf


@every_host
@every_bridge
def test_a_perfect_host_samples_as_a_bridge_where_alignment_is_exact(bridge, levels, level_max):
    """With ``z_T`` independent of ``z_0`` the host's ``E[z_0 | x]`` is the bridge's ``E[z_0 | z_t, z_T]``.

    Oracles: that posterior pointwise, and the law of ``z_0`` of the samples.
    """
    z_T, generator = draws(2000, seed=6)
    fresh = torch.randn(z_T.shape, generator=generator, dtype=torch.float64)
    exact = APART.denoiser(bridge, z_T)

    def denoiser(z_t, t):
        found = host_input(bridge, t, levels, level_max)
        signal, noise = (float(value) for value in levels(found.level))
        z0_hat = APART.posterior_mean(found.input(z_t, z_T, fresh), z_T, signal, noise)
        if 0.001 < t < 0.999:
            torch.testing.assert_close(z0_hat, exact(z_t, t), rtol=0, atol=1e-6)
        return z0_hat

    inner = time_of_half_log_snr(bridge, torch.linspace(-4, 5, 39, dtype=torch.float64))
    schedule = torch.cat([torch.ones(1), inner, torch.zeros(1)])
    noises = iter(torch.randn(40, 2000, generator=generator, dtype=torch.float64))
    z_0 = sample_bridge(denoiser, z_T, schedule, bridge, "dbim-3", noise_sampler=lambda t, t_next: next(noises))
    assert_law(APART, z_0, z_T, ERROR_RATE / (len(BRIDGES) * len(HOSTS)))


@every_bridge
def test_precondition_aligned_cosine_is_the_cosine_host_input(bridge):
    """The two ways into a cosine host agree: the network's precondition and ``host_input``."""
    aligned = PRECONDITIONS["aligned_cosine"]
    z_t, z_T = torch.tensor([[0.4, -0.2], [1.0, 2.0]], dtype=torch.float64)
    for t in (0.01, 0.3, 0.8, 0.99):
        found = host_input(bridge, t, cosine_levels, 1.0)
        timestep = aligned.timestep(bridge, torch.tensor(t, dtype=torch.float64))
        torch.testing.assert_close(timestep, 1000 * found.level, rtol=1e-6, atol=0)
        expected = found.input(z_t, z_T, torch.zeros(2))
        torch.testing.assert_close(aligned.input(z_t, z_T, t, bridge), expected, rtol=1e-6, atol=1e-6)
    assert aligned.timestep(bridge, torch.ones(())).item() == 1000
    assert torch.equal(aligned.input(z_T, z_T, 1.0, bridge), torch.zeros(2, dtype=torch.float64))


def test_levels_a_host_does_not_have():
    with pytest.raises(ValueError, match=r"no level 14.6: signal -13.6"):
        host_input(brownian(), 0.5, flow_levels, 14.6)
    with pytest.raises(ValueError, match=r"no level 0"):
        host_input(brownian(), 0.5, variance_exploding_levels, 0.0)
