"""Use the interpreter of the user's own ComfyUI without changing it.

The tests need tools that ComfyUI does not bring. Installing them into the user's environment could upgrade what
other packs rely on, so they go into a virtual environment of ours that sees the user's packages through a .pth file.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from ._console import HouseError, say
from ._lock import exclusive
from ._places import content_key, host_pythons
from ._venv import Stage, build

# An interpreter with these runs ComfyUI; torch alone may be somebody's other project.
HOST_MODULES = ("torch", "aiohttp")
# Installed before the user's packages become visible: ruff finds its binary only in its own environment.
STANDALONE_TOOLS = ("pytest", "ruff")

_PROBE = """
import importlib.util, json, sys
print(json.dumps({
    "missing": [name for name in sys.argv[1:] if importlib.util.find_spec(name) is None],
    "version": sys.version,
    "packages": [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))],
}))
"""


def find_host(comfyui: Path, environ: Mapping[str, str] = os.environ) -> Path | None:
    """The interpreter that runs `comfyui`: `COMFYUI_PYTHON`, else this one, else an environment beside ComfyUI."""
    if environ.get("COMFYUI_PYTHON"):
        named = Path(environ["COMFYUI_PYTHON"]).expanduser()
        missing = _probe(named, HOST_MODULES)["missing"] if named.exists() else None
        if missing is None or missing:
            reason = "does not exist" if missing is None else f"lacks {', '.join(missing)}"
            raise HouseError(f"COMFYUI_PYTHON is {named}, which {reason}. Name the interpreter that starts ComfyUI.")
        return named
    candidates = [Path(sys.executable), *host_pythons(comfyui)]
    return next((path for path in candidates if path.exists() and not _probe(path, HOST_MODULES)["missing"]), None)


def with_tools(host: Path, tools: Mapping[str, str], cache: Path) -> Path:
    """`host` itself if it has every tool (module -> requirement), else an environment that adds what it lacks."""
    found = _probe(host, tools)
    if not found["missing"]:
        return host
    folder = cache / f"tools-{content_key(str(host), found['version'], *tools.values(), *found['packages'])}"
    stages = [
        Stage("Installing pytest and ruff", STANDALONE_TOOLS),
        Stage("Linking", action=lambda python: _see_packages(python, found["packages"])),
        Stage("Installing the test tools", [tools[name] for name in found["missing"]]),
    ]
    with exclusive(cache / f"{folder.name}.lock", lambda: say("Another run is setting this up; waiting for it.")):
        try:
            return build(folder, stages, [*tools, *HOST_MODULES], base=host)
        except HouseError as error:
            names = " ".join(tools[name] for name in found["missing"])
            raise HouseError(f"{error}\nOr install the tools into {host} yourself: {names}") from error


def _see_packages(python: Path, folders: Iterable[str]) -> None:
    """`addsitedir`, not a bare path: it also reads the .pth files of the user's packages."""
    own = _probe(python, ())["packages"][0]
    lines = ["import site"] + [f"site.addsitedir({folder!r})" for folder in folders]
    Path(own, "_comfyui_host.pth").write_text("; ".join(lines) + "\n")


def _probe(python: Path, modules: Iterable[str]) -> dict:
    """What `python` has, asked without importing anything of it."""
    answer = subprocess.run([python, "-c", _PROBE, *modules], capture_output=True, text=True)
    if answer.returncode:
        raise HouseError(f"{python} does not run:\n{answer.stderr.strip()}")
    return json.loads(answer.stdout)
