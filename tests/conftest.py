"""Make the pack importable as `aqueduct`, and offer a real ComfyUI to the tests that need one.

The checkout itself never lands on `sys.path`, where its `nodes/` would shadow ComfyUI's `nodes.py`
(see scripts/_pack.py). `scripts/test.py` sets COMFYUI_PATH; without it the tests on a real ComfyUI are skipped.
"""

import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def _load_pack() -> None:
    spec = importlib.util.spec_from_file_location("_aqueduct_pack", ROOT / "scripts" / "_pack.py")
    loader = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loader)
    loader.load_pack()


_load_pack()

from aqueduct.scripts._console import HouseError  # noqa: E402
from aqueduct.scripts._media import read_clip  # noqa: E402
from aqueduct.scripts._server import ComfyServer  # noqa: E402


@pytest.fixture(scope="session")
def comfyui_path() -> Path:
    """The folder of the ComfyUI to test on."""
    if not os.environ.get("COMFYUI_PATH"):
        pytest.skip("needs a ComfyUI: run scripts/test.py, or set COMFYUI_PATH")
    return Path(os.environ["COMFYUI_PATH"])


@pytest.fixture(scope="session")
def server(comfyui_path: Path) -> Iterator[ComfyServer]:
    """A running ComfyUI with this pack and no other, shared by all tests of the session."""
    with ComfyServer(sys.executable, comfyui_path) as running:
        yield running


@pytest.fixture(scope="session")
def sample_video():
    """`sample_video(name, frames, width)`: frames of a real video as [F, 3, H, W]; skips where it cannot be had."""

    def read(name: str, frames: range, width: int | None = None):
        pytest.importorskip("av", reason="needs PyAV to read videos")
        try:
            return read_clip(name, frames, width)
        except HouseError as error:
            pytest.skip(f"needs a sample video: {error}")

    return read


@pytest.fixture(scope="session")
def bikes_clip(sample_video):
    """25 frames of a street with cyclists, float32 [25, 3, 136, 320] in 0..1."""
    return sample_video("bikes", range(50, 75), 320)
