"""Composed maps, latent motion and renewal."""

import math

import pytest
import torch

from aqueduct.core.motion import MotionField, pixel_grid
from aqueduct.core.noise.corners import read, read_nearest
from aqueduct.core.noise.maps import composed_maps, latent_motion, latent_times, renewed, seen_maps
from aqueduct.core.noise.warp import warp_noise
from aqueduct.core.training.worlds import make_world
from aqueduct.tests.unit.affine_motions import affine_motion, affine_points, assert_white, still, turned, white_noise

H, W = 24, 32


# --- reading ----------------------------------------------------------------------------------------------------------


def test_reading_is_exact_at_pixels_and_bilinear_between():
    x = white_noise((2, H, W), 0)
    assert torch.equal(read(x, pixel_grid(H, W)), x)
    assert torch.equal(read_nearest(x, pixel_grid(H, W) + 0.4), x)
    point = torch.tensor([3.25, 7.5])[:, None, None]
    by_hand = (0.75 * x[:, 7, 3] + 0.25 * x[:, 7, 4] + 0.75 * x[:, 8, 3] + 0.25 * x[:, 8, 4]) / 2
    torch.testing.assert_close(read(x, point)[:, 0, 0], by_hand)
    outside = torch.tensor([-9.0, 50.0])[:, None, None]
    assert torch.equal(read(x, outside)[:, 0, 0], x[:, -1, 0])


