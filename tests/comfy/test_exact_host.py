"""Sampling a host that is exactly right, see `exact_host`: every latent value is an independent draw of a mixture,
whatever z_T is, so one run of SamplerCustomAdvanced is a sample of thousands, of a known law.

Error rates are of false alarms per check, over the choice of seed (see `oracles`).
"""

import math

import pytest
import torch

from aqueduct.core.bridges import SOLVERS, Bridge, bridge_gmax, brownian, lbm, sample_bridge, vp
from aqueduct.tests.comfy.exact_host import CONDITIONING, exact_host
from aqueduct.tests.comfy.graph import bridge_times, run_one, sample_bridge_graph
from aqueduct.tests.unit.oracles import APART, assert_law

SIZE = (1, 4, 32, 32)
ERROR_RATE = 1e-4
COUNT = math.prod(SIZE)


@pytest.fixture(scope="module", params=["EPS", "V_PREDICTION_EDM", "FLOW"])
def host(request, comfy):
    return exact_host(request.param)


def prior(seed: int) -> dict:
    return {"samples": torch.randn(SIZE, generator=torch.Generator().manual_seed(seed)) * 1.5 + 0.5}


def sample(host, bridge: Bridge, z_T: dict, steps: int, spacing: str, **widgets) -> torch.Tensor:
    aligned = run_one("AqueductSNRAlign", model=host, bridge=bridge)
    times = bridge_times(bridge, steps, spacing)
    return sample_bridge_graph(aligned, bridge, z_T, CONDITIONING, times=times, **widgets)


BRIDGES = {"gmax": bridge_gmax(), "brownian": brownian(), "vp": vp()}


@pytest.mark.parametrize(
    "bridge, solver, steps", [*((bridge, "dbim-3", 40) for bridge in BRIDGES), ("gmax", "sde", 150)]
)
def test_output_follows_the_mixture(host, bridge, solver, steps):
    """Whatever z_T is, z_0 has the data's own law: mean, variance and Kolmogorov-Smirnov, for both signs of z_T."""
    z_T = prior(seed=11)
    z_0 = sample(host, BRIDGES[bridge], z_T, steps, "karras", solver=solver, seed=6)
    assert_law(APART, z_0.double().flatten(), z_T["samples"].double().flatten(), ERROR_RATE)


@pytest.mark.parametrize("solver", SOLVERS)
def test_graph_and_core_agree(host, solver):
    """The graph with an aligned host is `sample_bridge` with the bridge's exact posterior and the same noise."""
    from aqueduct.nodes._comfy.sampler import step_noise

    bridge, z_T, times = BRIDGES["gmax"], prior(seed=2), bridge_times(BRIDGES["gmax"], 8, "karras")
    flat = z_T["samples"].double().flatten()
    draw = step_noise(run_one("RandomNoise", noise_seed=9).generate_noise(z_T), 9)
    exact = APART.denoiser(bridge, flat)
    expected = sample_bridge(
        exact, flat, times, bridge, solver, SOLVERS[solver].eta, lambda s, t: draw(s, t).double().flatten()
    )
    given = sample(host, bridge, z_T, 8, "karras", solver=solver, eta=SOLVERS[solver].eta, seed=9).double().flatten()
    error = (given - expected).abs()
    if host.model.model_type.name == "EPS":  # its network rounds to 1000 levels; higher orders amplify that
        assert error.mean() < 0.1
    else:
        assert error.mean() < 1e-4 and error.quantile(0.99) < 5e-4


def test_the_check_sees_a_host_that_is_not_aligned(host, monkeypatch):
    """The same graph with the wrong levels (another bridge's) must fail, else the test above says nothing."""
    from aqueduct.nodes._comfy import alignment

    z_T = prior(seed=11)
    right = alignment.host_input
    monkeypatch.setattr(alignment, "host_input", lambda bridge, *rest: right(brownian(0.5), *rest))
    z_0 = sample(host, BRIDGES["brownian"], z_T, 40, "karras", solver="dbim-3", seed=6)
    with pytest.raises(AssertionError):
        assert_law(APART, z_0.double().flatten(), z_T["samples"].double().flatten(), ERROR_RATE)


def test_a_bridge_of_no_noise_to_speak_of_still_works(host):
    """LBM: its state is told from the prior by 0.5 % of noise, and its times crowd into float32's last digits."""
    z_T = prior(seed=3)
    z_0 = sample(host, lbm(), z_T, 20, "half_log_snr")
    assert torch.isfinite(z_0).all()


def test_posterior_mean_is_the_mean_of_the_mixture(host):
    """At the noisiest level the input says (almost) nothing: E[z_0], up to what sigma_max = 14.6 still lets through."""
    mean = run_one(
        "AqueductPosteriorMeanPrior", model=host, conditioning=CONDITIONING, latent=prior(0), seed=1, draws=16
    )["samples"].double()
    expected, std = (value.item() for value in APART.moments(torch.zeros(1).double()))
    sampling = host.get_model_object("model_sampling")
    if float(sampling.sigma_max) == 1:
        torch.testing.assert_close(mean, torch.full_like(mean, expected), rtol=1e-5, atol=1e-5)
        return
    leak = std**2 / float(sampling.sigma_max)  # standard deviation of E[z_0 | x] over the noise, to first order
    assert (mean - expected).std() < 1.2 * leak / 16**0.5
    assert abs(mean.mean() - expected) < 5 * leak / (16 * COUNT) ** 0.5 + leak**2
