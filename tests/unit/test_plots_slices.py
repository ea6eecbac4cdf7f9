"""The time slice: pixel by pixel, and what motion and flicker look like in it."""

import pytest
import torch

from aqueduct.core.plots.slices import time_slice

CLIP = torch.rand(5, 3, 6, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("position", "row"), [(0.0, 0), (0.16, 0), (0.17, 1), (0.5, 3), (0.99, 5), (1.0, 5)])
def test_rows_over_time_downwards(position, row):
    picture = time_slice(CLIP, position, "x", thickness=3)
    assert picture.shape == (1, 3, 15, 8)
    for frame in range(5):
        for line in range(3):
            assert torch.equal(picture[0, :, 3 * frame + line], CLIP[frame, :, row])


@pytest.mark.parametrize(("position", "column"), [(0.0, 0), (0.5, 4), (1.0, 7)])
def test_columns_over_time_to_the_right(position, column):
    picture = time_slice(CLIP, position, "y", thickness=2)
    assert picture.shape == (1, 3, 6, 10)
    for frame in range(5):
        assert torch.equal(picture[0, :, :, 2 * frame], CLIP[frame, :, :, column])
        assert torch.equal(picture[0, :, :, 2 * frame + 1], CLIP[frame, :, :, column])


def test_the_two_directions_are_each_others_mirror():
    assert torch.equal(time_slice(CLIP, 0.3, "y"), time_slice(CLIP.mT, 0.3, "x").mT)


def test_motion_slants_and_flicker_stripes():
    line = torch.rand(1, 1, 1, 32, generator=torch.Generator().manual_seed(1)).expand(1, 1, 4, 32)
    moving = torch.cat([line.roll(2 * frame, dims=-1) for frame in range(6)])
    picture = time_slice(moving, thickness=1)[0, 0]
    for frame in range(1, 6):
        assert torch.equal(picture[frame, 2:], picture[frame - 1, :-2])
    flicker = torch.arange(6.0).remainder(2)[:, None, None, None].expand(6, 1, 4, 32)
    stripes = time_slice(flicker, thickness=1)[0, 0]
    assert (stripes.diff(dim=0).abs() == 1).all() and not stripes.diff(dim=1).any()


@pytest.mark.parametrize(
    ("frames", "options", "message"),
    [
        (CLIP[0], {}, r"\[F, C, H, W\], got \[3, 6, 8\]"),
        (CLIP[:0], {}, r"got \[0, 3, 6, 8\]"),
        (CLIP, {"position": 1.2}, r"from 0 to 1, got 1.2"),
        (CLIP, {"position": float("nan")}, r"got nan"),
        (CLIP, {"along": "z"}, r"along x or y, got 'z'"),
        (CLIP, {"thickness": 0}, r"1 pixel high or more, got 0"),
    ],
)
def test_bad_input(frames, options, message):
    with pytest.raises(ValueError, match=message):
        time_slice(frames, **options)
