"""The law of a Gaussian field: what its values and their covariances are, over draws. Seeds are fixed.

Statistical bounds: 4.5 standard errors, which a right field exceeds with probability 7e-6 for each number compared, or
a Kolmogorov-Smirnov test at level 1e-4.
"""

import math

import numpy
import pytest
import torch
from scipy import stats

from aqueduct.core.noise import FullRank, GaussianField, finest_length_scale, flat, pixel_centres, truncated_normal

SIGMAS = 4.5
PIXELS = 64
PAPER = 2 / (math.pi * PIXELS)
RANKS = pytest.mark.parametrize("features", [300, FullRank(1.0)], ids=["independent", "full rank"])


def truncated_normal_covariance(distance, length_scale, bound):
    """Real part of the characteristic function of N(0, 1) on [-bound, bound], by quadrature of its density."""
    nodes, weights = numpy.polynomial.legendre.leggauss(200)
    density = numpy.exp(-((nodes * bound) ** 2) / 2) * weights
    return float((density * numpy.cos(nodes * bound * distance / length_scale)).sum() / density.sum())


def flat_covariance(distance, length_scale, bound):
    return float(numpy.sinc(distance / length_scale * bound / math.pi))


LAWS = pytest.mark.parametrize(
    ("spectrum", "covariance"),
    [(truncated_normal, truncated_normal_covariance), (flat, flat_covariance)],
    ids=["truncated normal", "flat"],
)
# In pixels: along the axes, diagonal, sub-pixel; each also at points outside the frame.
LAGS = [(0, 0), (0.5, 0), (1, 0), (0, 1), (2, 0), (3, 0), (0, 4), (1, 1), (0.5, -1), (0.3, 0.6)]


def far_apart(side: int = 4) -> torch.Tensor:
    """Points of [-1, 2]^2 that are many length scales from each other, float64 [side^2, 2]."""
    return 3 * pixel_centres(side, side).reshape(-1, 2) - 1


@RANKS
@LAWS
@pytest.mark.parametrize("truncation", [2.0, 1.0])
def test_covariance_is_the_characteristic_function_of_the_frequencies(features, spectrum, covariance, truncation):
    draws = 200
    length_scale = truncation / (math.pi * PIXELS)
    start = far_apart()
    points = torch.stack([start + torch.tensor(lag, dtype=torch.float64) / PIXELS for lag in LAGS])
    products = []
    for seed in range(draws):
        field = GaussianField(seed, 4, length_scale, features, truncation, spectrum)
        values = field.reference(points)
        products.append((values[:1] * values).mean((1, 2)))
    products = torch.stack(products)
    error = products.std(0) / math.sqrt(draws)
    for lag, got, spread in zip(LAGS, products.mean(0), error, strict=True):
        x, y = (covariance(step / PIXELS, length_scale, truncation) for step in lag)
        assert abs(got.item() - x * y) < SIGMAS * spread.item(), lag
        assert spread < 0.015  # the bound above is worth something: a Gaussian covariance would be 0.03 to 0.05 off


def test_the_papers_covariance_is_not_squared_exponential():
    """What the truncation does: the numbers that a covariance of the wrong law would not give."""
    one, diagonal = (truncated_normal_covariance(1 / PIXELS, PAPER, 2.0) ** power for power in (1, 2))
    assert one == pytest.approx(0.341, abs=1e-3) and diagonal == pytest.approx(0.116, abs=1e-3)
    assert math.exp(-((1 / PIXELS / PAPER) ** 2) / 2) == pytest.approx(0.291, abs=1e-3)


def test_two_length_scales_are_those_of_x_and_y():
    field = GaussianField(0, 20, (PAPER, 4 * PAPER), 3000)
    values = field.reference(pixel_centres(16, 16) + torch.tensor([0.5, 3.0]))
    beside = field.reference(pixel_centres(16, 16) + torch.tensor([0.5 + 1 / PIXELS, 3.0]))
    below = field.reference(pixel_centres(16, 16) + torch.tensor([0.5, 3.0 + 1 / PIXELS]))
    along_x, along_y = ((values * other).mean() / values.square().mean() for other in (beside, below))
    assert along_x.item() == pytest.approx(0.341, abs=0.05)
    assert along_y.item() == pytest.approx(truncated_normal_covariance(1 / PIXELS, 4 * PAPER, 2.0), abs=0.03)


@RANKS
@pytest.mark.parametrize("spectrum", [truncated_normal, flat])
def test_one_value_is_standard_normal(features, spectrum):
    if features == 300:
        features = 3000  # few waves make the variance given the waves vary, and the tails with it
    values = [
        GaussianField(seed, 4, PAPER, features, spectrum=spectrum).reference(torch.tensor([[0.2, 0.9]]))
        for seed in range(500)
    ]
    assert stats.kstest(torch.cat(values).flatten().numpy(), "norm").pvalue > 1e-4


