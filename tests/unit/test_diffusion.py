"""The diffusion baseline's sampler against a law it must reach."""

import pytest
import torch

from aqueduct.core.bridges.diffusion import CosineDiffusion, sample_diffusion

MEAN, STD = 0.7, 0.4


def posterior_mean(z, t):
    """E[z_0 | z_t] of Gaussian data, in closed form."""
    alpha, _, sigma = CosineDiffusion().coefficients(t)
    gain = alpha * STD**2 / (alpha**2 * STD**2 + sigma**2)
    return MEAN + gain * (z - alpha * MEAN)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_gaussian_data_is_reproduced(eta):
    """40,000 samples, 400 steps, seed 0: mean and std within five standard errors plus 1 % of discretisation."""
    generator = torch.Generator().manual_seed(0)

    def draw(*_):
        return torch.randn(40_000, generator=generator, dtype=torch.float64)

    times = torch.arange(400, -1, -1, dtype=torch.float64) / 400
    z_0 = sample_diffusion(posterior_mean, draw(), times, CosineDiffusion(), eta, draw)
    assert z_0.mean().item() == pytest.approx(MEAN, abs=5 * STD / 200 + 0.004)
    assert z_0.std().item() == pytest.approx(STD, abs=5 * STD / 283 + 0.004)


def test_one_step_returns_the_first_prediction_and_the_end_is_required():
    noise = torch.randn(5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    times = torch.tensor([1.0, 0.0], dtype=torch.float64)
    once = sample_diffusion(posterior_mean, noise, times, CosineDiffusion(), 0.0, None)
    assert torch.allclose(once, torch.full_like(noise, MEAN))
    with pytest.raises(ValueError, match="end in 0"):
        sample_diffusion(posterior_mean, noise, times[:1], CosineDiffusion(), 0.0, None)
