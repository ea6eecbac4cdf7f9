"""Smooth curves through control points, travelled at an even speed: many curves of any length at once.

Every curve is a chain of cubics ``p(u) = c_0 + c_1 u + c_2 u^2 + c_3 u^3``, ``0 <= u <= 1``. A smooth chain is the
centripetal Catmull-Rom spline (Barry and Goldman 1988; knots ``|P_{i+1} - P_i|^{1/2}``, which alone rules out cusps and
loops within a segment: Yuksel, Schaefer and Keyser 2011), a straight one has ``c_2 = c_3 = 0``. All segments of all
curves lie in one array, so that ten thousand curves cost a handful of tensor operations.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

# Chords per segment in the table of lengths. A place found through it is exactly on the curve; along the curve it is
# off by less than 1/1000 of the segment (measured on turns of up to 120 degrees, tests/unit/test_motion_curves.py).
CHORDS = 32
# Neighbouring points closer than this many pixels are one point: no direction can be read from them.
SAME_POINT = 1e-6


@dataclass(frozen=True)
class Curves:
    """N curves: ``coefficients`` float64 [S, 4, 2] of all segments in order, ``counts`` int64 [N] segments of each.

    A curve without segments (a single place) has count 0 and stays at its row of ``origins`` float64 [N, 2].
    """

    coefficients: Tensor
    counts: Tensor
    origins: Tensor

    def at(self, share: Tensor) -> Tensor:
        """Places on the curves: ``share`` float64 [T, N] of each curve's length, in 0..1 -> float64 [T, N, 2]."""
        places = self.origins.expand(*share.shape, 2).clone()
        moving = self.counts > 0
        if bool(moving.any()):
            places[:, moving] = self._along(share[:, moving], self.counts[moving])
        return places

    def _along(self, share: Tensor, counts: Tensor) -> Tensor:
        chords = self._chord_lengths().flatten()
        # One running length over all curves: each curve's own part starts where the one before it ended.
        reached = torch.cat([chords.new_zeros(1), chords.cumsum(0)])
        last = counts.cumsum(0) * CHORDS
        first = last - counts * CHORDS
        target = reached[first] + share * (reached[last] - reached[first])
        chord = torch.searchsorted(reached, target.contiguous(), right=True) - 1
        chord = chord.clamp(min=first.expand_as(chord), max=(last - 1).expand_as(chord))
        inside = ((target - reached[chord]) / chords[chord]).clamp(0, 1)
        return _evaluate(self.coefficients[chord // CHORDS], (chord % CHORDS + inside) / CHORDS)

    def _chord_lengths(self) -> Tensor:
        """float64 [S, CHORDS]."""
        u = torch.linspace(0, 1, CHORDS + 1, dtype=torch.float64).expand(len(self.coefficients), -1)
        corners = _evaluate(self.coefficients[:, None], u)
        return (corners[:, 1:] - corners[:, :-1]).norm(dim=-1)


def curves_through(points: Tensor, counts: Tensor, smooth: Tensor) -> Curves:
    """Curves through control points.

    ``points`` float64 [P, 2]: those of all curves, one curve after the other; ``counts`` int64 [N]: how many each has,
    at least 1; ``smooth`` bool [N]. A point that repeats the one before it adds nothing.
    Units: pixels. The shape depends on the unit of x against that of y, so normalised coordinates will not do.
    """
    curve = torch.repeat_interleave(torch.arange(len(counts)), counts)
    same_curve = curve[1:] == curve[:-1]
    origins = points[counts.cumsum(0) - counts]
    fresh = torch.ones(len(points), dtype=torch.bool)
    fresh[1:] = ~(same_curve & ((points[1:] - points[:-1]).norm(dim=-1) < SAME_POINT))
    points, curve = points[fresh], curve[fresh]

    start = torch.nonzero(curve[1:] == curve[:-1]).squeeze(1)
    here, there = points[start], points[start + 1]
    # Beyond its ends a curve goes on as it came: the missing neighbour is the mirror image of the one inside.
    has_before = (start > 0) & (curve[(start - 1).clamp(min=0)] == curve[start])
    after = (start + 2).clamp(max=len(points) - 1)
    has_after = (start + 2 < len(points)) & (curve[after] == curve[start])
    before_point = torch.where(has_before[:, None], points[(start - 1).clamp(min=0)], 2 * here - there)
    after_point = torch.where(has_after[:, None], points[after], 2 * there - here)

    coefficients = _catmull_rom(before_point, here, there, after_point)
    straight = torch.stack([here, there - here, torch.zeros_like(here), torch.zeros_like(here)], dim=1)
    coefficients = torch.where(smooth[curve[start]][:, None, None], coefficients, straight)
    return Curves(coefficients, torch.bincount(curve[start], minlength=len(counts)), origins)


def _catmull_rom(p0: Tensor, p1: Tensor, p2: Tensor, p3: Tensor) -> Tensor:
    """Coefficients [S, 4, 2] from p1 to p2: cubic Hermite with the tangents of the centripetal spline."""
    d01, d12, d23 = ((b - a).norm(dim=-1, keepdim=True).sqrt() for a, b in ((p0, p1), (p1, p2), (p2, p3)))
    tangent1 = d12 * ((p1 - p0) / d01 - (p2 - p0) / (d01 + d12)) + (p2 - p1)
    tangent2 = d12 * ((p3 - p2) / d23 - (p3 - p1) / (d12 + d23)) + (p2 - p1)
    step = p2 - p1
    return torch.stack([p1, tangent1, 3 * step - 2 * tangent1 - tangent2, tangent1 + tangent2 - 2 * step], dim=1)


def _evaluate(coefficients: Tensor, u: Tensor) -> Tensor:
    """Cubics ``coefficients`` [..., 4, 2] at ``u`` [...]: [..., 2], by Horner's rule."""
    u = u[..., None]
    c0, c1, c2, c3 = coefficients.unbind(-2)
    return c0 + u * (c1 + u * (c2 + u * c3))
