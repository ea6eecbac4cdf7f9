"""The track editor's document: what it means in pixels and frames, and what it refuses."""

import json
import math
import time

import pytest
import torch

from aqueduct.core.motion.track_document import DrawnTrack, Pin, TrackDocument, read_document

SIZE = (60, 100)  # height, width: unlike, so that a swapped axis shows


def document(*tracks, pins=()):
    return read_document(json.dumps({"version": 1, "tracks": list(tracks), "pins": list(pins)}))


def positions(track, frames=11, size=SIZE):
    return document(track).tracks(size, frames).positions[:, 0]


LINE = {"points": [[0.1, 0.2], [0.7, 0.9]]}
FROM = torch.tensor([0.1 * 100 - 0.5, 0.2 * 60 - 0.5])
TO = torch.tensor([0.7 * 100 - 0.5, 0.9 * 60 - 0.5])


def on_line(share):
    return FROM + torch.as_tensor(share, dtype=torch.float32)[:, None] * (TO - FROM)


# --- place and time ---------------------------------------------------------------------------------------------------


def test_a_straight_line_runs_evenly_from_pixel_to_pixel():
    tracks = document(LINE).tracks(SIZE, 11)
    torch.testing.assert_close(tracks.positions[:, 0], on_line([k / 10 for k in range(11)]))
    assert tracks.size == SIZE and tracks.positions.dtype == torch.float32 and bool(tracks.visible.all())


def test_corners_of_the_unit_square_are_the_outer_edges():
    place = positions({"points": [[0, 0], [1, 1]]}, frames=2)
    assert place.tolist() == [[-0.5, -0.5], [99.5, 59.5]]


def test_speed_is_even_in_pixels_not_in_shares():
    """Half of the width is 50 pixels, half of the height 30: the corner comes at 5/8 of the time."""
    corner = {"points": [[0, 0], [0.5, 0], [0.5, 0.5]], "curve": "straight"}
    assert positions(corner, frames=9)[5].tolist() == pytest.approx([49.5, -0.5])


@pytest.mark.parametrize(
    "ease, at_quarter, at_half",
    [("linear", 0.25, 0.5), ("in", 0.0625, 0.25), ("out", 0.4375, 0.75), ("in-out", 0.15625, 0.5)],
)
def test_easing(ease, at_quarter, at_half):
    torch.testing.assert_close(positions(LINE | {"ease": ease}, 5)[:3], on_line([0, at_quarter, at_half]))
    torch.testing.assert_close(positions(LINE | {"ease": ease}, 5)[4], TO)


def test_a_track_rests_before_its_start_and_after_its_end():
    place = positions(LINE | {"start": 0.2, "end": 0.6}, 11)
    torch.testing.assert_close(place, on_line([0, 0, 0, 0.25, 0.5, 0.75, 1, 1, 1, 1, 1]))


def test_easing_bends_the_moving_time_alone():
    place = positions(LINE | {"start": 0.5, "end": 1.0, "ease": "in"}, 5)
    torch.testing.assert_close(place, on_line([0, 0, 0, 0.25, 1]))


def test_without_hold_a_track_is_seen_while_it_moves_alone():
    visible = document(LINE | {"start": 0.2, "end": 0.6, "hold": False}).tracks(SIZE, 11).visible[:, 0]
    assert visible.tolist() == [False] * 2 + [True] * 5 + [False] * 4


@pytest.mark.parametrize("frames", [4, 7, 13, 30, 31, 121])
def test_thirds_of_a_clip_are_found_however_they_were_rounded(frames):
    """1/3 is written with fewer digits than it has; the frame it names must still count as inside."""
    third = (frames - 1) // 3
    share = third / (frames - 1)
    visible = document(LINE | {"start": share, "end": share, "hold": False}).tracks(SIZE, frames).visible[:, 0]
    assert visible.nonzero().flatten().tolist() == [third]


def test_start_and_end_together_are_a_jump():
    place = positions(LINE | {"start": 0.5, "end": 0.5}, 5)
    torch.testing.assert_close(place, on_line([0, 0, 1, 1, 1]))


