"""Perceptual distances of the shipped model's features: known distortions in the order eyes give them."""

import pytest
import torch
import torch.nn.functional as F

from aqueduct.core import checkpoints
from aqueduct.core.metrics.frechet import frechet_distance
from aqueduct.core.metrics.perceptual import (
    RestorerFeatures,
    clip_features,
    neighbour_similarity,
    perceptual_distance,
)
from aqueduct.scripts._media import photo_path, read_picture
from aqueduct.scripts._pack import ROOT

SIZE, MARGIN = 48, 8


@pytest.fixture(scope="module")
def eyes():
    return RestorerFeatures(*checkpoints.load(ROOT / "models" / "warped_diffusion_superres_gp.safetensors"))


@pytest.fixture(scope="module")
def wide():
    """Pieces of photos at four times the size, with a margin to shift and blur in."""
    side = 4 * (SIZE + 2 * MARGIN)
    photos = [read_picture(photo_path(name)) / 255 for name in ("china", "flower")]
    return torch.stack([photo[:, 80 : 80 + side, left : left + side] for photo in photos for left in (60, 300)])


def shifted(wide, pixels):
    """Exact: the fine picture is moved by whole pixels, then averaged down."""
    fine = round(4 * pixels)
    moved = F.avg_pool2d(wide.roll(fine, -1), 4)
    return moved[..., MARGIN:-MARGIN, MARGIN:-MARGIN]


def blurred(wide, deviation):
    small = F.avg_pool2d(wide, 4)
    if deviation:
        places = torch.arange(-7.0, 8.0)
        taps = (-places.square() / (2 * deviation**2)).exp()
        taps = (taps / taps.sum()).expand(3, 1, 1, -1)
        small = F.conv2d(F.pad(small, (7, 7, 7, 7), mode="replicate"), taps, groups=3)
        small = F.conv2d(small, taps.transpose(2, 3), groups=3)
    return small[..., MARGIN:-MARGIN, MARGIN:-MARGIN]


def noisy(wide, deviation):
    picture = shifted(wide, 0)
    return picture + deviation * torch.randn(picture.shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "distort, strengths",
    [(blurred, (0.5, 1.0, 2.0)), (shifted, (0.5, 1.0, 2.0)), (noisy, (0.02, 0.05, 0.1))],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_more_of_a_distortion_is_further_away(eyes, wide, distort, strengths):
    truth = shifted(wide, 0)
    distances = [torch.zeros(len(wide)), *(perceptual_distance(distort(wide, s), truth, eyes) for s in strengths)]
    for less, more in zip(distances, distances[1:], strict=False):
        assert (less < more).all()


def test_half_a_pixel_of_shift_is_nearer_than_a_blur_of_the_same_error(eyes, wide):
    truth, shift = shifted(wide, 0), shifted(wide, 0.5)
    wanted = (shift - truth).square().mean((1, 2, 3))
    blurs = torch.stack([blurred(wide, s) for s in torch.arange(0.2, 6, 0.1).tolist()])
    errors = (blurs - truth).square().mean((2, 3, 4))
    reached = errors <= wanted  # so the blur has no more error than the shift
    chosen = reached.sum(0) - 1
    blur = blurs[chosen, torch.arange(len(wide))]
    assert (errors[chosen, torch.arange(len(wide))] > 0.5 * wanted).all()
    assert (perceptual_distance(shift, truth, eyes) < perceptual_distance(blur, truth, eyes)).all()


def test_it_is_a_distance(eyes, wide):
    one, other = shifted(wide, 0), blurred(wide, 1.0)
    assert perceptual_distance(one, one, eyes).max() < 1e-9
    torch.testing.assert_close(perceptual_distance(one, other, eyes), perceptual_distance(other, one, eyes))


def test_any_size_will_do_and_padding_is_the_border(eyes, wide):
    picture = shifted(wide, 0)[:1, :, :41, :35]
    padded = F.pad(picture, (0, 5, 0, 7), mode="replicate")
    for mine, whole in zip(eyes(picture), eyes(padded), strict=True):
        assert torch.equal(mine, whole)


def test_other_models_and_other_shapes_are_refused(eyes, wide):
    network, config = checkpoints.load(ROOT / "models" / "warped_diffusion_inpaint_gp.safetensors")
    with pytest.raises(ValueError, match="super-resolution model, got one of inpainting"):
        RestorerFeatures(network, config)
    with pytest.raises(ValueError, match="48"):
        perceptual_distance(shifted(wide, 0), wide[..., :40, :40], eyes)


# --- clips ------------------------------------------------------------------------------------------------------------


def still(wide, frames=3):
    return shifted(wide, 0)[:1].expand(frames, -1, -1, -1)


def test_a_still_clip_changes_nothing_and_boiling_shows(eyes, wide):
    quiet = clip_features(eyes(still(wide))[-1])
    noise = torch.randn(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(2))
    boiling = clip_features(eyes(still(wide) + 0.1 * noise)[-1])
    half = len(quiet) // 2
    assert quiet[half:].abs().max() < 1e-4 < boiling[half:].min()
    assert neighbour_similarity(eyes(still(wide))[-1]) == pytest.approx(1, abs=1e-5)
    scenes = shifted(wide, 0)  # cuts from one picture to the next
    assert neighbour_similarity(eyes(scenes)[-1]) < 0.99


def test_sets_of_clips_that_boil_are_further_from_still_ones(eyes, wide):
    """Features of clips, through the Frechet distance: more noise from frame to frame, a greater distance."""
    generator = torch.Generator().manual_seed(1)

    def clips(deviation):
        found = []
        for picture in shifted(wide, 0):
            noise = deviation * torch.randn(2, 3, SIZE, SIZE, generator=generator)
            found.append(clip_features(eyes(picture.expand(2, -1, -1, -1) + noise)[-1]))
        return torch.stack(found)

    truth = clips(0)
    assert frechet_distance(truth, truth) == pytest.approx(0, abs=1e-3)
    near, far = (frechet_distance(truth, clips(deviation)) for deviation in (0.03, 0.12))
    assert 1e-3 < near < far
