"""Schedules: where they start and end, what they are even in, and what a hand-made one may not be."""

import math

import numpy as np
import pytest
import torch

from aqueduct.core.bridges import SPACINGS, bridge_gmax, checked_times, time_of_half_log_snr, times, vp
from aqueduct.tests.unit.oracles import BRIDGES

every_bridge = pytest.mark.parametrize("bridge", BRIDGES.values(), ids=BRIDGES)


@pytest.mark.parametrize("spacing", SPACINGS)
@every_bridge
def test_every_spacing_is_a_valid_schedule_of_as_many_evaluations(bridge, spacing):
    for steps in (1, 2, 3, 50):
        made = times(bridge, steps, spacing)
        assert made.dtype == torch.float64 and made.shape == (steps + 1,)
        assert torch.equal(checked_times(made), made)
        assert made[0] == {"trailing": 1000 / 1001, "inclusive": 1000 / 1001, "bbdm": 0.999}.get(spacing, 1.0)


def test_uniform_is_the_default_and_is_even():
    assert times(vp(), 4).tolist() == [1.0, 0.75, 0.5, 0.25, 0.0]


@pytest.mark.parametrize("steps", [1, 7, 16, 50, 1000])
def test_trailing_is_framebridges_released_spacing(steps):
    """Oracle: trailing indices ``round(arange(N, 0, -N/steps)) - 1`` of N = 1000, at times ``(i + 1)/(N + 1)``."""
    index = np.round(np.arange(1000, 0, -1000 / steps)).astype(np.int64)[:steps] - 1
    np.testing.assert_allclose(times(bridge_gmax(), steps, "trailing")[:-1].numpy(), (index + 1) / 1001, rtol=1e-15)


@pytest.mark.parametrize("steps", [1, 7, 50, 1000])
def test_inclusive_visits_both_ends_of_the_latte_release(steps):
    """Oracle: the nearest of 1000 indices to an even division of [0, 999], at times ``(i + 1)/1001``."""
    index = [999 - 999 * k / max(steps - 1, 1) for k in range(steps)]
    made = times(bridge_gmax(), steps, "inclusive")[:-1]
    assert ((made * 1001 - 1) - torch.tensor(index)).abs().max() <= 0.5 + 1e-9
    assert made[-1] == (1 / 1001 if steps > 1 else 1000 / 1001)
    whole = made * 1001
    assert torch.allclose(whole, whole.round(), rtol=0, atol=1e-9)


@every_bridge
def test_half_log_snr_is_even_in_lambda_and_karras_in_the_seventh_root(bridge):
    """Oracle: second differences of ``lambda``, and of ``(c/a)^(1/7)`` (EDM eq. 5), vanish between the inner ends."""
    for spacing, root in (("half_log_snr", None), ("karras", 7)):
        made = times(bridge, 40, spacing)[1:-1]
        value = bridge.half_log_snr(made)
        assert math.exp(-value[0]) >= 80 * (1 - 1e-6) and math.exp(-value[-1]) <= 0.002 * (1 + 1e-6)
        even = value if root is None else (-value / root).exp()
        assert even.diff().diff().abs().max() < 1e-6 * even.diff().abs().max()


@every_bridge
def test_time_of_half_log_snr_inverts_it(bridge):
    """Both ways: ``lambda`` over many decades of SNR, and times next to both ends."""
    value = torch.linspace(-6, 10, 33, dtype=torch.float64).reshape(3, 11)
    found = time_of_half_log_snr(bridge, value)
    assert found.shape == value.shape
    resolved = (1 - found).clamp_max(found) > 1e-6  # nearer to T, float64 times are coarser than lambda
    torch.testing.assert_close(bridge.half_log_snr(found)[resolved], value[resolved], rtol=0, atol=1e-9)
    t = torch.tensor([1e-9, 1e-3, 0.2, 0.5, 0.9, 1 - 1e-6], dtype=torch.float64)
    torch.testing.assert_close(time_of_half_log_snr(bridge, bridge.half_log_snr(t)), t, rtol=1e-10, atol=0)
    ends = time_of_half_log_snr(bridge, torch.tensor([torch.inf, -torch.inf]))
    assert ends[0] < 1e-20 and ends[1] == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0,), "steps must be a whole number of at least 1, got 0"),
        ((-3,), "at least 1"),
        ((2.5,), "whole number"),
        ((10, "cosine"), "unknown spacing 'cosine'; choose from uniform"),
        ((1001, "trailing"), "1000 indices, got 1001 steps"),
    ],
)
def test_what_times_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        times(vp(), *arguments)


@pytest.mark.parametrize("kind", [torch.float32, torch.float16, torch.float64])
def test_checked_times_takes_a_schedule_in_any_precision(kind):
    """ComfyUI hands SIGMAS around in float32; 1 and 0 stay exact."""
    made = checked_times(times(bridge_gmax(), 20).to(kind))
    assert made.dtype == torch.float64 and made[0] == 1 and made[-1] == 0