# --- maps -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "matrix, shift", [(turned(0.07), (0, 0)), (turned(0, 1.04), (0.3, -0.2)), ([[1, 0.1], [0, 1]], (0, 0))]
)
def test_affine_maps_are_composed_exactly(matrix, shift):
    """Against powers of the matrix, near the middle: there the way never leaves the frame."""
    inner = (pixel_grid(H, W) - torch.tensor([(W - 1) / 2, (H - 1) / 2])[:, None, None]).norm(dim=0) < 6
    maps = composed_maps(affine_motion(matrix, shift, 6, H, W))
    total, offset = torch.eye(2, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    a = torch.tensor(matrix, dtype=torch.float64)
    for frame, (points, known) in enumerate(maps):
        expected = affine_points(total.float(), offset.tolist(), H, W)
        torch.testing.assert_close(points[:, inner], expected[:, inner], atol=1e-4, rtol=0)
        assert known[inner].all() and frame < 6
        total, offset = a @ total, a @ offset + torch.tensor(shift, dtype=torch.float64)


def test_still_and_whole_pixel_maps_are_exact():
    for points, known in composed_maps(still(4, H, W)):
        assert torch.equal(points, pixel_grid(H, W)) and known.all()
    *_, (points, known) = composed_maps(affine_motion([[1, 0], [0, 1]], (3, -1), 4, H, W))
    assert torch.equal(points, pixel_grid(H, W) + torch.tensor([9.0, -3.0])[:, None, None])  # also out of the frame
    assert torch.equal(known, (points[0] <= W - 1) & (points[1] >= 0))


def test_maps_agree_with_following_every_pixel():
    """`MotionField.between` interpolates velocities, never the map. A reading errs by an eighth of the curvature."""
    x, y = pixel_grid(H, W)
    wave = torch.stack([1.2 * torch.sin(y / 8), 0.8 * torch.cos(x / 9)])
    motion = MotionField(-wave.repeat(7, 1, 1, 1), wave.repeat(7, 1, 1, 1))
    *_, (points, known) = composed_maps(motion)
    followed, valid = motion.between_valid(7, 0)
    inner = known & valid
    assert inner.float().mean() > 0.4
    error = ((points - pixel_grid(H, W)) - followed)[:, inner].abs().max()
    assert error < sum(range(7)) * (1.2 / 8**2 + 0.8 / 9**2) / 8  # in step j the displacement is j waves


def test_unknown_vectors_stay_unknown():
    motion = still(4, H, W)
    valid = torch.ones(3, H, W, dtype=torch.bool)
    valid[1, 5, 6] = False
    known = [known for _, known in composed_maps(MotionField(motion.forward, motion.backward, None, valid))]
    assert known[1].all() and [int((~k).sum()) for k in known[2:]] == [1, 1] and not known[3][5, 6]


def test_slow_disocclusion_is_noticed():
    """A layer that moves half a pixel a frame passes every step; the whole way shows what it uncovered."""
    world = make_world(5, 48, 64, 13, layers=2, speed=0.9, spin=0.0)
    motion = world.motion()
    *_, (_, seen) = seen_maps(motion)
    hidden = world.occluded(12, 0)
    assert hidden.float().mean() > 0.02
    assert seen[hidden].float().mean() < 0.35
    assert seen[~hidden].float().mean() > 0.9


def test_maps_need_backward_fields():
    with pytest.raises(ValueError, match="bidirectional"):
        next(composed_maps(MotionField(torch.zeros(2, 2, H, W))))


# --- latents ----------------------------------------------------------------------------------------------------------


def test_latent_frames_of_video_models():
    assert latent_times(81, 4) == list(range(0, 81, 4)) and len(latent_times(81, 4)) == (81 - 1) // 4 + 1
    assert latent_times(97, 8)[-1] == 96 and latent_times(5, 1) == [0, 1, 2, 3, 4] and latent_times(1, 8) == [0]
    with pytest.raises(ValueError, match="80 frames are not 1 . a multiple of 4.*use 77 or 81"):
        latent_times(80, 4)
    with pytest.raises(ValueError, match="1 or more, got 0"):
        latent_times(5, 0)


def test_latent_motion_is_the_motion_composed():
    motion = affine_motion(turned(0.03), (0.4, 0), 9, H, W)
    short = latent_motion(motion, 4)
    assert short.frames == 3 and short.size == (H, W)
    for step in range(2):
        followed, valid = motion.between_valid(4 * step + 4, 4 * step)
        inner = valid & short.backward_valid[step]
        assert inner.float().mean() > 0.5
        torch.testing.assert_close(short.backward[step][:, inner], followed[:, inner], atol=1e-4, rtol=0)
    assert latent_motion(motion, 1) is motion


@pytest.mark.parametrize("compression", [4, 8])
def test_noise_of_a_video_latent(compression):
    """Wan (4) and LTX (8): 17 frames of motion at 8 times the size, noise for the latent frames at latent size."""
    motion = affine_motion([[1, 0], [0, 1]], (-2, 0), 17, 8 * 16, 8 * 24)
    small = latent_motion(motion, compression).resized(16, 24)
    noise = white_noise((16, 16, 24), 1)
    clip = warp_noise(noise, small, "white", seed=2)
    assert len(clip) == 16 // compression + 1
    moved = compression * 2 // 8  # latent pixels per latent frame
    for frame in range(1, len(clip)):
        # less a column at the border, which is made of pixels from outside, too
        here, before = clip[frame, :, :, moved + 1 :], clip[frame - 1, :, :, 1:-moved]
        torch.testing.assert_close(here, before, atol=1e-3, rtol=0)
        assert_white(clip[frame])


def test_a_still_video_latent_repeats_its_noise():
    noise = white_noise((4, H, W), 3)
    clip = warp_noise(noise, latent_motion(still(9, 2 * H, 2 * W), 4).resized(H, W), "white")
    assert all(torch.equal(frame, noise) for frame in clip)


# --- renewal ----------------------------------------------------------------------------------------------------------


def test_renewal_keeps_the_variance_and_mixes_as_asked():
    noise, fresh = white_noise((2, 40, H, W), 4), white_noise((2, 40, H, W), 5)
    share = torch.zeros(H, W)
    share[:, 8:16], share[:, 16:24], share[:, 24:] = 0.25, 0.5, 1.0
    mixed = renewed(noise, fresh, share)
    assert torch.equal(mixed[..., :8], noise[..., :8]) and torch.equal(mixed[..., 24:], fresh[..., 24:])
    for left, r in ((8, 0.25), (16, 0.5)):
        part, old = mixed[..., left : left + 8].double(), noise[..., left : left + 8].double()
        assert abs(part.var() - 1) < 4 * (2 / part.numel()) ** 0.5
        assert abs((part * old).mean() - math.sqrt(1 - r)) < 4 * (2 / part.numel()) ** 0.5
    for frame in mixed:
        assert_white(frame)


def test_masks_for_one_frame_or_all():
    noise, fresh = white_noise((3, 2, H, W), 6), white_noise((3, 2, H, W), 7)
    share = torch.stack([torch.full((H, W), r) for r in (0.0, 0.5, 1.0)])
    mixed = renewed(noise, fresh, share)
    assert torch.equal(mixed[0], noise[0]) and torch.equal(mixed[2], fresh[2])
    assert torch.equal(renewed(noise, fresh, share[1]), renewed(noise, fresh, share[1:2]))


@pytest.mark.parametrize(
    "fresh, share, words",
    [
        (torch.zeros(3, 2, H, W + 1), torch.zeros(H, W), "shape of the noise"),
        (torch.zeros(3, 2, H, W), torch.zeros(2, H, W), "for 1 or 3 frames, got .2, 24, 32."),
        (torch.zeros(3, 2, H, W), torch.full((H, W), 1.5), "in 0..1, got 1.5"),
        (torch.zeros(3, 2, H, W), torch.full((H, W), torch.nan), "in 0..1"),
    ],
)
def test_bad_masks_are_refused(fresh, share, words):
    with pytest.raises(ValueError, match=words):
        renewed(torch.zeros(3, 2, H, W), fresh, share)
