"""Build a virtual environment that is either complete or resumed, however the last attempt ended.

A virtual environment cannot be renamed once built (its scripts hold absolute paths), so a marker file written last
stands for "complete". A run that finds no marker goes on where the killed one stopped: pip skips what is installed,
and a final import check decides whether the result can be trusted or is rebuilt from nothing.
"""

import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ._console import HouseError, say, step
from ._places import venv_python
from ._process import run_logged

MARKER = ".complete"


@dataclass(frozen=True)
class Stage:
    """One `pip install` call, or a Python function where pip is not enough. Stages run in order."""

    title: str
    requirements: Sequence[str] = ()
    action: Callable[[Path], None] | None = None


def is_complete(folder: Path) -> bool:
    return (folder / MARKER).is_file()


def build(folder: Path, stages: Sequence[Stage], modules: Sequence[str], base: Path = Path(sys.executable)) -> Path:
    """Build `folder` from the interpreter `base`, check that `modules` import, and return its interpreter."""
    python = venv_python(folder)
    if is_complete(folder):
        return python
    resumed = folder.exists()
    _run_stages(folder, stages, base)
    try:
        _check_imports(folder, modules)
    except HouseError:
        if not resumed:
            raise
        say("The interrupted environment is damaged; building it again.")
        shutil.rmtree(folder)
        _run_stages(folder, stages, base)
        _check_imports(folder, modules)
    (folder / MARKER).write_text("\n".join(line for stage in stages for line in stage.requirements))
    return python


def _run_stages(folder: Path, stages: Sequence[Stage], base: Path) -> None:
    python = venv_python(folder)
    if not (python.exists() and any(folder.rglob("pip/__main__.py"))):
        with step(f"Creating {folder}") as running:
            run_logged([base, "-m", "venv", "--clear", folder], _log(folder, "venv"), running)
    for stage in stages:
        if stage.action:
            stage.action(python)
        if stage.requirements:
            with step(stage.title) as running:
                command = [python, "-m", "pip", "install", "--no-input", "--disable-pip-version-check"]
                run_logged([*command, *stage.requirements], _log(folder, stage.title), running)


def _check_imports(folder: Path, modules: Sequence[str]) -> None:
    with step("Checking the environment") as running:
        run_logged([venv_python(folder), "-c", f"import {', '.join(modules)}"], _log(folder, "check"), running)


def _log(folder: Path, name: str) -> Path:
    return folder.parent / "logs" / f"{folder.name}-{name.lower().replace(' ', '-')}.log"
