"""Tracks in the formats of other packs: read what they write, write what they read, say what is wrong otherwise."""

import json
import math
import sys
from types import ModuleType

import pytest
import torch

from aqueduct.core.motion.track_formats import coordinates_json, from_core, parse_tracks, to_core
from aqueduct.core.motion.tracks import Tracks

SIZE = (48, 64)
ONE = [{"x": 3, "y": 40}, {"x": 5, "y": 38}, {"x": 7.5, "y": 36.25}]


def xy(track) -> torch.Tensor:
    return torch.tensor([[point["x"], point["y"]] for point in track], dtype=torch.float32)


# --- coordinate JSON --------------------------------------------------------------------------------------------------


def test_one_track_and_a_list_of_one_are_the_same():
    for text in (json.dumps(ONE), json.dumps([ONE]), str(ONE), str([ONE]), "\n" + json.dumps(ONE, indent=2) + "\n"):
        made = parse_tracks(text, SIZE)
        assert torch.equal(made.positions[:, 0], xy(ONE)) and made.count == 1
        assert made.visible.all() and made.size == SIZE


def test_many_tracks_keep_their_order_also_as_one_text_each():
    other = [{"x": x, "y": 1} for x in (60, 40, 20)]
    for text in (json.dumps([ONE, other]), [json.dumps(ONE), str(other)]):
        made = parse_tracks(text, SIZE)
        assert torch.equal(made.positions, torch.stack([xy(ONE), xy(other)], dim=1))


def test_pairs_and_visibility():
    made = parse_tracks('[[[1, 2], [3, 4, 0], [5, 6, 1]], [{"x": 1, "y": 2, "visible": false}, [9, 9], [8, 8]]]', SIZE)
    assert made.positions[:, 0].tolist() == [[1, 2], [3, 4], [5, 6]]
    assert made.visible.T.tolist() == [[True, False, True], [False, True, True]]
    assert parse_tracks("[[1, 2], [3, 4]]", SIZE).positions.tolist() == [[[1, 2]], [[3, 4]]]


def test_a_wan_file_of_121_points_is_resampled_to_the_clip():
    """Oracle: a circle told in 121 points; in 25 frames every fifth point is kept."""
    angle = [2 * math.pi * k / 120 for k in range(121)]
    circle = [{"x": 30 + 20 * math.cos(a), "y": 24 + 20 * math.sin(a)} for a in angle]
    made = parse_tracks(json.dumps([circle]), SIZE, frames=25)
    assert torch.allclose(made.positions[:, 0], xy(circle)[::5], atol=1e-4)
    assert parse_tracks(json.dumps([circle]), SIZE).frames == 121


def test_tracks_of_several_lengths_are_resampled_or_named():
    line = [{"x": 2 * k, "y": k} for k in range(5)]
    text = json.dumps([line, ONE, line[::2]])
    with pytest.raises(ValueError, match=r"\(2 of 3, 1 of 5\).*say for how many frames"):
        parse_tracks(text, SIZE)
    made = parse_tracks(text, SIZE, frames=9)
    ramp = torch.linspace(0, 4, 9)
    assert torch.allclose(made.positions[:, 0], torch.stack([2 * ramp, ramp], dim=1))
    assert torch.allclose(made.positions[:, 2], made.positions[:, 0])
    assert torch.equal(made.positions[[0, 4, 8], 1], xy(ONE))


def test_static_points_given_once_repeat():
    made = parse_tracks(json.dumps([[{"x": 9, "y": 8}], ONE]), SIZE)
    assert made.frames == 3 and made.positions[:, 0].tolist() == [[9, 8]] * 3
    assert torch.equal(made.positions[:, 1], xy(ONE))


def test_what_is_written_is_read_back():
    generator = torch.Generator().manual_seed(0)
    positions = torch.randint(-500, 9000, (7, 4, 2), generator=generator) / 100
    visible = torch.rand(7, 4, generator=generator) > 0.3
    tracks = Tracks(positions, visible, SIZE)
    again = parse_tracks(coordinates_json(tracks), SIZE)
    assert torch.equal(again.positions, positions) and torch.equal(again.visible, visible)
    assert 0 < int(visible.sum()) < 28


def test_written_json_is_what_readers_of_plain_coordinates_expect():
    """Oracle: quotes swapped blindly and x, y taken per point, which is all that ComfyUI's WanTrackToVideo does."""
    tracks = Tracks(torch.tensor([[[1.237, -0.001]], [[4.0, 5.5]]]), torch.ones(2, 1).bool(), SIZE)
    data = json.loads(coordinates_json(tracks).replace("'", '"'))
    assert data == [[{"x": 1.24, "y": 0.0}, {"x": 4.0, "y": 5.5}]]
    assert "-0" not in coordinates_json(tracks)


# --- what is wrong ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "empty; expected one track"),
        ("[]", "no track in the text"),
        ("[[], []]", "track 0 is no list of points"),
        ('[[{"x": 1, "y": 2}], 5]', "track 1 is no list of points, but int 5"),
        ("12", "no tracks, but int 12"),
        ('{"points": []}', "an object with the keys 'points'"),
        ('[{"x": 1, "y": 2}, {"x": 1}]', "track 0, frame 1: expected"),
        ('[{"x": "1", "y": 2}]', "track 0, frame 0: expected"),
        ('[[{"x": 1, "y": 2}], [{"x": true, "y": 2}]]', "track 1, frame 0: expected"),
        ("[[1, 2], [3]]", "track 0, frame 1: expected"),
        ('[[{"x": 1, "y": 2}], [{"x": 3, "y": 2}, {"x": NaN, "y": 0}]]', "track 1 has no finite position in frame 1"),
        ('[{"x": 0.5, "y": 0.25}, {"x": 1, "y": 0}]', "between 0 and 1.*normalized_str"),
    ],
)
def test_bad_text_says_where_and_what_is_expected(text, message):
    with pytest.raises(ValueError, match=message):
        parse_tracks(text, SIZE)


