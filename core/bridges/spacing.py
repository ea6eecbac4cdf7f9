"""Where a sampler evaluates: descending bridge times from T (or next to it) to 0."""

import math

import torch
from torch import Tensor

from .process import Bridge, checked_time

T_MIN, T_MAX = 1e-3, 1 - 1e-3  # inner ends of the spacings in half-log-SNR and Karras ...
RATIO_MIN, RATIO_MAX = 0.002, 80.0  # ... which never cover less than EDM's range of noise-to-signal ratios c/a


def times(bridge: Bridge, steps: int, spacing: str = "uniform") -> Tensor:
    """Bridge times, float64 ``[steps + 1]``, descending, last 0. ``steps`` is the number of network evaluations.

    ``uniform``: from T in equal steps. ``trailing`` and ``inclusive``: the spacings FrameBridge's released models were
    sampled with, ``t_i = (i + 1)/1001``: i from 999 down in equal steps (CogVideoX), or from 999 to 0, both included
    (Latte). ``bbdm``: that of BBDM's released models. These three start just below T, without noise.
    ``half_log_snr``: T, then uniform in ``log(a/c)`` (DBIM). ``karras``: T, then the Karras rho = 7 spacing of ``c/a``.

    Raises ValueError for fewer than one step or an unknown spacing.
    """
    if int(steps) != steps or steps < 1:
        raise ValueError(f"steps must be a whole number of at least 1, got {steps}")
    if spacing not in SPACINGS:
        raise ValueError(f"unknown spacing {spacing!r}; choose from {', '.join(SPACINGS)}")
    inner = SPACINGS[spacing](bridge, int(steps))
    return torch.cat([inner, inner.new_zeros(1)])


def _uniform(bridge: Bridge, steps: int) -> Tensor:
    return torch.arange(steps, 0, -1, dtype=torch.float64) / steps


def _trailing(bridge: Bridge, steps: int) -> Tensor:
    """Source: FrameBridge's released CogVideoX sampler."""
    return _at_indices(torch.round(torch.arange(steps, 0, -1, dtype=torch.float64) * (1000 / steps)) - 1)


def _inclusive(bridge: Bridge, steps: int) -> Tensor:
    """Source: FrameBridge's released Latte sampler."""
    return _at_indices(torch.linspace(999, 0, steps, dtype=torch.float64))


def _at_indices(indices: Tensor) -> Tensor:
    """``(i + 1)/1001`` of the nearest whole indices, of which there are 1000."""
    if len(indices) > 1000:
        raise ValueError(f"this spacing picks from 1000 indices, got {len(indices)} steps")
    return (indices.round() + 1) / 1001


def _bbdm(bridge: Bridge, steps: int) -> Tensor:
    """From index 999 down in equal steps, rounded down, then 1 and 0, of the times ``linspace(0.001, 0.999, 1000)``.

    Source: BBDM's released sampler, whose checkpoints are sampled in 200 steps.
    """
    if steps > 501:
        raise ValueError(f"bbdm picks from every second of 1000 indices at the most, in up to 501 steps; got {steps}")
    even = max(steps - 2, 1)
    indices = [999 * k // even for k in range(even, 0, -1)] + [1, 0][max(3 - steps, 0) :]
    return torch.linspace(0.001, 0.999, 1000, dtype=torch.float64)[indices]


def _after_T(bridge: Bridge, inner: Tensor) -> Tensor:
    return torch.cat([inner.new_ones(1), inner])


def _inner_ends(bridge: Bridge) -> tuple[Tensor, Tensor]:
    """Least and greatest ``lambda`` of the inner times. Nearly noiseless processes (LBM) need times very close to T."""
    low = bridge.half_log_snr(T_MAX).clamp_max(-math.log(RATIO_MAX))
    return low, bridge.half_log_snr(T_MIN).clamp_min(-math.log(RATIO_MIN))


def _half_log_snr(bridge: Bridge, steps: int) -> Tensor:
    low, high = _inner_ends(bridge)
    share = torch.linspace(0, 1, max(steps - 1, 0), dtype=torch.float64)
    return _after_T(bridge, time_of_half_log_snr(bridge, low + (high - low) * share))


def _karras(bridge: Bridge, steps: int, rho: float = 7.0) -> Tensor:
    most, least = ((-value).exp() ** (1 / rho) for value in _inner_ends(bridge))
    share = torch.linspace(0, 1, max(steps - 1, 0), dtype=torch.float64)
    ratio = (most + (least - most) * share) ** rho
    return _after_T(bridge, time_of_half_log_snr(bridge, -ratio.log()))


SPACINGS = {
    "uniform": _uniform,
    "trailing": _trailing,
    "inclusive": _inclusive,
    "half_log_snr": _half_log_snr,
    "karras": _karras,
    "bbdm": _bbdm,
}


def time_of_half_log_snr(bridge: Bridge, value: Tensor) -> Tensor:
    """The time at which ``log(a/c)`` equals ``value`` (any shape), by bisection to float64 precision."""
    value = torch.as_tensor(value, dtype=torch.float64)
    low, high = torch.zeros_like(value), torch.ones_like(value)
    for _ in range(80):
        middle = 0.5 * (low + high)
        early = bridge.half_log_snr(middle) > value  # too close to the data: go up
        low, high = torch.where(early, middle, low), torch.where(early, high, middle)
    return 0.5 * (low + high)


def checked_times(given: Tensor) -> Tensor:
    """``given`` as float64 bridge times that descend strictly and end in 0. Raises ValueError saying what is wrong."""
    given = torch.as_tensor(given)
    if given.dim() != 1 or given.numel() < 2:
        raise ValueError(f"a schedule is a list of at least two times, got shape {list(given.shape)}")
    if not bool(torch.isfinite(given).all()):
        raise ValueError("the schedule holds values that are not finite")
    if given.max() > 1:
        raise ValueError(
            f"bridge times lie in [0, 1], got values up to {given.max().item():.4g}: these are the SIGMAS of a noise "
            f"scheduler; make bridge times with AqueductBridgeTimes (`core.bridges.times`)"
        )
    given = checked_time(given.cpu())
    if not bool((given[1:] < given[:-1]).all()):
        raise ValueError(f"bridge times must descend from T to 0, got {_short(given)}")
    if given[-1] != 0:
        raise ValueError(
            f"bridge times must end in 0, got {_short(given)}; do not split or trim the end of the schedule"
        )
    return given


def _short(values: Tensor) -> str:
    listed = [f"{v:.4g}" for v in values.tolist()]
    return ", ".join(listed if len(listed) <= 8 else [*listed[:4], "...", *listed[-2:]])
