"""The set-up of the browser tests: which browser, and downloads that are whole or absent."""

from pathlib import Path

import pytest

from aqueduct.scripts import _browser
from aqueduct.scripts._console import HouseError


def on_path(*names: str):
    return lambda name: f"/bin/{name}" if name in names else None


def test_named_browser_wins(tmp_path):
    mine = tmp_path / "mine"
    mine.touch()
    environ = {"AQUEDUCT_CHROMIUM": str(mine)}
    assert _browser.find_chromium(environ, on_path("chromium")) == mine
    with pytest.raises(HouseError, match="AQUEDUCT_CHROMIUM is .*other, which is no file"):
        _browser.find_chromium({"AQUEDUCT_CHROMIUM": str(tmp_path / "other")}, on_path("chromium"))


def test_first_browser_of_the_path():
    assert _browser.find_chromium({}, on_path("google-chrome", "chrome")) == Path("/bin/google-chrome")
    assert _browser.find_chromium({}, on_path("chromium", "google-chrome")) == Path("/bin/chromium")
    assert _browser.find_chromium({}, on_path("firefox")) is None


def test_fetched_folders_are_whole_or_absent(tmp_path):
    target = tmp_path / "cache" / "thing"

    def fail(work, running):
        (work / "half").touch()
        raise HouseError("the network is gone")

    def make(work, running):
        assert list(work.iterdir()) == []  # nothing of the failed attempt
        (work / "inside").mkdir()
        (work / "inside" / "file").touch()
        return work / "inside"

    with pytest.raises(HouseError, match="the network is gone"):
        _browser._whole_or_absent(target, "Fetching", fail)
    assert not target.exists()
    assert _browser._whole_or_absent(target, "Fetching", make) == target
    assert [path.name for path in target.iterdir()] == ["file"]
    assert _browser._whole_or_absent(target, "Fetching", fail) == target  # not made again


def test_front_end_that_the_registry_lacks(tmp_path):
    """What pip says goes into the log and its end into the message, which a skipped test shows."""
    fake = tmp_path / "python"
    fake.write_text("#!/bin/sh\necho 'ERROR: No matching distribution found'\nexit 1\n")
    fake.chmod(0o755)
    with pytest.raises(HouseError, match="No matching distribution"):
        _browser.front_end(tmp_path, fake, "0.0.1")
    with pytest.raises(HouseError, match="ended with status 1"):
        _browser.newest_front_end(fake)
    assert not (tmp_path / "frontend-0.0.1").exists()