def test_numbers_and_lists_beyond_all_measure_are_refused_like_others():
    with pytest.raises(ValueError, match="track 0 has no finite position in frame 1"):
        parse_tracks('[{"x": 1, "y": 2}, {"x": 1' + 400 * "0" + ', "y": 2}]', (10, 10))
    with pytest.raises(ValueError, match="nested too deeply"):
        parse_tracks(200_000 * "[", (10, 10))


def test_malformed_json_names_line_and_column():
    broken = '[\n  {"x": 1, "y": 2},\n  {"x": 1 "y": 2}\n]'
    column = broken.splitlines()[2].index('"y"') + 1
    for text in (broken, broken.replace('"', "'")):
        with pytest.raises(ValueError, match=rf"line 3, column {column}, near .*; expected one track"):
            parse_tracks(text, SIZE)


def test_a_corner_point_of_whole_numbers_is_no_share():
    assert parse_tracks("[[0, 0], [1, 1]]", SIZE).positions.tolist() == [[[0, 0]], [[1, 1]]]


# --- the editor's document --------------------------------------------------------------------------------------------


def test_the_editors_document_goes_to_its_reader(monkeypatch):
    """Also in single quotes; its frame count must be given."""
    seen = []
    made = Tracks(torch.zeros(5, 1, 2), torch.ones(5, 1).bool(), SIZE)

    class Document:
        def tracks(self, size, frames):
            seen.append((size, frames))
            return made

    reader = ModuleType("track_document")
    reader.read_document = lambda text: seen.append(json.loads(text)) or Document()
    monkeypatch.setitem(sys.modules, "aqueduct.core.motion.track_document", reader)
    document = {"version": 1, "tracks": [{"points": [[0.5, 0.5]]}]}
    for text in (json.dumps(document), str(document)):
        seen.clear()
        assert parse_tracks(text, SIZE, frames=5) is made
        assert seen == [document, (SIZE, 5)]
    with pytest.raises(ValueError, match="say how many frames"):
        parse_tracks(json.dumps(document), SIZE)


# --- ComfyUI's TRACKS -------------------------------------------------------------------------------------------------


def test_core_tracks_there_and_back():
    tracks = Tracks(torch.rand(6, 3, 2) * 40, torch.rand(6, 3) > 0.5, SIZE)
    again = from_core(to_core(tracks), SIZE)
    assert torch.equal(again.positions, tracks.positions) and torch.equal(again.visible, tracks.visible)


def test_drawn_tracks_keep_their_place_on_an_image_of_another_size():
    tracks = Tracks(torch.rand(6, 3, 2) * 40, torch.rand(6, 3) > 0.5, SIZE)
    height, width = 2 * SIZE[0], 3 * SIZE[1]
    larger = from_core(to_core(tracks), (height, width))
    assert larger.size == (height, width)
    torch.testing.assert_close(larger.positions[..., 0], 3 * tracks.positions[..., 0] + 1)  # edges coincide
    torch.testing.assert_close(larger.positions[..., 1], 2 * tracks.positions[..., 1] + 0.5)
    foreign = {"track_path": tracks.positions, "track_visibility": tracks.visible}  # says no size
    assert torch.equal(from_core(foreign, (height, width)).positions, tracks.positions)


@pytest.mark.parametrize(
    "visibility, expected",
    [
        (None, [[1, 1], [1, 1], [1, 1]]),
        (torch.tensor([[1], [0], [1]]).bool(), [[1, 1], [0, 0], [1, 1]]),
        (torch.tensor([[[1.0, 0.2], [0.9, 1], [0, 0]]]), [[1, 0], [1, 1], [0, 0]]),
    ],
)
def test_core_visibility_may_be_missing_shared_or_batched(visibility, expected):
    path = torch.arange(12.0).view(3, 2, 2)
    for positions in (path, path[None], path.to(torch.float16)):
        shown = {} if visibility is None else {"track_visibility": visibility}
        made = from_core({"track_path": positions} | shown, SIZE)
        assert made.visible.int().tolist() == expected and torch.equal(made.positions, path)


@pytest.mark.parametrize(
    "tracks, message",
    [
        ([1], "TRACKS is a dict"),
        ({"path": 1}, "an object with the keys 'path'"),
        ({"track_path": torch.zeros(2, 5, 3, 2)}, r"\[frames, tracks, 2\], got \[2, 5, 3, 2\]"),
        ({"track_path": torch.zeros(5, 3, 2), "track_visibility": torch.ones(4, 3)}, r"= \[5, 3\].*got \[4, 3\]"),
        ({"track_path": torch.zeros(5, 3, 2), "track_visibility": torch.ones(5)}, r"\[frames, tracks\], got \[5\]"),
    ],
)
def test_foreign_dicts_are_refused(tracks, message):
    with pytest.raises((TypeError, ValueError), match=message):
        from_core(tracks, SIZE)
