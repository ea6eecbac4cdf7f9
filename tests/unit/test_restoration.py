"""Preconditioning against closed forms for Gaussian data; the inverse problems against their definitions."""

import math

import pytest
import torch

from aqueduct.core.networks import Restorer
from aqueduct.core.restoration import (
    PROBLEMS,
    Inpainting,
    Precondition,
    SuperResolution,
    image_denoiser,
    make_problem,
)

SIGMAS = torch.tensor([0.01, 0.1, 0.5, 1.0, 20.0], dtype=torch.float64)


def draw(*shape: int, seed: int = 0, dtype=torch.float32) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


class Recording:
    """A network that notes what it is given, and gives ``out``."""

    def __init__(self, out: float = 0.0):
        self.out, self.calls = out, []

    def __call__(self, x, timesteps, condition, outer=False):
        self.calls.append((x, timesteps, condition, outer))
        return torch.full_like(x, self.out)


# --- preconditioning --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("std_data", [0.5, 2.0])
def test_input_and_target_have_unit_variance_and_nothing_in_common(std_data):
    """For z_0 ~ N(0, s^2) and z = z_0 + sigma eps, by the variances of linear combinations.

    The target is (z_0 - c_skip z) / c_out. That z tells nothing of it is what makes c_skip the best: the network is
    left with what a linear denoiser cannot do.
    """
    skip, out, into = Precondition(std_data).scales(SIGMAS)
    data, noise = std_data**2, SIGMAS.square()
    ones = torch.ones_like(SIGMAS)
    torch.testing.assert_close(into.square() * (data + noise), ones)
    torch.testing.assert_close(((1 - skip).square() * data + skip.square() * noise) / out.square(), ones)
    torch.testing.assert_close((1 - skip) * data - skip * noise, torch.zeros_like(SIGMAS))


@pytest.mark.parametrize("correlated", [False, True])
def test_network_of_zero_is_the_best_denoiser_of_gaussian_pictures(correlated):
    """E[z_0 | z] by dense linear algebra, for pictures and noise that are white or share a covariance Q."""
    pixels, std_data, sigma = 12, 0.5, 0.8
    place = torch.arange(pixels, dtype=torch.float64)
    Q = torch.exp(-((place[:, None] - place) ** 2) / 2) + 0.1 * torch.eye(pixels) if correlated else torch.eye(pixels)
    Q = Q.double()
    z = draw(2, 1, 3, 4, dtype=torch.float64)
    gain = std_data**2 * Q @ torch.linalg.inv(std_data**2 * Q + sigma**2 * Q)
    wanted = (z.reshape(2, pixels) @ gain.T).view_as(z)
    got = Precondition(std_data)(Recording(), z, torch.tensor(sigma, dtype=torch.float64), None)
    torch.testing.assert_close(got, wanted)


def test_network_is_given_scaled_pictures_and_a_quarter_of_the_logarithm():
    network, z, condition = Recording(2.0), draw(2, 3, 4, 4), draw(2, 3, 4, 4, seed=1)
    sigma = torch.tensor([0.5, 1.2])
    out = Precondition()(network, z, sigma, condition, outer=True)
    ((entering, timesteps, given, outer),) = network.calls
    torch.testing.assert_close(timesteps, torch.tensor([math.log(0.5) / 4, math.log(1.2) / 4]))
    assert given is condition and outer is True
    for n, (root, level) in enumerate(((math.sqrt(0.5), 0.5), (1.3, 1.2))):  # of sigma^2 + 1/4
        torch.testing.assert_close(entering[n], z[n] / root)
        torch.testing.assert_close(out[n], z[n] * 0.25 / root**2 + 2.0 * level * 0.5 / root)


def test_one_level_serves_all_pictures():
    z, condition = draw(3, 3, 4, 4), draw(3, 3, 4, 4, seed=1)
    network = Restorer(3, 8, (1, 2), groups=4, head_channels=4).eval()
    one, each = (Precondition()(network, z, sigma, condition) for sigma in (torch.tensor(0.7), torch.full((3,), 0.7)))
    assert torch.equal(one, each)


