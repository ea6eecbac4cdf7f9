"""Preconditioning against closed forms for Gaussian data; measurements and conditions against their definitions."""

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
    karras_levels,
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


@pytest.mark.parametrize("std_data", [0.2, 2.0])
def test_input_and_target_have_unit_variance_and_nothing_in_common(std_data):
    """For z_0 ~ N(m, s^2) and z = z_0 + sigma eps, by the variances of linear combinations of what is apart from m.

    The target is (z_0 - m - c_skip (z - m)) / c_out. That z tells nothing of it is what makes c_skip the best: the
    network is left with what a linear denoiser cannot do.
    """
    skip, out, into = Precondition(SuperResolution(), std_data).scales(SIGMAS)
    data, noise = std_data**2, SIGMAS.square()
    ones = torch.ones_like(SIGMAS)
    torch.testing.assert_close(into.square() * (data + noise), ones)
    torch.testing.assert_close(((1 - skip).square() * data + skip.square() * noise) / out.square(), ones)
    torch.testing.assert_close((1 - skip) * data - skip * noise, torch.zeros_like(SIGMAS))


@pytest.mark.parametrize("problem, std", [(SuperResolution(), 0.2), (Inpainting(), 0.3)])
def test_distance_of_the_truth_is_the_problems_unless_said(problem, std):
    assert (Precondition(problem).std, Precondition(problem, 0.7).std) == (std, 0.7)
    skip, _, _ = Precondition(problem).scales(SIGMAS)
    torch.testing.assert_close(skip, std**2 / (std**2 + SIGMAS**2))


def best(mean, remainder, noise, z, sigma: float) -> torch.Tensor:
    """E[z_0 | z] for z_0 ~ N(mean, remainder) and noise of a covariance, dense over all numbers of a picture."""
    gain = remainder @ torch.linalg.inv(remainder + sigma**2 * noise)
    return mean + ((z - mean).flatten(1) @ gain.T).view_as(z)


@pytest.mark.parametrize("correlated", [False, True])
def test_network_of_zero_is_the_best_denoiser_of_gaussian_pictures_around_the_guess(correlated):
    """For remainders and noise that are white, or share a covariance Q."""
    std, sigma, numbers = 0.4, 0.8, 3 * 2 * 4
    place = torch.arange(numbers, dtype=torch.float64)
    Q = torch.eye(numbers, dtype=torch.float64)
    if correlated:
        Q = torch.exp(-((place[:, None] - place) ** 2) / 2) + 0.1 * Q
    z, enlarged = (draw(2, 3, 2, 4, seed=seed, dtype=torch.float64) for seed in (0, 1))
    got = Precondition(SuperResolution(), std)(Recording(), z, torch.tensor(sigma).double(), enlarged)
    torch.testing.assert_close(got, best(enlarged, std**2 * Q, Q, z, sigma), rtol=1e-6, atol=1e-6)


def test_network_of_zero_is_the_best_denoiser_of_pictures_with_holes():
    """White noise, and a remainder that is white in the holes and has no variance where the picture is known."""
    std, sigma = 0.4, 0.8
    z, picture = (draw(1, 3, 2, 4, seed=seed, dtype=torch.float64) for seed in (0, 1))
    missing = torch.tensor([[1.0, 1, 0, 0], [0, 1, 0, 0]]).double()[None, None]
    condition = Inpainting().condition(picture, missing)
    mean = torch.where(missing > 0, Inpainting().guess(condition), picture)
    spread = torch.diag(std**2 * missing.expand(1, 3, 2, 4).flatten())
    got = Precondition(Inpainting(), std)(Recording(), z, torch.tensor(sigma).double(), condition)
    torch.testing.assert_close(got, best(mean, spread, torch.eye(24).double(), z, sigma), rtol=1e-6, atol=1e-6)


def test_network_is_given_what_is_apart_scaled_and_a_quarter_of_the_logarithm():
    network, z, enlarged = Recording(2.0), draw(2, 3, 4, 4), draw(2, 3, 4, 4, seed=1)
    sigma = torch.tensor([0.5, 1.2])
    out = Precondition(SuperResolution(), 0.5)(network, z, sigma, enlarged, outer=True)
    ((entering, timesteps, given, outer),) = network.calls
    torch.testing.assert_close(timesteps, torch.tensor([math.log(0.5) / 4, math.log(1.2) / 4]))
    assert given is enlarged and outer is True
    for n, (root, level) in enumerate(((math.sqrt(0.5), 0.5), (1.3, 1.2))):  # of sigma^2 + 1/4
        torch.testing.assert_close(entering[n], (z[n] - enlarged[n]) / root)
        share = 0.25 / root**2
        torch.testing.assert_close(out[n], share * z[n] + (1 - share) * enlarged[n] + 2.0 * level * 0.5 / root)


def test_one_level_serves_all_pictures():
    z, enlarged = draw(3, 3, 4, 4), draw(3, 3, 4, 4, seed=1)
    network, way = Restorer(3, 8, (1, 2), groups=4, head_channels=4).eval(), Precondition(SuperResolution())
    one, each = (way(network, z, sigma, enlarged) for sigma in (torch.tensor(0.7), torch.full((3,), 0.7)))
    assert torch.equal(one, each)


def test_image_denoiser_gives_frames_their_own_condition():
    network, z, enlarged = Recording(), draw(2, 3, 4, 4), draw(5, 3, 4, 4, dtype=torch.float64)
    denoise = image_denoiser(network, Precondition(SuperResolution(), 0.5), enlarged, outer=True)
    out = denoise(z, torch.tensor(1.5, dtype=torch.float64), slice(2, 4))
    ((_, _, given, outer),) = network.calls
    assert torch.equal(given, enlarged[2:4].float()) and outer is True
    torch.testing.assert_close(out, 0.1 * z + 0.9 * enlarged[2:4].float())  # 1/4 of 1/4 + 9/4
    wide = image_denoiser(network, Precondition(SuperResolution(), 2.0), enlarged)
    torch.testing.assert_close(wide(z, torch.tensor(1.5), slice(2)), 0.64 * z + 0.36 * enlarged[:2].float())
    assert network.calls[-1][-1] is False


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


def test_levels_are_even_in_the_seventh_root_and_end_without_noise():
    levels = karras_levels(80.0, 0.002, 5)
    assert (levels[0], levels[-1]) == (pytest.approx(80.0, rel=1e-12), 0) and levels.dtype == torch.float64
    roots = [80 ** (1 / 7) * (1 - k / 4) + 0.002 ** (1 / 7) * k / 4 for k in range(5)]
    assert levels[:-1].tolist() == pytest.approx([math.prod([root] * 7) for root in roots], rel=1e-12)
