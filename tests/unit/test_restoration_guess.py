"""The first guess and what is known for certain: by hand, by invariants, and by what a network cannot change."""

import pytest
import torch

from aqueduct.core.networks import Restorer
from aqueduct.core.restoration import Inpainting, Precondition, SuperResolution, image_denoiser
from aqueduct.core.restoration.problems import filled

SIZES = [(1, 1), (1, 6), (9, 1), (2, 2), (7, 5), (8, 16), (13, 24), (32, 3)]


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def some(*size: int, share: float = 0.2, seed: int = 1) -> torch.Tensor:
    """Weights ``[2, 1, h, w]``: 1 at about ``share`` of the pixels and at one in any case, 0 elsewhere."""
    weight = (torch.rand(2, 1, *size, generator=torch.Generator().manual_seed(seed)) < share).float()
    weight[:, :, size[0] // 2, size[1] // 3] = 1
    return weight


# --- filling holes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
def test_what_is_known_stays_and_what_is_not_lies_between(size):
    picture, weight = draw(2, 3, *size), some(*size)
    out, known = filled(picture, weight), weight.bool().expand(-1, 3, -1, -1)
    assert out.shape == picture.shape and torch.equal(out[known], picture[known])
    for found, given, mask in zip(out.flatten(0, 1), picture.flatten(0, 1), known.flatten(0, 1), strict=True):
        assert found.min() >= given[mask].min() - 1e-6 and found.max() <= given[mask].max() + 1e-6


@pytest.mark.parametrize("size", SIZES)
def test_holes_in_one_colour_take_that_colour(size):
    flat = torch.tensor([-0.7, 0.0, 0.3])[None, :, None, None].expand(2, -1, *size)
    torch.testing.assert_close(filled(flat, some(*size, share=0.02)), flat)


@pytest.mark.parametrize("size", SIZES)
def test_all_known_and_nothing_known(size):
    """In one batch, so that neither is seen in the other."""
    picture, weight = draw(2, 3, *size), torch.stack([torch.ones(1, *size), torch.zeros(1, *size)])
    out = filled(picture, weight)
    assert torch.equal(out[0], picture[0]) and torch.equal(out[1], torch.zeros(3, *size))


def test_a_hole_by_hand():
    """Between two known ends of a row, the linear interpolation of an enlargement; the mean of three neighbours."""
    row = torch.tensor([0.0, 99, 99, 4])[None, None, None]
    weight = torch.tensor([1.0, 0, 0, 1])[None, None, None]
    torch.testing.assert_close(filled(row, weight), torch.tensor([0.0, 1, 3, 4])[None, None, None])
    odd = filled(row[..., [0, 1, 3]], weight[..., [0, 1, 3]])  # its second pair is the last pixel alone
    torch.testing.assert_close(odd, torch.tensor([0.0, 1, 4])[None, None, None])
    corner = torch.tensor([[1.0, 2], [6, 99]])[None, None]
    expected = torch.tensor([[1.0, 2], [6, 3]])[None, None]
    torch.testing.assert_close(filled(corner, torch.tensor([[1.0, 1], [1, 0]])[None, None]), expected)


def test_a_missing_block_by_hand():
    """Blocks 0, 3, 6 and a hole: 3 two levels down, and bilinear between the blocks' centres on the way back."""
    blocks = torch.tensor([[0.0, 3], [6, 99]]).repeat_interleave(2, 0).repeat_interleave(2, 1)[None, None]
    weight = torch.ones_like(blocks)
    weight[..., 2:, 2:] = 0
    expected = torch.tensor([[(0 + 3 * 3 + 3 * 6 + 9 * 3) / 16, (3 + 3 * 3) / 4], [(6 + 3 * 3) / 4, 3]])
    out = filled(blocks, weight)
    torch.testing.assert_close(out[0, 0, 2:, 2:], expected)
    assert torch.equal(out[weight.bool()], blocks[weight.bool()])


def test_filling_turns_with_the_picture():
    """Mirrored where every level halves evenly; transposed at any size."""
    picture, weight = draw(2, 3, 8, 16), some(8, 16, share=0.1)
    for axis in (2, 3):
        torch.testing.assert_close(filled(picture.flip(axis), weight.flip(axis)), filled(picture, weight).flip(axis))
    picture, weight = draw(2, 3, 7, 12), some(7, 12, share=0.1)
    torch.testing.assert_close(filled(picture.mT, weight.mT), filled(picture, weight).mT)


def test_filling_is_linear_and_blind_to_what_is_under_the_holes():
    first, second, weight = draw(2, 3, 9, 14), draw(2, 3, 9, 14, seed=2), some(9, 14)
    wanted = 2 * filled(first, weight) - 0.5 * filled(second, weight)
    torch.testing.assert_close(filled(2 * first - 0.5 * second, weight), wanted)
    assert torch.equal(filled(first + 100 * (1 - weight), weight), filled(first, weight))


# --- guess and known --------------------------------------------------------------------------------------------------


def test_super_resolution_guesses_the_enlarged_picture_and_knows_no_pixel():
    problem, small, prediction = SuperResolution(4), draw(2, 3, 2, 3), draw(2, 3, 8, 12)
    enlarged = problem.condition(small)
    assert torch.equal(problem.guess(enlarged), enlarged)
    assert torch.equal(problem.known(prediction, enlarged), prediction)


def test_inpainting_guesses_what_fills_the_holes_and_knows_the_rest():
    picture, missing, prediction = draw(2, 3, 8, 12), 1 - some(8, 12, share=0.6), draw(2, 3, 8, 12, seed=3)
    problem, hole = Inpainting(), missing.bool().expand(-1, 3, -1, -1)
    condition = problem.condition(picture, missing)
    assert torch.equal(problem.guess(condition), filled(picture, 1 - missing))
    assert torch.equal(problem.known(prediction, condition), torch.where(hole, prediction, picture))


def inpainter() -> tuple[Restorer, torch.Tensor, torch.Tensor, torch.Tensor]:
    """A network of random weights, a picture, its holes and the condition."""
    network, generator = Restorer(4, 8, (1, 2), groups=4, head_channels=4).eval(), torch.Generator().manual_seed(5)
    for parameter in network.parameters():
        parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator)
    picture, missing = draw(2, 3, 8, 12), 1 - some(8, 12, share=0.5)
    return network, picture, missing.bool().expand(-1, 3, -1, -1), Inpainting().condition(picture, missing)


