"""Pictures of a training: the curve of its losses, and clips side by side."""

import numpy as np
import pytest
import torch

from aqueduct.core.plots.film_strips import film_strips
from aqueduct.core.plots.loss_curve import loss_curve, round_steps, running_mean

BLUE = torch.tensor([31, 119, 180]) / 255  # of the bold line


def heights(picture: torch.Tensor) -> torch.Tensor:
    """For each column of the plot, the mean row of the bold line; nan where it is not."""
    bold = (picture[0, 30:365] - BLUE).abs().sum(-1) < 0.15
    rows = torch.arange(len(bold)).float()[:, None].expand_as(bold)
    return torch.where(bold, rows, torch.nan).nanmean(0)


def test_the_running_mean_is_that_of_the_last_losses():
    values = np.random.default_rng(0).random(400)
    found = running_mean(values)
    assert found[0] == pytest.approx(values[0]) and found[4] == pytest.approx(values[:5].mean())
    assert found[99] == pytest.approx(values[90:100].mean())  # ten at least
    assert found[399] == pytest.approx(values[380:].mean())  # a twentieth


def test_a_falling_loss_is_drawn_falling_and_only_as_far_as_it_went():
    losses = [10 * 0.99**n for n in range(300)]
    seen = heights(loss_curve(losses, 600))
    drawn = ~seen.isnan()
    columns = torch.nonzero(drawn).flatten()
    assert columns.min() < 62 and 335 < columns.max() < 352  # half of 58 to 624
    line = seen[drawn]
    assert (line.diff() > -1.5).all() and line[-1] - line[0] > 250
    straight = torch.linspace(line[20], line[-1], len(line) - 20)
    assert (line[20:] - straight).abs().max() < 6  # an exponential is straight on a logarithmic scale


def test_losses_of_either_sign_are_drawn_on_a_plain_scale():
    picture = loss_curve([1.0, -1.0] * 30)
    assert picture.shape == (1, 400, 640, 3) and picture.min() >= 0 and picture.max() <= 1
    seen = heights(picture)
    middle = seen[400:600].nanmean()
    assert abs(middle - (34 + 360) / 2 + 30) < 8  # their mean is nothing


@pytest.mark.parametrize(
    ("last", "named"),
    [
        (1, [1]), (5, [1, 2, 3, 4, 5]), (7, [2, 4, 6]), (600, [100, 200, 300, 400, 500, 600]),
        (1750, [500, 1000, 1500]), (20000, [5000, 10000, 15000, 20000]), (400001, [100000, 200000, 300000, 400000]),
    ],
)  # fmt: skip
def test_the_steps_that_are_named_are_round_and_evenly_apart(last, named):
    assert list(round_steps(last)) == named


def test_named_steps_are_where_they_belong():
    """A line of the grid at 500, 1000 and 1500 of 1750, and nowhere else."""
    columns = loss_curve([1.0, 0.5], 1750)[0, 40:355, :, 0].mean(0)
    lines = torch.nonzero(columns[64:] < columns[64:].median() - 0.02).flatten() + 64
    assert sorted({round(1 + (int(x) - 58) / 566 * 1749, -2) for x in lines}) == [500, 1000, 1500]


@pytest.mark.parametrize("losses", [[0.5], [0.0], [1e-9] * 5, [1e12, 1e-12], list(range(1, 5000))])
def test_any_losses_can_be_drawn(losses):
    assert loss_curve(losses, 10).shape == (1, 400, 640, 3)


@pytest.mark.parametrize("losses", [[], [float("nan")], [1.0, float("inf")]])
def test_losses_that_are_none_are_refused(losses):
    with pytest.raises(ValueError, match="finite losses, at least one"):
        loss_curve(losses)


def test_strips_show_each_clip_in_a_row_with_lines_between():
    clips = [torch.full((3, 3, 4, 6), value) for value in (0.25, 0.75)]
    clips[1][2] = 0.5
    sheet = film_strips(clips)
    assert sheet.shape == (1, 4 + 2 + 4, 3 * 6 + 2 * 2, 3)
    assert (sheet[0, :4, :6] == 0.25).all() and (sheet[0, 6:, 16:] == 0.5).all() and (sheet[0, 6:, 8:14] == 0.75).all()
    assert (sheet[0, 4:6] == 1).all() and (sheet[0, :, 6:8] == 1).all()


def test_long_clips_are_shown_by_frames_spread_over_them():
    clip = (torch.arange(15) / 14)[:, None, None, None].expand(15, 3, 2, 2)
    sheet = film_strips([clip], most=3)
    assert sheet[0, 0, [0, 4, 8], 0].tolist() == pytest.approx([0, 0.5, 1])


def test_names_stand_above_their_rows_and_make_room_for_themselves():
    clips = [torch.full((2, 3, 20, 60), value) for value in (0.25, 0.75)]
    bare, named = film_strips(clips), film_strips(clips, ["a", "a name that is longer than the row, a good deal"])
    text = (named.shape[1] - bare.shape[1]) // 2
    assert named.shape[2] > bare.shape[2] and text >= 9
    rows = [named[:, text : text + 22], named[:, 2 * text + 22 :]]
    assert torch.equal(torch.cat(rows, 1)[:, :, : bare.shape[2]], bare)
    captions = named[0, :text, :, 0], named[0, text + 22 : 2 * text + 22, :, 0]
    assert [bool((one < 0.5).any()) for one in captions] == [True, True]
    assert (captions[1] < 0.5).sum() > 5 * (captions[0] < 0.5).sum()