@RANKS
def test_channels_and_seeds_are_independent(features):
    points = pixel_centres(16, 16)
    length_scale = 2 / (math.pi * 64)  # a fourth of the distance between the points
    values = torch.stack([GaussianField(seed, 3, length_scale, features).reference(points) for seed in range(60)])
    values = values.flatten(1, 2)
    pairs = [(values[..., 0], values[..., 1]), (values[..., 1], values[..., 2]), (values[:-1], values[1:])]
    for one, other in pairs:
        means = (one * other).flatten(1).mean(1)
        assert abs(means.mean().item()) < SIGMAS * means.std().item() / math.sqrt(len(means))
        assert means.std() < 0.2


def test_the_flat_spectrum_is_white_on_its_grid_and_under_translation():
    """Lag correlations over a whole grid, 60 draws: 4.5 / sqrt(60 * 32 * 31) = 0.018."""
    side, shift = 32, torch.tensor([0.37, -0.81]) / 32
    fields = [GaussianField(seed, 1, 2 / (math.pi * side), FullRank(), spectrum=flat) for seed in range(60)]
    for points in (pixel_centres(side, side), pixel_centres(side, side) + shift):
        values = torch.stack([field.evaluate(points)[..., 0] for field in fields])
        neighbours = [values[:, 1:] * values[:, :-1], values[..., 1:] * values[..., :-1]]
        neighbours.append(values[:, 1:, 1:] * values[:, :-1, :-1])
        assert all(abs(products.mean().item()) < 0.018 for products in neighbours)
        assert values.square().mean().item() == pytest.approx(1, abs=0.03)


def test_full_rank_brings_one_draw_nearer_to_its_law():
    """Given the waves, channels are independent normal vectors; with few waves their covariance is low-rank."""
    side = 16
    steps = (torch.arange(side)[:, None] - torch.arange(side)).flatten().tolist()
    axis = torch.tensor([truncated_normal_covariance(step / PIXELS, PAPER, 2.0) for step in steps]).view(side, side)
    true = torch.kron(axis, axis)  # over y, then x, as the points below
    points = pixel_centres(side, side).reshape(-1, 2) * side / PIXELS

    def error(features):
        waves = GaussianField(0, 300, PAPER, features).waves
        power = waves.weights.square().mean(1)  # over the channels: the squared amplitudes
        basis = (points @ waves.frequencies.T + waves.phases).cos() * power.sqrt()
        return ((basis @ basis.T - true).norm() / true.norm()).item()

    assert error(FullRank()) < error(3000) / 2


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": 0}, "features must be 1 or more, got 0"),
        ({"channels": 0}, "channels must be 1 or more, got 0"),
        ({"length_scale": 0.0}, r"length_scale must be one positive number .* got \(0.0, 0.0\)"),
        ({"length_scale": (0.1, math.nan)}, "length_scale must be one positive number .* nan"),
        ({"length_scale": (0.1, 0.1, 0.1)}, "length_scale must be one positive number or two"),
        ({"truncation": 0.0}, r"truncation must be in \(0, 8\], got 0.0"),
        ({"truncation": math.inf}, r"truncation must be in \(0, 8\], got inf"),
    ],
)
def test_bad_arguments_are_named(change, message):
    arguments = {"seed": 0, "channels": 1, "length_scale": 0.1} | change
    with pytest.raises(ValueError, match=message):
        GaussianField(**arguments)


def test_a_cover_under_the_unit_square_is_an_error():
    with pytest.raises(ValueError, match="cover must be at least 1.* got 0.5"):
        FullRank(0.5)


def test_a_grid_under_the_sampling_limit_is_an_error_with_both_numbers():
    field = GaussianField(0, 1, PAPER, 10)
    assert field.grid(PIXELS, PIXELS).shape == (1, PIXELS, PIXELS)
    with pytest.raises(ValueError, match=r"length scale 0.00994718 along y .* = 0.0101051"):
        field.grid(PIXELS - 1, PIXELS)
    with pytest.raises(ValueError, match="at least one pixel"):
        field.grid(0, 4)
    assert finest_length_scale(PIXELS, 2 * PIXELS) == pytest.approx((PAPER / 2, PAPER))


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (torch.zeros(4, 3), r"points must be floating point \[..., 2\], \(x, y\), got torch.float32 \[4, 3\]"),
        (torch.zeros(4, 2, dtype=torch.int64), "got torch.int64"),
        (torch.tensor([[0.0, math.nan]]), "points must be finite"),
        (torch.tensor([[0.0, 1e7]]), r"within 1e\+06 unit squares, got values in \[0, 1e\+07\]"),
    ],
)
def test_bad_points_are_named(points, message):
    with pytest.raises(ValueError, match=message):
        GaussianField(0, 1, 0.1, 10).evaluate(points)
