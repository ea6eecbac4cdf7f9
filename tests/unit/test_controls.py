"""Control images: edges where a picture steps, colours that lie apart, keypoints where they were put."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from aqueduct.core.controls import (
    COCOSNET_CANNY,
    OPENPOSE_LINKS,
    canny,
    far_colours,
    keypoint_map,
    mask_map,
)


def step(height: float, size: int = 64, column: int = 20) -> torch.Tensor:
    """Grey picture ``[1, 3, size, size]``: dark left of ``column``, lighter by ``height`` of 255 from there on."""
    picture = torch.full((1, 3, size, size), 60 / 255)
    picture[..., column:] += height / 255
    return picture


def lines(edges: torch.Tensor) -> list[int]:
    """Columns of the edges of one picture that are marked from top to bottom; anything else is an error."""
    columns = edges[0, 0].any(0)
    assert torch.equal(edges[0, 0].all(0), columns)
    return columns.nonzero()[:, 0].tolist()


def test_a_step_is_one_line_where_the_step_is():
    edges = canny(step(120))
    assert edges.shape == (1, 1, 64, 64) and edges.dtype == torch.float32
    assert edges.unique().tolist() == [0, 1]
    assert lines(edges) in ([19], [20])  # the step lies between the two


@pytest.mark.parametrize("turn", [1, 2, 3])
def test_edges_turn_with_the_picture(turn):
    found = canny(step(120).rot90(turn, (2, 3))).rot90(-turn, (2, 3))
    assert lines(found) in ([19], [20])


def test_thresholds_are_four_times_the_height_of_a_step():
    """The Sobel filter of a straight step of h is 4 h on both sides of it: 50 grey levels make 200."""
    assert lines(canny(step(51))) and not lines(canny(step(49)))
    assert lines(canny(step(31), 50, 120)) and not lines(canny(step(29), 50, 120))


def test_the_low_threshold_continues_a_strong_edge_and_starts_none():
    weak = step(30)
    joined = torch.cat([step(120)[:, :, :32], weak[:, :, 32:]], 2)
    assert lines(canny(weak)) == []
    along = canny(joined)[0, 0, :, 19:21].any(1)
    assert along[:28].all() and along[36:].all()
    assert not canny(joined, 180, 200)[0, 0, 40:].any()


def test_grey_weighs_the_colours_as_rec_601_does():
    """Blue steps of the same size are a quarter as strong as red ones: 0.114 against 0.299."""
    for channel, weight in enumerate((0.299, 0.587, 0.114)):
        picture = torch.zeros(1, 3, 32, 32)
        picture[:, channel, :, 16:] = 1.0
        strength = 4 * 255 * weight
        assert lines(canny(picture, strength / 2, strength - 5))
        assert not lines(canny(picture, strength / 2, strength + 5))


def blurred_by_hand(picture: torch.Tensor) -> np.ndarray:
    """Gradient of sigma-1 smoothed grey, from scipy: what scikit-image's canny compares with 0.1 and 0.2."""
    smooth = ndimage.gaussian_filter(picture[0, 0].double().numpy(), 1.0, mode="nearest")
    return np.hypot(ndimage.sobel(smooth, 0, mode="nearest"), ndimage.sobel(smooth, 1, mode="nearest"))


def test_cocosnets_settings_find_what_its_thresholds_say():
    """Grey steps about the heights at which the smoothed gradient reaches 0.2."""
    unit = blurred_by_hand(step(255 * 0.5)).max() / 0.5
    critical = 0.2 / unit * 255
    assert 15 < critical < 25
    assert lines(canny(step(critical + 1.5), **COCOSNET_CANNY)) in ([19], [20])
    assert not lines(canny(step(critical - 1.5), **COCOSNET_CANNY))
    assert not lines(canny(step(critical + 1.5)))  # the usual thresholds are far higher


