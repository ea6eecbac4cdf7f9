"""Measures of restored pictures and clips against closed forms and scipy."""

import math

import pytest
import torch
from scipy.ndimage import gaussian_filter

from aqueduct.core.guidance import first_frame, previous_frame
from aqueduct.core.metrics.consistency import self_warping_error
from aqueduct.core.metrics.restoration import laplacian_energy, psnr, ssim
from aqueduct.core.motion import MotionField


def pictures(seed=0, shape=(2, 3, 24, 31)):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# --- pictures ---------------------------------------------------------------------------------------------------------


def test_psnr_of_a_constant_offset_is_a_closed_form():
    truth = pictures()
    assert psnr(truth + 0.1, truth).tolist() == pytest.approx([20.0, 20.0])
    assert psnr(2 * truth + 0.2, 2 * truth, data_range=2).tolist() == pytest.approx([20.0, 20.0])
    assert psnr(truth, truth).tolist() == [math.inf, math.inf]


def test_psnr_under_a_mask_counts_the_mask_alone():
    truth = pictures()
    mask = torch.zeros(2, 1, 24, 31, dtype=torch.bool)
    mask[:, :, 4:9] = True
    wrong = torch.where(mask, truth + 0.01, truth + 5)
    assert psnr(wrong, truth, mask=mask).tolist() == pytest.approx([40.0, 40.0])
    assert psnr(wrong, truth, mask=torch.zeros_like(mask)).isnan().all()


def ssim_by_scipy(x, y, data_range):
    """One plane, by scipy's Gaussian filter cut at five pixels; the border, where the window leaves, is taken off."""

    def mean(z):
        return gaussian_filter(z, 1.5, radius=5)[5:-5, 5:-5]

    mx, my = mean(x), mean(y)
    vx, vy, cov = mean(x * x) - mx * mx, mean(y * y) - my * my, mean(x * y) - mx * my
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    return (((2 * mx * my + c1) * (2 * cov + c2)) / ((mx**2 + my**2 + c1) * (vx + vy + c2))).mean()


@pytest.mark.parametrize("data_range", [1.0, 2.0])
def test_ssim_is_that_of_scipys_filter(data_range):
    truth = data_range * pictures()
    noisy = truth + 0.2 * pictures(1)
    wanted = [
        sum(ssim_by_scipy(a.numpy(), b.numpy(), data_range) for a, b in zip(one, other, strict=True)) / 3
        for one, other in zip(noisy, truth, strict=True)
    ]
    assert ssim(noisy, truth, data_range).tolist() == pytest.approx(wanted, rel=1e-9)


def test_ssim_of_flat_pictures_is_a_closed_form():
    """No variance anywhere: only the term of the means is left (eq. 6 of the paper)."""
    dark, light = torch.full((1, 1, 16, 16), 0.2).double(), torch.full((1, 1, 16, 16), 0.6).double()
    wanted = (2 * 0.2 * 0.6 + 1e-4) / (0.2**2 + 0.6**2 + 1e-4)
    assert ssim(dark, light).item() == pytest.approx(wanted)
    assert ssim(light, light).item() == pytest.approx(1.0)


def test_ssim_needs_room_for_its_window():
    with pytest.raises(ValueError, match="11 x 11"):
        ssim(pictures(shape=(1, 3, 10, 40)), pictures(shape=(1, 3, 10, 40)))


def test_laplacian_energy_of_a_wave_is_a_closed_form():
    """``cos(kx)`` is an eigenfunction with value ``2 cos k - 2``; whole periods have a mean square of one half."""
    k = 2 * math.pi / 8
    wave = torch.cos(k * torch.arange(34, dtype=torch.float64)).expand(1, 2, 20, 34)
    assert laplacian_energy(wave).item() == pytest.approx((2 * math.cos(k) - 2) ** 2 / 2)
    ramp = torch.arange(34.0).expand(1, 1, 20, 34)
    assert laplacian_energy(ramp).item() == 0


def test_pictures_must_be_alike():
    for measure in (psnr, ssim):
        with pytest.raises(ValueError, match="alike"):
            measure(pictures(), pictures()[:1])


# --- clips ------------------------------------------------------------------------------------------------------------


def panned(frames=4, step=(2, 1), height=20, width=26):
    """A view that moves over a random picture by ``step`` (x, y) a frame, and its exact motion."""
    x, y = step
    wide = pictures(5, (3, height + frames * y, width + frames * x))
    clip = torch.stack([wide[:, t * y : t * y + height, t * x : t * x + width] for t in range(frames)])
    flow = torch.tensor([-x, -y], dtype=torch.float64)[None, :, None, None].expand(frames - 1, 2, height, width)
    return clip, MotionField(flow.clone(), -flow)


@pytest.mark.parametrize("reference", [previous_frame, first_frame])
def test_a_clip_that_moves_with_its_motion_has_no_error(reference):
    clip, motion = panned()
    assert self_warping_error(clip, reference(motion)).max() < 1e-20


def test_an_offset_that_grows_from_frame_to_frame_is_read_off():
    """Frame t is brighter by t/10: 0.01 to the previous frame, (t/10)^2 to the first, however much stays in view."""
    clip, motion = panned()
    clip = clip + torch.arange(4.0).double()[:, None, None, None] / 10
    assert self_warping_error(clip, previous_frame(motion)).tolist() == pytest.approx([0.01] * 3)
    assert self_warping_error(clip, first_frame(motion)).tolist() == pytest.approx([0.01, 0.04, 0.09])


def test_only_what_is_compared_counts():
    clip, motion = panned(frames=2)
    known = torch.zeros(1, 20, 26, dtype=torch.bool)
    known[:, 5:10, 8:20] = True
    clip[0, :, ~known[0]] += 3
    assert self_warping_error(clip, previous_frame(motion)).item() > 1
    assert self_warping_error(clip, previous_frame(MotionField(motion.forward, forward_valid=known))).item() < 1e-20


def test_a_clip_of_another_length_is_refused():
    clip, motion = panned()
    with pytest.raises(ValueError, match="frames"):
        self_warping_error(clip[:-1], previous_frame(motion))