def test_one_point_is_static_and_one_frame_is_the_start():
    assert positions({"points": [[0.5, 0.5]]}, 4).tolist() == [[49.5, 29.5]] * 4
    torch.testing.assert_close(positions(LINE, 1), on_line([0]))


def test_an_arc_is_travelled_at_even_angles():
    points = [
        [0.5 + 0.3 * math.cos(a) * 60 / 100, 0.5 + 0.3 * math.sin(a)] for a in (k * math.pi / 8 for k in range(9))
    ]
    place = positions({"points": points}, 17, (600, 1000)) - torch.tensor([499.5, 299.5])
    angles = torch.atan2(place[:, 1], place[:, 0])
    assert (place.norm(dim=-1) - 180).abs().max() < 1.8
    torch.testing.assert_close(angles, torch.linspace(0, math.pi, 17), rtol=0, atol=0.012)


def test_a_resized_image_gets_the_same_tracks():
    small = document(LINE, {"points": [[0.2, 0.9], [0.5, 0.1], [1.2, 0.4]]}).tracks((60, 100), 9)
    large = document(LINE, {"points": [[0.2, 0.9], [0.5, 0.1], [1.2, 0.4]]}).tracks((180, 300), 9)
    torch.testing.assert_close(small.resized(180, 300).positions, large.positions, rtol=0, atol=1e-3)


def test_a_track_may_leave_the_frame():
    assert positions({"points": [[0.5, 0.5], [1.5, 0.5]]}, 2)[1].tolist() == pytest.approx([149.5, 29.5])


def test_disabled_tracks_are_left_out():
    tracks = document(LINE | {"enabled": False}, {"points": [[0.5, 0.5]]}).tracks(SIZE, 3)
    assert tracks.positions.shape == (3, 1, 2) and tracks.positions[0, 0].tolist() == [49.5, 29.5]


def test_nothing_to_follow_says_why():
    with pytest.raises(ValueError, match="draw one in the track editor"):
        document().tracks(SIZE, 5)
    with pytest.raises(ValueError, match="all 1 tracks are switched off"):
        document(LINE | {"enabled": False}).tracks(SIZE, 5)
    with pytest.raises(ValueError, match="at least one frame, got 0"):
        document(LINE).tracks(SIZE, 0)


# --- pins -------------------------------------------------------------------------------------------------------------


def test_a_dab_is_a_disc():
    mask = document(pins=[{"points": [[0.5, 0.5]], "radius": 0.1}]).pinned(SIZE)
    y, x = torch.meshgrid(torch.arange(60.0), torch.arange(100.0), indexing="ij")
    distance = torch.hypot(x - 49.5, y - 29.5)
    assert mask.shape == SIZE
    assert bool((mask[distance <= 9.5] == 1).all()) and bool((mask[distance >= 10.5] == 0).all())
    assert abs(mask.sum().item() - math.pi * 100) < 3


def test_a_stroke_is_as_long_as_drawn():
    """A capsule: 40 pixels of a 10 pixel wide band, and a disc for its two ends."""
    mask = document(pins=[{"points": [[0.2, 0.5], [0.4, 0.5], [0.6, 0.5]], "radius": 0.05}]).pinned(SIZE)
    assert abs(mask.sum().item() - (400 + math.pi * 25)) < 3


def test_strokes_are_painted_in_order():
    paint, erase = {"points": [[0.5, 0.5]], "radius": 0.1}, {"points": [[0.5, 0.5]], "radius": 0.05, "erase": True}
    ring = document(pins=[paint, erase]).pinned(SIZE)
    assert ring[29, 49] == 0 and ring[29, 57] == 1
    torch.testing.assert_close(document(pins=[erase, paint]).pinned(SIZE), document(pins=[paint]).pinned(SIZE))


def test_pins_outside_and_no_pins():
    assert document().pinned(SIZE).sum() == 0
    assert document(pins=[{"points": [[3, 3], [-2, 9]], "radius": 0.1}]).pinned(SIZE).sum() == 0


# --- the text ---------------------------------------------------------------------------------------------------------