def test_cocosnets_edges_lie_where_the_smoothed_gradient_is_strong():
    x = torch.linspace(-1, 1, 64)
    picture = (0.5 + 0.4 * torch.tanh(20 * (0.5 - (x[:, None] ** 2 + x**2).sqrt()))).expand(1, 3, 64, 64)
    found, gradient = canny(picture, **COCOSNET_CANNY)[0, 0] > 0, blurred_by_hand(picture)
    assert gradient[found.numpy()].min() > 0.1
    radius = (x[:, None] ** 2 + x**2).sqrt()[found]
    assert len(radius) > 60 and float((radius - 0.5).abs().max()) < 0.06


def test_the_euclidean_gradient_is_weaker_on_a_diagonal():
    """|x| + |y| of a 45 degree edge is sqrt(2) times its length."""
    grid = torch.arange(64)
    diagonal = torch.where(grid[:, None] + grid > 64, 100 / 255, 60 / 255).expand(1, 3, 64, 64)
    assert canny(diagonal).any()
    assert not canny(diagonal, euclidean=True).any()


def test_a_batch_is_its_pictures_and_keeps_its_device_and_type():
    pictures = torch.cat([step(120), step(120, column=40), torch.full((1, 3, 64, 64), 0.3)])
    edges = canny(pictures.double())
    assert edges.dtype == torch.float64
    for n in range(3):
        assert torch.equal(edges[n : n + 1].float(), canny(pictures[n : n + 1]))
    assert not edges[2].any()


def test_canny_says_what_it_takes():
    with pytest.raises(ValueError, match=r"\[n, 3, H, W\].*got \(64, 64, 3\)"):
        canny(torch.zeros(64, 64, 3))
    with pytest.raises(ValueError, match="low=200 and high=100"):
        canny(step(120), 200, 100)


def test_far_colours_are_far_and_keep_their_place():
    colours = far_colours(40)
    apart = torch.cdist(colours, colours) + 9 * torch.eye(40)
    assert float(apart[:8, :8].min()) > 0.7 and float(apart.min()) >= 0.25
    assert colours[:2].tolist() == [[0, 0, 0], [1, 1, 1]]
    assert 0 <= float(colours.min()) and float(colours.max()) <= 1
    for count in (1, 3, 9, 39):
        assert torch.equal(far_colours(count), colours[:count])
    with pytest.raises(ValueError, match="1 to 125 classes, got 126"):
        far_colours(126)


def test_a_mask_map_can_be_read_back():
    labels = torch.randint(0, 8, (3, 9, 11), generator=torch.Generator().manual_seed(0))
    picture = mask_map(labels)
    assert picture.shape == (3, 3, 9, 11)
    assert torch.equal(torch.cdist(picture.movedim(1, -1).reshape(-1, 3), far_colours(8)).argmin(1), labels.flatten())
    alone = mask_map(labels.clamp(max=2))
    kept = (labels <= 2)[:, None].expand_as(picture)
    assert torch.equal(alone[kept], picture[kept])  # a class's colour does not depend on which others there are


def test_a_palette_of_ones_own():
    palette = torch.tensor([[0.1, 0.2, 0.3], [0.9, 0.8, 0.7]])
    picture = mask_map(torch.tensor([[[0, 1]]]), palette)
    assert torch.equal(picture[0, :, 0].T, palette)
    with pytest.raises(ValueError, match="from 0 to 2, and the palette has 0 to 1"):
        mask_map(torch.tensor([[[0, 2]]]), palette)
    with pytest.raises(ValueError, match="from -1 to 2"):
        mask_map(torch.tensor([[[-1, 2]]]))
    with pytest.raises(ValueError, match="labels as integers"):
        mask_map(torch.zeros(1, 4, 4))


POINTS = torch.tensor([[10.0, 20.0], [40.0, 20.0], [40.0, 50.0]])
SEEN = torch.tensor([True, True, True])


def colour_at(picture: torch.Tensor, x: int, y: int) -> list[float]:
    return picture[:, y, x].tolist()


