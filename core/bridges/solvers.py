"""Samplers of a bridge: one loop; a solver says which weights each step has."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from .denoiser import Denoiser
from .process import Bridge
from .spacing import checked_times
from .steps import StepWeights, bbdm_step_weights, multistep_weights, step_weights

NoiseSampler = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Solver:
    """``order``: predictions a step uses. ``eta``: default; ``eta_free``: whether it may be chosen."""

    step: Callable[[Bridge, Tensor, Tensor, float], StepWeights]
    eta: float
    eta_free: bool = False
    order: int = 1


SOLVERS: dict[str, Solver] = {
    "sde": Solver(step_weights, eta=1.0),
    "ode": Solver(step_weights, eta=0.0),
    "dbim-1": Solver(step_weights, eta=0.0, eta_free=True),
    "dbim-2": Solver(step_weights, eta=0.0, order=2),
    "dbim-3": Solver(step_weights, eta=0.0, order=3),
    "bbdm": Solver(bbdm_step_weights, eta=1.0, eta_free=True),
}


def choose_solver(name: str, eta: float | None) -> tuple[Solver, float]:
    """The solver and its ``eta``. Raises ValueError for an unknown name or an ``eta`` the solver does not have."""
    if name not in SOLVERS:
        raise ValueError(f"unknown solver {name!r}; choose from {', '.join(SOLVERS)}")
    solver = SOLVERS[name]
    if eta is None:
        return solver, solver.eta
    if not solver.eta_free and eta != solver.eta:
        raise ValueError(f"solver {name!r} has eta = {solver.eta}, got {eta}; dbim-1 takes any eta in [0, 1]")
    if not 0 <= eta <= 1:
        raise ValueError(f"eta lies in [0, 1] (0: no noise after the first step, 1: SDE), got {eta}")
    return solver, eta


def sample_bridge(
    denoiser: Denoiser,
    prior: Tensor,
    times: Tensor,
    bridge: Bridge,
    solver: str = "sde",
    eta: float | None = None,
    noise_sampler: NoiseSampler | None = None,
    callback: Callable[[dict], None] | None = None,
) -> Tensor:
    """Walk from the prior ``z_T`` to ``z_0``; one call of ``denoiser(z_t, t) -> z0_hat`` per step.

    Args:
        prior: ``z_T``, and the state at ``times[0]``. If that is T the first step is the boot step (``eta = 1``).
        times: descending, ending in 0 (``core.bridges.times``). The last step returns ``z0_hat``.
        solver: ``sde``, ``ode``, ``dbim-1`` (any eta), ``dbim-2``, ``dbim-3`` (multistep, eta 0), ``bbdm``.
        noise_sampler: ``(t, t_next) -> eps`` like the prior; asked only for steps that use noise, in order. The only
            source of randomness. Default: ``torch.randn_like``.
        callback: called after each evaluation with ``i, t, t_next, x, denoised``.

    Higher orders step once with order 1 after the boot step, and on the last step, as DBIM does.

    Source: FrameBridge section 4.1 and algorithm 3; DBIM algorithms 1 to 3; BBDM algorithm 2.
    """
    times = checked_times(times)
    draw = noise_sampler or (lambda t, t_next: torch.randn_like(prior))
    z, past = prior, []
    for i, (weights, earlier) in enumerate(weights_of_steps(bridge, times, solver, eta)):
        s, t = times[i], times[i + 1]
        z0_hat = denoiser(z, s)
        if callback is not None:
            callback({"i": i, "t": s, "t_next": t, "x": z, "denoised": z0_hat})
        if t == 0:
            return z0_hat
        z = _apply(weights, z, z0_hat, prior, past[: len(earlier)], earlier)
        past = [z0_hat, *past[:1]]
        if weights.std > 0:
            z = z + weights.std.to(z) * draw(s, t)
    raise AssertionError("a checked schedule ends in 0")


def weights_of_steps(
    bridge: Bridge, times: Tensor, solver: str = "sde", eta: float | None = None
) -> Iterator[tuple[StepWeights, list[Tensor]]]:
    """For each step of `sample_bridge` its weights, and those of the earlier predictions it uses, newest first.

    Arguments as there. The step to 0 gives ``z0_hat`` alone.
    """
    chosen, eta = choose_solver(solver, eta)
    times = checked_times(times)
    for i, (s, t) in enumerate(zip(times[:-1], times[1:], strict=True)):
        past = [time for time in times[:i].flip(0)[: chosen.order - 1] if time < 1]
        if t == 0:
            yield StepWeights(t, torch.ones_like(t), t, t), []
        elif past:
            yield multistep_weights(bridge, s, t, past)
        else:
            yield chosen.step(bridge, s, t, eta), []


def _apply(
    w: StepWeights, z: Tensor, z0_hat: Tensor, prior: Tensor, past: list[Tensor], earlier: list[Tensor]
) -> Tensor:
    z = w.state.to(z) * z + w.data.to(z) * z0_hat + w.prior.to(z) * prior
    for weight, prediction in zip(earlier, past, strict=True):
        z = z + weight.to(z) * prediction
    return z
