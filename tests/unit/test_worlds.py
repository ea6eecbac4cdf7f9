"""The exact worlds: their frames, flow and occlusion must agree with each other and with geometry."""

import math

import pytest
import torch

from aqueduct.core.motion import pixel_grid, sample, warp
from aqueduct.core.training.worlds import Blob, Layer, LayeredWorld, Texture, make_world


def flat_texture(level):
    zero = torch.zeros(1, dtype=torch.float64)
    base = torch.full((3,), math.log(level / (1 - level)), dtype=torch.float64)
    return Texture(zero[:, None].expand(1, 2), zero.expand(3, 1), zero.expand(3, 1), base)


def disc(radius, centre, velocity, level=0.9, spin=0.0, growth=1.0):
    nothing = torch.zeros(4, dtype=torch.float64)
    return Layer(flat_texture(level), Blob(radius, nothing, nothing), centre, velocity, spin, growth)


GROUND = Layer(flat_texture(0.2), None, (0, 0), (0, 0), 0, 1)


def test_a_disc_on_a_ground_where_geometry_says():
    world = LayeredWorld((GROUND, disc(5, (10, 8), (4, 1))), 20, 30, 3)
    y, x = torch.meshgrid(torch.arange(20), torch.arange(30), indexing="ij")
    for t in range(3):
        distance = ((x - 10 - 4 * t) ** 2 + (y - 8 - t) ** 2).sqrt()
        level = world.frame(t)[1]
        torch.testing.assert_close(level[distance < 4.4], torch.full_like(level[distance < 4.4], 0.9))
        torch.testing.assert_close(level[distance > 5.6], torch.full_like(level[distance > 5.6], 0.2))
    on = ((x - 10) ** 2 + (y - 8) ** 2) < 25
    flow = world.flow(0, 2)
    assert (flow[0][on] == 8).all() and (flow[1][on] == 2).all() and (flow[:, ~on] == 0).all()
    covered = (((x - 18) ** 2 + (y - 10) ** 2) < 25) & ~on
    assert torch.equal(world.occluded(0, 2), covered)
    assert torch.equal(world.visible(torch.stack([x, y]).double(), 0) == 1, on)


def test_leaving_the_frame_is_occlusion():
    world = LayeredWorld((disc(1000, (0, 0), (3, 0)),), 6, 10, 2)
    assert torch.equal(world.occluded(0, 1), torch.arange(10).add(3).gt(9).expand(6, 10))


@pytest.mark.parametrize("i, j", [(0, 1), (3, 0), (1, 4)])
def test_colour_is_kept_along_the_flow(i, j):
    """The point of exactness: the texture at the landing place, evaluated there, is the same colour."""
    world = make_world(7, 60, 90, 5)
    grid = pixel_grid(60, 90, dtype=torch.float64)
    there = grid + world.flow(i, j)
    seen = ~world.occluded(i, j)
    assert 0.6 < seen.float().mean() < 0.99
    top_here, top_there = world.visible(grid, i), world.visible(there, j)
    assert torch.equal(top_here[seen], top_there[seen])
    for index, layer in enumerate(world.layers):
        own = seen & (top_here == index)
        here = layer.texture(layer.from_frame(grid, i)[:, own])
        after = layer.texture(layer.from_frame(there, j)[:, own])
        torch.testing.assert_close(here, after, atol=1e-5, rtol=0)


def test_rendered_frames_agree_with_the_flow_up_to_interpolation():
    world = make_world(3, 80, 120, 2)
    flow, seen = world.flow(0, 1), ~world.occluded(0, 1)
    error = (warp(world.frame(1)[None], flow[None])[0] - world.frame(0)).abs().mean(0)
    still = (world.frame(1) - world.frame(0)).abs().mean(0)
    assert error[seen].mean() < 0.1 * still[seen].mean()


def test_there_and_back_is_the_identity_where_seen():
    world = make_world(11, 50, 70, 6)
    grid = pixel_grid(50, 70, dtype=torch.float64)
    layer = world.layers[1]
    torch.testing.assert_close(layer.from_frame(layer.to_frame(grid, 4), 4), grid)
    composed = world.motion().between(0, 3)
    background = world.visible(grid, 0) == 0
    for t in (1, 2, 3):
        background &= world.visible(grid + world.flow(0, t), t) == 0
    margin = torch.zeros_like(background)
    margin[8:-8, 8:-8] = True
    blurred = sample((~background)[None, None].float(), grid[None].float()).bool()[0, 0]
    inner = margin & ~torch.nn.functional.max_pool2d(blurred[None].float(), 13, 1, 6)[0].bool()
    assert inner.sum() > 100
    torch.testing.assert_close(composed[:, inner], world.flow(0, 3)[:, inner], atol=0.02, rtol=0)


def test_the_same_seed_is_the_same_world_and_another_is_not():
    first, again, other = (make_world(seed, 24, 32, 3) for seed in (1, 1, 2))
    assert torch.equal(first.clip(), again.clip()) and not torch.equal(first.clip(), other.clip())
    assert first.clip().shape == (3, 3, 24, 32) and 0 <= first.clip().min() and first.clip().max() <= 1


def test_too_little_for_a_world():
    with pytest.raises(ValueError, match="two frames"):
        make_world(0, 10, 10, 1)
