"""Noise for every frame, strategy by strategy."""

import math

import pytest
import torch
from scipy import stats

from aqueduct.core.motion import MotionField, pixel_grid
from aqueduct.core.noise import GaussianField, finest_length_scale
from aqueduct.core.noise.draws import derived_seed, drawn
from aqueduct.core.noise.warp import STRATEGIES, warp_noise
from aqueduct.tests.unit.affine_motions import MOTIONS, affine_motion, affine_points, still, turned, white_noise

C, H, W = 3, 24, 32
FOLLOW = ("nearest", "bilinear", "white", "gp")


def field(seed=0, height=H, width=W, features=200):
    return GaussianField(seed, C, finest_length_scale(height, width), features=features)


def source_for(strategy, seed=0):
    return field(seed) if strategy == "gp" else white_noise((C, H, W), seed)


def first_frame(source):
    return source if isinstance(source, torch.Tensor) else source.grid(H, W)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_starts_with_the_source(strategy):
    source = source_for(strategy)
    clip = warp_noise(source, affine_motion(turned(0.1), (1, 0), 4, H, W), strategy, seed=5)
    assert clip.shape == (4, C, H, W) and clip.dtype == torch.float32
    assert torch.equal(clip[0], first_frame(source))


@pytest.mark.parametrize("strategy", [name for name in STRATEGIES if name != "resample"])
def test_still_motion_repeats_the_noise_bit_for_bit(strategy):
    source = source_for(strategy)
    clip = warp_noise(source, still(5, H, W), strategy, seed=1)
    assert all(torch.equal(frame, first_frame(source)) for frame in clip)


@pytest.mark.parametrize("strategy", FOLLOW)
@pytest.mark.parametrize("shift", [(-2, 1), (3, 0)])
def test_motion_by_whole_pixels_moves_the_noise(strategy, shift):
    """In frame j, p shows what was at p + j shift: exact where that is in frame 0."""
    source, (x, y) = source_for(strategy), shift
    clip = warp_noise(source, affine_motion([[1, 0], [0, 1]], shift, 4, H, W), strategy, seed=2)
    noise = first_frame(source)
    for frame in range(4):
        moved = noise.roll((-y * frame, -x * frame), (1, 2))
        points = pixel_grid(H, W) + frame * torch.tensor([x, y])[:, None, None]
        seen = (points[0] >= 0) & (points[0] < W) & (points[1] >= 0) & (points[1] < H)
        assert seen.float().mean() > 0.5
        assert torch.equal(clip[frame][:, seen], moved[:, seen])


@pytest.mark.parametrize("strategy", FOLLOW)
def test_motion_without_backward_fields_is_inverted(strategy):
    motion = affine_motion([[1, 0], [0, 1]], (-2, 0), 3, H, W)
    clips = [warp_noise(source_for(strategy), m, strategy) for m in (motion, MotionField(motion.forward))]
    torch.testing.assert_close(clips[1][:, :, :, 4:], clips[0][:, :, :, 4:], atol=1e-4, rtol=0)


# --- seeds ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_seed_decides_and_global_state_is_left_alone(strategy):
    motion = affine_motion(turned(0.2, 0.9), (0.5, 0), 3, H, W)
    before = torch.get_rng_state()
    clips = [warp_noise(source_for(strategy), motion, strategy, seed=seed) for seed in (7, 7, 8)]
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(clips[0], clips[1])
    assert torch.equal(clips[0], clips[2]) == (strategy not in ("resample", "white"))  # the rest draw nothing


def test_resampled_frames_are_independent():
    """Of each other and of those of other seeds, also where seed + frame agree."""
    clips = [warp_noise(white_noise((C, H, W), 0), still(6, H, W), "resample", seed=seed) for seed in (0, 1)]
    frames = torch.cat([clips[0], clips[1][1:]]).flatten(1)
    together = frames @ frames.T / frames.shape[1] - torch.eye(len(frames))
    assert together.fill_diagonal_(0).abs().max() < 4.6 / frames.shape[1] ** 0.5  # 55 pairs: error under 3e-4


def test_a_resampled_field_is_another_one_of_the_same_law():
    source = field(4)
    clip = warp_noise(source, still(3, H, W), "resample", seed=1)
    assert not torch.equal(clip[1], clip[2])
    assert not torch.equal(clip[2], warp_noise(source, still(3, H, W), "resample", seed=2)[1])
    neighbours = [(frame[..., 1:] * frame[..., :-1]).mean() / frame.square().mean() for frame in clip]
    assert min(neighbours) > 0.2 and abs(neighbours[0] - neighbours[1]) < 0.15  # as smooth as the first
    assert abs((clip[0] * clip[1]).mean()) < 0.2


def test_seeds_are_mixed():
    seeds = {derived_seed(seed, frame) & 0xFFFFFFFF for seed in range(-50, 50) for frame in range(50)}
    assert len(seeds) > 5000 - 10  # what 32-bit generators see differs; 0.003 collisions are expected
    assert derived_seed(1, 2) != derived_seed(2, 1) != derived_seed(2) != derived_seed(2, 0)
    assert not torch.equal(drawn((4,), 0, 1), drawn((4,), 1, 0))


# --- what the baselines do --------------------------------------------------------------------------------------------


