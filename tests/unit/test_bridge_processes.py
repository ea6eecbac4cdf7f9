"""Processes as data: each against its own paper's formulas in 60 digits, near both ends and in between."""

import dataclasses

import mpmath
import numpy as np
import pytest
import torch

from aqueduct.core.bridges import (
    PROCESSES,
    bridge_gmax,
    brownian,
    i2sb,
    lbm,
    make_bridge,
    marginal,
    step_weights,
    ve,
    vp,
)
from aqueduct.tests.unit.oracles import BRIDGES

TIMES = [1e-12, 1e-6, 0.1, 0.37, 0.5, 0.63, 0.9, 1 - 1e-6, 1 - 1e-12]


# --- the six, each as its paper writes it -----------------------------------------------------------------------------


def gmax_reference(t, low=0.01, high=50.0):
    """Bridge-TTS: ``sigma^2`` and ``sigma_bar^2`` are integrals of ``g^2`` up to t and from t on."""
    rate = [mpmath.mpf(low), mpmath.mpf(high) - mpmath.mpf(low)]
    before = rate[1] * t**2 / 2 + rate[0] * t
    after = rate[1] * (1 - t) * (1 + t) / 2 + rate[0] * (1 - t)
    total = before + after
    return after / total, before / total, mpmath.sqrt(before * after / total)


def bbdm_reference(t, s=1.0):
    """BBDM eq. 4 with its ``delta_t = 2 s (m - m^2)``."""
    return 1 - t, t, mpmath.sqrt(2 * s * (t - t**2))


def ddbm_reference(log_snr, log_scale, t, end):
    """DDBM's released code: ``a`` multiplies the prior there, and ``c`` is a variance."""
    ratio = mpmath.exp(log_snr(end) - log_snr(t))
    on_prior = ratio * mpmath.exp(log_scale(t) - log_scale(end))
    on_data = (1 - ratio) * mpmath.exp(log_scale(t))
    return on_data, on_prior, mpmath.sqrt((1 - ratio) * mpmath.exp(2 * log_scale(t) - log_snr(t)))


def ddbm_vp_reference(t, beta_min=0.1, beta_d=2.0):
    def log_snr(x):
        return -mpmath.log(mpmath.expm1(mpmath.mpf(beta_d) * x**2 / 2 + mpmath.mpf(beta_min) * x))

    def log_scale(x):
        return -mpmath.mpf(beta_d) * x**2 / 4 - mpmath.mpf(beta_min) * x / 2

    return ddbm_reference(log_snr, log_scale, t, mpmath.mpf(1))


def ddbm_ve_reference(t, sigma_max=80.0):
    """DDBM's own VE time runs to ``sigma_max``."""
    return ddbm_reference(lambda x: -2 * mpmath.log(x), lambda x: mpmath.mpf(0), t * sigma_max, mpmath.mpf(sigma_max))


def i2sb_reference(t, beta_max=0.3):
    """I2SB eq. 11: the product of the Gaussians that came forward and that go backward, by quadrature of the rate."""
    start, end = mpmath.sqrt(mpmath.mpf("1e-4")), mpmath.sqrt(mpmath.mpf(beta_max) / 1000)

    def rate(u):
        return 1000 * (start + (end - start) * min(u, 1 - u)) ** 2

    half = mpmath.mpf(1) / 2
    total = 2 * mpmath.quad(rate, [0, half])
    small = mpmath.quad(rate, [0, min(t, 1 - t)])
    before, after = (small, total - small) if t <= half else (total - small, small)
    return after / total, before / total, mpmath.sqrt(before * after / total)


def lbm_reference(t, noise=0.005):
    return 1 - t, t, mpmath.mpf(noise) * mpmath.sqrt(t * (1 - t))


CASES = {
    "bridge-gmax": (bridge_gmax(), gmax_reference),
    "bridge-gmax, other rates": (bridge_gmax(0.1, 20.0), lambda t: gmax_reference(t, 0.1, 20.0)),
    "brownian": (brownian(), bbdm_reference),
    "brownian, s = 0.5": (brownian(0.5), lambda t: bbdm_reference(t, 0.5)),
    "vp": (vp(), ddbm_vp_reference),
    "vp, steep": (vp(0.1, 20.0), lambda t: ddbm_vp_reference(t, 0.1, 20.0)),
    "ve": (ve(), ddbm_ve_reference),
    "i2sb": (i2sb(), i2sb_reference),
    "i2sb, beta_max = 1": (i2sb(1.0), lambda t: i2sb_reference(t, 1.0)),
    "lbm": (lbm(), lbm_reference),
}


