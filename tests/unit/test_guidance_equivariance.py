"""The equivariance error, the adjoint of warping, and which frames are compared."""

import math

import pytest
import torch

from aqueduct.core.guidance import (
    REFERENCES,
    Pairs,
    compared,
    equivariance_error,
    first_frame,
    previous_and_first_frame,
    previous_frame,
    warp_adjoint,
)
from aqueduct.core.guidance.adjoint import bilinear_taps
from aqueduct.core.guidance.equivariance import error_and_gradient
from aqueduct.core.motion import MotionField, warp
from aqueduct.core.training.worlds import make_world
from aqueduct.tests.unit.shift_worlds import ShiftWorld

N, C, H, W = 3, 2, 9, 13


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def wild_flow(seed=1):
    """Several pixels either way, so that a good part of it leaves the frame on every side."""
    return 4 * random(N, 2, H, W, seed=seed)


# --- the adjoint ------------------------------------------------------------------------------------------------------


def test_the_taps_are_the_warp_of_the_motion_part():
    x, flow = random(N, C, H, W), wild_flow()
    torch.testing.assert_close(bilinear_taps(flow).warp(x), warp(x, flow), rtol=0, atol=1e-12)


def test_inner_products_agree():
    """<A x, v> = <x, A^T v>, with A from the motion part and A^T from here."""
    x, v, flow = random(N, C, H, W), random(N, C, H, W, seed=2), wild_flow()
    torch.testing.assert_close((warp(x, flow) * v).sum(), (x * warp_adjoint(v, flow)).sum(), rtol=1e-12, atol=0)


def test_the_adjoint_is_the_gradient_that_autograd_finds():
    x, v, flow = random(N, C, H, W).requires_grad_(), random(N, C, H, W, seed=2), wild_flow()
    (found,) = torch.autograd.grad(warp(x, flow), x, v)
    torch.testing.assert_close(warp_adjoint(v, flow), found, rtol=0, atol=1e-12)


def test_the_border_collects_what_was_read_beyond_it():
    """All of a 4 x 5 frame reads one corner: the adjoint brings all 20 values there."""
    flow = torch.full((1, 2, 4, 5), 100.0)
    expected = torch.zeros(1, 1, 4, 5)
    expected[0, 0, 3, 4] = 20
    assert torch.equal(warp_adjoint(torch.ones(1, 1, 4, 5), flow), expected)


@pytest.mark.parametrize("size", [(1, 6), (6, 1), (1, 1)])
def test_frames_of_one_pixel_in_a_direction(size):
    x, v, flow = random(1, 1, *size), random(1, 1, *size, seed=2), 3 * random(1, 2, *size, seed=3)
    torch.testing.assert_close((warp(x, flow) * v).sum(), (x * warp_adjoint(v, flow)).sum())


# --- the error --------------------------------------------------------------------------------------------------------


def test_whole_pixel_motion_has_no_error_at_all():
    """To the last bit, in single precision: grid_sample's own coordinates are off by 1e-7 of the width."""
    world = ShiftWorld()
    clip = world.noise(dtype=torch.float32)
    assert equivariance_error(clip[1:], clip[:-1], world.motion().forward).tolist() == [0.0] * 5


def test_the_error_is_a_sum_over_channels_and_the_pixels_that_stay():
    """An oracle by slicing: a shift by (2, -1) leaves 12 x 17 of 13 x 19 pixels."""
    world = ShiftWorld(frames=4, channels=3, height=13, width=19)
    clip = random(4, 3, 13, 19)
    stay = (13 - 1) * (19 - 2)
    found = equivariance_error(clip[1:], clip[:-1], world.motion().forward)
    torch.testing.assert_close(found, world.moved(clip) * stay * 3)
    assert compared(world.motion().forward).tolist() == [stay] * 3


def test_frames_aligned_the_other_way_round_have_an_error():
    world = ShiftWorld()
    clip, motion = world.noise(), world.motion()
    assert equivariance_error(clip[1:], clip[:-1], motion.backward).min() > 100
    assert equivariance_error(clip[:-1], clip[1:], motion.backward).max() == 0


