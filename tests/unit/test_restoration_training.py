"""Training of restoration models: where crops come from, what holes and noise are like, and the loss by hand."""

import copy
import math

import pytest
import torch

from aqueduct.core.networks import Restorer
from aqueduct.core.noise import GaussianField
from aqueduct.core.restoration import Inpainting, Precondition, SuperResolution
from aqueduct.core.training.loop import LoopSettings, train
from aqueduct.core.training.restoration import (
    DAMAGES,
    NOISES,
    Crops,
    Levels,
    denoising_loss,
    pyramid,
    random_holes,
)

SMALL = {"channels": 8, "multipliers": (1, 2), "head_channels": 8, "groups": 4}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def numbered(height: int, width: int, first: int = 0) -> torch.Tensor:
    """A picture whose bytes say where they are: row, column and picture."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([y, x, torch.full_like(y, first)]).byte()


def damaged(problem, pictures: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """What a network is shown of them."""
    damage = DAMAGES[problem.kind]
    return damage.show(problem, pictures, damage.draw(len(pictures), pictures.shape[-1], generator))


# --- pictures ---------------------------------------------------------------------------------------------------------


def test_crops_are_windows_of_pictures_and_reach_every_edge():
    """Each place is as likely as any other: that 600 draws miss one of 2 x 12 has odds below 24 (11/12)^150 = 5e-5."""
    size, pictures = 4, [numbered(6, 7, first=10), numbered(4, 9, first=20)]
    crops = ((Crops(pictures, size).sample(600, seeded()) + 1) * 127.5).round().int()
    assert crops.shape == (600, 3, size, size)
    found, mirrored = set(), 0
    for crop in crops:
        flipped = bool(crop[1, 0, 0] > crop[1, 0, -1])
        mirrored += flipped
        crop = crop.flip(-1) if flipped else crop
        which, top, left = int(crop[2, 0, 0]), int(crop[0, 0, 0]), int(crop[1, 0, 0])
        whole = pictures[which // 10 - 1].int()
        assert torch.equal(crop, whole[:, top : top + size, left : left + size])
        found.add((which, top, left))
    assert found == {(10, y, x) for y in range(3) for x in range(4)} | {(20, 0, x) for x in range(6)}
    assert abs(mirrored - 300) < 5 * math.sqrt(150)  # five deviations: error rate 6e-7


def test_bytes_span_minus_one_to_one():
    ends = torch.zeros(3, 2, 2, dtype=torch.uint8)
    ends[:, 0] = 255
    crop = Crops([ends], 2).sample(1, seeded())[0]
    assert torch.equal(crop[:, 0], torch.ones(3, 2)) and torch.equal(crop[:, 1], -torch.ones(3, 2))


def test_pyramid_reduces_and_never_enlarges():
    picture = torch.full((3, 90, 60), 77, dtype=torch.uint8)
    levels = pyramid(picture, (20, 40, 60, 61))
    assert [tuple(level.shape) for level in levels] == [(3, 30, 20), (3, 60, 40), (3, 90, 60)]
    assert all(level.dtype == torch.uint8 and (level == 77).all() for level in levels)
    chequered = (torch.ones(8, 8).cumsum(0) + torch.ones(8, 8).cumsum(1)).remainder(2).mul(255).byte().expand(3, -1, -1)
    (grey,) = pyramid(chequered, (4,))  # the filter spans more than one square, or this would be noise
    assert grey[:, 1:-1, 1:-1].float().std() < 25 and abs(grey.float().mean() - 127.5) < 2


# --- damage -----------------------------------------------------------------------------------------------------------


def test_holes_are_zero_or_one_and_of_sensible_size():
    holes = random_holes(200, 32, seeded())
    assert holes.shape == (200, 1, 32, 32) and set(holes.unique().tolist()) == {0.0, 1.0}
    shares = holes.mean((1, 2, 3))
    assert 0.1 < shares.mean() < 0.35 and shares.max() < 0.8 and (shares > 0).float().mean() > 0.95
    everywhere = holes.mean(0)[0]  # no part of the picture is always there or always lost
    assert everywhere.min() > 0.03 and everywhere.max() < 0.6


@pytest.mark.parametrize("problem", [SuperResolution(4), Inpainting()])
def test_damage_is_what_the_problem_says(problem):
    pictures = torch.rand(3, 3, 16, 16, generator=seeded()) * 2 - 1
    condition = damaged(problem, pictures, seeded(1))
    assert condition.shape == (3, problem.condition_channels, 16, 16)
    if problem.kind == "inpainting":
        known = (condition[:, 3:] == 0).expand(-1, 3, -1, -1)
        assert torch.equal(condition[:, :3][known], pictures[known]) and known.any() and not known.all()
    else:
        assert torch.equal(condition, problem.condition(problem.measure(pictures)))


# --- noise and levels -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", NOISES)
def test_noise_has_zero_mean_and_unit_variance(kind):
    """Thirty independent batches: Student's t of their means and mean squares is below 6 but for one seed in 1e6."""
    generator = seeded(3)
    batches = torch.stack([NOISES[kind](generator, 2, 24, 16).double() for _ in range(30)])
    assert batches.shape == (30, 2, 3, 24, 16)
    for values, expected in ((batches, 0.0), (batches.square(), 1.0)):
        means = values.mean((1, 2, 3, 4))
        error = means.std() / math.sqrt(30)
        assert error < 0.05
        assert abs(means.mean() - expected) < 6 * error


