"""Pictures of motion against what they claim: colours, lengths, places, and legends that keep to their corner."""

import colorsys
import math

import numpy as np
import pytest
import torch

from aqueduct.core.motion.field import MotionField
from aqueduct.core.plots.canvas import LEGEND_SHARE, Overlay, legend_corner, spelled
from aqueduct.core.plots.clips import typical_length
from aqueduct.core.plots.flow_arrows import FILL, arrow_factor, grid_points, round_down
from aqueduct.core.plots.flow_colour import TOO_LONG, colour_wheel, wheel_legend
from aqueduct.core.plots.flow_grid import carried, grid_lines, runs
from aqueduct.core.plots.flow_heat import CONTOUR, FLOOR, heat_colours, heat_top
from aqueduct.core.plots.motion import PREVIEWS, draw_tracks, energy_heat, flow_arrows, flow_colours, warped_grid
from aqueduct.core.plots.tracks import track_colour

H, W = 96, 132


def constant(x: float, y: float, steps: int = 1, height: int = H, width: int = W) -> torch.Tensor:
    return torch.tensor([float(x), float(y)])[:, None, None].expand(steps, 2, height, width).clone()


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def ink(picture: torch.Tensor) -> np.ndarray:
    """How much of each pixel's paper is covered, by its darkest channel."""
    return 1 - picture.numpy().min(-1)


def centroid(mass: np.ndarray) -> tuple[float, float]:
    y, x = np.mgrid[: mass.shape[0], : mass.shape[1]]
    return float((x * mass).sum() / mass.sum()), float((y * mass).sum() / mass.sum())


# --- colours ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "x, y, corner, share",  # clockwise from right on 55 steps: 15 to yellow, 6 to green, 4, 11 to blue, 13, 6
    [(1, 0, 0, 0), (0, 1, 0, 13.75 / 15), (-1, 0, 3, 2.5 / 11), (0, -1, 4, 5.25 / 13)],
    ids=["right", "down", "left", "up"],
)
def test_pure_directions_have_their_hue(x, y, corner, share):
    picture = flow_colours(constant(4.0 * x, 4.0 * y), legend=False)[0]
    # Within an arc one channel moves linearly, which is what HSV calls hue.
    expected = torch.tensor(colorsys.hsv_to_rgb((corner + share) / 6, 1, 1))
    assert picture.shape == (H, W, 3)
    assert (picture - expected).abs().max() < 1e-5


def test_wheel_has_the_published_55_colours():
    wheel = (colour_wheel() * 255).round().astype(int)
    assert wheel.shape == (55, 3)
    assert wheel[[0, 15, 21, 25, 36, 49]].tolist() == [
        [255, 0, 0], [255, 255, 0], [0, 255, 0], [0, 255, 255], [0, 0, 255], [255, 0, 255],
    ]  # fmt: skip
    assert wheel[1].tolist() == [255, 17, 0] and wheel[54].tolist() == [255, 0, 43]  # 255 / 15; 255 - 5 * 255 / 6


def test_agrees_with_torchvisions_picture_up_to_the_closed_seam():
    utils = pytest.importorskip("torchvision.utils")
    flow = noise(1, 2, 24, 40)
    theirs = utils.flow_to_image(flow)[0].permute(1, 2, 0).float() / 255
    ours = flow_colours(flow, scale=flow.norm(dim=1).max().item(), legend=False)[0]
    mirrored = flow_colours(flow.flip(1), scale=flow.norm(dim=1).max().item(), legend=False)[0]
    assert (ours - theirs).abs().mean() < 0.01 < 0.1 < (mirrored - theirs).abs().mean()


def test_the_colours_are_closed_around_the_circle():
    just = flow_colours(torch.stack([constant(1, -1e-4)[0], constant(1, 1e-4)[0]]), scale=1.01, legend=False)
    assert (just[0] - just[1]).abs().max() < 1e-3


def test_length_is_saturation_and_beyond_the_scale_it_is_darker():
    full, half, beyond = (flow_colours(constant(0, r), scale=2.0, legend=False)[0, 0, 0] for r in (2.0, 1.0, 2.5))
    assert torch.allclose(half, (full + 1) / 2, atol=1e-6)
    assert torch.allclose(beyond, TOO_LONG * full, atol=1e-6)
    assert (flow_colours(constant(0, 0), legend=False) == 1).all()


def test_pictures_do_not_depend_on_the_unit_of_length():
    flow = noise(3, 2, 20, 31)
    assert typical_length(7 * flow) == pytest.approx(7 * typical_length(flow), rel=1e-5)
    small, large = flow_colours(flow, legend=False), flow_colours(7 * flow, legend=False)
    assert ((small - large).abs().amax(-1) > 1e-3).sum() <= 3  # vectors of exactly the scale's length may round over