@pytest.mark.parametrize("case", CASES)
def test_coefficients_match_the_paper_to_float64(case):
    """Oracle: the paper's own form with 60 digits; twelve of them must hold, also 1e-12 away from either end."""
    bridge, reference = CASES[case]
    with mpmath.workdps(60):
        for time in TIMES:
            expected = [*reference(mpmath.mpf(time))]
            expected.append(mpmath.log(expected[0] / expected[2]))
            got = [*bridge.coefficients(time), bridge.half_log_snr(time)]
            for name, value, exact in zip(("a", "b", "c", "lambda"), got, expected, strict=True):
                assert value.item() == pytest.approx(float(exact), rel=1e-12), (name, time)


@pytest.mark.parametrize("case", CASES)
def test_step_weights_survive_both_ends(case):
    """Oracle: the SDE step ``rho_t^2/rho_s^2`` and its variance in 60 digits, between neighbours near 0 and near T."""
    bridge, reference = CASES[case]
    with mpmath.workdps(60):
        for s, t in [(2e-12, 1e-12), (1e-9, 1e-12), (0.7, 1e-12), (1 - 1e-12, 1 - 2e-12), (1.0, 1 - 1e-12), (0.6, 0.4)]:
            (a_s, b_s, c_s), (a_t, b_t, c_t) = reference(mpmath.mpf(s)), reference(mpmath.mpf(t))
            state = b_t / b_s  # the eta = 1 step leaves no weight on the prior
            var = c_t**2 - (state * c_s) ** 2
            weights = step_weights(bridge, s, t, eta=1.0)
            assert weights.state.item() == pytest.approx(float(state), rel=1e-11), (s, t)
            assert weights.std.item() == pytest.approx(float(mpmath.sqrt(var)), rel=1e-11), (s, t)
            assert weights.data.item() == pytest.approx(float(a_t - state * a_s), abs=1e-15), (s, t)


@pytest.mark.parametrize("beta_max", [0.3, 1.0])
def test_i2sb_is_the_released_table_in_continuous_time(beta_max):
    """Oracle: I2SB's 1000 discrete steps rebuilt here; sums over steps differ from integrals by one step's beta."""
    betas = np.linspace(1e-4**0.5, (beta_max / 1000) ** 0.5, 1000) ** 2
    betas = np.concatenate([betas[:500], betas[:500][::-1]])
    forward, backward = np.cumsum(betas), np.cumsum(betas[::-1])[::-1]
    on_data = backward / (forward + backward)
    on_prior = forward / (forward + backward)
    var = forward * backward / (forward + backward)
    a, b, c = i2sb(beta_max).coefficients((torch.arange(1000, dtype=torch.float64) + 0.5) / 1000)
    step = betas.max()
    assert np.abs(a.numpy() - on_data).max() < step / betas.sum()
    assert np.abs(b.numpy() - on_prior).max() < step / betas.sum()
    assert np.abs(c.square().numpy() - var).max() < step


@pytest.mark.parametrize("name", BRIDGES)
def test_framebridge_equation_12_literally(name):
    """Oracle: eq. 12 written with the signal-to-noise ratios of ``alpha`` and ``sigma``."""
    bridge = BRIDGES[name]
    t = torch.linspace(0.02, 0.98, 25, dtype=torch.float64)
    end = torch.ones((), dtype=torch.float64)
    snr, snr_T = (bridge.alpha(t) / bridge.sigma(t)) ** 2, (bridge.alpha(end) / bridge.sigma(end)) ** 2
    a, b, c = bridge.coefficients(t)
    torch.testing.assert_close(a, bridge.alpha(t) * (1 - snr_T / snr), rtol=1e-11, atol=0)
    torch.testing.assert_close(b, snr_T / snr * bridge.alpha(t) / bridge.alpha(end), rtol=1e-11, atol=0)
    torch.testing.assert_close(c, bridge.sigma(t) * (1 - snr_T / snr).sqrt(), rtol=1e-11, atol=0)
    torch.testing.assert_close((2 * bridge.half_log_snr(t)).exp(), snr - snr_T, rtol=1e-9, atol=0)


