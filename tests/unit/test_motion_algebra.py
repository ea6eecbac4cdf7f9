"""Motions made of others: closed forms for constant and affine motion, and validity that travels."""

import math

import pytest
import torch

from aqueduct.core.motion import MotionField, pixel_grid
from aqueduct.core.motion.algebra import concatenated, looped, masked, over, summed
from aqueduct.core.motion.camera import Keyframe, camera_maps, camera_motion

H, W = 40, 60


def constant(*vectors, size=(H, W)) -> MotionField:
    """One step per (x, y), both ways."""
    forward = torch.tensor(vectors, dtype=torch.float32)[:, :, None, None].expand(-1, -1, *size).clone()
    return MotionField(forward, -forward)


def disc(x: float, y: float, radius: float) -> torch.Tensor:
    return (pixel_grid(H, W) - torch.tensor([x, y])[:, None, None]).norm(dim=0) < radius


# --- camera over object -----------------------------------------------------------------------------------------------


def test_a_pan_over_an_object_that_slides_adds_up():
    made = over(constant((2, 1), (3, 0)), constant((1, -1), (0, 4)))
    assert torch.allclose(made.forward[:, :, 5, 5], torch.tensor([[3.0, 0], [3, 4]]), atol=1e-5)
    assert torch.allclose(made.backward, -made.forward, atol=1e-5)


def test_a_camera_over_a_resting_photo_is_the_camera():
    """Everywhere, also where the camera sees beyond the photo, whose motion, however, nobody knows there."""
    keys = [Keyframe(0), Keyframe(1, pan_x=0.3, zoom=0.8, roll=20)]
    camera = camera_motion(5, H, W, keys)
    made = over(camera, constant(*[(0, 0)] * 4))
    assert torch.allclose(made.forward, camera.forward, atol=1e-4)
    assert torch.allclose(made.backward, camera.backward, atol=1e-4)
    assert not made.forward_valid[3].all() and made.forward_valid[0].float().mean() > 0.8


def test_a_resting_camera_over_an_object_is_the_object():
    generator = torch.Generator().manual_seed(0)
    field = torch.randn(3, 2, H, W, generator=generator)
    moving = MotionField(field, -field)
    made = over(constant(*[(0, 0)] * 3), moving)
    assert torch.allclose(made.forward, field, atol=1e-4) and torch.allclose(made.backward, -field, atol=1e-4)
    assert made.forward_valid[0].float().mean() > 0.8


def test_a_zooming_and_rolling_camera_sees_the_objects_vector_zoomed_and_turned():
    """Oracle: by the camera's maps A, p is seen next at ``A_{i+1} (A_i^-1 p + v)`` for a slide v."""
    keys = [Keyframe(0), Keyframe(1, zoom=1.6, roll=30, pan_x=0.05)]
    maps = camera_maps(5, H, W, keys)
    made = over(camera_motion(5, H, W, keys), constant(*[(2, 1)] * 4))
    grid = torch.cat([pixel_grid(H, W), torch.ones(1, H, W)]).flatten(1).double()
    slide = torch.tensor([2.0, 1.0, 0.0]).double()[:, None]
    for step in range(4):
        for field, valid, first, last, sign in (
            (made.forward, made.forward_valid, step, step + 1, 1),
            (made.backward, made.backward_valid, step + 1, step, -1),
        ):
            photo = torch.linalg.inv(maps[first]) @ grid + sign * slide
            expected = ((maps[last] @ photo)[:2] - grid[:2]).view(2, H, W).float()
            known = valid[step]
            assert (field[step] - expected)[:, known].abs().max() < 1e-3 and known.float().mean() > 0.5
    assert (made.forward[3] - camera_motion(5, H, W, keys).forward[3]).norm(dim=0).median() > 3


def test_an_object_is_seen_where_the_camera_has_taken_it():
    """The photo's disc rests at (20, 20) and moves in the second step only; the camera has panned it 12 pixels left."""
    jump = torch.zeros(2, 2, H, W)
    jump[1, :] = disc(20, 20, 6) * torch.tensor([0.0, 5.0])[:, None, None]
    back = torch.zeros(2, 2, H, W)
    back[1] = disc(20, 25, 6) * torch.tensor([0.0, -5.0])[:, None, None]
    made = over(constant((-12, 0), (-12, 0)), MotionField(jump, back))
    assert torch.allclose(made.forward[1, 0], torch.tensor(-12.0), atol=1e-4)
    assert torch.allclose(made.forward[1, 1], torch.where(disc(8, 20, 6), 5.0, 0.0), atol=1e-4)
    assert torch.allclose(made.backward[1, 1], torch.where(disc(-4, 25, 6), -5.0, 0.0), atol=1e-4)


