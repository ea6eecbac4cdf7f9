"""EBDM's loss: the weight against its long form and against the sampler's step, the loss against closed forms."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from aqueduct.core.bridges import brownian, step_weights
from aqueduct.core.training.exemplar import STEPS, ebdm, exemplar_loss, late_times, uniform_times
from aqueduct.core.training.objectives import draw_times, step_weight, uniform_weight

HARMONIC = sum(1 / n for n in range(1, STEPS + 1))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# --- the weight -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variance", [0.25, 1.0, 3.0])
def test_long_form_of_the_weight_is_one_over_t(variance):
    """EBDM after eq. 18: ``(1 - m_(t-1)) deltahat_t / delta_t``, deltahat the variance of ``x_t`` given ``x_(t-1)``."""
    n = torch.arange(1, STEPS, dtype=torch.float64)  # delta_T = 0: the form is 0/0 there
    m, before = n / STEPS, (n - 1) / STEPS
    delta, delta_before = (2 * variance * (x - x * x) for x in (m, before))
    step_variance = delta - delta_before * (1 - m).square() / (1 - before).square()
    long = (1 - before) * step_variance / delta
    torch.testing.assert_close(long, 1 / n, rtol=1e-10, atol=0)
    ours = step_weight(STEPS)(brownian(variance), m)
    torch.testing.assert_close(ours * HARMONIC / STEPS, long, rtol=1e-10, atol=0)


def test_weight_is_how_far_the_sampler_steps():
    """At every step, the last (from T) and the first (to 0) too: ``mean = z_t - (z_t - z_0)/n``."""
    n = torch.arange(1, STEPS + 1, dtype=torch.float64)
    data = step_weights(brownian(), n / STEPS, (n - 1) / STEPS, eta=1.0).data
    torch.testing.assert_close(data, step_weight(STEPS)(brownian(), n / STEPS) * HARMONIC / STEPS, rtol=1e-9, atol=0)


@pytest.mark.parametrize("steps", [1, 7, 1000])
def test_weight_has_mean_one(steps):
    times = torch.arange(1, steps + 1, dtype=torch.float64) / steps
    assert step_weight(steps)(brownian(), times).mean().item() == pytest.approx(1.0, rel=1e-12)


def test_times_are_uniform_on_the_steps():
    times = draw_times(70_000, 7, generator())
    steps, counts = (times * 7).unique(return_counts=True)
    torch.testing.assert_close(steps, torch.arange(1.0, 8.0, dtype=torch.float64))
    chi_square = ((counts - 10_000).square() / 10_000).sum().item()
    assert chi_square < 27.9  # one in 10,000 of a chi-square with 6 degrees of freedom


# --- the loss ---------------------------------------------------------------------------------------------------------


def answers_zero(x: Tensor, timesteps: Tensor, styles) -> Tensor:
    return torch.zeros_like(x)


def test_loss_of_a_network_that_answers_zero():
    """``E_m (2 (1 - m) + m d^2) / H`` with ``d = |z_T - z_0|``: the whole of eq. 7, integrated by hand."""
    z_0 = torch.zeros(20_000, 1, 4, 4)
    loss = exemplar_loss(answers_zero, z_0 + 1.5, z_0, None, generator())
    mean_m = (STEPS + 1) / (2 * STEPS)
    expected = (2 * (1 - mean_m) + mean_m * 1.5**2) / HARMONIC
    assert loss.item() == pytest.approx(expected, rel=0.02)


def test_loss_is_zero_for_the_true_residual():
    """And the network is shown timesteps 1000 m and the style it was given."""
    z_T, z_0 = torch.randn(2, 64, 3, 4, 4, generator=generator(1))
    seen = {}

    def oracle(x: Tensor, timesteps: Tensor, styles) -> Tensor:
        seen.update(timesteps=timesteps, styles=styles)
        return x - z_0

    style = object()
    assert exemplar_loss(oracle, z_T, z_0, style, generator(2)).item() < 1e-9
    assert seen["styles"] == (style,)
    torch.testing.assert_close(
        seen["timesteps"].double(), 1000 * draw_times(64, STEPS, generator(2)), rtol=1e-6, atol=0
    )


def test_error_in_the_residual_counts_with_the_weight_of_its_row():
    z_T, z_0 = torch.randn(2, 256, 3, 4, 4, generator=generator(1))
    times = draw_times(256, STEPS, generator(2))
    late = (times > 0.5).float().view(-1, 1, 1, 1)

    def off(x: Tensor, timesteps: Tensor, styles) -> Tensor:
        return x - z_0 + 0.5 * late

    expected = 0.25 * (step_weight(STEPS)(brownian(), times) * (times > 0.5)).mean()
    assert exemplar_loss(off, z_T, z_0, None, generator(2)).item() == pytest.approx(expected.item(), rel=1e-4)
    plain = exemplar_loss(off, z_T, z_0, None, generator(2), replace(ebdm(), weight=uniform_weight))
    assert plain.item() == pytest.approx(0.25 * late.mean().item(), rel=1e-4)


def test_loss_repeats_for_a_seed():
    z_T, z_0 = torch.randn(2, 8, 3, 4, 4, generator=generator(1))
    first, same, other = (exemplar_loss(answers_zero, z_T, z_0, None, generator(seed)).item() for seed in (3, 3, 4))
    assert first == same != other


def test_late_times_are_half_uniform_and_half_in_the_last_twentieth():
    """20 000 rows: shares within 4 standard errors (0.014), the late half uniform there."""
    times = late_times(20_000, generator(5))
    late = times > 0.95
    assert 0 < times.min() and times.max() <= 1
    assert abs(late.float().mean().item() - (0.5 + 0.5 * 0.05)) < 0.014
    assert abs(times[~late].mean().item() - 0.475) < 0.012
    assert abs(times[late].mean().item() - 0.975) < 0.0006
    assert torch.equal(late_times(64, generator(6), share=0.0), uniform_times(64, generator(6)))