@pytest.mark.parametrize("sigma", [0.01, 0.5, 20.0])
def test_inpainted_predictions_have_the_known_pixels_bit_for_bit(sigma):
    network, picture, hole, condition = inpainter()
    denoise = image_denoiser(network, Precondition(Inpainting()), condition)
    prediction = denoise(picture + sigma * draw(2, 3, 8, 12, seed=9), torch.tensor(sigma), slice(None))
    assert torch.equal(prediction[~hole], picture[~hole])
    assert (prediction - Inpainting().guess(condition))[hole].abs().mean() > 0.001


def test_known_pixels_do_not_depend_on_z():
    """The gradient of every known pixel vanishes; that of the holes goes through what is known, too."""
    network, _, hole, condition = inpainter()
    denoise, gradients = image_denoiser(network, Precondition(Inpainting()), condition), []
    for pixels in (~hole, hole):
        z = draw(2, 3, 8, 12, seed=9).requires_grad_(True)
        prediction = denoise(z, torch.tensor(0.5), slice(None))
        gradients += torch.autograd.grad((prediction * draw(2, 3, 8, 12, seed=4))[pixels].sum(), z)
    of_known, of_holes = gradients
    assert not of_known.any()
    assert of_holes[hole].abs().mean() > 0.01 and of_holes[~hole].abs().mean() > 0.001
