"""Curves against closed forms: lines, circles, and the pyramid by which Barry and Goldman define the spline."""

import math

import pytest
import torch

from aqueduct.core.motion.curves import CHORDS, curves_through

FLOAT = torch.float64


def one_curve(points, smooth=True):
    points = torch.tensor(points, dtype=FLOAT)
    return curves_through(points, torch.tensor([len(points)]), torch.tensor([smooth]))


def along(points, share, smooth=True):
    return one_curve(points, smooth).at(torch.as_tensor(share, dtype=FLOAT)[:, None])[:, 0]


def arc(turn, count, radius=100.0):
    angles = torch.linspace(0, turn, count, dtype=FLOAT)
    return (radius * torch.stack([angles.cos(), angles.sin()], dim=-1)).tolist()


def barry_goldman(p, u):
    """Centripetal Catmull-Rom from p[1] to p[2] by repeated linear interpolation. Source: Barry and Goldman 1988."""
    p = [torch.tensor(point, dtype=FLOAT) for point in p]
    t = [0.0]
    for a, b in zip(p, p[1:], strict=False):
        t.append(t[-1] + math.sqrt(float((b - a).norm())))
    x = t[1] + u * (t[2] - t[1])
    mix = lambda a, b, i, j: (t[j] - x) / (t[j] - t[i]) * a + (x - t[i]) / (t[j] - t[i]) * b  # noqa: E731
    a1, a2, a3 = (mix(p[i], p[i + 1], i, i + 1) for i in range(3))
    return mix(mix(a1, a2, 0, 2), mix(a2, a3, 1, 3), 1, 2)


# --- shape ------------------------------------------------------------------------------------------------------------


def test_segments_are_the_centripetal_spline():
    points = [[0.0, 0.0], [10.0, 40.0], [90.0, 35.0], [100.0, -60.0]]
    middle = one_curve(points).coefficients[1]
    for u in (0.0, 0.2, 0.5, 0.83, 1.0):
        expected = barry_goldman(points, u)
        got = sum(middle[k] * u**k for k in range(4))
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-9)


def test_curve_passes_through_every_point_and_ends_exactly():
    points = [[0.0, 0.0], [10.0, 40.0], [90.0, 35.0], [100.0, -60.0], [20.0, -10.0]]
    coefficients = one_curve(points).coefficients
    torch.testing.assert_close(coefficients[:, 0].tolist(), points[:-1])
    torch.testing.assert_close(coefficients.sum(1), torch.tensor(points[1:], dtype=FLOAT))
    torch.testing.assert_close(along(points, [0.0, 1.0]).tolist(), [points[0], points[-1]])


def test_a_circle_stays_one_and_turns_evenly():
    """16 points on three quarters of a circle: within 1/1000 of the radius, at the open ends 1/100."""
    place = along(arc(1.5 * math.pi, 16), torch.linspace(0, 1, 61, dtype=FLOAT))
    radius = place.norm(dim=-1)
    angle = torch.atan2(place[:, 1], place[:, 0]) % (2 * math.pi)
    assert (radius - 100).abs().max() < 1
    assert (radius - 100)[4:-4].abs().max() < 0.1
    steps = angle[1:] - angle[:-1]
    assert (steps / (1.5 * math.pi / 60) - 1).abs().max() < 0.02


def test_two_points_are_a_straight_line_at_even_speed():
    share = torch.linspace(0, 1, 7, dtype=FLOAT)
    expected = torch.tensor([3.0, -4.0], dtype=FLOAT) + share[:, None] * torch.tensor([60.0, 25.0], dtype=FLOAT)
    torch.testing.assert_close(along([[3, -4], [63, 21]], share), expected, rtol=0, atol=1e-9)


def test_straight_curve_is_the_polyline_at_even_speed():
    """30 across, then 40 down: 3/7 of the way lies the corner."""
    place = along([[0, 0], [30, 0], [30, 40]], [0, 3 / 14, 3 / 7, 5 / 7, 1], smooth=False)
    torch.testing.assert_close(place.tolist(), [[0.0, 0.0], [15.0, 0.0], [30.0, 0.0], [30.0, 20.0], [30.0, 40.0]])


@pytest.mark.parametrize("degrees", [15, 60, 120])
def test_places_lie_at_their_share_of_the_length(degrees):
    """Against the length measured on a hundred times finer polyline, within 1/1000 of a segment."""
    turn = math.radians(degrees)
    points = [[0, 0], [100, 0], [100 + 70 * math.cos(turn), 70 * math.sin(turn)], [260, 90]]
    curve = one_curve(points)
    u = torch.linspace(0, 1, 100 * CHORDS + 1, dtype=FLOAT)
    powers = torch.stack([u**k for k in range(4)])
    fine = torch.einsum("skd,ku->sud", curve.coefficients, powers)
    steps = (fine[:, 1:] - fine[:, :-1]).norm(dim=-1)
    length, total = steps.sum(1), steps.sum()
    share = torch.linspace(0, 1, 200, dtype=FLOAT)
    target = share * total
    got = curve.at(share[:, None])[:, 0]
    reached = torch.cat([torch.zeros(1, dtype=FLOAT), steps.flatten().cumsum(0)])
    index = torch.searchsorted(reached, target).clamp(max=len(reached) - 1)
    corners = torch.cat([fine[:1, 0], fine[:, 1:].reshape(-1, 2)])
    assert (got - corners[index]).norm(dim=-1).max() < length.min() / 1000 + steps.max()


# --- many and odd -----------------------------------------------------------------------------------------------------


def test_many_curves_at_once_equal_each_alone():
    generator = torch.Generator().manual_seed(0)
    counts = [1, 5, 2, 1, 9, 3]
    parts = [torch.rand(n, 2, generator=generator, dtype=FLOAT) * 200 for n in counts]
    smooth = torch.tensor([True, True, False, True, True, False])
    share = torch.rand(11, len(counts), generator=generator, dtype=FLOAT)
    together = curves_through(torch.cat(parts), torch.tensor(counts), smooth).at(share)
    for i, part in enumerate(parts):
        alone = along(part.tolist(), share[:, i], bool(smooth[i]))
        torch.testing.assert_close(together[:, i], alone, rtol=0, atol=1e-9)


def test_repeated_points_change_nothing():
    plain = [[0.0, 0.0], [30.0, 40.0], [80.0, 10.0]]
    repeated = [plain[0], plain[0], plain[1], plain[1], plain[1], plain[2], plain[2]]
    share = torch.linspace(0, 1, 9, dtype=FLOAT)
    torch.testing.assert_close(along(repeated, share), along(plain, share))


def test_a_single_place_stays_however_often_it_is_given():
    for points in ([[7.0, 8.0]], [[7.0, 8.0]] * 3):
        assert along(points, [0.0, 0.4, 1.0]).tolist() == [[7.0, 8.0]] * 3
