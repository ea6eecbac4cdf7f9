"""Measures of structure, palette, texture and diversity against closed forms and invariances."""

import math

import kornia
import pytest
import torch

from aqueduct.core.metrics.diversity import diversity, root_mean_square, spread
from aqueduct.core.metrics.edges import edge_scores
from aqueduct.core.metrics.palette import colour_distance, lab, palette, palette_distance
from aqueduct.core.metrics.texture import DIRECTIONS, WAVELENGTHS, texture_distance, texture_shares

# --- edges ------------------------------------------------------------------------------------------------------------


def frame(top, left, side, size=32):
    """The outline of a square, one pixel thick."""
    edges = torch.zeros(1, 1, size, size, dtype=torch.bool)
    edges[..., top : top + side, left : left + side] = True
    edges[..., top + 1 : top + side - 1, left + 1 : left + side - 1] = False
    return edges


def test_edges_one_pixel_off_agree_and_two_pixels_off_do_not():
    wanted = torch.zeros(1, 1, 32, 32, dtype=torch.bool)
    wanted[..., 10] = True
    for shift, score in ((0, 1.0), (1, 1.0), (2, 0.0)):
        assert edge_scores(wanted.roll(shift, -1), wanted).f1.item() == score
    assert edge_scores(wanted.roll(2, -1), wanted, tolerance=2).f1.item() == 1.0


def test_missing_edges_cost_recall_and_invented_ones_precision():
    whole = frame(4, 4, 20) | frame(8, 8, 12)
    outer = frame(4, 4, 20)
    of_outer, of_both = 4 * 19, 4 * 19 + 4 * 11
    scores = edge_scores(outer, whole)
    assert (scores.precision.item(), scores.recall.item()) == pytest.approx((1.0, of_outer / of_both))
    mirrored = edge_scores(whole, outer)
    assert (mirrored.precision.item(), mirrored.recall.item()) == pytest.approx((of_outer / of_both, 1.0))
    assert scores.f1.item() == pytest.approx(2 * of_outer / (of_outer + of_both))


def test_scores_are_one_for_each_picture_and_empty_maps_are_no_accident():
    nothing = torch.zeros(1, 1, 32, 32, dtype=torch.bool)
    found = torch.cat([frame(4, 4, 20), nothing, nothing, frame(4, 4, 20)])
    wanted = torch.cat([frame(4, 4, 20), frame(4, 4, 20), nothing, nothing])
    assert edge_scores(found, wanted).f1.tolist() == [1.0, 0.0, 1.0, 0.0]


def test_edges_that_are_no_binary_maps_alike_are_refused():
    with pytest.raises(ValueError, match="bool maps alike"):
        edge_scores(torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 8, 8, dtype=torch.bool))
    with pytest.raises(ValueError, match="bool maps alike"):
        edge_scores(frame(4, 4, 8, 16), frame(4, 4, 8, 32))


# --- palette ----------------------------------------------------------------------------------------------------------

RED, BLUE, GREEN = (0.8, 0.1, 0.1), (0.1, 0.2, 0.7), (0.2, 0.7, 0.3)


def patches(*colours, widths, size=60):
    """Upright bands of these colours and widths, over again until the picture is full."""
    columns = sum(([colour] * width for colour, width in zip(colours, widths, strict=True)), [])
    assert len(columns) == size
    return torch.tensor(columns).T[:, None].expand(3, size, size).contiguous()


def test_lab_is_that_of_kornia():
    picture = torch.rand(3, 40, 50, generator=torch.Generator().manual_seed(0))
    picture[:, 0, :5] *= 0.01  # where its two branches meet
    assert (lab(picture) - kornia.color.rgb_to_lab(picture)).abs().max() < 0.02


def test_lab_of_white_is_a_hundred_and_of_black_nothing():
    ends = torch.tensor([0.0, 1.0]).expand(3, 1, 2)
    assert (lab(ends)[:, 0].T - torch.tensor([[0.0, 0.0, 0.0], [100.0, 0.0, 0.0]])).abs().max() < 0.01


def test_palette_of_bands_is_their_colours_by_amount():
    found = palette(patches(RED, BLUE, GREEN, widths=(10, 30, 20)))
    expected = lab(torch.tensor([BLUE, GREEN, RED]).T[..., None])[..., 0].T
    assert (found - expected).abs().max() < 1e-3


@pytest.mark.parametrize("widths", [(20, 20, 20), (50, 6, 4), (2, 3, 55)])
def test_palette_distance_does_not_depend_on_amounts_or_places(widths):
    first = patches(RED, BLUE, GREEN, widths=(20, 20, 20))
    second = patches(RED, BLUE, GREEN, widths=widths)
    assert palette_distance(first, second) < 1e-3
    assert palette_distance(first, second.flip(-1).transpose(1, 2)) < 1e-3
    other = patches((0.9, 0.9, 0.1), BLUE, GREEN, widths=(20, 20, 20))
    moved = patches((0.9, 0.9, 0.1), BLUE, GREEN, widths=widths)
    assert palette_distance(first, moved) == pytest.approx(palette_distance(first, other), abs=1e-3)