def test_gp_noise_is_the_field_of_sampling():
    """Frequencies up to the grid's own (Warped Diffusion, appendix F.2: 2 / (pi resolution)), clips independent."""
    generator = seeded(7)
    seed = int(torch.randint(2**62, (), generator=seeded(7)))
    got = NOISES["gp"](generator, 2, 12, 20)
    field = GaussianField(seed, 6, (2 / (math.pi * 20), 2 / (math.pi * 12)))
    torch.testing.assert_close(got.flatten(0, 1), field.grid(12, 20))
    assert not torch.equal(NOISES["gp"](generator, 2, 12, 20), got)
    assert abs((got[0] * got[1]).mean()) < 5 * 3 / math.sqrt(3 * 12 * 20)  # 3: independent values are that much fewer


@pytest.mark.parametrize("std_data", [1.0, 0.3])
def test_levels_are_log_normal_around_the_distance_of_the_truth_and_held(std_data):
    levels, draws, mean = Levels(-0.4, 1.4, 0.01, 20.0), 20000, math.log(std_data) - 0.4
    logs = levels.draw(draws, std_data, seeded()).log()
    inside = logs[(logs > math.log(0.01) + 1e-4) & (logs < math.log(20.0) - 1e-4)]
    # Five deviations of each estimate (error rate 6e-7), and as much again for the 1 % that are held.
    assert abs(logs.mean() - mean) < 10 * 1.4 / math.sqrt(draws)
    assert abs(logs.std() - 1.4) < 10 * 1.4 / math.sqrt(2 * draws)
    above = 0.5 * math.erfc((math.log(20) - mean) / 1.4 / math.sqrt(2))
    below = 0.5 * math.erfc((math.log(100) + mean) / 1.4 / math.sqrt(2))
    held = (above + below) * draws
    assert abs(draws - len(inside) - held) < 5 * math.sqrt(held)
    assert logs.min() >= math.log(0.01) - 1e-4 and logs.max() <= math.log(20) + 1e-4


# --- loss -------------------------------------------------------------------------------------------------------------


def batch(seed: int = 0) -> dict[str, torch.Tensor]:
    generator = seeded(seed)
    z_0, eps, condition = (torch.randn(2, 3, 8, 8, generator=generator) for _ in range(3))
    return {"z_0": z_0, "eps": eps, "sigma": torch.tensor([0.3, 4.0]), "condition": condition}


