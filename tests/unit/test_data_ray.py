"""Preparation on Ray Data: file by file the bytes of a run in this process."""

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from aqueduct import prepare as command
from aqueduct.core.data.buckets import SizeSettings
from aqueduct.core.data.clips import find
from aqueduct.core.data.encoders import Pixels
from aqueduct.core.data.prepare import MotionSettings, PrepareSettings, prepare
from aqueduct.core.data.ray import OnRay
from aqueduct.core.data.survey import ClipSettings
from aqueduct.tests.unit.data_videos import damage, write_video

ROOT = Path(command.__file__).parent
OPEN = os.environ | {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}  # no token, whatever lies in ~/.ray

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
    assert_same_files(tmp_path / "here", tmp_path / "there")
    assert there == here and len(here.clips) > 4
    assert {one.path for one in there.skipped} == {"c.mp4", "d.mp4"}


@pytest.mark.slow
def test_a_cluster_that_is_found_by_its_address(tmp_path):
    """As the command is used: a head that runs already, here with one processor."""
    write_video(tmp_path / "videos" / "a.mp4", frames=20, noise=20)
    write_video(tmp_path / "videos" / "b.webm", frames=12, noise=20)
    config = tmp_path / "small.toml"
    config.write_text(
        f'source = "{tmp_path}/videos"\noutput = "{tmp_path}/here"\nshard_mb = 0.05\n'
        "[clips]\nlengths = [6]\n[size]\nwidth = 48\nheight = 32\n"
    )
    assert command.main([str(config)]) == 0
    # Of sockets no path may have more than 107 letters, and pytest's folders have many.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as short, head(Path(short)) as address:
        there = ["--set", f"output={tmp_path}/there", "--set", f"ray.address={address}"]
        prepare_command = [sys.executable, ROOT / "scripts" / "prepare.py", config, *there]
        result = subprocess.run(prepare_command, env=OPEN, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr[-3000:]
    assert_same_files(tmp_path / "here", tmp_path / "there")


@contextmanager
def head(folder) -> Iterator[str]:
    """A cluster of one machine, with its files in ``folder``; its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ray_command = Path(sys.executable).with_name("ray")
    options = ["--port", port, "--num-cpus", 1, "--object-store-memory", 100_000_000, "--include-dashboard=false"]
    start = [ray_command, "start", "--head", "--block", "--temp-dir", folder / "r", *options]
    with open(folder / "head.log", "w") as log:
        started = subprocess.Popen([*map(str, start)], env=OPEN, stdout=log, stderr=subprocess.STDOUT)
    try:
        while "Ray runtime started" not in (folder / "head.log").read_text():
            assert started.poll() is None, (folder / "head.log").read_text()
            time.sleep(0.5)
        yield f"127.0.0.1:{port}"
    finally:
        started.terminate()
        started.wait(60)


def assert_same_files(here: Path, there: Path) -> None:
    names = sorted(path.name for path in here.iterdir())
    assert len(names) > 2 and names == sorted(path.name for path in there.iterdir())
    for name in names:
        assert (here / name).read_bytes() == (there / name).read_bytes()


def test_looking_at_sources_takes_no_accelerator(tmp_path, monkeypatch):
    """It opens them and computes nothing; encoding takes what was asked for."""
    asked = []

    class Work:
        def __init__(self, rows, **_):
            self.rows = rows

        def map(self, work, num_cpus, num_gpus):
            asked.append((num_cpus, num_gpus))
            return Work(map(work, self.rows))

        def iter_rows(self):
            return iter(self.rows)

    monkeypatch.setattr(ray.data, "from_items", Work)
    write_video(tmp_path / "videos" / "a.mp4", frames=6)
    settings = PrepareSettings(ClipSettings((6,)), SizeSettings(48, 32))
    assert prepare(find(tmp_path / "videos"), settings, Pixels(), tmp_path / "out", OnRay(cpus=4, gpus=1)).clips
    assert asked == [(1, 0), (4, 1)]


def _has_opencv() -> bool:
    try:
        import cv2  # noqa: F401
    except ImportError:
        return False
    return True
