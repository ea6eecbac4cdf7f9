"""Wear of a clip, frame by frame, against clips whose wear is known."""

import math

import pytest
import torch

from aqueduct.core.metrics.drift import advected_psnr, advected_ssim, identity, sharpness, warping_error
from aqueduct.core.motion import MotionField
from aqueduct.core.motion.carry import carry
from aqueduct.core.plots.frames import frame_curves

FRAMES, HEIGHT, WIDTH, STEP = 4, 24, 30, (2, 1)


def panned(x=STEP[0], y=STEP[1]):
    """A view that moves over a random picture by whole pixels, its exact motion, and the way back."""
    generator = torch.Generator().manual_seed(5)
    wide = torch.rand(3, HEIGHT + FRAMES * y, WIDTH + FRAMES * x, generator=generator)
    clip = torch.stack([wide[:, t * y : t * y + HEIGHT, t * x : t * x + WIDTH] for t in range(FRAMES)])
    flow = torch.tensor([-x, -y], dtype=torch.float32)[None, :, None, None].expand(FRAMES - 1, 2, HEIGHT, WIDTH)
    motion = MotionField(flow.clone(), -flow)
    return clip, motion, carry(motion)


def colours(pictures):
    """Features that a shift only shifts: the pixels themselves, and their mirrored values."""
    return [pictures, 1 - pictures]


def test_a_clip_that_only_moves_keeps_everything():
    clip, motion, way = panned()
    torch.testing.assert_close(identity(clip, way, colours), torch.ones(FRAMES))
    errors = warping_error(clip, motion)
    assert errors[0].isnan() and errors[1:].max() < 1e-10
    assert advected_psnr(clip, way).min() > 90
    torch.testing.assert_close(advected_ssim(clip, way), torch.ones(FRAMES), atol=1e-4, rtol=0)


def test_what_was_not_in_frame_0_does_not_count():
    clip, _, way = panned()
    before = identity(clip, way, colours), advected_psnr(clip, way), advected_ssim(clip, way)
    for t in range(1, FRAMES):  # what came in on the right and below
        clip[t, :, :, WIDTH - STEP[0] * t :] = 0.3
        clip[t, :, HEIGHT - STEP[1] * t :] = 0.9
    for old, new in zip(before, (identity(clip, way, colours), advected_psnr(clip, way), advected_ssim(clip, way)),
                        strict=True):  # fmt: skip
        torch.testing.assert_close(old, new)


def test_an_offset_is_read_off():
    clip, motion, way = panned()
    clip = clip + torch.arange(FRAMES)[:, None, None, None] / 10
    assert advected_psnr(clip, way)[1:].tolist() == pytest.approx([20 - 20 * math.log10(t) for t in (1, 2, 3)])
    assert warping_error(clip, motion)[1:].tolist() == pytest.approx([0.01] * 3, rel=1e-4)


def test_identity_is_the_cosine_of_what_is_seen():
    """Features (1, 0) in frame 0 and (cos a, sin a) in frame t: the similarity is cos a."""
    _, _, way = panned()
    angles = torch.tensor([0.0, 0.4, 0.8, 1.2])
    clip = angles[:, None, None, None].expand(FRAMES, 3, HEIGHT, WIDTH)
    found = identity(clip, way, lambda pictures: [torch.cat([pictures[:, :1].cos(), pictures[:, :1].sin()], 1)])
    torch.testing.assert_close(found, angles.cos())


def test_features_of_half_the_size_are_carried_at_their_size():
    clip, _, way = panned()
    still = clip[:1].expand(FRAMES, -1, -1, -1)

    def halved(pictures):
        return [torch.nn.functional.avg_pool2d(pictures, 2)]

    assert identity(clip, way, halved)[2] > 0.999  # by (4, 2) pixels: whole pixels of the halved picture
    assert identity(still, way, halved)[2] < 0.99  # it does not move, but should


def test_cells_that_reach_beyond_the_picture_are_carried_by_whole_cells():
    """30 pixels are seven and a half cells of four: without ``step`` the motion would be stretched over eight."""
    clip, _, way = panned(4, 4)

    def quartered(pictures):
        height, width = pictures.shape[-2:]
        edges = (0, -width % 4, 0, -height % 4)
        return [torch.nn.functional.avg_pool2d(torch.nn.functional.pad(pictures - 0.5, edges, mode="replicate"), 4)]

    torch.testing.assert_close(identity(clip, way, quartered, step=4), torch.ones(FRAMES))
    assert identity(clip, way, quartered)[1:].max() < 0.999


def test_sharpness_falls_with_the_square_of_contrast():
    clip = panned()[0][:1] * torch.tensor([1.0, 0.5, 2.0])[:, None, None, None]
    torch.testing.assert_close(sharpness(clip), torch.tensor([1.0, 0.25, 4.0]))


def test_where_nothing_is_left_of_frame_0_there_is_no_value():
    flow = torch.full((2, 2, HEIGHT, WIDTH), -20.0)
    way = carry(MotionField(flow, -flow))
    clip = torch.rand(3, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0))
    assert identity(clip, way, colours).isfinite().tolist() == [True, True, False]
    assert advected_psnr(clip, way)[2].isnan()


@pytest.mark.parametrize("cut, told", [
    ((slice(0, 3),), "4 frames, the clip 3"),
    ((..., slice(0, 20)), "30 x 24 pixels, the clip has 20 x 24"),
])  # fmt: skip
def test_clip_and_motion_must_fit(cut, told):
    clip, motion, way = panned()
    for measure in (lambda x: identity(x, way, colours), lambda x: advected_psnr(x, way),
                    lambda x: warping_error(x, motion)):  # fmt: skip
        with pytest.raises(ValueError, match=told):
            measure(clip[cut])


# --- their picture ----------------------------------------------------------------------------------------------------


def test_a_curve_is_drawn_where_it_is():
    """A rising line: in its diagram blue lies low on the left and high on the right; nan and inf draw nothing."""
    picture = frame_curves({"rising": torch.tensor([math.nan, 1.0, 2.0, 3.0, math.inf])})[0]
    blue = (picture[..., 2] - picture[..., 0]) > 0.3
    rows, columns = blue.nonzero().unbind(1)
    assert rows[columns.argmin()] > rows[columns.argmax()] + 80
    assert not blue[:, columns.max() + 1 :].any() and columns.max() < 0.85 * blue.shape[1]


def test_every_curve_has_its_diagram_and_none_is_an_error():
    one = frame_curves({"a": torch.ones(3)})
    three = frame_curves({name: torch.full((3,), math.nan) for name in "abc"})
    assert three.shape[1:3] == (2 * one.shape[1], 2 * one.shape[2])
    with pytest.raises(ValueError, match="at least one"):
        frame_curves({})