def test_scale_is_the_maximum_but_for_outliers_and_a_small_object_counts():
    flow = constant(3, 4, steps=2)
    assert typical_length(flow) == pytest.approx(5)
    flow[0, :, 5, 7] = 1000
    assert typical_length(flow) == pytest.approx(5)
    still = constant(0, 0)
    still[0, 0, :3, :3] = 2.5  # 9 of 12,672 pixels
    assert typical_length(still) == pytest.approx(2.5)
    still[0, 0, 50, 50] = 1000
    known = torch.ones(1, H, W, dtype=torch.bool)
    known[0, 50, 50] = False
    assert typical_length(still, known) == pytest.approx(2.5)
    tails = constant(1e-6, 0)  # as a smooth densifier leaves them all over the background
    tails[0, 0, :3, :3] = 2.5
    assert typical_length(tails) == pytest.approx(2.5)
    assert typical_length(constant(0, 0)) == 0


def test_unknown_pixels_are_grey_and_no_others_change():
    flow, known = constant(2, 1), torch.ones(1, H, W, dtype=torch.bool)
    known[0, 10:30, 40:90] = False
    plain, hatched = flow_colours(flow, legend=False)[0], flow_colours(flow, known, legend=False)[0]
    assert torch.equal(plain[known[0]], hatched[known[0]])
    grey = hatched[~known[0]]
    assert (grey.amax(-1) - grey.amin(-1)).max() == 0
    assert grey.min() < 0.55 < 0.7 < grey.max()


def test_an_image_shades_the_colours_by_its_luminance_only():
    flow = constant(2, 1)
    white, red, black = torch.tensor([[1.0, 1, 1], [1, 0, 0], [0, 0, 0]])[:, None, :, None, None].expand(3, 1, 3, H, W)
    plain = flow_colours(flow, legend=False)
    assert torch.allclose(flow_colours(flow, None, white, legend=False), plain, atol=1e-6)
    shaded = flow_colours(flow, None, red, legend=False)
    assert torch.allclose(shaded, plain * (shaded[0, 0, 0, 0] / plain[0, 0, 0, 0])) and shaded.max() < plain.max()
    assert flow_colours(flow, None, black, legend=False).max() > 0.2  # dark pixels still show their motion


def test_the_legends_disc_wears_the_colours_of_its_directions():
    patch = wheel_legend(3.0, False, 512, 512)
    # The disc is the saturated part: its box and centre come from the picture, not from the layout.
    vivid = (patch[..., :3].max(-1) - patch[..., :3].min(-1)) > 0.25
    rows, columns = np.flatnonzero(vivid.any(1)), np.flatnonzero(vivid.any(0))
    assert len(rows) == pytest.approx(len(columns), abs=2)
    middle, centre = (rows[0] + rows[-1]) / 2, (columns[0] + columns[-1]) / 2
    reach = len(rows) / 2 * 0.9
    for angle in np.arange(0, 360, 30):
        x, y = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        expected = flow_colours(constant(0.85 * x, 0.85 * y), scale=1.0, legend=False)[0, 0, 0].numpy()
        found = patch[round(middle + reach * y), round(centre + reach * x), :3]
        assert np.abs(found - expected).max() < 0.2, angle


# --- legends ----------------------------------------------------------------------------------------------------------


def pictures(height: int, width: int, legend: bool) -> dict[str, torch.Tensor]:
    flow = 3 * noise(2, 2, height, width)
    known = torch.rand(2, height, width, generator=torch.Generator().manual_seed(1)) > 0.1
    return {
        "colours": flow_colours(flow, known, legend=legend),
        "arrows": flow_arrows(flow, known, legend=legend),
        "grid": warped_grid(MotionField(flow / 10), legend=legend),
        "energy": energy_heat(flow.square().sum(1), known, legend=legend),
    }


@pytest.mark.parametrize("size", [(256, 320), (330, 256)], ids=str)
def test_a_legend_keeps_to_its_corner(size):
    height, width = size
    signed = pictures(height, width, legend=True)
    for name, bare in pictures(height, width, legend=False).items():
        changed = (bare != signed[name]).any(-1)
        rows, columns = changed.any(0).any(1).nonzero(), changed.any(0).any(0).nonzero()
        top, right = rows.min().item(), columns.max().item()
        assert changed.any(), name
        assert (height - top) * (right + 1) < height * width / LEGEND_SHARE * 1.3, name  # its margins added
        assert top > height / 2 and right < width * 0.7, name
        assert not changed[:, -1].any() and not changed[:, :, 0].any(), name  # a margin on every side