def test_loss_is_edms():
    """lambda(sigma) |D - z_0|^2 with lambda = (sigma^2 + s^2) / (sigma s)^2, for a network that gives a third of its
    condition, which is the guess, too."""
    given, total = batch(), 0.0
    precondition = Precondition(SuperResolution(), 0.5)
    loss = denoising_loss(lambda x, t, condition, outer=False: condition / 3, precondition, **given)
    for n, sigma in enumerate((0.3, 4.0)):
        guess, z = given["condition"][n], given["z_0"][n] + sigma * given["eps"][n]
        variance = sigma**2 + 0.25
        prediction = (0.25 * z + sigma**2 * guess) / variance + guess / 3 * sigma * 0.5 / math.sqrt(variance)
        total += variance / (0.5 * sigma) ** 2 * (prediction - given["z_0"][n]).square().mean()
    torch.testing.assert_close(loss, total / 2, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("problem", [SuperResolution(4), Inpainting()])
def test_untrained_network_has_loss_one_a_missing_pixel(problem):
    """On pictures as far from the guess as the problem says, targets have unit variance at every level, and known
    pixels no error at all; 5 deviations, error rate 6e-7."""
    network = Restorer(problem.condition_channels, **SMALL).initialise(seeded())
    generator = seeded(1)
    eps, apart = (torch.randn(64, 3, 8, 8, generator=generator) for _ in range(2))
    condition = damaged(problem, torch.randn(64, 3, 8, 8, generator=generator), generator)
    missing = condition[:, 3:] if isinstance(problem, Inpainting) else torch.ones(64, 1, 8, 8)
    z_0 = problem.guess(condition) + problem.std_guess * apart * missing
    sigma = Levels().draw(64, problem.std_guess, generator)
    loss = denoising_loss(network, Precondition(problem), z_0, eps, sigma, condition)
    share, numbers = missing.mean().item(), 3 * missing.sum().item()
    assert 0 < share < (1 if isinstance(problem, Inpainting) else 2)
    assert abs(loss.item() / share - 1) < 5 * math.sqrt(2 / numbers)


def test_every_weight_learns():
    network, precondition = Restorer(3, **SMALL), Precondition(SuperResolution())
    generator = seeded(2)
    for parameter in network.parameters():
        parameter.data = 0.2 * torch.randn(parameter.shape, generator=generator)
    denoising_loss(network, precondition, **batch()).backward()
    still = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert still == []


def objective(network, noise: str, count: int = 4):
    """Super-resolution of stripes two rows wide in all, always the same ones: the guess is grey, and wrong by 0.2."""
    stripes = torch.tensor([102, 153], dtype=torch.uint8).repeat(4)[None, :, None].expand(3, -1, 20)
    crops, problem = Crops([stripes], 8), SuperResolution(4)
    precondition = Precondition(problem)

    def loss(generator: torch.Generator) -> torch.Tensor:
        z_0 = crops.sample(count, generator)
        condition = damaged(problem, z_0, generator)
        sigma, eps = Levels().draw(count, precondition.std, generator), NOISES[noise](generator, count, 8, 8)
        return denoising_loss(network, precondition, z_0, eps, sigma, condition)

    return loss


def test_two_runs_are_equal():
    first = Restorer(3, **SMALL).initialise(seeded())
    second, settings = copy.deepcopy(first), LoopSettings(steps=3, warmup=1)
    runs = [train(network.parameters(), objective(network, "gp"), settings, seeded(5)) for network in (first, second)]
    assert runs[0].losses == runs[1].losses
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_runs_learn():
    """On one large batch of its own, before and after."""
    network = Restorer(3, **SMALL).initialise(seeded())
    examine = objective(network, "white", count=128)
    with torch.no_grad():
        before = examine(seeded(9))
    settings = LoopSettings(steps=40, learning_rate=1e-2, warmup=5)
    train(network.parameters(), objective(network, "white"), settings, seeded(5))
    with torch.no_grad():
        after = examine(seeded(9))
    assert after < 0.7 * before
