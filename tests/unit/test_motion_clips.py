"""Clips to train motion adapters on: pixels, flow and the way back belong together."""

import pytest
import torch

from aqueduct.core.motion import MotionField, warp
from aqueduct.core.motion.carry import carry
from aqueduct.core.training.motion_clips import MotionClips, PhotoWorlds, estimated_clip, one_clip, world_clip


def pictures(count=3):
    """Smooth random pictures, uint8: what is read between pixels is then nearly what is there."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 3, 8, 8, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, (120, 120), mode="bicubic").clamp(0, 1)
    return list((smooth * 255).byte())


@pytest.fixture(scope="module")
def clip() -> MotionClips:
    worlds = PhotoWorlds(pictures(), frames=6, speed=2.5, still=0)
    return world_clip(worlds.draw(torch.Generator().manual_seed(4)))


def test_the_first_frame_carried_is_the_clip_where_it_was_seen(clip):
    video, way = clip.pictures(), clip.carry()
    carried = way.apply(video[:, :, 0]).transpose(1, 2)
    seen = way.seen[:, None].expand_as(video)
    assert (carried - video)[seen].abs().quantile(0.9) < 0.02  # the rest lies at outlines, where colours mix
    assert 0.5 < way.seen[:, -1].float().mean() < 1
    assert bool(way.seen[:, 0].all())


def test_flow_aligns_neighbouring_frames(clip):
    video = clip.pictures()[0].transpose(0, 1)
    motion = MotionField(clip.forward[0].float(), clip.backward[0].float())
    valid = motion.checked().forward_valid[:, None].expand(-1, 3, -1, -1)
    error = (warp(video[1:], motion.forward) - video[:-1]).abs()
    assert error[valid].quantile(0.9) < 0.02
    unmoved = (video[1:] - video[:-1]).abs()[valid]
    assert error[valid].mean() < unmoved.mean() / 4


def test_half_precision_keeps_the_motion_to_a_64th_pixel(clip):
    worlds = PhotoWorlds(pictures(), frames=6, speed=2.5, still=0)
    world = worlds.draw(torch.Generator().manual_seed(4))
    assert (clip.forward[0].float() - world.motion().forward).abs().max() <= 1 / 64


def test_the_same_seed_is_the_same_world():
    worlds = PhotoWorlds(pictures(), frames=3)
    first, again = (worlds.draw(torch.Generator().manual_seed(9)).clip() for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, worlds.draw(torch.Generator().manual_seed(10)).clip())


def test_a_still_world_does_not_move():
    worlds = PhotoWorlds(pictures(), frames=3, still=1.0)
    clip = world_clip(worlds.draw(torch.Generator().manual_seed(1)))
    assert torch.equal(clip.video[:, :, 0], clip.video[:, :, 2])
    assert bool((clip.forward == 0).all()) and bool(clip.seen.all())


def test_estimated_motion_is_asked_for_every_pair_and_chained():
    video = torch.rand(4, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    asked = []

    def shift(first, second):
        """Says that whatever comes later lies one pixel further right."""
        asked.append((first, second))
        moved = torch.zeros(len(first), 2, 12, 12)
        moved[:, 0] = 1.0 if len(asked) % 2 else -1.0
        return moved

    clip = estimated_clip(video, shift)
    assert len(asked) == 2 and torch.equal(asked[0][1], video[1:]) and torch.equal(asked[1][0], video[1:])
    chain = carry(MotionField(clip.forward[0].float(), clip.backward[0].float()))
    assert torch.equal(clip.carry().points, chain.points)
    anchored = estimated_clip(video, shift, reference_anchored=True)
    assert len(asked) == 6 and torch.equal(asked[4][0], video[:1].expand(3, -1, -1, -1))
    right = torch.stack([torch.ones(12, 12), torch.zeros(12, 12)]).half()
    assert torch.equal(anchored.onward[0, 1:], right.expand(3, -1, -1, -1))


def test_clips_are_picked_and_joined(clip):
    both = MotionClips.joined([clip, clip])
    assert len(both) == 2 and torch.equal(both[1:].video, clip.video)


def test_pixels_survive_storage():
    video = torch.rand(3, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    motion = MotionField(torch.zeros(2, 2, 4, 4), torch.zeros(2, 2, 4, 4))
    stored = one_clip(video, motion, carry(motion)).pictures()[0].transpose(0, 1)
    assert ((stored + 1) / 2 - video).abs().max() <= 0.5 / 255 + 1e-6