def test_numbers_of_legends_have_three_digits_and_large_ones_no_exponent():
    numbers = {0: "0", 0.01234: "0.0123", 6.286: "6.29", 99.96: "100", 1234.5: "1234", 70000: "70000"}
    assert {value: spelled(value) for value in numbers} == numbers


def test_a_picture_too_small_for_a_legend_goes_without():
    signed = pictures(40, 52, legend=True)
    for name, bare in pictures(40, 52, legend=False).items():
        assert torch.equal(bare, signed[name]), name
    patch = np.zeros((20, 100, 4), dtype=np.float32)
    assert legend_corner(patch, 160, 160) == (160 - 2 - 20, 2)
    assert legend_corner(patch, 120, 130) is None  # 2000 of 15,600 pixels is over an eighth
    assert legend_corner(patch, 1000, 101) is None  # too wide


# --- places -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("height, width", [(31, 47), (1100, 1000)], ids=["zoom 4", "zoom 2"])
def test_shapes_lie_where_their_coordinates_say(height, width):
    white = np.ones((height, width, 3), dtype=np.float32)
    for x, y in ((20.2, 11.6), (22.9, 17.3), (9.1, 18.8)):
        for shape in ("disc", "polygon", "line"):
            sheet = Overlay(height, width)
            if shape == "disc":
                sheet.disc((x, y), 5, (0, 0, 0), (0, 0, 0), 1)
            elif shape == "polygon":
                sheet.polygon([(x - 5, y - 2), (x + 5, y - 2), (x + 5, y + 2), (x - 5, y + 2)], (0, 0, 0))
            else:
                sheet.line([(x - 6, y + 3), (x + 6, y - 3)], (0, 0, 0), 2)
            mass = 1 - sheet.over(white)[..., 0]
            assert centroid(mass) == pytest.approx((x, y), abs=1 / sheet.zoom), shape  # a pixel of the large sheet


def test_an_empty_overlay_leaves_every_value_exact():
    picture = noise(13, 17, 3).numpy()
    assert np.array_equal(Overlay(13, 17).over(picture), picture)


