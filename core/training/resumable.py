"""Files to go on from: written whole or not at all, and read without running code."""

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..whole_file import replaced
from .recompute import tensors


def check_writable(path: Path) -> None:
    """Raise OSError unless a file could be made beside ``path``, so that no training runs for nothing."""
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise OSError(
            f"no checkpoint can be written to {path} ({error.strerror}): make the folder {path.parent} and see that "
            f"you may write there, or choose another"
        ) from error


def write(state: dict[str, Any], path: Path) -> None:
    """Beside and renamed, so that a kill or a full disk leaves the old file whole. Raises OSError saying what is
    missing where, and what to do."""
    try:
        with replaced(path) as beside:
            torch.save(state, beside)
            with open(beside, "r+b") as file:
                os.fsync(file.fileno())  # else a power cut may find the new name before the new bytes
    except (OSError, RuntimeError) as error:  # of a full disk torch says RuntimeError
        raise OSError(_failed(state, path, error)) from error


def _failed(state: dict[str, Any], path: Path, error: Exception) -> str:
    size, free = _bytes(state), shutil.disk_usage(path.parent).free
    kept = "what it held before is whole" if path.exists() else "there is none yet"
    return (
        f"the checkpoint {path} could not be written ({error}): it takes {size / 1e6:.1f} MB beside the old one, and "
        f"{free / 1e6:.1f} MB are free there; {kept}. Make room and start again, and the training goes on from it"
    )


def _bytes(state: dict[str, Any]) -> int:
    storages = {x.untyped_storage().data_ptr(): x.untyped_storage().nbytes() for x in tensors(state)}
    return sum(storages.values())


def read(path: Path) -> dict[str, Any]:
    """On the CPU, whatever device it was on. The file is mapped, so that processes that read it share its memory: copy
    what is to be kept, since Windows replaces no file that is mapped, and other machines lose it when it is replaced.
    Raises ValueError for a file that is damaged or something else."""
    try:
        state = torch.load(path, weights_only=True, map_location="cpu", mmap=True)
    except OSError:
        raise
    except Exception as error:
        raise ValueError(f"{path} cannot be read ({error}); delete it to begin anew") from error
    missing = {"parameters", "optimiser", "generator", "losses", "seconds"} - set(state)
    if missing:
        raise ValueError(f"{path} is no checkpoint of a training: it lacks {', '.join(sorted(missing))}")
    return state


def mapped(change: Callable[[Tensor], Tensor], tree: Any) -> Any:
    """``change`` for every tensor in nested dicts and lists."""
    if isinstance(tree, Tensor):
        return change(tree)
    if isinstance(tree, dict):
        return {key: mapped(change, value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)(mapped(change, value) for value in tree)
    return tree
