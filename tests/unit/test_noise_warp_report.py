"""The statistics, on noise whose statistics are known."""

import math

import pytest
import torch

from aqueduct.core.noise.report import correlation, noise_statistics
from aqueduct.core.noise.warp import warp_noise
from aqueduct.core.plots.noise import noise_picture
from aqueduct.tests.unit.affine_motions import affine_motion, still, white_noise

F, C, H, W = 6, 8, 40, 48


def test_white_noise_is_called_white():
    """30 clips of 6 frames: 8 comparisons a frame at 6.3e-5 each; more than one alarm has probability 4e-3."""
    verdicts = [noise_statistics(white_noise((F, C, H, W), seed)).white for seed in range(30)]
    assert verdicts.count(False) <= 1


@pytest.mark.parametrize("spoil", [lambda x: 1.05 * x, lambda x: x + 0.06, lambda x: x + 0.1 * x.roll(1, 3),
                                   lambda x: x + 0.1 * x.roll(3, 2)])  # fmt: skip
def test_what_is_not_white_is_noticed(spoil):
    noise = white_noise((F, C, H, W), 1)
    noise[4] = spoil(noise)[4]  # one frame of the clip is enough
    assert not noise_statistics(noise).white


def test_known_correlations_are_found():
    """The sum of two neighbours: 1/2 at one pixel, 0 beyond; a frame repeated with fresh noise: sqrt(1 - r)."""
    white = white_noise((F, C, H, W + 1), 2)
    found = noise_statistics((white[..., 1:] + white[..., :-1]) / math.sqrt(2))
    band = 2 * found.lag_band
    assert (found.lag_x - torch.tensor([0.5, 0, 0])).abs().max() < band and found.lag_y.abs().max() < band
    base = white_noise((1, C, H, W), 3)
    lags = noise_statistics(0.8 * base + 0.6 * white_noise((F, C, H, W), 4)).lag_time
    assert (lags - 0.64).abs().max() < found.lag_band


def test_noise_that_moves_follows_its_motion_and_no_other():
    motion = affine_motion([[1, 0], [0, 1]], (2, -1), F, H, W)
    clip = warp_noise(white_noise((C, H, W), 5), motion, "white")
    found = noise_statistics(clip, motion)
    torch.testing.assert_close(found.along_previous, torch.ones(F - 1), atol=1e-5, rtol=0)
    torch.testing.assert_close(found.along_first, torch.ones(F - 1), atol=1e-5, rtol=0)
    other = noise_statistics(clip, still(F, H, W))
    assert other.along_previous.abs().max() < 4 / (C * H * W) ** 0.5
    assert found.lag_time.abs().max() < 4 / (C * H * W) ** 0.5


def test_short_and_small_clips_say_what_cannot_be_known():
    found = noise_statistics(white_noise((2, 4, 2, 50), 6), still(2, 2, 50))
    assert found.lag_time.isfinite().tolist() == [True, False, False]
    assert found.lag_y[0].isfinite().tolist() == [True, False, False]
    assert noise_statistics(white_noise((1, 4, 8, 8), 6)).lag_time.isnan().all()
    assert correlation(torch.arange(5.0), torch.arange(5.0)).isnan()
    assert "nan" in found.text()


def test_the_text_says_what_was_found():
    motion = still(F, H, W)
    noise = warp_noise(white_noise((C, H, W), 7), motion, "white")
    text = noise_statistics(noise, motion).text()
    assert "6 frames, 8 channels, 48 x 40" in text and text.endswith("this noise is white")
    assert "with the frame before: 1.000 on average" in text
    assert noise_statistics(1.2 * noise).text().count("NO") == 1
    assert noise_statistics(1.2 * noise).text().endswith("this noise is not white")


@pytest.mark.parametrize("frames", [1, 6])
def test_the_picture(frames):
    noise = white_noise((frames, C, H, W), 8)
    motion = still(frames, H, W) if frames > 1 else None
    pictures = [noise_picture(noise_statistics(x, motion)) for x in (noise, 0.5 * noise)]
    assert pictures[0].shape == (1, 300, 760, 3) and pictures[0].min() >= 0 and pictures[0].max() <= 1
    assert pictures[0][0, 0, 0].tolist() == [1, 1, 1]
    changed = (pictures[0] != pictures[1]).any(-1)[0]
    assert changed.any() and not changed[:, :300].any()  # another std: only the right half tells


@pytest.mark.parametrize(
    "noise, motion, words",
    [
        (torch.zeros(C, H, W), None, "must be .frames, channels, height, width., got .8, 40, 48."),
        (torch.full((2, 1, 4, 4), torch.inf), None, "not finite"),
        (torch.zeros(5, 1, H, W), still(F, H, W), "5 frames of 48 x 40, the motion 6 of 48 x 40"),
    ],
)
def test_what_does_not_fit_is_refused(noise, motion, words):
    with pytest.raises(ValueError, match=words):
        noise_statistics(noise, motion)