def test_validity_of_both_travels_through_over():
    camera, moving = constant((-4, 0), (-4, 0)), constant((0, 0), (0, 0))
    known = torch.ones(2, H, W, dtype=torch.bool)
    known[1, 10, 20] = False
    made = over(camera, MotionField(moving.forward, moving.backward, known))
    assert not made.forward_valid[1, 10, 16] and made.forward_valid[1, 10, 20] and made.forward_valid[0, 10, 16]
    made = over(MotionField(camera.forward, camera.backward, known), moving)
    assert not made.forward_valid[1, 10, 20] and made.forward_valid[1, 10, 16]


# --- sum --------------------------------------------------------------------------------------------------------------


def test_a_sum_adds_velocities_and_its_backward_undoes_it():
    """A zoom about the middle plus a slide is affine: the inverse in closed form, away from what came in."""
    zoom = camera_motion(2, H, W, [Keyframe(0), Keyframe(1, zoom=1.25)])
    made = summed(zoom, constant((3, -2)))
    middle = torch.tensor([(W - 1) / 2, (H - 1) / 2])[:, None, None]
    away, slide = pixel_grid(H, W) - middle, torch.tensor([3.0, -2.0])[:, None, None]
    assert torch.allclose(made.forward[0], 0.25 * away + slide, atol=1e-4)
    inverse = (away - slide) / 1.25 - away
    inside = ((away + inverse + middle) >= 0).all(0) & ((away + inverse + middle)[0] <= W - 1)
    assert torch.allclose(made.backward[0][:, inside], inverse[:, inside], atol=1e-3)
    other = summed(constant((3, -2)), zoom)
    assert torch.allclose(other.forward, made.forward) and torch.allclose(other.backward, made.backward)


def test_a_sum_without_backward_fields_has_none():
    forward_only = MotionField(constant((1, 0)).forward)
    assert summed(forward_only, forward_only).backward is None
    assert torch.allclose(summed(forward_only, constant((1, 2))).backward[0, :, 20, 30], torch.tensor([-2.0, -2.0]))


# --- time -------------------------------------------------------------------------------------------------------------


def test_concatenated_goes_on_where_the_first_ends():
    made = concatenated(constant((1, 0), (2, 0)), constant((0, 3)))
    assert made.frames == 4 and made.forward[:, :, 0, 0].tolist() == [[1, 0], [2, 0], [0, 3]]
    assert torch.allclose(made.between(0, 3)[:, 10, 10], torch.tensor([3.0, 3.0]))
    assert made.forward_valid is None


def test_concatenated_validity_and_missing_backward():
    known = torch.zeros(1, H, W, dtype=torch.bool)
    first = MotionField(constant((1, 0)).forward, forward_valid=known)
    made = concatenated(first, constant((0, 3)))
    assert made.forward_valid.flatten(1).any(1).tolist() == [False, True]
    assert torch.allclose(made.backward[0, :, 20, 30], torch.tensor([-1.0, 0.0]))
    assert not made.backward_valid[0, :, 0].any()  # nothing of frame 0 moved into the first column
    assert concatenated(first, first).backward is None


def test_a_loop_goes_on_and_a_ping_pong_returns():
    once = camera_motion(4, H, W, [Keyframe(0), Keyframe(1, zoom=1.1, roll=10, pan_x=0.05)])
    twice = looped(once, 2)
    assert twice.frames == 7 and torch.equal(twice.forward[3:], once.forward)
    returned = looped(once, 3, ping_pong=True)
    assert returned.frames == 19
    for end in (6, 12, 18):
        flow, valid = returned.between_valid(0, end)
        assert flow[:, valid].abs().max() < 1e-3 and valid.float().mean() > 0.6
    assert returned.between(0, 3).abs().max() > 3
    assert looped(once, 1).frames == 4
    known = torch.rand(3, H, W, generator=torch.Generator().manual_seed(4)) > 0.5
    part = looped(MotionField(once.forward, forward_valid=known), 3)
    assert part.backward is None and torch.equal(part.forward_valid, known.repeat(3, 1, 1))


def test_a_long_loop_costs_what_it_is_long(monkeypatch):
    """Counts the fields that are checked on the way: a loop made round by round would check 500 times as many."""
    checked, check = [], MotionField.__post_init__

    def counting(motion):
        checked.append(motion.steps)
        check(motion)

    once = constant((1, 0), size=(2, 3))
    monkeypatch.setattr(MotionField, "__post_init__", counting)
    assert looped(once, 1000).frames == 1001
    assert sum(checked) < 4 * 1000


