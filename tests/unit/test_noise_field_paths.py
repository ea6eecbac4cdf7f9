"""The fast evaluation of a Gaussian field against the sum over its waves, and what must never change a value."""

import math
import statistics
import time

import numpy
import pytest
import torch

from aqueduct.core.noise import FullRank, GaussianField, flat, pixel_centres
from aqueduct.core.noise.direct import direct
from aqueduct.core.noise.gridding import fast_length, lattice_values
from aqueduct.core.noise.lattice import Lattice
from aqueduct.core.noise.window import Window

SIDE = 32
SCALE = 2 / (math.pi * SIDE)


def scattered(count: int, low: float, high: float, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return low + (high - low) * torch.rand(count, 2, generator=generator, dtype=torch.float64)


def relative(got: torch.Tensor, true: torch.Tensor) -> float:
    return ((got - true).norm() / true.norm()).item()


# --- the sum over waves -----------------------------------------------------------------------------------------------


def test_reference_is_the_papers_sum():
    field = GaussianField(3, 2, 0.1, 50)
    waves = field.waves
    z, b, w = waves.frequencies.numpy(), waves.phases.numpy(), waves.weights.numpy()
    points = scattered(7, -1, 2)
    for point, value in zip(points.numpy(), field.reference(points).numpy(), strict=True):
        expected = sum(w[j] * math.cos(z[j] @ point + b[j]) for j in range(50))
        numpy.testing.assert_allclose(value, expected, atol=1e-12)
    assert (abs(z) <= 2 / 0.1).all() and abs(z).max() > 1.7 / 0.1  # cut, and not long before


def test_float32_sum_is_near_the_reference():
    field = GaussianField(0, 4, SCALE)
    points = scattered(500, 0, 1)
    assert relative(direct(field.waves, points, torch.float32), field.reference(points)) < 1e-5


# --- the window and the transform, each against its definition --------------------------------------------------------


@pytest.mark.parametrize(("width", "error"), [(4, 3e-5), (5, 2e-6), (6, 1e-7), (8, 1e-9)])
def test_window_polynomials_are_the_bessel_window(width, error):
    window, share = Window(width), torch.linspace(0, 1 - 1e-9, 1001, dtype=torch.float64)
    for tap, values in enumerate(window.taps(share)):
        t = (share + tap - width / 2).numpy()
        exact = numpy.i0(window.beta * numpy.sqrt(1 - (2 * t / width) ** 2)) / numpy.i0(window.beta)
        assert abs(values.numpy() - exact).max() < error


def test_window_transform_is_its_fourier_integral():
    window = Window(6)
    nodes, weights = numpy.polynomial.legendre.leggauss(200)
    t = torch.from_numpy(3 * nodes)
    for omega in (0.0, 0.7, math.pi / 2):
        integral = (3 * torch.from_numpy(weights) * window(t) * torch.cos(omega * t)).sum()
        assert window.transform(torch.tensor(omega, dtype=torch.float64)).item() == pytest.approx(integral.item())


def test_window_ends_where_it_says():
    t = torch.tensor([-3.01, -2.99, 0.0, 2.99, 3.01], dtype=torch.float64)
    assert (Window(6)(t) > 0).tolist() == [False, True, True, True, False]


@pytest.mark.parametrize(("start", "size"), [((0, 0), (16, 16)), ((-40, 7), (21, 34)), ((1000, -3), (13, 9))])
def test_lattice_values_are_the_sum_at_lattice_points(start, size):
    waves = GaussianField(1, 3, SCALE, 200).waves
    step = (0.5 / SIDE, 0.4 / SIDE)  # at the least oversampling, and above it
    x, y = (first + torch.arange(count, dtype=torch.float64) for first, count in zip(start, size, strict=True))
    points = torch.stack(torch.meshgrid(x * step[0], y * step[1], indexing="xy"), dim=-1)
    true = direct(waves, points.reshape(-1, 2)).T.reshape(3, size[1], size[0])
    assert relative(lattice_values(waves, Window(8), start, size, step), true) < 2e-6


def test_fast_lengths():
    assert [fast_length(least) for least in (1, 7, 23, 97, 600, 601)] == [2, 8, 24, 98, 600, 630]


# --- fast against reference -------------------------------------------------------------------------------------------

FIELDS = {
    "paper": {"length_scale": SCALE},
    "one wave": {"length_scale": SCALE, "features": 1},
    "full rank": {"length_scale": SCALE, "features": FullRank()},
    "flat": {"length_scale": SCALE, "features": FullRank(), "spectrum": flat},
    "wide": {"length_scale": 3.0},
    "two scales": {"length_scale": (SCALE, 0.37 * SCALE)},
    "truncation": {"length_scale": SCALE, "truncation": 0.5},
    "odd": {"length_scale": 0.0717, "features": 777, "truncation": 3.3},
}


@pytest.mark.parametrize("arguments", FIELDS.values(), ids=FIELDS)
@pytest.mark.parametrize("channels", [1, 5])
def test_fast_is_the_reference(arguments, channels):
    field = GaussianField(7, channels, **arguments)
    for low, high in ((0, 1), (-0.5, 1.5)):
        points = scattered(800, low, high)
        # Against the field's standard deviation of 1: one that hardly varies may be anywhere near 0.
        assert (field.evaluate(points) - field.reference(points)).square().mean().sqrt() < 2e-5


def test_far_points_and_tile_seams():
    field = GaussianField(7, 2, SCALE)
    lattice = field._lattice
    seams = torch.tensor([(lattice.first[0] + 3) / lattice.per_unit[0] + tile * lattice.tile[0] / lattice.per_unit[0]
                          for tile in (-1, 0, 1, 2)], dtype=torch.float64)  # fmt: skip
    around = (seams[:, None] + torch.linspace(-1e-3, 1e-3, 21, dtype=torch.float64)).flatten()
    points = torch.cat([
        torch.stack([around, torch.full_like(around, 0.3)], 1), torch.stack([around.flip(0), around], 1),
        scattered(200, -20, 20), scattered(20, -1e5, 1e5), torch.tensor([[1e6, -1e6]]).double(),
    ])  # fmt: skip
    error = (field.evaluate(points) - field.reference(points)).abs()
    assert error.max() < 1e-4
    assert len(lattice._tables) > 9  # many tiles took part


def test_small_tiles_and_a_small_cache_change_nothing(monkeypatch):
    points = scattered(500, -1, 2)
    expected = GaussianField(7, 2, SCALE).evaluate(points)
    monkeypatch.setattr("aqueduct.core.noise.lattice.LARGEST_TILE", 30)
    monkeypatch.setattr("aqueduct.core.noise.lattice.CACHE_BYTES", 1)
    field = GaussianField(7, 2, SCALE)
    assert relative(field.evaluate(points), expected) < 2e-5
    assert field._lattice.tile == (30, 30) and len(field._lattice._tables) == 1


def test_large_tables_without_rows_of_taps(monkeypatch):
    points = scattered(500, 0, 1)
    expected = GaussianField(7, 2, SCALE).evaluate(points)
    monkeypatch.setattr("aqueduct.core.noise.lattice.TABLE_BYTES", 0)
    field = GaussianField(7, 2, SCALE)
    assert relative(field.evaluate(points), expected) < 2e-6
    assert next(iter(field._lattice._tables.values())).shape[1] == 2


def test_a_kernel_that_fails_costs_speed_and_a_warning_only(monkeypatch, caplog):
    def broken(*arguments):
        raise RuntimeError("no compiler")

    points = scattered(500, 0, 1)
    monkeypatch.setattr("aqueduct.core.noise.lattice.TABLE_BYTES", 0)  # the tables that kernels read
    expected = GaussianField(7, 2, SCALE).evaluate(points)
    monkeypatch.setattr("aqueduct.core.noise.gather.fused_kernel", lambda device: broken)
    field = GaussianField(7, 2, SCALE)
    assert torch.equal(field.evaluate(points), expected) and torch.equal(field.evaluate(points), expected)
    assert [record.getMessage().endswith("(no compiler)") for record in caplog.records] == [True]


@pytest.mark.parametrize("width", [3, 4, 5, 6, 7])
def test_error_falls_tenfold_with_each_step_of_the_window(width):
    field = GaussianField(0, 4, SCALE)
    points = scattered(500, 0, 1)
    assert relative(Lattice(field.waves, width).evaluate(points), field.reference(points)) < 8e-3 / 10 ** (width - 3)


# --- what must not change a value -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def field():
    return GaussianField(11, 4, SCALE)


def test_grid_is_evaluate_at_its_points(field):
    grid = field.grid(SIDE, SIDE + 9)
    y, x = 5, 33
    point = torch.tensor([(x + 0.5) / (SIDE + 9), (y + 0.5) / SIDE], dtype=torch.float64)
    assert grid.dtype == torch.float32 and grid.shape == (4, SIDE, SIDE + 9)
    assert torch.equal(grid[:, y, x], field.evaluate(point))
    assert torch.equal(grid, field.evaluate(pixel_centres(SIDE, SIDE + 9)).movedim(-1, 0))


def test_integer_shift_is_the_shifted_grid(field):
    grid = field.grid(SIDE, SIDE)
    shifted = field.evaluate(pixel_centres(SIDE, SIDE).float() + torch.tensor([3.0, -2.0]) / SIDE).movedim(-1, 0)
    assert torch.equal(shifted[:, 2:, :-3], grid[:, :-2, 3:])
    assert not torch.equal(shifted, grid)


@pytest.mark.parametrize("low", [0.0, -7.0])
def test_batches_and_order_change_no_bit(field, low):
    points = scattered(5000, low, 1).float()
    whole = field.evaluate(points)
    order = torch.randperm(5000, generator=torch.Generator().manual_seed(0))
    near = (points.abs() < 3).all(1)  # beyond, the sum's matrix products may round with their sizes
    for other in (
        torch.cat([field.evaluate(part) for part in points.split([1, 2, 14, 983, 4000])]),
        field.evaluate(points[order])[order.argsort()],
        GaussianField(11, 4, SCALE).evaluate(points.view(50, 100, 2)).view(5000, 4),
    ):
        assert torch.equal(other[near], whole[near])
        torch.testing.assert_close(other, whole, atol=1e-6, rtol=0)


def test_same_seed_same_field_in_every_dtype(field):
    points = pixel_centres(16, 16)  # exact in every dtype
    expected = GaussianField(11, 4, SCALE).evaluate(points)
    for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
        got = field.evaluate(points.to(dtype))
        assert got.dtype == torch.float32 and torch.equal(got, expected)
    assert not torch.equal(GaussianField(12, 4, SCALE).evaluate(points), expected)


def test_all_64_bits_of_a_seed_count():
    point = torch.tensor([0.3, 0.4])
    seeds = (0, 1, 1 << 32, 1 << 63, (1 << 64) - 1)
    assert len({GaussianField(seed, 1, SCALE, 10).evaluate(point).item() for seed in seeds}) == len(seeds)


def test_first_channels_do_not_depend_on_how_many_follow():
    few, many = (GaussianField(5, channels, SCALE, 100).reference(scattered(9, 0, 1)) for channels in (2, 6))
    torch.testing.assert_close(few, many[:, :2], atol=1e-12, rtol=0)


def test_default_dtype_and_global_generator_have_no_part(field):
    points = scattered(50, 0, 1)
    expected = field.evaluate(points)
    torch.manual_seed(99)
    state = torch.random.get_rng_state()
    torch.set_default_dtype(torch.float64)
    try:
        again = GaussianField(11, 4, SCALE).evaluate(points)
    finally:
        torch.set_default_dtype(torch.float32)
    assert again.dtype == torch.float32 and torch.equal(again, expected)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_no_points_are_no_values(field):
    assert field.evaluate(torch.empty(0, 3, 2)).shape == (0, 3, 4)
    assert field.reference(torch.empty(0, 2)).shape == (0, 4)
    assert field.evaluate(torch.tensor([0.1, 0.2])).shape == (4,)


# --- speed ------------------------------------------------------------------------------------------------------------


def test_fast_is_fast():
    """Against the best sum in torch, in the same run, all that is prepared included. Measured: see benchmarks/noise."""
    points = scattered(1 << 14, 0, 1).float()

    def seconds(work) -> float:
        started = time.process_time()
        work()
        return time.process_time() - started

    ratios = []
    for seed in range(3):
        waves = GaussianField(seed, 4, 2 / (math.pi * 64)).waves
        lattice, four_frames = Lattice(waves), points.repeat(4, 1)
        slow = 4 * seconds(lambda waves=waves: direct(waves, points, torch.float32))
        ratios.append(slow / seconds(lambda lattice=lattice, many=four_frames: lattice.evaluate(many)))
    assert statistics.median(ratios) > 10
