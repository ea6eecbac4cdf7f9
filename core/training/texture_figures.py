"""Outlines and patterns as formulas of continuous coordinates, for scenes whose true answer is known at every size."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

# ([m, s, s], [m, s, s]) in the frame of a shape of circumradius 1 -> distance to its outline, positive inside
Outline = Callable[[Tensor, Tensor], Tensor]
# (u, v: coordinates along and across, period, the width of a pixel) -> share of the second colour, 0..1
Pattern = Callable[[Tensor, Tensor, Tensor, float], Tensor]


def _folded(x: Tensor, y: Tensor, folds: int) -> tuple[Tensor, Tensor]:
    """The point turned and mirrored into the first half sector of a ``folds``-fold symmetric figure."""
    angle, sector = torch.atan2(y, x), 2 * math.pi / folds
    angle = angle - sector * (angle / sector).round()
    radius = torch.hypot(x, y)
    return radius * angle.cos(), radius * angle.sin().abs()


def _disc(x: Tensor, y: Tensor) -> Tensor:
    return 1 - torch.hypot(x, y)


def _ring(x: Tensor, y: Tensor) -> Tensor:
    radius = torch.hypot(x, y)
    return torch.minimum(1 - radius, radius - 0.5)


def _square(x: Tensor, y: Tensor) -> Tensor:
    return math.sqrt(0.5) - torch.maximum(x.abs(), y.abs())


def _triangle(x: Tensor, y: Tensor) -> Tensor:
    return 0.5 - _folded(x, y, 3)[0]


def _cross(x: Tensor, y: Tensor) -> Tensor:
    x, y, arm, width = x.abs(), y.abs(), 0.95, 0.3
    return torch.maximum(torch.minimum(arm - x, width - y), torch.minimum(width - x, arm - y))


def _star(x: Tensor, y: Tensor) -> Tensor:
    """Five points; the notches lie at 0.42 of the radius. Half of one point is a single straight edge, folded."""
    x, y = _folded(x, y, 5)
    notch_x, notch_y = 0.42 * math.cos(math.pi / 5), 0.42 * math.sin(math.pi / 5)
    return ((1 - x) * notch_y - y * (1 - notch_x)) / math.hypot(1 - notch_x, notch_y)


KINDS: dict[str, Outline] = {
    "disc": _disc,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "cross": _cross,
    "ring": _ring,
}


def covered(distance: Tensor, pixel: float) -> Tensor:
    """Share, 0 to 1: how much of a pixel a straight edge covers at this signed distance from its centre."""
    return (0.5 + distance / pixel).clamp(0, 1)


def _to_edge(u: Tensor, period: Tensor) -> Tensor:
    """Distance to the nearest edge of bands half a period wide, positive in the band around 0."""
    return period / 4 - (u - period * (u / period).round()).abs()


def _plain(u: Tensor, v: Tensor, period: Tensor, pixel: float) -> Tensor:
    return torch.zeros_like(u)


def _stripes(u: Tensor, v: Tensor, period: Tensor, pixel: float) -> Tensor:
    return covered(_to_edge(u, period), pixel)


def _checks(u: Tensor, v: Tensor, period: Tensor, pixel: float) -> Tensor:
    one, other = covered(_to_edge(u, period), pixel), covered(_to_edge(v, period), pixel)
    return one * other + (1 - one) * (1 - other)


def _dots(u: Tensor, v: Tensor, period: Tensor, pixel: float) -> Tensor:
    away = torch.hypot(u - period * (u / period).round(), v - period * (v / period).round())
    return covered(0.32 * period - away, pixel)


def _waves(u: Tensor, v: Tensor, period: Tensor, pixel: float) -> Tensor:
    return _stripes(u + 0.2 * period * (2 * math.pi * v / (1.7 * period)).sin(), v, period, pixel)


def _noise(u: Tensor, v: Tensor, period: Tensor, pixel: float) -> Tensor:
    """Soft and without a visible period: three waves of unrelated lengths and directions."""
    k = 2 * math.pi / period
    waves = (k * u).sin() + (k * (0.53 * u + 1.13 * v) + 1).sin() + (k * (0.41 * u - 0.61 * v) + 2).sin()
    return 0.5 + waves / 6


PATTERNS: dict[str, Pattern] = {
    "plain": _plain,
    "stripes": _stripes,
    "checks": _checks,
    "dots": _dots,
    "waves": _waves,
    "noise": _noise,
}
