"""The track editor as ComfyUI sees it: what it hands on, and what it refuses before anything runs."""

import json

import pytest
import torch

from aqueduct.core.motion.track_formats import from_core, parse_tracks
from aqueduct.tests.comfy.graph import node_class, run

LINE = {"points": [[0.1, 0.2], [0.7, 0.9]], "name": "leaf"}


@pytest.fixture(autouse=True)
def _inside_comfyui(comfy):
    pass


def document(*tracks, pins=()):
    return json.dumps({"version": 1, "tracks": list(tracks), "pins": list(pins)})


def test_tracks_text_and_mask_tell_the_same_drawing():
    image = torch.rand(2, 60, 100, 3)
    drawing = document(LINE, {"points": [[0.5, 0.5]]}, pins=[{"points": [[0.5, 0.5]], "radius": 0.1}])
    tracks, text, pinned = run("AqueductTrackEditor", image=image, frames=7, document=drawing)
    assert tracks["track_path"].shape == (7, 2, 2) and tracks["track_visibility"].dtype == torch.bool
    torch.testing.assert_close(tracks["track_path"][0], torch.tensor([[9.5, 11.5], [49.5, 29.5]]))
    read = parse_tracks(text, (60, 100))
    torch.testing.assert_close(read.positions, from_core(tracks, (60, 100)).positions, rtol=0, atol=0.006)
    assert pinned.shape == (1, 60, 100) and pinned[0, 29, 49] == 1 and pinned[0, 0, 0] == 0


def test_the_image_goes_back_to_the_widget_and_nowhere_else():
    image = torch.rand(3, 60, 100, 3)
    sent = node_class("AqueductTrackEditor").execute(image=image, frames=5, document=document(LINE)).ui
    assert list(sent) == ["aqueduct_background"]
    assert [picture["type"] for picture in sent["aqueduct_background"]] == ["temp"]


@pytest.mark.parametrize(
    "drawing, says",
    [
        ("{", "not JSON.*line 1 column 2"),
        ('{"version": 7}', "version 7.*reads version 1"),
        (document(LINE | {"points": [[0.1, float("nan")]]}), r'tracks\[0\] \("leaf"\).*finite'),
    ],
)
def test_a_bad_drawing_is_refused_before_the_run(drawing, says):
    answer = node_class("AqueductTrackEditor").validate_inputs(document=drawing)
    assert isinstance(answer, str)
    with pytest.raises(ValueError, match=says):
        raise ValueError(answer)


@pytest.mark.parametrize("drawing", [document(LINE), document(), None], ids=["drawn", "empty", "linked"])
def test_a_good_drawing_passes_and_so_does_one_yet_to_come(drawing):
    assert node_class("AqueductTrackEditor").validate_inputs(document=drawing) is True


@pytest.mark.parametrize("tracks", [[], [LINE | {"enabled": False}]])
def test_with_no_track_the_image_comes_to_the_editor_and_nothing_goes_on(tracks):
    answer = node_class("AqueductTrackEditor").execute(
        image=torch.rand(1, 60, 100, 3), frames=5, document=document(*tracks)
    )
    assert "draw one in the track editor" in answer.block_execution
    assert [picture["type"] for picture in answer.ui["aqueduct_background"]] == ["temp"]
