"""Preparation on Ray Data: file by file the bytes of a run in this process."""

import pytest

from aqueduct.core.data.buckets import SizeSettings
from aqueduct.core.data.clips import find
from aqueduct.core.data.encoders import Pixels
from aqueduct.core.data.prepare import MotionSettings, PrepareSettings, prepare
from aqueduct.core.data.ray import OnRay
from aqueduct.core.data.survey import ClipSettings
from aqueduct.tests.unit.data_videos import damage, write_video

ray = pytest.importorskip("ray")
pytest.importorskip("ray.data")


@pytest.mark.slow
def test_ray_and_one_process_write_the_same_files(tmp_path):
    folder = tmp_path / "videos"
    write_video(folder / "a.mp4", frames=20, noise=20)
    write_video(folder / "b.webm", frames=12, noise=20)
    damage(write_video(folder / "c.mp4", frames=24, noise=30, options={"bf": "0"}), 13)
    write_video(folder / "d.mp4", frames=2)
    motion = MotionSettings() if _has_opencv() else None
    settings = PrepareSettings(ClipSettings((6,)), SizeSettings(48, 32), motion, shard_mb=0.25)
    sources = find(folder)
    here = prepare(sources, settings, Pixels(), tmp_path / "here")
    with OnRay(processes=2, store_mb=80) as runner:
        there = prepare(sources, settings, Pixels(), tmp_path / "there", runner)
        assert ray.is_initialized()
    assert not ray.is_initialized()
    names = sorted(path.name for path in (tmp_path / "here").iterdir())
    assert len(names) > 3 and names == sorted(path.name for path in (tmp_path / "there").iterdir())
    for name in names:
        assert (tmp_path / "here" / name).read_bytes() == (tmp_path / "there" / name).read_bytes()
    assert there == here and len(here.clips) > 4
    assert {one.path for one in there.skipped} == {"c.mp4", "d.mp4"}


def _has_opencv() -> bool:
    try:
        import cv2  # noqa: F401
    except ImportError:
        return False
    return True