def test_keypoints_and_limbs_lie_where_they_were_put():
    colours = far_colours(6).tolist()
    picture = keypoint_map(POINTS, SEEN, (64, 72), [(0, 1), (1, 2)], radius=3)
    assert picture.shape == (3, 64, 72)
    for n, (x, y) in enumerate(POINTS.int().tolist()):
        assert colour_at(picture, x, y) == colours[3 + n]  # behind black and two limbs
        assert colour_at(picture, x - 3, y) != colours[0]
    assert colour_at(picture, 7, 20) == colours[3] and colour_at(picture, 6, 20) == colours[0]
    assert colour_at(picture, 25, 20) == colour_at(picture, 25, 22) == colours[1]  # half as thick as 2 * 0.7 * 3
    assert colour_at(picture, 25, 23) == colours[0]
    assert colour_at(picture, 40, 35) == colours[2]
    assert colour_at(picture, 25, 35) == colours[0]


def test_areas_are_those_of_discs_and_bands():
    picture = keypoint_map(torch.tensor([[100.0, 100.0]]), torch.tensor([True]), (200, 200), (), radius=40)
    assert float(picture.any(0).sum()) == pytest.approx(np.pi * 40**2, rel=0.01)
    ends = torch.tensor([[50.0, 50.0], [130.0, 110.0]])
    picture = keypoint_map(ends, SEEN[:2], (200, 200), [(0, 1)], radius=10)
    band = (picture == far_colours(2)[1][:, None, None]).all(0)
    # a band of 2 * 7 about a segment of 100, less what lies under two half discs of radius 10, cut by the band
    under = 10**2 * np.arcsin(0.7) + 7 * np.sqrt(10**2 - 7**2)
    assert float(band.sum()) == pytest.approx(14 * 100 - 2 * under, rel=0.02)


def test_what_is_not_visible_is_not_drawn_nor_its_limbs():
    picture = keypoint_map(POINTS, torch.tensor([True, False, True]), (64, 64), [(0, 1), (1, 2)], radius=3)
    alone = [keypoint_map(POINTS, torch.arange(3) == n, (64, 64), [(0, 1), (1, 2)], radius=3) for n in (0, 2)]
    assert torch.equal(picture, alone[0] + alone[1])
    assert not keypoint_map(POINTS, ~SEEN, (64, 64), [(0, 1)], radius=3).any()


def test_every_keypoint_shows_at_64_pixels_with_a_colour_of_its_own():
    grid = torch.stack(torch.meshgrid(torch.arange(6), torch.arange(3), indexing="xy"), -1).reshape(18, 2)
    points = 6.4 + 10.3 * grid
    picture = keypoint_map(points, torch.ones(18, dtype=torch.bool), (64, 64))
    seen = {tuple(colour) for colour in picture.flatten(1).T.tolist()}
    keypoints = far_colours(1 + len(OPENPOSE_LINKS) + 18)[1 + len(OPENPOSE_LINKS) :].tolist()
    assert all(tuple(colour) in seen for colour in keypoints)
    larger = keypoint_map(4 * points, torch.ones(18, dtype=torch.bool), (256, 256))
    assert float(larger.any(0).float().mean()) == pytest.approx(float(picture.any(0).float().mean()), rel=0.25)


def test_a_point_outside_draws_what_reaches_in():
    picture = keypoint_map(torch.tensor([[-10.0, 8.0], [20.0, 8.0]]), SEEN[:2], (16, 16), [(0, 1)], radius=2)
    assert (picture[:, 8] == far_colours(2)[1][:, None]).all()


def test_keypoints_say_what_they_take():
    with pytest.raises(ValueError, match=r"got \(3, 3\)"):
        keypoint_map(torch.zeros(3, 3), SEEN, (8, 8))
    with pytest.raises(ValueError, match="bool visible"):
        keypoint_map(POINTS, torch.ones(3), (8, 8), ())
    with pytest.raises(ValueError, match=r"0 to 2, got \[\(2, 3\)\]"):
        keypoint_map(POINTS, SEEN, (8, 8), [(0, 1), (2, 3)])
