"""Densifiers: each against a closed form or an independent solution of the problem it states."""

import math

import numpy as np
import pytest
import torch
from scipy.interpolate import RBFInterpolator

from aqueduct.core.motion.densify import DENSIFIERS
from aqueduct.core.motion.densify.edge_aware import BARRIER, edge_aware
from aqueduct.core.motion.densify.gaussian import gaussian
from aqueduct.core.motion.densify.nearest import nearest
from aqueduct.core.motion.densify.rigid import _similarity, dominant_similarity, rigid
from aqueduct.core.motion.densify.scattered import merged
from aqueduct.core.motion.densify.thin_plate import ROUGH, thin_plate
from aqueduct.core.motion.sampling import pixel_grid, sample

SIZE = (90, 140)


def scattered(count: int, seed: int = 0, size=SIZE) -> torch.Tensor:
    share = torch.rand(count, 2, generator=torch.Generator().manual_seed(seed))
    return share * torch.tensor([size[1] - 1.0, size[0] - 1.0])


def drawn(count: int, seed: int = 1) -> torch.Tensor:
    return 5 * torch.randn(count, 2, generator=torch.Generator().manual_seed(seed))


def affine(points: torch.Tensor) -> torch.Tensor:
    """Vectors ``[..., 2]`` of a motion that shears, turns, zooms and slides."""
    return points @ torch.tensor([[0.05, -0.02], [0.03, 0.01]]) + torch.tensor([2.0, -3.0])


def everywhere(size=SIZE) -> torch.Tensor:
    return pixel_grid(*size).permute(1, 2, 0)