def test_image_denoiser_gives_frames_their_own_condition():
    network, z, condition = Recording(), draw(2, 3, 4, 4), draw(5, 4, 4, 4, dtype=torch.float64)
    denoise = image_denoiser(network, condition, outer=True)
    out = denoise(z, torch.tensor(1.5, dtype=torch.float64), slice(2, 4))
    ((_, _, given, outer),) = network.calls
    assert torch.equal(given, condition[2:4].float()) and outer is True
    torch.testing.assert_close(out, z * 0.25 / (0.25 + 1.5**2))
    wide = image_denoiser(network, condition, Precondition(2.0))
    torch.testing.assert_close(wide(z, torch.tensor(1.5), slice(2)), z * 4 / (4 + 1.5**2))


# --- problems ---------------------------------------------------------------------------------------------------------


def test_measurement_is_the_mean_of_blocks():
    picture = draw(2, 3, 8, 12)
    small = SuperResolution(4).measure(picture)
    assert small.shape == (2, 3, 2, 3)
    for row in range(2):
        for column in range(3):
            block = picture[:, :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
            torch.testing.assert_close(small[:, :, row, column], block.mean((2, 3)))


def test_enlarged_measurements_stay_in_place():
    """Flat stays flat, and turning the picture turns the condition: enlarging moves nothing sideways."""
    problem = SuperResolution(4)
    flat = torch.full((1, 3, 2, 3), 0.3)
    torch.testing.assert_close(problem.condition(flat), torch.full((1, 3, 8, 12), 0.3))
    small = draw(1, 3, 4, 6)
    for axis in (2, 3):
        torch.testing.assert_close(problem.condition(small.flip(axis)), problem.condition(small).flip(axis))
    smooth = torch.linspace(-1, 1, 8).expand(1, 3, 8, 8)
    torch.testing.assert_close(problem.measure(problem.condition(smooth))[..., 2:-2], smooth[..., 2:-2])


def test_what_is_missing_is_not_shown():
    picture, missing = draw(2, 3, 4, 6), torch.zeros(2, 1, 4, 6)
    missing[0, 0, 1:3, 2:5] = 1
    missing[1, 0, 0, 0] = 0.01  # a soft edge
    hole = missing > 0
    condition = Inpainting().condition(picture, missing)
    assert torch.equal(condition[:, 3:], hole.float())
    shown = hole.expand_as(picture).logical_not()
    assert torch.equal(condition[:, :3][shown], picture[shown]) and not condition[:, :3][~shown].any()
    other = torch.where(hole, draw(2, 3, 4, 6, seed=5), picture)
    assert torch.equal(Inpainting().condition(other, missing), condition)


def test_bad_measurements():
    with pytest.raises(ValueError, match=r"12 x 10 pixels are no multiples of the factor 4: crop"):
        SuperResolution(4).measure(torch.zeros(1, 3, 10, 12))
    with pytest.raises(ValueError, match=r"mask \[2, 1, 4, 4\], got \[1, 1, 4, 4\]"):
        Inpainting().condition(torch.zeros(2, 3, 4, 4), torch.zeros(1, 1, 4, 4))


@pytest.mark.parametrize("problem", [SuperResolution(), SuperResolution(4), Inpainting()])
def test_problems_survive_their_configuration(problem):
    assert make_problem(problem.config()) == problem
    assert set(PROBLEMS) == {"super-resolution", "inpainting"}


def test_condition_has_as_many_channels_as_said():
    assert SuperResolution().condition(draw(1, 3, 2, 2)).shape[1] == SuperResolution.condition_channels
    assert Inpainting().condition(draw(1, 3, 2, 2), torch.ones(1, 1, 2, 2)).shape[1] == Inpainting.condition_channels


def test_unknown_problems():
    with pytest.raises(ValueError, match=r"unknown inverse problem 'deblurring'; known: super-resolution, inpainting"):
        make_problem({"kind": "deblurring"})