# --- mask -------------------------------------------------------------------------------------------------------------


def test_masked_rests_or_moves_otherwise_outside():
    mask = torch.zeros(H, W)
    mask[:, 30:], mask[:, 20:30] = 1, 0.5
    rest = masked(constant((4, 0), (4, 0)), mask)
    other = masked(constant((4, 0), (4, 0)), mask[None], constant((0, 2), (0, 2)))
    for step in range(2):
        assert rest.forward[step, :, 7, [0, 25, 40]].T.tolist() == [[0, 0], [2, 0], [4, 0]]
        assert rest.backward[step, :, 7, [0, 25, 40]].T.tolist() == [[0, 0], [-2, 0], [-4, 0]]
        assert other.forward[step, :, 7, [0, 25, 40]].T.tolist() == [[0, 2], [2, 1], [4, 0]]


def test_a_mask_per_frame_acts_on_the_grid_of_its_frame():
    """Rows 0, 1, 2 in frames 0, 1, 2: forward fields move in rows 0 and 1, backward ones in rows 1 and 2."""
    mask = torch.zeros(3, H, W)
    for frame in range(3):
        mask[frame, frame] = 1
    made = masked(constant((4, 0), (4, 0)), mask)
    assert [made.forward[s, 0].any(1).nonzero().flatten().tolist() for s in (0, 1)] == [[0], [1]]
    assert [made.backward[s, 0].any(1).nonzero().flatten().tolist() for s in (0, 1)] == [[1], [2]]


def test_feather_is_a_gaussian_blur_of_the_mask():
    """Oracle: across a straight edge, between pixels 29 and 30, it is the normal distribution function."""
    mask = torch.zeros(H, W)
    mask[:, 30:] = 1
    made = masked(constant((1, 0)), mask, feather=4.0).forward[0, 0, 20]
    expected = torch.tensor([0.5 * (1 + math.erf((x - 29.5) / (4 * 2**0.5))) for x in range(W)])
    assert (made - expected).abs().max() < 2e-3
    assert made[0] == 0 and made[-1] == pytest.approx(1, abs=1e-6)


def test_what_the_mask_leaves_out_need_not_be_known():
    mask = torch.zeros(H, W)
    mask[:, 30:], mask[:, 20:30] = 1, 0.5
    unknown = torch.zeros(1, H, W, dtype=torch.bool)
    made = masked(MotionField(constant((4, 0)).forward, forward_valid=unknown), mask)
    assert made.forward_valid[0, 0, [0, 25, 40]].tolist() == [True, False, False]
    other = MotionField(constant((0, 2)).forward, forward_valid=unknown)
    made = masked(MotionField(constant((4, 0)).forward), mask, other)
    assert made.forward_valid[0, 0, [0, 25, 40]].tolist() == [False, False, True]


# --- what is wrong ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("combine", [over, summed, concatenated, lambda a, b: masked(a, torch.ones(H, W), b)])
def test_two_sizes_name_both_and_the_way_out(combine):
    with pytest.raises(ValueError, match=r"60 x 40 pixels, .* for 30 x 20: .*AqueductResizeMotion"):
        combine(constant((1, 0)), constant((1, 0), size=(20, 30)))


@pytest.mark.parametrize("combine", [over, summed, lambda a, b: masked(a, torch.ones(H, W), b)])
def test_two_lengths_name_both(combine):
    with pytest.raises(ValueError, match="has 2 frames, .* 3: .*slowing .* down by 0.5"):
        combine(constant((1, 0)), constant((1, 0), (1, 0)))


@pytest.mark.parametrize(
    "mask, feather, message",
    [
        (torch.ones(20, 30), 0, r"60 x 40 pixels, got \[1, 20, 30\]"),
        (torch.ones(5, H, W), 0, r"\[1 or 2, H, W\]"),
        (torch.full((H, W), 2.0), 0, "in 0..1, got 2 to 2"),
        (torch.ones(H, W), -1, "feather must be at least 0"),
    ],
)
def test_bad_masks(mask, feather, message):
    with pytest.raises(ValueError, match=message):
        masked(constant((1, 0)), mask, feather=feather)


def test_a_loop_of_none_is_refused():
    with pytest.raises(ValueError, match="at least once, got 0"):
        looped(constant((1, 0)), 0)
