"""What the browser tests need beyond the environment: Chromium, Playwright and a second front end.

Playwright and the front end come from the package registry into folders of their own in the cache, on first use: a
machine without a browser downloads neither, and the environment stays what it was. Chromium is the machine's own.
"""

import json
import os
import platform
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

from ._console import HouseError, Step, step
from ._lock import exclusive
from ._places import content_key
from ._process import explain_failure, run_logged

PLAYWRIGHT = "playwright>=1.60"
FRONT_END = "comfyui-frontend-package"
# The newest when the tests were written. ComfyUI 0.3.75, which they run on, brings 1.32.9.
NEWER_FRONT_END = "1.58.1"
INSIDE_WHEEL = "comfyui_frontend_package/static"
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
NO_CHROMIUM = (
    "no Chromium on this machine. Install one (Debian: apt-get install chromium), "
    "or name its program in AQUEDUCT_CHROMIUM"
)


def find_chromium(
    environ: Mapping[str, str] = os.environ, which: Callable[[str], str | None] = shutil.which
) -> Path | None:
    """The browser that `AQUEDUCT_CHROMIUM` names, else the first Chromium or Chrome on the PATH."""
    if environ.get("AQUEDUCT_CHROMIUM"):
        named = Path(environ["AQUEDUCT_CHROMIUM"]).expanduser()
        if not named.is_file():
            raise HouseError(f"AQUEDUCT_CHROMIUM is {named}, which is no file. Name the browser's program.")
        return named
    found = next(filter(None, map(which, CHROMIUM_NAMES)), None)
    return Path(found) if found else None


def playwright_packages(cache: Path, python: Path) -> Path:
    """A folder for the end of `sys.path` that holds Playwright, for the interpreter `python` (this one's version)."""
    machine = f"{sys.platform}-{platform.machine()}-{sys.version_info[0]}.{sys.version_info[1]}"
    target = cache / f"playwright-{content_key(PLAYWRIGHT, machine)}"

    def install(work: Path, running: Step) -> Path:
        command = [*_pip(python), "install", "--target", work, PLAYWRIGHT]
        run_logged(command, cache / "logs" / f"{target.name}.log", running)
        return work

    return _whole_or_absent(target, f"Installing {PLAYWRIGHT}", install)


def front_end(cache: Path, python: Path, version: str) -> Path:
    """The static folder of a ComfyUI front end, for `--front-end-root`. `version` may be "newest"."""
    if version == "newest":
        version = newest_front_end(python)
    target = cache / f"frontend-{version}"

    def unpack(work: Path, running: Step) -> Path:
        command = [*_pip(python), "download", "--no-deps", "-d", work, f"{FRONT_END}=={version}"]
        run_logged(command, cache / "logs" / f"{target.name}.log", running)
        with zipfile.ZipFile(next(work.glob("*.whl"))) as archive:
            archive.extractall(work, [name for name in archive.namelist() if name.startswith(INSIDE_WHEEL)])
        return work / INSIDE_WHEEL

    return _whole_or_absent(target, f"Fetching the front end {version}", unpack)


def newest_front_end(python: Path) -> str:
    """The newest version the registry has, in the words of pip's installation report."""
    report = ("--dry-run", "--ignore-installed", "--no-deps", "--quiet", "--report", "-")
    command = [str(part) for part in (*_pip(python), "install", *report, FRONT_END)]
    answer = subprocess.run(command, capture_output=True, text=True)
    if answer.returncode:
        raise HouseError(explain_failure(command, answer.returncode, answer.stderr, Path(os.devnull)))
    return json.loads(answer.stdout)["install"][0]["metadata"]["version"]


def _pip(python: Path) -> tuple[str | Path, ...]:
    return (python, "-m", "pip", "--no-input", "--disable-pip-version-check")


def _whole_or_absent(target: Path, title: str, make: Callable[[Path, Step], Path]) -> Path:
    """`target`, unless it is there made aside by `make(work, step)`, which returns what is then renamed to it."""
    with exclusive(target.with_name(target.name + ".lock")):
        if not target.is_dir():
            work = target.with_name(target.name + ".partial")
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir(parents=True)
            with step(title) as running:
                make(work, running).rename(target)
            shutil.rmtree(work, ignore_errors=True)
    return target
