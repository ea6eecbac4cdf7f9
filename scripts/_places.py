"""Where things lie on each platform. Pure functions of their arguments, so that every platform is tested on any."""

import hashlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path


def cache_root(
    platform: str = sys.platform, environ: Mapping[str, str] = os.environ, home: Path | None = None
) -> Path:
    """The pack's folder in the user's cache: outside the checkout, so that a fresh clone finds it again."""
    if environ.get("AQUEDUCT_CACHE"):
        return Path(environ["AQUEDUCT_CACHE"]).expanduser()
    home = home or Path.home()
    if platform == "win32":
        base = Path(environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    elif platform == "darwin":
        base = home / "Library" / "Caches"
    else:
        base = Path(environ.get("XDG_CACHE_HOME") or home / ".cache")
    return base / "aqueduct"


def venv_python(folder: Path, platform: str = sys.platform) -> Path:
    return folder / "Scripts" / "python.exe" if platform == "win32" else folder / "bin" / "python"


def content_key(*parts: str) -> str:
    """A short name for exactly this content. Parts are length-prefixed: ("ab", "c") and ("a", "bc") differ."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode()
        digest.update(f"{len(data)}:".encode() + data)
    return digest.hexdigest()[:16]


def host_pythons(comfyui: Path, platform: str = sys.platform) -> list[Path]:
    """The interpreters a ComfyUI install usually brings: its own environment, or the portable build's Python."""
    folders = [base / name for base in (comfyui, comfyui.parent) for name in ("venv", ".venv")]
    candidates = [venv_python(folder, platform) for folder in folders]
    if platform == "win32":
        candidates.append(comfyui.parent / "python_embeded" / "python.exe")
    return candidates
