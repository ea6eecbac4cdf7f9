"""The weights by which a bridge's steps take up a prediction, against finite differences of the solver itself."""

import pytest
import torch

from aqueduct.core.bridges import SOLVERS, bridge_gmax, brownian, lbm, sample_bridge, times, vp
from aqueduct.core.guidance import GuidanceSchedule, bridge_schedule

BRIDGES = {"gmax": bridge_gmax(), "brownian": brownian(), "vp": vp(), "lbm": lbm()}


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("bridge", BRIDGES)
def test_weight_is_what_the_next_state_gains(bridge, solver):
    """Raise the prediction of step i by d and see what state i + 1, or the result, gains: the solver is linear."""
    bridge, d = BRIDGES[bridge], 1e-3
    eta = 0.4 if SOLVERS[solver].eta_free else None
    at = times(bridge, 6, "karras")
    schedule = bridge_schedule(bridge, at, solver, eta)

    def states(raised=None):
        seen, calls = [], iter(range(6))

        def denoiser(z, t):
            seen.append(z)
            return torch.tanh(z) + (d if next(calls) == raised else 0)

        prior, still = torch.tensor([0.7], dtype=torch.float64), lambda s, t: torch.full((1,), 0.3, dtype=torch.float64)
        seen.append(sample_bridge(denoiser, prior, at, bridge, solver, eta, still))
        return seen

    plain = states()
    for i in range(6):
        gain = (states(raised=i)[i + 1] - plain[i + 1]).item() / d
        assert schedule.weights[i] == pytest.approx(gain, rel=1e-6, abs=1e-9)
    assert schedule.weights[-1] == 1 and schedule.guided == (True,) * 6


def test_window_and_share_choose_steps():
    schedule = bridge_schedule(brownian(), times(brownian(), 10), start=0.2, end=0.8, fraction=0.5)
    assert [i for i, guided in enumerate(schedule.guided) if guided] == [3, 5, 7]


def test_levels_closer_than_the_slack_are_told_apart():
    levels = (1.0, 1 - 2e-7, 1 - 4e-7, 0.5, 0.0)
    schedule = GuidanceSchedule(levels, (True,) * 4, (0.1, 0.1, 0.4, 1.0))
    assert [schedule.step(level) for level in levels[:-1]] == [0, 1, 2, 3]


def test_times_that_do_not_end_in_zero_are_refused():
    with pytest.raises(ValueError, match="0"):
        bridge_schedule(brownian(), torch.tensor([1.0, 0.5]))
