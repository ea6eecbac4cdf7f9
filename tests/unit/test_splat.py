"""Forward warping: against a loop over pixels, and what must be kept, moved or lost whatever the flow is."""

import math

import pytest
import torch
import torch.nn.functional as F

from aqueduct.core.motion.sampling import pixel_grid
from aqueduct.core.motion.splat import splat


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(3)


def picture(generator, *shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=generator, dtype=torch.float64) + 0.5


def rough_flow(generator, n: int, height: int, width: int, reach: float) -> torch.Tensor:
    return (2 * torch.rand(n, 2, height, width, generator=generator, dtype=torch.float64) - 1) * reach


def looped(x, flow, importance):
    """One pixel and one neighbour after the other."""
    n, c, height, width = x.shape
    total, weight = torch.zeros_like(x), torch.zeros(n, 1, height, width, dtype=x.dtype)
    for k in range(n):
        for i in range(height):
            for j in range(width):
                to_x, to_y = j + flow[k, 0, i, j].item(), i + flow[k, 1, i, j].item()
                for y in range(height):
                    for x_ in range(width):
                        share = max(0.0, 1 - abs(to_x - x_)) * max(0.0, 1 - abs(to_y - y)) * importance[k, 0, i, j]
                        total[k, :, y, x_] += share * x[k, :, i, j]
                        weight[k, :, y, x_] += share
    return torch.where(weight > 0, total / weight, 0.0), weight


def test_as_a_loop_over_pixels(generator):
    x, flow = picture(generator, 2, 3, 5, 6), rough_flow(generator, 2, 5, 6, 4.0)
    importance = picture(generator, 2, 1, 5, 6)
    for given in (None, importance):
        values, weight = splat(x, flow, given)
        expected, expected_weight = looped(x, flow, torch.ones_like(importance) if given is None else given)
        assert (expected_weight == 0).any() and (expected_weight > 0).any()
        torch.testing.assert_close(values, expected)
        torch.testing.assert_close(weight, expected_weight)


@pytest.mark.parametrize("shift", [(0, 0), (2, -1), (-3, 4)])
def test_whole_pixels_are_exact(generator, shift):
    x = picture(generator, 1, 2, 7, 8).float()
    flow = torch.tensor(shift, dtype=torch.float32).view(1, 2, 1, 1).expand(1, 2, 7, 8)
    values, weight = splat(x, flow)
    source = (pixel_grid(7, 8) - flow[0]).long()
    inside = (source[0] >= 0) & (source[0] < 8) & (source[1] >= 0) & (source[1] < 7)
    expected = torch.zeros_like(x)
    expected[0, :, inside] = x[0, :, source[1][inside], source[0][inside]]
    assert torch.equal(values, expected) and torch.equal(weight[0, 0], inside.float())


def test_nothing_is_lost_within_the_frame(generator):
    """Sums are kept, and so is the centre of mass, moved by the mean displacement."""
    x = F.pad(picture(generator, 1, 1, 6, 6), (5, 5, 5, 5))
    flow = rough_flow(generator, 1, 16, 16, 4.5)
    values, weight = splat(x, flow)
    landed = values * weight
    torch.testing.assert_close(landed.sum(), x.sum())
    torch.testing.assert_close(weight.sum() + lost(flow), torch.tensor(256.0, dtype=torch.float64))
    grid = pixel_grid(16, 16, dtype=torch.float64)
    torch.testing.assert_close((landed * grid).sum((2, 3)), (x * (grid + flow)).sum((2, 3)))


def lost(flow: torch.Tensor) -> torch.Tensor:
    """Share of all pixels that lands outside: a tent around each goal, summed along each axis alone."""
    goal = pixel_grid(*flow.shape[-2:], dtype=flow.dtype) + flow[0]
    kept = torch.ones_like(goal[0])
    for at, size in zip(goal, (flow.shape[-1], flow.shape[-2]), strict=True):
        positions = torch.arange(size, dtype=flow.dtype)
        kept = kept * (1 - (at[..., None] - positions).abs()).clamp(min=0).sum(-1)
    return (1 - kept).sum()


