"""Which steps of a sampler are guided, and how much of the prediction each step puts into the next state."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..bridges.process import Bridge
from ..bridges.solvers import weights_of_steps
from ..bridges.spacing import checked_times

SLACK = 1e-6  # relative: a level that went through float32 is still its own


def guided_steps(steps: int, start: float = 0.0, end: float = 1.0, fraction: float = 1.0) -> tuple[bool, ...]:
    """Which of ``steps`` are guided: those from ``start`` up to ``end`` (shares of the steps), ``fraction`` of them.

    Step i begins at i / steps. The chosen fraction, one step at least unless it is 0, is spread evenly and has the
    window's last step. Raises ValueError for shares outside 0 to 1 or a window that ends before it starts.
    """
    for name, share in (("start", start), ("end", end), ("fraction", fraction)):
        if not 0 <= share <= 1:
            raise ValueError(f"{name} is a share from 0 to 1, got {share}")
    if end < start:
        raise ValueError(f"guidance ends at {end}, before it starts at {start}")
    window = [i for i in range(steps) if start <= i / steps < end]
    kept = max(1, round(fraction * len(window))) if fraction and window else 0
    chosen = {window[(n + 1) * len(window) // kept - 1] for n in range(kept)}
    return tuple(i in chosen for i in range(steps))


@dataclass(frozen=True)
class GuidanceSchedule:
    """``levels`` of the sampler (noise levels or bridge times, descending), and for each step from one to the next
    whether it is ``guided`` and the weight of the prediction in the state it leads to.

    Raises ValueError when the counts differ, the levels do not descend, or a guided step has no weight.
    """

    levels: tuple[float, ...]
    guided: tuple[bool, ...]
    weights: tuple[float, ...]

    def __post_init__(self):
        steps = len(self.levels) - 1
        if steps < 1 or len(self.guided) != steps or len(self.weights) != steps:
            got = f"{len(self.guided)} guided and {len(self.weights)} weights"
            raise ValueError(f"{len(self.levels)} levels make {steps} steps, got {got}")
        check_descending(self.levels)
        for step, (guided, weight) in enumerate(zip(self.guided, self.weights, strict=True)):
            if guided and not weight > 0:
                raise ValueError(f"step {step} gives the prediction the weight {weight}: it cannot be guided there")

    def step(self, t: Tensor | float) -> int:
        """The step that evaluates at ``t``: the one whose levels enclose it, its upper level included.

        Samplers hand in levels in the precision of the LATENT, so it is there that they are looked up. Levels that are
        one in that precision are told apart no longer: the last of them is taken.
        """
        t = t.flatten()[0].cpu() if isinstance(t, Tensor) else torch.tensor(t, dtype=torch.float64)
        rounded = torch.tensor(self.levels[:-1], dtype=torch.float64).to(t.dtype)
        same = (rounded == t).nonzero()
        if len(same):  # levels of a nearly noiseless bridge lie closer than the slack
            return int(same[-1])
        at_least = (rounded.double() * (1 + SLACK) >= t.double()).nonzero()
        return int(at_least[-1]) if len(at_least) else 0


def euler_schedule(
    levels: Sequence[float] | Tensor, start: float = 0.0, end: float = 1.0, fraction: float = 1.0
) -> GuidanceSchedule:
    """For noise levels sigma (of ``z = z_0 + sigma eps``, or of flow, ``(1 - s) z_0 + s eps``).

    The Euler step ``z + (sigma' - sigma)/sigma (z - h)`` has ``h`` with weight ``1 - sigma'/sigma``. Other solvers give
    it more: dpmpp_2m 1.5 times as much in the middle of a run, ancestral and SDE ones 1.6 to 2.7, lcm and cfg_pp up to
    4.6; there the correction, and what `Guidance.bounded` bounds, are so many times as large. ``start``, ``end``,
    ``fraction`` as `guided_steps`.
    """
    levels = tuple(float(level) for level in levels)
    check_descending(levels)
    weights = tuple(1 - after / level for level, after in zip(levels, levels[1:], strict=False))
    return GuidanceSchedule(levels, guided_steps(len(weights), start, end, fraction), weights)


def bridge_schedule(
    bridge: Bridge, times: Sequence[float] | Tensor, solver: str = "sde", eta: float | None = None,
    start: float = 0.0, end: float = 1.0, fraction: float = 1.0,
) -> GuidanceSchedule:  # fmt: skip
    """For `bridges.sample_bridge` at ``times`` (descending to 0) with ``solver`` and ``eta``.

    Each step puts its ``z0_hat`` into the next state with the weight that `bridges.StepWeights.data` says, for the
    higher orders too; what a multistep solver takes from the same prediction one step later comes on top.
    ``start``, ``end``, ``fraction`` as `guided_steps`.
    """
    times = checked_times(torch.as_tensor(times))
    weights = tuple(float(step.data) for step, _ in weights_of_steps(bridge, times, solver, eta))
    return GuidanceSchedule(tuple(times.tolist()), guided_steps(len(weights), start, end, fraction), weights)


def check_descending(levels: Sequence[float]) -> None:
    """ValueError unless there are two finite levels or more, each above the next, none below 0."""
    finite = all(math.isfinite(level) for level in levels)
    falls = all(a > b for a, b in zip(levels, levels[1:], strict=False))
    if len(levels) < 2 or not finite or not falls or levels[-1] < 0:
        raise ValueError(f"levels descend from noise to 0, two of them or more, got {[round(x, 4) for x in levels]}")
