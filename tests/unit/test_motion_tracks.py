"""Tracks: what they accept, and how they follow a change of frame count or image size."""

import pytest
import torch

from aqueduct.core.motion.tracks import Tracks


def tracks(positions, visible=None, size=(48, 64)) -> Tracks:
    positions = torch.as_tensor(positions, dtype=torch.float32)
    visible = torch.ones(positions.shape[:2]) if visible is None else torch.as_tensor(visible)
    return Tracks(positions, visible.bool(), size)


def test_resampling_is_linear_in_time_with_both_ends_kept():
    """Oracle: a quadratic path sampled at its own knots is exact, and half way between two knots it is their mean."""
    path = torch.tensor([[k * k, 3.0 * k] for k in range(5)])[:, None]
    finer = tracks(path).resampled(9)
    assert torch.equal(finer.positions[::2], path)
    assert torch.allclose(finer.positions[1::2], (path[:-1] + path[1:]) / 2)
    assert torch.equal(tracks(path).resampled(5).positions, path)
    assert torch.equal(tracks(path).resampled(2).positions, path[[0, -1]])


def test_a_single_frame_repeats():
    still = tracks([[[3, 4], [50, 2]]], [[1, 0]]).resampled(7)
    assert still.frames == 7 and still.count == 2
    assert (still.positions == torch.tensor([[3.0, 4], [50, 2]])).all()
    assert still.visible[:, 0].all() and not still.visible[:, 1].any()


def test_visibility_is_the_nearest_frames():
    """Half way between two frames, the earlier one's."""
    thinned = tracks(torch.zeros(3, 1, 2), [[1], [0], [1]]).resampled(9)
    assert thinned.visible[:, 0].tolist() == [True, True, True, False, False, False, False, True, True]


def test_a_hidden_position_does_not_draw_a_visible_one_away():
    """The point waits at (20, 10); while it is hidden the file says (0, 0)."""
    made = tracks([[[20, 10]], [[0, 0]], [[20, 10]]], [[1], [0], [1]]).resampled(21)
    assert (made.positions[made.visible] == torch.tensor([20.0, 10.0])).all()
    assert 0 < int(made.visible.sum()) < 21


def test_resizing_keeps_the_place_as_a_share_of_the_image():
    """Oracle: the outer corners of the image, at -0.5 and size - 0.5, stay corners; so does the centre."""
    corners = [[[-0.5, -0.5], [63.5, 47.5], [31.5, 23.5]]]
    wide = tracks(corners).resized(24, 256)
    assert wide.size == (24, 256)
    assert torch.allclose(wide.positions[0], torch.tensor([[-0.5, -0.5], [255.5, 23.5], [127.5, 11.5]]))
    assert torch.allclose(wide.resized(48, 64).positions, torch.tensor(corners), atol=1e-5)


def test_points_may_leave_the_image_and_inside_tells():
    path = tracks([[[0, 0], [63, 47], [63.1, 0], [0, -0.1]]])
    assert path.inside().tolist() == [[True, True, False, False]]


def test_a_step_is_known_where_both_its_ends_are_seen():
    starts, vectors, known = tracks([[[0, 0]], [[2, 1]], [[5, 1]], [[5, 9]]], [[1], [1], [0], [1]]).steps()
    assert torch.equal(vectors[:, 0], torch.tensor([[2.0, 1], [3, 0], [0, 8]]))
    assert torch.equal(starts[:, 0], torch.tensor([[0.0, 0], [2, 1], [5, 1]]))
    assert known[:, 0].tolist() == [True, False, False]


@pytest.mark.parametrize(
    "positions, visible, size, message",
    [
        (torch.zeros(2, 0, 2), torch.zeros(2, 0).bool(), (4, 4), "at least one frame and one point"),
        (torch.zeros(0, 2, 2), torch.zeros(0, 2).bool(), (4, 4), "at least one frame and one point"),
        (torch.zeros(2, 3), torch.zeros(2, 3).bool(), (4, 4), r"\[frames, tracks, 2 \(x, y\)\], got \[2, 3\]"),
        (torch.zeros(2, 3, 2), torch.zeros(3, 2).bool(), (4, 4), r"= \[2, 3\], got \[3, 2\]"),
        (torch.zeros(2, 3, 2), torch.zeros(2, 3).bool(), (4, 0), r"size of tracks is \(height, width\)"),
    ],
)
def test_wrong_shapes_are_named(positions, visible, size, message):
    with pytest.raises(ValueError, match=message):
        Tracks(positions, visible, size)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_position_that_is_no_number_names_track_and_frame(value):
    positions = torch.zeros(5, 4, 2)
    positions[3, 2, 1] = value
    with pytest.raises(ValueError, match="track 2 has no finite position in frame 3"):
        tracks(positions)


def test_other_dtypes_are_refused():
    with pytest.raises(TypeError, match="float32"):
        Tracks(torch.zeros(1, 1, 2, dtype=torch.float64), torch.ones(1, 1).bool(), (4, 4))
    with pytest.raises(TypeError, match="bool"):
        Tracks(torch.zeros(1, 1, 2), torch.ones(1, 1), (4, 4))