def test_missing_keys_take_the_defaults_and_a_written_document_reads_back():
    read = document(LINE, LINE | {"name": "hand", "ease": "out"}, pins=[{"points": [[0, 1]], "radius": 0.2}])
    assert read.drawn[0] == DrawnTrack(((0.1, 0.2), (0.7, 0.9)))
    assert read.pins == (Pin(((0.0, 1.0),), 0.2),)
    assert read_document(read.to_json()) == read
    assert read_document('{"version": 1}') == TrackDocument()


@pytest.mark.parametrize(
    "text, says",
    [
        ("", "not JSON.*line 1 column 1"),
        ('{"version": 1,\n "tracks": [}', r"not JSON.*line 2 column 13, near"),
        ("[" * 100_000, "not JSON|nested too deeply"),
        ("[]", r"is a JSON object.*got \[\]"),
        ('{"tracks": []}', "names no version.*reads version 1"),
        ('{"version": 2}', "has version 2, this Aqueduct reads version 1"),
        ('{"version": "1"}', 'has version "1"'),
        ('{"version": 1, "track": []}', "has no 'track' in version 1; it has pins, tracks, version"),
        ('{"version": 1, "tracks": {}}', "tracks is a list"),
    ],
)
def test_a_text_that_is_no_document(text, says):
    with pytest.raises(ValueError, match=says):
        read_document(text)


@pytest.mark.parametrize(
    "change, says",
    [
        ({"points": []}, "points is empty"),
        ({"points": [[0.1, 0.2], [0.3]]}, r"points\[1\] is \[u, v\], got \[0.3\]"),
        ({"points": [[0.1, math.nan]]}, r"points\[0\] v is a finite number, got NaN"),
        ({"points": [[math.inf, 0]]}, r"points\[0\] u is a finite number, got Infinity"),
        ({"points": [["0.1", 0]]}, r'points\[0\] u is a finite number, got "0.1"'),
        ({"points": [[True, 0]]}, r"points\[0\] u is a finite number, got true"),
        ({"points": [[320, 200]]}, r"points\[0\] u lies in -20 to 20, got 320; .* not pixels"),
        ({"points": [[10**400, 0]]}, r"points\[0\] u lies in"),
        ({"points": "here"}, "points is a list"),
        ({"curve": "bezier"}, 'curve is one of smooth, straight, got "bezier"'),
        ({"ease": []}, r"ease is one of linear, in, out, in-out, got \[\]"),
        ({"start": -0.1}, "start lies in 0 to 1, got -0.1"),
        ({"end": None}, "end is a finite number, got nothing"),
        ({"start": 0.8, "end": 0.2}, r"ends \(at 0.2\) before it starts \(at 0.8\)"),
        ({"hold": 1}, "hold is true or false, got 1"),
        ({"speed": 2}, "has no 'speed'"),
    ],
)
def test_a_refusal_names_the_track(change, says):
    with pytest.raises(ValueError, match=r'tracks\[1\] \("left hand"\).*' + says):
        document(LINE, LINE | {"name": "left hand"} | change)


@pytest.mark.parametrize(
    "pin, says",
    [
        ({"points": [[0, 0]]}, r"pins\[0\]: radius is a finite number, got nothing"),
        ({"points": [[0, 0]], "radius": 0}, "radius is 0"),
        ({"points": [], "radius": 1}, "points is empty"),
        ("a", r'pins\[0\] is an object, got "a"'),
    ],
)
def test_a_refusal_names_the_pin(pin, says):
    with pytest.raises(ValueError, match=says):
        document(pins=[pin])


def test_ten_thousand_tracks():
    """Read and followed all at once they take less time than followed one by one (a hundred of them, times 100)."""
    track = {"points": [[0.1, 0.1], [0.3, 0.4], [0.5, 0.2], [0.9, 0.9]]}
    many = json.dumps({"version": 1, "tracks": [track] * 10_000})
    started = time.perf_counter()
    tracks = read_document(many).tracks((480, 640), 49)
    together = time.perf_counter() - started
    assert tracks.positions.shape == (49, 10_000, 2)
    torch.testing.assert_close(tracks.positions[:, 9_999], tracks.positions[:, 0], rtol=0, atol=1e-3)
    one = read_document(json.dumps({"version": 1, "tracks": [track]}))
    started = time.perf_counter()
    for _ in range(100):
        one.tracks((480, 640), 49)
    assert together < 100 * (time.perf_counter() - started)