@pytest.mark.parametrize("vector", [(20, 0), (0, 20), (-15, 0), (0, -15), (12, -16), (-9, 18)], ids=str)
def test_an_arrow_reaches_from_its_point_to_factor_times_its_vector(vector):
    x, y = vector
    picture = flow_arrows(constant(x / 2, y / 2), spacing=200, factor=2.0, legend=False)[0].numpy()
    yellow = np.abs(picture - np.array(FILL) / 255).max(-1) < 0.1
    rows, columns = np.nonzero(yellow)
    tail, direction = np.array([(W - 1) // 2, (H - 1) // 2]), np.array(vector) / math.hypot(x, y)
    along = (np.stack([columns, rows], -1) - tail) @ direction
    # The fill ends in a point, whose last pixel is outline; the tail is blunt.
    assert along.max() == pytest.approx(math.hypot(x, y), abs=2.5)
    assert along.min() == pytest.approx(0, abs=1.5)
    across = (np.stack([columns, rows], -1) - tail) @ np.array([-direction[1], direction[0]])
    assert across.mean() == pytest.approx(0, abs=0.5)


def test_arrows_stand_at_their_points_and_show_their_own_vector():
    flow = constant(0, 0)
    rows, columns = grid_points(H, 24), grid_points(W, 24)
    assert rows == [11, 35, 59, 83] and columns == [5, 29, 53, 77, 101, 125]
    flow[0, :, 35, 77] = torch.tensor([8.0, 0.0])
    flow[0, :, 36, 77] = -50  # beside the point: not shown
    still = flow_arrows(constant(0, 0), spacing=24, factor=1.0, legend=False)
    changed = (flow_arrows(flow, spacing=24, factor=1.0, legend=False) != still).any(-1)[0].nonzero()
    assert changed[:, 0].min() >= 35 - 8 and changed[:, 0].max() <= 35 + 8
    assert changed[:, 1].min() >= 77 - 8 and 77 + 8 <= changed[:, 1].max() <= 77 + 8 + 6
    known = torch.zeros(1, H, W, dtype=torch.bool)
    assert (flow_arrows(flow, known, legend=False) == 1).all()


def test_the_factor_is_a_round_number_that_fits():
    assert [round_down(v) for v in (0.0199, 0.02, 0.9, 1, 4.99, 5, 73)] == pytest.approx([0.01, 0.02, 0.5, 1, 2, 5, 50])
    for typical in (0.003, 0.4, 1, 7, 300):
        factor = arrow_factor(typical, 16)
        assert factor * typical <= 1.6 * 16 < 2.6 * factor * typical  # the next round number would not fit
    assert arrow_factor(0, 16) == 1


@pytest.mark.parametrize("shift", [(3.0, -2.0), (-1.5, 2.5)], ids=str)
def test_grid_lines_of_a_constant_shift_land_where_they_must(shift):
    cell, steps = 20, 4
    clip = warped_grid(MotionField(constant(*shift, steps)), cell=cell, legend=False)
    assert clip.shape == (steps + 1, H, W, 3)
    upright, level = grid_lines(H, W, cell)
    for t in range(steps + 1):
        darkness = ink(clip[t])
        for start in upright[0, :, 0].tolist():
            x = start + shift[0] * t
            if not 3 <= x <= W - 4:
                continue
            # between two level lines, away from the frame's border and from where the line has left it
            y = int(level[1, 1, 0] + shift[1] * t + cell / 2)
            window = darkness[y, round(x) - 3 : round(x) + 4]
            assert (window * np.arange(round(x) - 3, round(x) + 4)).sum() / window.sum() == pytest.approx(x, abs=0.2)
        for start in level[1, :, 0].tolist():
            y = start + shift[1] * t
            if not 3 <= y <= H - 4:
                continue
            x = int(upright[0, 2, 0] + shift[0] * t + cell / 2)
            window = darkness[round(y) - 3 : round(y) + 4, x]
            assert (window * np.arange(round(y) - 3, round(y) + 4)).sum() / window.sum() == pytest.approx(y, abs=0.2)


def test_grid_follows_the_composed_motion_and_its_validity():
    y, x = torch.meshgrid(torch.arange(40.0), torch.arange(56.0), indexing="ij")
    turn = 0.05 * torch.stack([-(y - 18), x - 30])
    known = torch.rand(5, 40, 56, generator=torch.Generator().manual_seed(2)) > 0.02
    faster = torch.linspace(0.5, 1.5, 5)[:, None, None, None]
    motion = MotionField(faster * turn, forward_valid=known)
    points = torch.stack([x, y]).flatten(1)
    for t, (places, seen) in enumerate(carried(motion, points)):
        expected, valid = motion.between_valid(0, t)
        assert np.array_equal(seen, valid.flatten().numpy())
        assert np.abs(places - (points + expected.flatten(1)).numpy())[:, seen].max() < 1e-3
    assert 0.2 < seen.mean() < 0.9


def test_runs_are_stretches_of_two_and_more():
    known = np.array([1, 1, 0, 1, 0, 0, 1, 1, 1], dtype=bool)
    assert [(run.start, run.stop) for run in runs(known)] == [(0, 2), (6, 9)]
    assert not list(runs(np.zeros(4, dtype=bool)))


def test_grid_lines_end_where_the_way_is_unknown():
    known = torch.ones(1, H, W, dtype=torch.bool)
    known[0, :, W // 2 :] = False
    clip = warped_grid(MotionField(constant(0, 0), forward_valid=known), cell=20, legend=False)
    assert (clip[1][:, W // 2 + 2 :] == 1).all() and (clip[0][:, W // 2 + 2 :] < 1).any()
    assert (clip[1][:, : W // 2 - 2] == clip[0][:, : W // 2 - 2]).all()


# --- heat -------------------------------------------------------------------------------------------------------------


def test_heat_darkens_evenly_from_white():
    colours = heat_colours(np.linspace(0, 1, 101))
    lightness = colours @ np.array([0.30, 0.59, 0.11])  # the weights cubehelix is built on
    assert colours[0].tolist() == [1, 1, 1] and lightness[-1] == pytest.approx(0.08, abs=0.03)
    assert np.diff(lightness).max() < 0
    assert np.abs(np.diff(lightness) - np.diff(lightness).mean()).max() < 0.006


def test_heat_is_logarithmic_from_its_floor_to_its_top():
    energy = torch.tensor([0.0, FLOOR, 0.1, 1.0, 10.0, 100.0, 1000.0]).view(1, 1, -1)
    row = energy_heat(energy, top=100.0, legend=False)[0, 0]
    assert np.allclose(row.numpy(), heat_colours(np.array([0, 0, 0.25, 0.5, 0.75, 1, 1])), atol=1e-6)
    assert [heat_top(m) for m in (0, 3, 10, 10.1, 4e4)] == [10, 10, 10, 100, 1e5]
    with pytest.raises(ValueError, match="begins at 0.01"):
        energy_heat(energy, top=0.005)


def test_the_contour_lies_on_the_inner_edge_of_what_is_not_valid():
    valid = torch.ones(1, H, W, dtype=torch.bool)
    valid[0, 20:40, 50:90] = False
    picture = energy_heat(torch.zeros(1, H, W), valid, legend=False)[0]
    marked = (picture - torch.tensor(CONTOUR) / 255).abs().amax(-1) < 1e-6
    expected = ~valid[0].clone()
    expected[21:39, 51:89] = False
    assert torch.equal(marked, expected)
    assert (picture[~marked] == 1).all()


# --- tracks -----------------------------------------------------------------------------------------------------------


def test_tracks_have_their_dots_trails_and_rings_in_place():
    first, second = [[20.0, 30.0], [40.0, 30.0], [60.0, 30.0]], [[100.0, 10.0], [100.0, 60.0], [100.0, 70.0]]
    positions = torch.tensor([first, second]).transpose(0, 1)
    visible = torch.tensor([[True, True], [True, False], [True, True]])
    clip = draw_tracks(positions, visible, (H, W))
    assert clip.shape == (3, H, W, 3)
    for t in range(3):
        x, y = (int(v) for v in positions[t, 0])
        assert torch.allclose(clip[t, y, x], torch.tensor(track_colour(0)) / 255, atol=0.02)
    assert (clip[1, 60, 100] == 1).all() and (clip[1, 56:65, 96:105] < 1).any()  # hidden: a ring, hollow
    assert (clip[2, 30, 25:50].amin(-1) < 0.9).all()  # the trail of what was seen
    assert (clip[2, 15:55, 100] == 1).all()  # none of what was hidden
    assert (draw_tracks(positions, visible, (H, W), trail=1)[2, 30, 25:35] == 1).all()


def test_colours_of_tracks_differ():
    colours = np.array([track_colour(i) for i in range(12)])
    distances = np.abs(colours[:, None] - colours[None]).max(-1) + 1000 * np.eye(12)
    assert distances.min() >= 40


# --- by name ----------------------------------------------------------------------------------------------------------


def pan(frames: int = 4) -> MotionField:
    return MotionField(constant(2, 1, frames - 1), constant(-2, -1, frames - 1))


@pytest.mark.parametrize("name", list(PREVIEWS))
@pytest.mark.parametrize("given", [None, 1, 4])
def test_previews_give_image_batches_and_tell_progress(name, given):
    images = None if given is None else torch.rand(given, 3, H, W, generator=torch.Generator().manual_seed(0))
    told = []
    batch = PREVIEWS[name](pan(), images, lambda done, total: told.append((done, total)))
    count = 4 if name == "grid" else 3
    assert batch.shape == (count, H, W, 3) and batch.dtype == torch.float32
    assert 0 <= batch.min() and batch.max() <= 1 and batch.std() > 0
    assert told == [(i + 1, count) for i in range(count)]
    assert torch.equal(batch, PREVIEWS[name](pan(), images, None))


@pytest.mark.parametrize("name", list(PREVIEWS))
def test_previews_can_be_interrupted_and_survive_stillness(name):
    class Interrupted(Exception):
        pass

    def stop(done, total):
        raise Interrupted

    with pytest.raises(Interrupted):
        PREVIEWS[name](pan(), None, stop)
    still = MotionField(constant(0, 0), constant(0, 0))
    assert PREVIEWS[name](still, None, None).isfinite().all()


@pytest.mark.parametrize("name", list(PREVIEWS))
def test_images_that_do_not_fit_are_named(name):
    with pytest.raises(ValueError, match=r"96 x 132 pixels .* 132 x 96; resize .*AqueductResizeMotion"):
        PREVIEWS[name](pan(), torch.zeros(4, 3, W, H), None)
    with pytest.raises(ValueError, match="2 images for"):
        PREVIEWS[name](pan(), torch.zeros(2, 3, H, W), None)
    with pytest.raises(ValueError, match="channels"):
        PREVIEWS[name](pan(), torch.zeros(4, H, W, 3), None)


def test_energy_needs_both_directions():
    with pytest.raises(ValueError, match="forward fields only"):
        PREVIEWS["energy"](MotionField(constant(1, 0)), None, None)


@pytest.mark.parametrize("draw, option", [(flow_arrows, {"spacing": 0}), (warped_grid, {"cell": 1})])
def test_impossible_spacings_are_refused(draw, option):
    given = constant(1, 0) if draw is flow_arrows else pan()
    with pytest.raises(ValueError, match="at least"):
        draw(given, **option)