def test_is_the_adjoint_of_gathering(generator):
    x, other = picture(generator, 2, 3, 6, 9), picture(generator, 2, 3, 6, 9)
    flow = rough_flow(generator, 2, 6, 9, 5.0)
    values, weight = splat(x, flow)
    points = (pixel_grid(6, 9, dtype=torch.float64) + flow).movedim(1, -1)
    unit = points / torch.tensor([8, 5]) * 2 - 1
    gathered = F.grid_sample(other, unit, mode="bilinear", padding_mode="zeros", align_corners=True)
    torch.testing.assert_close((values * weight * other).sum(), (x * gathered).sum())


def test_values_are_means_of_what_landed(generator):
    x, flow = picture(generator, 1, 1, 8, 8), rough_flow(generator, 1, 8, 8, 3.0)
    values, weight = splat(x, flow)
    landed = values[weight > 0]
    assert landed.min() >= x.min() - 1e-12 and landed.max() <= x.max() + 1e-12
    assert not values[weight == 0].any()


def test_importance_decides_who_is_in_front():
    x = torch.tensor([[[[1.0, 5.0, 7.0]]]])
    flow = torch.tensor([[[[1.0, 0.0, 0.0]], [[0.0, 0.0, 0.0]]]])  # the first pixel lands on the second
    assert splat(x, flow)[0].flatten().tolist() == [0, 3, 7]
    metric = torch.tensor([[[[math.log(3.0), 0.0, 0.0]]]])
    torch.testing.assert_close(splat(x, flow, metric.exp())[0].flatten(), torch.tensor([0.0, 2.0, 7.0]))
    hidden = torch.tensor([[[[0.0, 1.0, 1.0]]]])
    assert splat(x, flow, hidden)[0].flatten().tolist() == [0, 5, 7]


def test_gradients(generator):
    x, flow = picture(generator, 1, 2, 3, 4), rough_flow(generator, 1, 3, 4, 1.4)
    importance = picture(generator, 1, 1, 3, 4)
    assert ((flow - flow.round()).abs() > 1e-4).all()  # the formula has kinks at whole pixels
    arguments = tuple(value.requires_grad_() for value in (x, flow, importance))
    assert torch.autograd.gradcheck(lambda *a: splat(*a)[0], arguments)
    assert torch.autograd.gradcheck(lambda *a: splat(*a)[1], arguments)


def test_vectors_that_lead_nowhere_are_lost():
    x = torch.ones(1, 1, 2, 3)
    flow = torch.zeros(1, 2, 2, 3)
    flow[0, 0, 0] = torch.tensor([math.nan, math.inf, 1e30])
    values, weight = splat(x, flow)
    assert weight.flatten().tolist() == values.flatten().tolist() == [0, 0, 0, 1, 1, 1]


def test_types(generator):
    flow = rough_flow(generator, 1, 4, 4, 1.0).float()
    x = torch.randint(0, 255, (1, 3, 4, 4), generator=generator, dtype=torch.uint8)
    assert splat(x, flow)[0].dtype == torch.float32 and splat(x.half(), flow)[0].dtype == torch.float16


def test_bad_input():
    x, flow = torch.zeros(1, 3, 4, 5), torch.zeros(1, 2, 4, 5)
    with pytest.raises(ValueError, match="5 x 4 pixels, the flow 4 x 5"):
        splat(x, flow.transpose(2, 3))
    with pytest.raises(ValueError, match="1 images for 2"):
        splat(x, flow.repeat(2, 1, 1, 1))
    with pytest.raises(ValueError, match=r"importance must be \[1, 1, 4, 5\], got \[1, 3, 4, 5\]"):
        splat(x, flow, x)
    with pytest.raises(ValueError, match="must not be negative, got -1"):
        splat(x, flow, -torch.ones(1, 1, 4, 5))