def test_palette_distance_of_plain_pictures_is_that_of_their_colours():
    red, blue = (patches(colour, widths=(60,)) for colour in (RED, BLUE))
    apart = (lab(red) - lab(blue))[:, 0, 0].norm().item()
    assert palette_distance(red, blue) == pytest.approx(apart, rel=1e-5) and apart > 50
    # a colour that only one of them has counts by its share in the list of colours, not in the picture
    both = patches(RED, BLUE, widths=(57, 3))
    assert palette_distance(red, both) == pytest.approx(apart / 4, rel=1e-5)


def test_a_speck_is_no_colour_of_a_picture():
    plain = patches(RED, widths=(60,))
    speckled = plain.clone()
    speckled[:, 0, :3] = torch.tensor(GREEN)[:, None]
    assert palette_distance(plain, speckled) == pytest.approx(0, abs=1e-5)


def test_colour_distance_counts_pixels():
    red, blue = (patches(colour, widths=(60,)) for colour in (RED, BLUE))
    apart = (lab(red) - lab(blue))[:, 0, 0].norm().item()
    assert colour_distance(red, blue) == pytest.approx(apart, rel=1e-5)
    # of `both` a twentieth is far from all of `red`, and nothing the other way round
    both = patches(RED, BLUE, widths=(57, 3))
    assert colour_distance(red, both) == pytest.approx(apart / 40, rel=1e-4)
    turned = both.flip(-1).transpose(1, 2)[:, :30]
    assert colour_distance(both, turned) == pytest.approx(0, abs=1e-4)


# --- texture ----------------------------------------------------------------------------------------------------------


def grating(wavelength, turn=0.0, phase=0.0, along=(0.2, 0.1, -0.1), size=64, middle=0.5):
    """A wave of this length in pixels, its stripes turned so far from upright, between two colours."""
    places = torch.arange(size, dtype=torch.float32)
    y, x = torch.meshgrid(places, places, indexing="ij")
    wave = (2 * math.pi / wavelength * (x * math.cos(turn) + y * math.sin(turn)) + phase).cos()
    return middle + wave * torch.tensor(along)[:, None, None]


@pytest.mark.parametrize("scale", range(len(WAVELENGTHS)))
@pytest.mark.parametrize("direction", range(0, DIRECTIONS, 2))
def test_a_grating_is_seen_by_the_filter_of_its_own_kind(scale, direction):
    shares = texture_shares(grating(WAVELENGTHS[scale], math.pi * direction / DIRECTIONS))
    assert (shares.sum(1) - 1).abs().max() < 1e-5
    assert shares.mean(0).argmax().item() == scale * DIRECTIONS + direction


def test_shares_of_a_grating_are_the_same_all_over_it():
    """Wherever a place lies between two crests: what the even filters miss the odd ones see."""
    inner = texture_shares(grating(11.0)).unflatten(0, (16, 16))[4:-4, 4:-4].flatten(0, 1)
    assert (inner.amax(0) - inner.amin(0)).max() < 0.02


def test_a_plain_picture_is_flat():
    assert (texture_shares(torch.full((3, 40, 40), 0.3))[:, -1] > 0.999).all()


def test_texture_distance_does_not_see_phase_colour_contrast_or_size():
    first = grating(5.0)
    assert texture_distance(first, first) == 0
    same = {
        "phase": grating(5.0, phase=1.3),
        "colour": grating(5.0, along=(-0.1, 0.1, 0.2)),
        "contrast": grating(5.0, along=(0.1, 0.05, -0.05)),
        "size": grating(5.0, size=48),
    }
    turned, wider = grating(5.0, math.pi / 2), grating(9.0)
    for what, picture in same.items():
        assert texture_distance(first, picture) < 0.08, what
    assert texture_distance(first, turned) > 0.8
    assert texture_distance(first, wider) > 0.2


def test_texture_distance_does_not_depend_on_how_large_a_patch_is():
    def halves(edge):
        return torch.cat([grating(3.5)[..., :edge], grating(6.0, math.pi / 2)[..., edge:]], dim=-1)

    assert texture_distance(halves(32), halves(20)) < 0.08
    assert texture_distance(halves(32), halves(64)) > 0.15  # one of the two is missing


def test_texture_of_pictures_smaller_than_the_filters_is_refused():
    with pytest.raises(ValueError, match="filters reach"):
        texture_shares(torch.zeros(3, 8, 40))


# --- diversity --------------------------------------------------------------------------------------------------------


def test_diversity_and_spread_of_noise_are_closed_forms():
    """Two draws of deviation s are s sqrt(2) apart; groups whose means differ by d, sqrt(2 s^2 + d^2)."""
    generator = torch.Generator().manual_seed(0)
    groups = 0.1 * torch.randn(2, 4, 3, 64, 64, generator=generator)
    groups[1] += 0.5
    assert diversity(groups[0], root_mean_square) == pytest.approx(0.1 * math.sqrt(2), rel=0.02)
    assert spread(groups, root_mean_square) == pytest.approx(math.sqrt(2 * 0.01 + 0.25), rel=0.02)
    assert diversity(groups[0, :1].expand(3, -1, -1, -1), root_mean_square) == 0


def test_diversity_takes_more_than_one():
    with pytest.raises(ValueError, match="two samples"):
        diversity(torch.zeros(1, 3, 8, 8), root_mean_square)
    with pytest.raises(ValueError, match="two groups"):
        spread(torch.zeros(1, 2, 3, 8, 8), root_mean_square)
