"""The losses of a training as one picture: every step lightly, their running mean boldly."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from .canvas import INK, PAPER, Overlay, spelled

GRID, EACH, MEAN = (225, 228, 232), (178, 205, 228), (31, 119, 180)
LEFT, RIGHT, TOP, BOTTOM = 58, 16, 34, 40  # pixels around the plot
SHARE, LEAST = 0.05, 10  # of the losses so far: how many the bold line averages, and at least so many
TEXT = 13


def loss_curve(losses: Sequence[float], steps: int | None = None, width: int = 640, height: int = 400) -> Tensor:
    """IMAGE ``[1, height, width, 3]`` in 0..1; the axis ends at ``steps`` (default: where the losses do).

    The bold line is the mean of the last 5 % of the losses up to each step, of 10 at least. Losses that are all
    positive are drawn on a logarithmic scale. Raises ValueError if there are none, or some are not finite.
    """
    values = np.asarray(losses, dtype=np.float64)
    if not len(values) or not np.isfinite(values).all():
        raise ValueError(f"a curve needs finite losses, at least one; got {len(values)}")
    means = running_mean(values)
    scale = np.log10 if values.min() > 0 else np.asarray
    plot = _Plot(width, height, max(steps or 0, len(values)), *_limits(scale(values)))
    _grid(plot, _round_values(values.min(), values.max()), scale)
    _each(plot, scale(values))
    shown = np.unique(np.linspace(0, len(means) - 1, min(len(means), 2 * width)).round().astype(int))
    plot.sheet.line([plot.at(n + 1, scale(means[n])) for n in shown], MEAN, 2)
    count = len(values)
    about = f"loss {spelled(means[-1])} (mean of the last {_window(count)}) after {count} of {plot.steps} steps"
    plot.sheet.text((LEFT, TOP / 2), about, TEXT)
    return torch.from_numpy(plot.sheet.reduced()[..., :3].copy())[None]


def running_mean(values: np.ndarray) -> np.ndarray:
    """Up to each value the mean of the last of them, a fixed share of those so far."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.arange(1, len(values) + 1)
    starts = ends - _window(ends)
    return (sums[ends] - sums[starts]) / (ends - starts)


def _window(count):
    """How many of ``count`` losses are averaged; element by element."""
    return np.minimum(np.maximum(np.rint(SHARE * np.asarray(count)).astype(int), LEAST), count)


class _Plot:
    """Steps from 1 to the right, values (on their scale) upwards, on a sheet of paper."""

    def __init__(self, width: int, height: int, steps: int, low: float, high: float):
        self.sheet = Overlay(height, width, (*PAPER, 255))
        self.steps, self.low, self.high = steps, low, high
        self.right, self.bottom = width - RIGHT, height - BOTTOM

    def at(self, step: float, value: float) -> tuple[float, float]:
        across = (step - 1) / max(1, self.steps - 1)
        up = (value - self.low) / (self.high - self.low)
        return LEFT + across * (self.right - LEFT), self.bottom - up * (self.bottom - TOP)


def _limits(values: np.ndarray) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    room = 0.04 * (high - low) or max(0.05, 0.05 * abs(high))
    return low - room, high + room


def _round_values(low: float, high: float) -> list[float]:
    """Powers of ten times 1, 2 and 5 (or multiples of one of those) between the two: up to about six."""
    if low > 0 and high > 2 * low:
        powers = 10.0 ** np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
        steps = ((1, 2, 5), (1,))
        finer, coarser = ([float(f * p) for p in powers for f in of if low <= f * p <= high] for of in steps)
        found = finer if len(finer) <= 7 else coarser[:: len(coarser) // 8 + 1]
        if len(found) > 1:
            return found
    span = max(high - low, 1e-3 * abs(high), 1e-12)
    step = 10.0 ** np.floor(np.log10(span / 2))
    step *= 1 if span / step <= 5 else 5
    return [float(n * step) for n in np.arange(np.ceil(low / step), np.floor(high / step) + 1)]


def round_steps(last: int) -> range:
    """Steps to name on an axis from 1 to ``last``: multiples of 1, 2 or 5 times a power of ten, six at most."""
    apart = next(unit * 10**power for power in range(20) for unit in (1, 2, 5) if last // (unit * 10**power) <= 6)
    return range(apart, last + 1, apart)


def _grid(plot: _Plot, values: list[float], scale) -> None:
    for value in values:
        x, y = plot.at(1, float(scale(value)))
        plot.sheet.line([(x, y), (plot.right, y)], GRID, 1)
        plot.sheet.text((x - 6, y), f"{value:.3g}", TEXT, anchor="rm")
    for step in round_steps(plot.steps):
        x, _ = plot.at(step, plot.low)
        plot.sheet.line([(x, TOP), (x, plot.bottom)], GRID, 1)
        plot.sheet.text((x, plot.bottom + 5), str(step), TEXT, anchor="rt" if step == plot.steps > 1 else "mt")
    plot.sheet.text(((LEFT + plot.right) / 2, plot.sheet.height - 10), "step", TEXT, anchor="mm", colour=INK)


def _each(plot: _Plot, values: np.ndarray) -> None:
    """From the least to the greatest of the steps that share a column."""
    columns = min(len(values), plot.right - LEFT)
    edges = np.linspace(0, len(values), columns + 1).round().astype(int)
    spans = [values[a : max(b, a + 1)] for a, b in zip(edges[:-1], edges[1:], strict=True)]
    steps = [(a + b + 1) / 2 for a, b in zip(edges[:-1], edges[1:], strict=True)]
    around = [plot.at(step, span.max()) for step, span in zip(steps, spans, strict=True)]
    below = [plot.at(step, span.min()) for step, span in zip(steps, spans, strict=True)]
    for points in (around, below):
        plot.sheet.line(points, EACH, 1)
    for pair in zip(around, below, strict=True):
        plot.sheet.line(pair, EACH, 1)