def test_nearest_takes_values_and_repeats_them_under_expansion():
    noise = white_noise((C, H, W), 3)
    clip = warp_noise(noise, affine_motion([[0.5, 0], [0, 0.5]], (0, 0), 2, H, W), "nearest")
    points = affine_points([[0.5, 0], [0, 0.5]], (0, 0), H, W).round().long()
    assert torch.equal(clip[1], noise[:, points[1], points[0]])
    assert len(clip[1, 0].unique()) == H * W // 4


@pytest.mark.parametrize("shift", [(0.5, 0.5), (0.25, 0.1)])
def test_bilinear_loses_the_variance_it_is_said_to_lose(shift):
    noise = white_noise((40, 64, 64), 4)
    clip = warp_noise(noise, affine_motion([[1, 0], [0, 1]], shift, 2, 64, 64), "bilinear")
    inner = clip[1, :, 1:-1, 1:-1]
    expected = math.prod((1 - a) ** 2 + a**2 for a in shift)
    spread = 4 * expected * (2 * 2.25 / inner.numel()) ** 0.5  # pairs of neighbours are correlated by 1/2 at most
    assert abs(inner.var().item() - expected) < spread


def test_a_field_is_read_where_each_pixel_was_also_outside():
    """Against the field itself at rotated points, in double precision; the corners come from outside the frame."""
    angle, source = 0.15, field(9)
    clip = warp_noise(source, affine_motion(turned(angle), (0, 0), 4, H, W), "gp")
    middle = torch.tensor([(W - 1) / 2, (H - 1) / 2])[:, None, None]
    inner = (pixel_grid(H, W) - middle).norm(dim=0) < 9  # what never leaves the frame
    for frame in (1, 3):
        points = affine_points(turned(frame * angle), (0, 0), H, W)
        unit = (points.movedim(0, -1).double() + 0.5) / torch.tensor([W, H])
        reference = source.reference(unit).movedim(-1, 0).float()
        torch.testing.assert_close(clip[frame][:, inner], reference[:, inner], atol=1e-3, rtol=0)
    outside = (points[0] < -1) | (points[0] > W) | (points[1] < -1) | (points[1] > H)
    assert clip[3][:, outside].unique().numel() == C * outside.sum()  # no streaks of the border's values


@pytest.mark.parametrize("strategy", ["fixed", "resample", "nearest", "white"])
@pytest.mark.parametrize("name", ["half a pixel", "zoom in by 1.25", "zoom out by 1.25", "rotation"])
def test_values_are_standard_normal(strategy, name):
    """One value of each block of 4 x 4 inner pixels, so that repeated ones do not count twice; KS at 1e-3."""
    matrix, shift = MOTIONS[name]
    clip = warp_noise(white_noise((60, 48, 48), 6), affine_motion(matrix, shift, 3, 48, 48), strategy, seed=7)
    assert stats.kstest(clip[-1, :, 8:40:4, 8:40:4].flatten().numpy(), "norm").pvalue > 1e-3


@pytest.mark.parametrize("name", ["half a pixel", "zoom in by 1.25", "zoom out by 1.25", "rotation"])
def test_field_values_are_standard_normal(name):
    """Over independent fields, one value of each: 3 channels of 150 draws; KS at 1e-3."""
    matrix, shift = MOTIONS[name]
    motion = affine_motion(matrix, shift, 3, 6, 6)
    values = [warp_noise(field(seed, 6, 6, 600), motion, "gp")[-1, :, 3, 2] for seed in range(150)]
    assert stats.kstest(torch.stack(values).flatten().numpy(), "norm").pvalue > 1e-3


def test_baselines_on_a_field_carry_its_picture():
    source, motion = field(3), affine_motion(turned(0.1), (0.3, 0), 3, H, W)
    for strategy in ("fixed", "nearest", "bilinear"):
        assert torch.equal(warp_noise(source, motion, strategy), warp_noise(source.grid(H, W), motion, strategy))


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_progress_is_told():
    told = []
    warp_noise(white_noise((C, H, W), 0), still(4, H, W), "white", report=lambda *step: told.append(step))
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_a_strategy_may_be_a_function():
    clip = warp_noise(
        white_noise((C, H, W), 0), still(2, H, W), lambda noise, motion, seed: iter([noise, noise + seed]), 3
    )
    assert torch.equal(clip[1], clip[0] + 3)


@pytest.mark.parametrize(
    "source, strategy, error, words",
    [
        (torch.zeros(C, H, W), "ordinary", ValueError, "unknown noise strategy 'ordinary'; there are fixed"),
        (torch.zeros(C, H, W + 1), "white", ValueError, "motion is for 32 x 24 pixels, the noise is .3, 24, 33."),
        (torch.zeros(1, C, H, W), "fixed", ValueError, "the noise is .1, 3, 24, 32."),
        (torch.full((C, H, W), torch.nan), "nearest", ValueError, "not finite"),
        (torch.zeros(C, H, W), "gp", TypeError, "needs a GaussianField"),
        (field(), "white", TypeError, "not a GaussianField"),
        (field(0, 4 * H, 4 * W), "gp", ValueError, "under the sampling limit"),
    ],
)
def test_what_does_not_fit_is_refused(source, strategy, error, words):
    with pytest.raises(error, match=words):
        warp_noise(source, still(3, H, W), strategy)