def test_the_closed_gradient_is_that_of_autograd():
    later, earlier, flow = random(N, C, H, W).requires_grad_(), random(N, C, H, W, seed=2), wild_flow()
    mask = torch.rand(N, H, W, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    error = equivariance_error(later, earlier, flow, mask)
    (expected,) = torch.autograd.grad(error.sum(), later)
    found_error, found = error_and_gradient(later.detach(), earlier, flow, mask)
    torch.testing.assert_close(found_error, error.detach())
    torch.testing.assert_close(found, expected)


def test_the_error_is_differentiable_in_both_frames():
    flow, mask = wild_flow()[:1, :, :4, :5], torch.rand(1, 4, 5) > 0.3
    frames = [random(1, 1, 4, 5, seed=seed).requires_grad_() for seed in (0, 2)]
    assert torch.autograd.gradcheck(lambda a, b: equivariance_error(a, b, flow, mask), frames)


def test_only_what_the_mask_shows_counts():
    later, earlier, flow = random(N, C, H, W), random(N, C, H, W, seed=2), wild_flow()
    mask = torch.rand(N, H, W, generator=torch.Generator().manual_seed(4)) > 0.5
    whole = equivariance_error(later, earlier, flow)
    split = equivariance_error(later, earlier, flow, mask) + equivariance_error(later, earlier, flow, ~mask)
    torch.testing.assert_close(split, whole)
    changed = torch.where(mask[:, None], earlier, earlier + 7)
    torch.testing.assert_close(
        equivariance_error(later, changed, flow, mask), equivariance_error(later, earlier, flow, mask)
    )


def test_half_precision_is_summed_in_single():
    """40 000 squares of 4 are far beyond the 65504 that float16 can say."""
    later = torch.full((1, 4, 100, 100), 2.0, dtype=torch.float16)
    error = equivariance_error(later, -later, torch.zeros(1, 2, 100, 100))
    assert error.dtype == torch.float32 and error.item() == 16 * 40_000


def test_tensors_of_inference_mode():
    """Flow, mask and the constant frame may come from it; what gets a gradient must be a copy made outside."""
    with torch.inference_mode():
        later, earlier, flow = random(N, C, H, W), random(N, C, H, W, seed=2), wild_flow()
        mask = torch.ones(N, H, W, dtype=torch.float64)
        inside = equivariance_error(later, earlier, flow, mask)
        _, closed = error_and_gradient(later, earlier, flow, mask)
    copy = later.clone().requires_grad_()
    error = equivariance_error(copy, earlier, flow, mask)
    (gradient,) = torch.autograd.grad(error.sum(), copy)
    assert torch.equal(error.detach(), inside)
    torch.testing.assert_close(gradient, closed.clone())


def test_errors_say_what_is_wrong():
    x, flow = torch.zeros(2, 3, 8, 10), torch.zeros(2, 2, 8, 10)
    with pytest.raises(ValueError, match=r"20 x 16.*10 x 8"):
        equivariance_error(torch.zeros(2, 3, 16, 20), torch.zeros(2, 3, 16, 20), flow)
    with pytest.raises(ValueError, match="5 images for 2 flow fields"):
        equivariance_error(torch.zeros(5, 3, 8, 10), torch.zeros(5, 3, 8, 10), flow)
    with pytest.raises(ValueError, match="differ"):
        equivariance_error(x, x[:1], flow)
    with pytest.raises(ValueError, match=r"\[2, 8, 10\].*\[8, 10\]"):
        equivariance_error(x, x, flow, torch.ones(8, 10))
    with pytest.raises(ValueError, match="not finite"):
        equivariance_error(x, x, torch.full_like(flow, math.nan))


# --- which frames are compared ----------------------------------------------------------------------------------------


def test_references_are_the_frames_they_are_named_after():
    motion = ShiftWorld(frames=4).motion()
    pairs = {name: make(motion) for name, make in REFERENCES.items()}
    found = {name: list(zip(pair.later, pair.earlier, strict=True)) for name, pair in pairs.items()}
    near, far = [(1, 0), (2, 1), (3, 2)], [(1, 0), (2, 0), (3, 0)]
    assert found == {"previous frame": near, "first frame": far, "both": near + far[1:]}


def test_the_first_frame_is_reached_along_the_composed_flow():
    world = ShiftWorld(frames=4, step=(2, -1))
    pairs = first_frame(world.motion())
    inner = pairs.flow[:, :, 4:-4, 2:-7]
    assert torch.equal(inner, torch.tensor([[2.0, -1], [4, -2], [6, -3]])[:, :, None, None].expand_as(inner))
    clip = world.noise()
    errors, gradient = pairs.error_and_gradient(clip, slice(0, 4))
    assert errors.tolist() == [0.0] * 4 and not gradient.any()
    clip[0, 0, 6, 6] += 2
    errors, gradient = pairs.error_and_gradient(clip, slice(0, 4))
    assert errors.tolist() == [0.0, 4.0, 4.0, 4.0]
    # the pixel (6, 6) is at (6 + 2 j, 6 - j) in frame j, and there alone is a gradient: 2 (later - earlier) = -4
    assert gradient.nonzero().tolist() == [[j, 0, 6 - j, 6 + 2 * j] for j in (1, 2, 3)]
    assert gradient[gradient != 0].tolist() == [-4.0] * 3


def test_both_references_add_up():
    motion, clip = ShiftWorld(frames=4).motion(), random(4, 3, 14, 18)
    near, far, both = (make(motion).error_and_gradient(clip, slice(0, 4)) for make in REFERENCES.values())
    for one, other, sum_ in zip(near, far, both, strict=True):
        expected = one + other
        expected[1] = one[1]  # frame 1 has frame 0 as both
        torch.testing.assert_close(sum_, expected)


def test_masks_come_from_the_cycle_test_and_find_what_is_hidden():
    """Against the true occlusion of a world of layers: what is hidden in the next frame must not be compared."""
    world = make_world(3, 60, 80, 4)
    pairs = previous_frame(world.motion())
    hidden, _ = world.occlusions()
    assert 0.005 < hidden.float().mean() < 0.5
    assert (pairs.mask & hidden).sum() < 0.2 * hidden.sum()
    assert (pairs.mask & ~hidden).sum() > 0.95 * (~hidden).sum()
    open_ = previous_frame(world.motion(), alpha2=math.inf)
    assert open_.mask.sum() > pairs.mask.sum()


def test_the_whole_way_is_tested_for_the_first_frame():
    """A cover that advances half a pixel a frame fails no single step, but after 8 frames it has covered 4 pixels."""
    forward = torch.zeros(8, 2, 6, 40)
    backward = torch.zeros(8, 2, 6, 40)
    for t in range(8):  # the cover is everything left of its edge, and moves right
        edge = 10 + t / 2
        columns = torch.arange(40.0)
        forward[t, 0, :, columns < edge] = 0.5
        backward[t, 0, :, columns < edge + 0.5] = -0.5
    motion = MotionField(forward, backward)
    assert previous_frame(motion).mask[:, :, 2:-2].all()
    far = first_frame(motion)
    assert not far.mask[-1, :, 11:13].any()
    assert far.mask[-1, :, 20:38].all()


def test_motion_without_backward_fields_counts_wherever_it_is_known():
    motion = ShiftWorld().motion(backward=False)
    assert previous_frame(motion).mask.all()
    known = torch.rand(motion.forward[:, 0].shape, generator=torch.Generator().manual_seed(0)) > 0.2
    assert torch.equal(previous_frame(MotionField(motion.forward, forward_valid=known)).mask, known)


def test_resizing_pairs_scales_their_vectors():
    pairs = previous_and_first_frame(ShiftWorld(frames=3, height=16, width=24, step=(8, 0)).motion())
    small = pairs.resized(4, 8)
    assert small.size == (4, 8) and small.later == pairs.later
    torch.testing.assert_close(small.flow[0, 0], torch.full((4, 8), 8 / 3))
    assert pairs.resized(16, 24) is pairs


def test_a_batch_of_clips_is_compared_within_each_clip():
    pairs = previous_frame(ShiftWorld(frames=3).motion()).repeated(2)
    assert (pairs.frames, pairs.later, pairs.earlier) == (6, (1, 2, 4, 5), (0, 1, 3, 4))
    clip = torch.cat([ShiftWorld(frames=3).noise(seed) for seed in (0, 1)])
    assert not pairs.error_and_gradient(clip, slice(0, 6))[0].any()


def test_pairs_that_make_no_sense_are_refused():
    flow, mask = torch.zeros(1, 2, 4, 5), torch.ones(1, 4, 5, dtype=torch.bool)
    with pytest.raises(ValueError, match="frame 1 of 3 cannot follow 2"):
        Pairs(3, (1,), (2,), flow, mask)
    with pytest.raises(ValueError, match="frame 3 of 3"):
        Pairs(3, (3,), (2,), flow, mask)
    with pytest.raises(ValueError, match=r"2 later and 1 earlier.*\[2,2,H,W\]"):
        Pairs(3, (1, 2), (0,), flow, mask)
    with pytest.raises(ValueError, match=r"mask.*\[1, 4, 5\].*\[1, 5, 4\]"):
        Pairs(3, (1,), (0,), flow, mask.transpose(1, 2))
    with pytest.raises(ValueError, match="not finite"):
        Pairs(3, (1,), (0,), flow + math.inf, mask)