@pytest.mark.parametrize("name", BRIDGES)
def test_ends_are_exact_and_snr_falls(name):
    """At 0 the state is the data, at T the prior; in between ``log(a/c)`` falls strictly from +inf to -inf."""
    bridge = BRIDGES[name]
    assert [x.item() for x in bridge.coefficients(0.0)] == [1.0, 0.0, 0.0]
    assert [x.item() for x in bridge.coefficients(1)] == [0.0, 1.0, 0.0]
    assert bridge.alpha(0).item() == 1.0 and bridge.sigma(0).item() == 0.0
    t = torch.cat([torch.logspace(-12, -1, 200), 1 - torch.logspace(-1, -12, 200, dtype=torch.float64)[1:]]).double()
    half_log_snr = bridge.half_log_snr(torch.cat([t.new_zeros(1), t, t.new_ones(1)]))
    assert half_log_snr[0] == torch.inf and half_log_snr[-1] == -torch.inf
    assert bool((half_log_snr.diff() < 0).all())
    shares = torch.stack(bridge.snr_share(t))
    torch.testing.assert_close(shares.sum(0), torch.ones_like(t), rtol=1e-14, atol=0)


@pytest.mark.parametrize("name", BRIDGES)
def test_times_of_any_shape(name):
    """A batch of times is the loop over it; everything is float64 whatever the times come as."""
    bridge = BRIDGES[name]
    times = torch.tensor([[0.0, 0.25], [0.75, 1.0]])
    for whole, part in (
        (torch.stack(bridge.coefficients(times)), lambda t: torch.stack(bridge.coefficients(t))),
        (bridge.half_log_snr(times), bridge.half_log_snr),
    ):
        assert whole.dtype == torch.float64 and whole.shape[-2:] == times.shape
        looped = torch.stack([part(t) for t in times.flatten()], dim=-1).reshape(whole.shape)
        assert torch.equal(whole, looped)


@pytest.mark.parametrize("name", BRIDGES)
def test_float32_state_gets_float64_scalars(name):
    """A float32 state is float32 rounding away from the float64 one, also next to the ends."""
    bridge = BRIDGES[name]
    generator = torch.Generator().manual_seed(0)
    z_0, z_T = torch.randn(2, 6, 3, 2, generator=generator, dtype=torch.float64)
    t = torch.tensor([1e-9, 1e-4, 0.3, 0.7, 1 - 1e-4, 1 - 1e-9], dtype=torch.float64)
    mean, std = marginal(bridge, z_0, z_T, t)
    mean_single, std_single = marginal(bridge, z_0.float(), z_T.float(), t)
    assert mean_single.dtype == std_single.dtype == torch.float32 and std_single.shape == (6, 1, 1)
    torch.testing.assert_close(mean_single.double(), mean, rtol=0, atol=1e-6)
    torch.testing.assert_close(std_single.double(), std, rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", PROCESSES)
def test_a_process_is_a_value(name):
    """Equal by kind and constants, hashable, frozen."""
    bridge = make_bridge(name)
    assert bridge == make_bridge(name) == BRIDGES[name] and hash(bridge) == hash(make_bridge(name))
    (first, value), *_ = bridge.constants
    changed = make_bridge(name, **{first: value * 1.5})
    assert changed != bridge and dict(changed.constants)[first] == value * 1.5
    with pytest.raises(dataclasses.FrozenInstanceError):
        bridge.kind = "other"
    assert bridge.kind == name


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("name", PROCESSES)
def test_constants_are_checked(name, value):
    first, _ = make_bridge(name).constants[0]
    with pytest.raises(ValueError, match=f"{first} must be positive"):
        make_bridge(name, **{first: value})


def test_errors_name_the_remedy():
    with pytest.raises(ValueError, match="unknown bridge 'schrodinger'; the processes are bridge-gmax"):
        make_bridge("schrodinger")
    with pytest.raises(ValueError, match="beta_max must be at least beta_min"):
        bridge_gmax(1.0, 0.5)
    with pytest.raises(ValueError, match="beta_d must not be negative"):
        vp(0.1, -1.0)
    for time in (-0.1, 1.1, 14.6, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=r"bridge times lie in \[0, 1\]"):
            brownian().coefficients(time)
