"""NOISE along motion, in the layouts of ComfyUI's LATENTs."""

import pytest
import torch

from aqueduct.core.motion import MotionField
from aqueduct.core.noise.report import noise_statistics
from aqueduct.tests.comfy.graph import run, run_one

H, W, FRAMES = 48, 64, 5
STRATEGIES = ("fixed", "resample", "nearest", "bilinear", "white", "gp")


def constant(x, y, frames=FRAMES, height=H, width=W):
    field = torch.tensor([x, y], dtype=torch.float32)[:, None, None].expand(frames - 1, 2, height, width).contiguous()
    return MotionField(field, -field)


def images(frames=FRAMES, channels=4, height=H, width=W, **more):
    return {"samples": torch.zeros(frames, channels, height, width), **more}


def video(frames=FRAMES, clips=1, channels=16, height=H, width=W, **more):
    return {"samples": torch.zeros(clips, channels, frames, height, width), **more}


def warped(latent, motion=None, strategy="white", seed=3, **more):
    motion = constant(2, 0) if motion is None else motion
    return run_one("AqueductWarpNoise", motion=motion, strategy=strategy, seed=seed, **more).generate_noise(latent)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("latent", [images(), images(channels=9), video(), video(clips=2)])
def test_noise_has_the_shape_of_the_latent_and_unit_variance(comfy, strategy, latent):
    noise = warped(latent, strategy=strategy)
    assert noise.shape == latent["samples"].shape
    assert noise.mean().abs() < 0.1 and (noise.std() - 1).abs() < 0.08


@pytest.mark.parametrize("strategy", ["nearest", "bilinear", "white", "gp"])
def test_whole_pixels_move_the_noise(comfy, strategy):
    noise = warped(images(), strategy=strategy)
    for t in range(1, FRAMES):
        torch.testing.assert_close(noise[t, :, :, 2 * t :], noise[0, :, :, : W - 2 * t], atol=1e-4, rtol=0)


@pytest.mark.parametrize("strategy", ["fixed", "nearest", "bilinear", "white", "gp"])
def test_still_motion_repeats_the_noise_bit_for_bit(comfy, strategy):
    noise = warped(images(), constant(0, 0), strategy)
    assert all(torch.equal(frame, noise[0]) for frame in noise)


def test_motion_at_the_videos_size_is_resized_to_the_latents(comfy):
    large = constant(16, 8, height=H * 8, width=W * 8)
    small = constant(2, 1)
    torch.testing.assert_close(warped(images(), large), warped(images(), small), atol=1e-4, rtol=0)


@pytest.mark.parametrize("compression", [1, 4, 8])
def test_temporal_compression_composes_the_motion(comfy, compression):
    """Every latent frame of Wan (4) or LTXV (8) moves by as many frames of motion."""
    motion = constant(1, 0, frames=2 * compression + 1)
    noise = warped(video(frames=3), motion)[0]
    step = compression
    torch.testing.assert_close(noise[:, 1, :, step:], noise[:, 0, :, : W - step], atol=1e-4, rtol=0)
    torch.testing.assert_close(noise[:, 2, :, 2 * step :], noise[:, 0, :, : W - 2 * step], atol=1e-4, rtol=0)


def test_clips_of_a_batch_have_noise_of_their_own_that_moves_alike(comfy):
    noise = warped(video(clips=2))
    first, second = noise[0].flatten(), noise[1].flatten()
    assert torch.corrcoef(torch.stack([first, second]))[0, 1].abs() < 0.02
    assert torch.equal(noise[:1], warped(video(clips=1)))


def test_batch_index_picks_frames_and_clips(comfy):
    whole = warped(images())
    assert torch.equal(warped(images(frames=2, batch_index=[3, 1])), whole[[3, 1]])
    clips = warped(video(clips=3))
    assert torch.equal(warped(video(clips=1, batch_index=[2])), clips[2:])


def test_the_same_seed_is_the_same_noise_and_leaves_the_global_generator_alone(comfy):
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first, again, other = (warped(images(), seed=seed) for seed in (5, 5, 6))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_renewal_keeps_the_variance_and_happens_where_the_mask_says(comfy):
    mask = torch.zeros(1, 2 * H, 2 * W)
    mask[:, :, W:] = 1
    kept, noise = warped(images()), warped(images(), renew=0.5, renew_mask=mask)
    left, right = (..., slice(0, W // 2 - 2)), (..., slice(W // 2 + 2, W))
    assert torch.equal(noise[left], kept[left])
    together = torch.corrcoef(torch.stack([noise[right].flatten(), kept[right].flatten()]))[0, 1]
    assert together == pytest.approx(0.5**0.5, abs=0.03) and (noise[right].std() - 1).abs() < 0.03


@pytest.mark.parametrize("spectrum, white", [("truncated normal", False), ("flat", True)])
def test_gaussian_fields_by_their_spectrum(comfy, spectrum, white):
    """At rest the flat spectrum is white; the paper's has neighbours at 0.34."""
    noise = run_one("AqueductGPNoise", seed=2, spectrum=spectrum, full_rank=True).generate_noise(images(frames=4))
    statistics = noise_statistics(noise)
    assert statistics.uncorrelated == white
    if not white:
        assert statistics.lag_x[:, 0].mean() == pytest.approx(0.34, abs=0.05)
    assert torch.corrcoef(noise.flatten(1))[0, 1:].abs().max() < 0.05  # without motion each frame is its own


def test_a_gaussian_field_follows_half_pixels(comfy):
    node = run_one("AqueductGPNoise", motion=constant(0.5, 0, frames=3), seed=1)
    noise = node.generate_noise(images(frames=3))
    torch.testing.assert_close(noise[2, :, :, 1:], noise[0, :, :, :-1], atol=1e-3, rtol=0)
    assert noise[1].std() == pytest.approx(1, abs=0.05)


def test_the_report_tells_white_from_blurred(comfy):
    latent, motion = images(channels=16), constant(0.5, 0.5)
    for strategy, verdict in (("white", True), ("bilinear", False)):
        noise = run_one("AqueductWarpNoise", motion=motion, strategy=strategy, seed=0)
        picture, text = run("AqueductNoiseReport", noise=noise, latent=latent, motion=motion)
        assert picture.shape[0] == 1 and picture.shape[-1] == 3 and "std" in text
        assert noise_statistics(noise.generate_noise(latent)).white == verdict


def refuse(message, latent, **inputs):
    with pytest.raises(ValueError, match=message):
        warped(latent, **inputs)


def test_what_does_not_fit_names_both_sides(comfy):
    refuse("5 frames, the LATENT 7", images(frames=7))
    refuse("5 frames, the LATENT 3", images(frames=3))
    refuse("5 frames, the LATENT 9", images(frames=1, batch_index=[8]))
    refuse("5 frames, the LATENT 4 latent frames.*12 .*Wan", video(frames=4))
    refuse("one alone", video(frames=1))
    refuse(r"\[2, 3, 4\]", {"samples": torch.zeros(2, 3, 4)})
    refuse("mask 3", images(), renew=0.5, renew_mask=torch.ones(3, H, W))
    with pytest.raises(ValueError, match="features"):
        run_one("AqueductGPNoise", features=0).generate_noise(images())
    with pytest.raises(ValueError, match="sampling limit"):
        run_one("AqueductGPNoise", length_scale=0.3).generate_noise(images())