def at(field: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    return sample(field[None], points.float().T[None, :, None])[0, :, 0].T


# --- every densifier --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DENSIFIERS)
def test_vectors_are_kept_where_points_stand_apart(name):
    """On pixels, 30 pixels apart, in a picture without edges: within 0.2 % of the longest vector, (x, y) in order."""
    points = torch.tensor([[x, y] for x in (20, 60, 100) for y in (15, 55)]).float()
    vectors = drawn(6)
    settings = {"edge-aware": {"guide": torch.zeros(3, *SIZE), "side": 140}}.get(name, {"smoothing": 1e-6})
    if name == "nearest":
        settings = {"radius": 5.0}
    field = DENSIFIERS[name](points, vectors, SIZE, **settings)
    assert field.shape == (2, *SIZE) and field.dtype == torch.float32
    read = field[:, points[:, 1].long(), points[:, 0].long()].T
    assert (read - vectors).abs().max() < 0.002 * vectors.norm(dim=1).max()


@pytest.mark.parametrize("name", DENSIFIERS)
def test_points_in_one_place_are_averaged(name):
    settings = {"guide": torch.zeros(1, *SIZE)} if name == "edge-aware" else {}
    twice = torch.tensor([[40.0, 30.0], [40.0, 30.0]])
    field = DENSIFIERS[name](twice, torch.tensor([[4.0, 0.0], [0.0, 2.0]]), SIZE, **settings)
    assert field.isfinite().all()
    mean = torch.tensor([4.0, 0.0]) if name == "nearest" else torch.tensor([2.0, 1.0])
    assert (field[:, 30, 40] - mean).abs().max() < 0.01


@pytest.mark.parametrize("name", DENSIFIERS)
def test_ten_thousand_points(name):
    """A slow wave, told at 10,000 places of 512 x 512 pixels, comes back within a quarter of a pixel rms."""
    size = (512, 512)
    points = scattered(10_000, size=size)
    wave = torch.stack([4 * torch.sin(points[:, 1] / 90), 4 * torch.cos(points[:, 0] / 70)], dim=1)
    settings = {"guide": torch.zeros(1, *size)} if name == "edge-aware" else {}
    field = DENSIFIERS[name](points, wave, size, **settings)
    grid = everywhere(size)
    truth = torch.stack([4 * torch.sin(grid[..., 1] / 90), 4 * torch.cos(grid[..., 0] / 70)])
    assert (field - truth).square().sum(0).mean().sqrt() < 0.25


def test_merging_keeps_to_its_limit_and_to_an_affine_motion():
    points = scattered(4000).double()
    centres, values = merged(points, affine(points.float()), limit=100)
    assert 50 < len(centres) <= 100
    assert torch.allclose(values, affine(centres.float()).double(), atol=1e-4)
    assert torch.allclose(merged(points[:50], points[:50], limit=100)[0], points[:50])


# --- thin plate -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [3, 40, 3000])
def test_thin_plate_reproduces_an_affine_motion_everywhere(count):
    points = scattered(count, seed=3)
    field = thin_plate(points, affine(points), SIZE)
    assert (field - affine(everywhere()).permute(2, 0, 1)).abs().max() < 1e-3


@pytest.mark.parametrize("smoothing", [0.0, 1e-3, 1e-2])
def test_thin_plate_is_the_spline_scipy_finds(smoothing):
    points, vectors = scattered(25), drawn(25)
    field = thin_plate(points, vectors, SIZE, smoothing=smoothing)
    spline = RBFInterpolator(points.numpy() / 140, vectors.numpy(), smoothing=smoothing)
    expected = spline(everywhere().reshape(-1, 2).numpy() / 140).reshape(*SIZE, 2)
    np.testing.assert_allclose(field.permute(1, 2, 0).numpy(), expected, atol=2e-4)


def test_thin_plate_from_a_coarse_grid_is_the_same_spline():
    """600 points of a wave on 360 x 420 pixels start on every fourth; scipy's spline is read at 500 other places."""
    size = (360, 420)
    points, others = scattered(600, size=size), scattered(500, seed=8, size=size).round()
    vectors = torch.stack([5 * torch.sin(points[:, 0] / 60), 5 * torch.cos(points[:, 1] / 50)], dim=1)
    field = thin_plate(points, vectors, size, centres=600)
    expected = RBFInterpolator(points.numpy() / 420, vectors.numpy())(others.numpy() / 420)
    assert np.abs(at(field, others).numpy() - expected).max() < ROUGH
    assert (at(field, points) - vectors).norm(dim=1).max() < ROUGH


def test_thin_plate_of_a_single_point_moves_everything():
    field = thin_plate(torch.tensor([[30.0, 20.0]]), torch.tensor([[3.0, -1.0]]), SIZE)
    assert (field == torch.tensor([3.0, -1.0])[:, None, None]).all()


@pytest.mark.parametrize("count", [2, 7])
def test_thin_plate_of_points_on_a_line_is_constant_across_it(count):
    """Along a slanted line the vectors grow evenly: so does the field, and it knows nothing about the other way."""
    along = torch.tensor([0.8, 0.6])
    place = torch.linspace(0, 60, count)[:, None]
    points = torch.tensor([40.0, 30.0]) + place * along
    field = thin_plate(points, torch.cat([0.1 * place, 2 - 0.05 * place], dim=1), SIZE)
    distance = (everywhere() - torch.tensor([40.0, 30.0])) @ along
    assert (field - torch.stack([0.1 * distance, 2 - 0.05 * distance])).abs().max() < 1e-3


# --- Gaussian ---------------------------------------------------------------------------------------------------------


def test_a_lone_gaussian_in_closed_form():
    field = gaussian(torch.tensor([[50.0, 30.0]]), torch.tensor([[8.0, -4.0]]), SIZE, radius=12, smoothing=0.25)
    squares = (everywhere() - torch.tensor([50.0, 30.0])).square().sum(-1)
    bell = torch.exp(-squares / (2 * 12**2)) / 1.25
    assert torch.allclose(field, torch.stack([8 * bell, -4 * bell]), atol=1e-5)
    assert field[:, squares > 60**2].abs().max() < 1e-4


@pytest.mark.parametrize("name", ["gaussian", "edge-aware"])
def test_no_smoothing_meets_the_vectors_also_of_crowds(name):
    """25 pixels side by side share a slow wave: met to a hundredth of a pixel, without a blow-up around them."""
    points = torch.tensor([[60.0 + x, 40.0 + y] for x in range(5) for y in range(5)])
    vectors = torch.stack([2 + torch.sin(points[:, 0] / 9), torch.cos(points[:, 1] / 9)], dim=1)
    settings = {"guide": torch.zeros(1, *SIZE), "side": 140} if name == "edge-aware" else {"radius": 10}
    field = DENSIFIERS[name](points, vectors, SIZE, smoothing=0.0, **settings)
    assert (at(field, points) - vectors).abs().max() < 0.01 and field.abs().max() < 8


def test_gaussians_are_what_scipy_finds():
    points, vectors = scattered(20), drawn(20)
    field = gaussian(points, vectors, SIZE, radius=15, smoothing=1e-2)
    solution = RBFInterpolator(
        points.numpy(), vectors.numpy(), kernel="gaussian", epsilon=1 / (15 * 2**0.5), degree=-1, smoothing=1e-2
    )
    expected = solution(everywhere().reshape(-1, 2).numpy()).reshape(*SIZE, 2)
    np.testing.assert_allclose(field.permute(1, 2, 0).numpy(), expected, atol=1e-4)


# --- nearest ----------------------------------------------------------------------------------------------------------


def test_nearest_is_the_nearest_with_an_eased_rim():
    points, vectors = scattered(6), drawn(6)
    field = nearest(points, vectors, SIZE, radius=10, feather=20)
    distance = (everywhere()[:, :, None] - points).norm(dim=-1)
    least, index = distance.min(-1)
    share = ((30 - least) / 20).clamp(0, 1)
    expected = vectors[index] * (share**2 * (3 - 2 * share))[..., None]
    assert torch.allclose(field, expected.permute(2, 0, 1), atol=1e-4)
    assert (field[:, least >= 30] == 0).all() and int((least >= 30).sum()) > 100
    cut = nearest(points, vectors, SIZE, radius=10, feather=0)
    assert torch.equal(cut.abs().sum(0) > 0, least <= 10)


# --- rigid ------------------------------------------------------------------------------------------------------------


def turned(points: torch.Tensor, angle: float, zoom: float, centre) -> torch.Tensor:
    """Displacement of a rotation and zoom about ``centre``."""
    cos, sin = zoom * math.cos(angle), zoom * math.sin(angle)
    away = points - torch.tensor(centre)
    return away @ torch.tensor([[cos, sin], [-sin, cos]]) - away


def test_rigid_follows_a_rotation_and_lets_objects_differ():
    """Twenty points turn about (70, 45) and zoom; six in one corner slide: the rest of the image turns regardless."""
    background = scattered(20, seed=5)
    objects = torch.tensor([[110.0, 70], [116, 70], [122, 70], [110, 78], [116, 78], [122, 78]])
    points = torch.cat([background[(background - objects.mean(0)).norm(dim=1) > 25], objects])
    vectors = turned(points, 0.1, 1.05, [70.0, 45.0])
    vectors[-6:] = torch.tensor([6.0, -6.0])
    field = rigid(points, vectors, SIZE, radius=5)
    truth = turned(everywhere(), 0.1, 1.05, [70.0, 45.0]).permute(2, 0, 1)
    far = (everywhere()[:, :, None] - objects).norm(dim=-1).amin(-1) > 30
    assert (field - truth)[:, far].abs().max() < 0.05
    assert (at(field, objects) - torch.tensor([6.0, -6.0])).abs().max() < 0.1


def test_similarity_is_umeyamas():
    """Oracle: Umeyama 1991 eqs. 40 to 42, by singular values, on noisy correspondences."""
    points = scattered(30).double()
    moved = points + turned(points.float(), 0.3, 0.9, [20.0, 80.0]).double() + 0.01 * drawn(30).double()
    a, b = points - points.mean(0), moved - moved.mean(0)
    u, singular, vt = torch.linalg.svd(b.T @ a / 30)
    rotation = u @ vt
    zoom = singular.sum() / a.square().sum(1).mean()
    z, displacement = torch.view_as_complex(points), torch.view_as_complex((moved - points).contiguous())
    turn, shift = _similarity(z, displacement, torch.ones(30).double())
    assert torch.allclose(torch.view_as_real(turn + 1), zoom * rotation[:, 0], atol=1e-12)
    expected = moved.mean(0) - zoom * rotation @ points.mean(0)
    assert torch.allclose(torch.view_as_real(shift), expected, atol=1e-9)


@pytest.mark.parametrize("points", [[[5.0, 6.0]], [[5.0, 6.0], [5.0, 6.0]]])
def test_similarity_of_one_place_is_a_shift(points):
    turn, shift = dominant_similarity(torch.tensor(points), torch.tensor([[2.0, 3.0]] * len(points)))
    assert turn == 0 and shift == 2 + 3j


# --- edge-aware -------------------------------------------------------------------------------------------------------


def two_regions(size=SIZE, noise: float = 0.02) -> tuple[torch.Tensor, torch.Tensor]:
    """A disc on a plain ground, both grainy: ``(picture [3, H, W], inside the disc)``."""
    disc = (everywhere(size) - torch.tensor([50.0, 40.0])).norm(dim=-1) < 25
    grain = noise * torch.randn(3, *size, generator=torch.Generator().manual_seed(2))
    return torch.where(disc, 0.75, 0.3).expand(3, -1, -1) + grain, disc


@pytest.mark.parametrize("side", [140, 64])
def test_motion_does_not_leak_out_of_the_region_it_was_drawn_in(side):
    """At full size and reduced: the ground keeps less than 1 % of the disc's motion, the disc at least 80 %."""
    guide, _ = two_regions()
    field = edge_aware(torch.tensor([[50.0, 40.0]]), torch.tensor([[10.0, 0.0]]), SIZE, guide, side=side)
    away = (everywhere() - torch.tensor([50.0, 40.0])).norm(dim=-1)
    assert field[0][away > 28].max() < 0.1 and field[0][away < 22].min() > 8
    assert field[1].abs().max() < 1e-6


def test_both_regions_move_with_their_own_point():
    guide, disc = two_regions()
    points, vectors = torch.tensor([[50.0, 40.0], [120.0, 60.0]]), torch.tensor([[6.0, 2.0], [-3.0, 0.0]])
    field = edge_aware(points, vectors, SIZE, guide)
    assert (field[:, disc].median(dim=1).values - vectors[0]).abs().max() < 0.5
    assert (field[:, ~disc].median(dim=1).values - vectors[1]).abs().max() < 0.5


def test_edge_aware_minimises_the_energy_it_states():
    """Oracle: the energy written out with torch, minimised through its dense Hessian, on 7 x 9 pixels."""
    generator = torch.Generator().manual_seed(4)
    guide = torch.rand(3, 7, 9, generator=generator, dtype=torch.float64)
    points = torch.tensor([[2.0, 3.0], [6.25, 4.5], [50.0, 2.0]])
    vectors = torch.tensor([[3.0, 1.0], [-2.0, 0.5], [99.0, 99.0]])

    def energy(u: torch.Tensor) -> torch.Tensor:
        """Of one component ``[63]``; the third point lies outside."""
        u = u.view(7, 9)
        across, down = (guide.diff(dim=d).square().sum(0) for d in (2, 1))
        mean = torch.cat([across.flatten(), down.flatten()]).mean()
        stiff = [BARRIER + (1 - BARRIER) * torch.exp(-1.5 * one / mean) for one in (across, down)]
        smooth = (stiff[0] * u.diff(dim=1) ** 2).sum() + (stiff[1] * u.diff(dim=0) ** 2).sum()
        second = 0.75 * (u[4, 6] + u[5, 6]) / 2 + 0.25 * (u[4, 7] + u[5, 7]) / 2
        return ((u[3, 2] - 3) ** 2 + (second + 2) ** 2) / 0.01 + smooth + (u**2).sum() / 20**2

    zero = torch.zeros(63, dtype=torch.float64)
    hessian = torch.autograd.functional.hessian(energy, zero)
    gradient = torch.autograd.functional.jacobian(energy, zero)
    field = edge_aware(points, vectors, (7, 9), guide, radius=20, edges=1.5, smoothing=0.01)
    assert torch.allclose(field[0].double(), -torch.linalg.solve(hessian, gradient).view(7, 9), atol=1e-5)


# --- what is wrong ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, settings, message",
    [
        ("thin-plate", {"smoothing": -1.0}, "smoothing must be at least 0"),
        ("gaussian", {"radius": 0.0}, "radius must be above 0"),
        ("rigid", {"smoothing": float("nan")}, "smoothing at least 0, got 64.0 and nan"),
        ("nearest", {"feather": -1.0}, "must be at least 0"),
        ("edge-aware", {"guide": torch.zeros(1, *SIZE), "radius": 0.0}, "radius must be above 0"),
        ("edge-aware", {"guide": torch.zeros(1, 9, 9)}, r"\[C, 90, 140\].*got \[1, 9, 9\]"),
    ],
)
def test_settings_out_of_range(name, settings, message):
    with pytest.raises(ValueError, match=message):
        DENSIFIERS[name](scattered(3), drawn(3), SIZE, **settings)
