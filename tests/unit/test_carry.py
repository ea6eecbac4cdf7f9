"""The way back to the first frame: against worlds whose motion is a formula, and against whole-pixel shifts."""

import pytest
import torch

from aqueduct.core.motion import MotionField, advect
from aqueduct.core.motion.carry import Carry, carry, direct_carry
from aqueduct.core.motion.sampling import pixel_grid
from aqueduct.core.training.motion_clips import PhotoWorlds, world_clip


def shift(x: float, y: float, frames: int = 4, size=(10, 12)) -> MotionField:
    field = torch.tensor([float(x), float(y)])[None, :, None, None].expand(frames - 1, 2, *size)
    return MotionField(field, -field)


def test_a_shift_carries_whole_pixels_exactly():
    picture = torch.rand(1, 3, 10, 12, generator=torch.Generator().manual_seed(0))
    carried = carry(shift(2, -1)).apply(picture)[0]
    for t in range(4):
        inner = carried[t, :, : 10 - t, 2 * t :]
        assert torch.allclose(inner, picture[0, :, t:, : 12 - 2 * t], atol=1e-6)
        assert bool((carried[t, :, :, : max(2 * t - 1, 0)] == 0).all())


def test_onward_is_how_far_pixels_have_got():
    way = carry(shift(2, -1))
    seen = way.onward[0, :, :, 5, 2]
    assert torch.allclose(seen, torch.arange(4)[:, None] * torch.tensor([2.0, -1.0]), atol=1e-5)


def test_it_is_advect_without_the_picture():
    generator = torch.Generator().manual_seed(1)
    motion = MotionField(
        torch.randn(5, 2, 16, 16, generator=generator), torch.randn(5, 2, 16, 16, generator=generator)
    )
    picture = torch.rand(3, 16, 16, generator=generator)
    clip, unseen = advect(picture, motion)
    way = carry(motion)
    assert torch.equal(~unseen, way.seen[0])
    assert torch.allclose(way.stretched(picture[None])[0], clip, atol=1e-6)


def test_resizing_keeps_what_is_carried():
    """A smooth picture carried at half the size is the picture carried, reduced."""
    y, x = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    picture = torch.stack([x, y, x + y])[None] / 32
    way = carry(shift(1.5, 0.5, size=(32, 32)))
    small = torch.nn.functional.interpolate(picture, (16, 16), mode="area")
    reduced = torch.nn.functional.interpolate(way.stretched(picture)[0], (16, 16), mode="area")
    own = way.resized(16, 16).stretched(small)[0]
    assert (own - reduced)[..., 4:-4, 4:-4].abs().max() < 0.01


def test_direct_flow_of_an_exact_world_is_its_chain():
    """On a world of a shift the two forms are one; the Lagrangian one takes flow from the first frame."""
    motion = shift(1, 0, frames=5)
    steps = torch.arange(1, 5)[:, None, None, None] * motion.forward[:1]
    direct, chain = direct_carry(steps, -steps), carry(motion)
    both = direct.seen & chain.seen
    assert torch.allclose(direct.points * both[:, :, None], chain.points * both[:, :, None], atol=1e-5)
    assert torch.equal(direct.seen, chain.seen)


def test_chain_of_a_world_finds_where_its_pixels_came_from():
    """Exact adjacent flow composed against the formula from frame t to frame 0, where both say it was seen."""
    pictures = [torch.randint(256, (3, 96, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))]
    worlds = PhotoWorlds(pictures, frames=8, speed=2.0)
    clip = world_clip(worlds.draw(torch.Generator().manual_seed(5)))
    chain = carry(MotionField(clip.forward[0].float(), clip.backward[0].float()))
    exact = clip.carry()
    both = chain.seen & exact.seen
    error = (chain.points - exact.points).square().sum(2).sqrt()[both]
    assert both.float().mean() > 0.5
    assert error.quantile(0.95) < 0.15  # 8 readings of half-precision flow, some of them at outlines
    assert (chain.seen != exact.seen).float().mean() < 0.1


def test_another_size_is_refused_with_both_sizes():
    with pytest.raises(ValueError, match=r"10, 12.*\[1, 3, 8, 8\]"):
        carry(shift(1, 0)).apply(torch.zeros(1, 3, 8, 8))


def test_one_way_for_many_pictures():
    pictures = torch.rand(3, 2, 10, 12)
    way = carry(shift(1, 1))
    together = way.apply(pictures)
    assert torch.equal(together[1], way.apply(pictures[1:2])[0])
    with pytest.raises(ValueError, match="carries 2"):
        Carry(way.points.repeat(2, 1, 1, 1, 1), way.seen.repeat(2, 1, 1, 1), way.onward).apply(pictures)


def test_grid_is_where_still_pixels_were():
    way = carry(shift(0, 0))
    assert torch.equal(way.points[0, 3], pixel_grid(10, 12))
    assert bool(way.seen.all())
