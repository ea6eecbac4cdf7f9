"""Where results are saved and read again: ComfyUI's output and input folders."""

import hashlib
import os
from contextlib import suppress
from pathlib import Path

import folder_paths

ROOTS = {"": folder_paths.get_input_directory, " [output]": folder_paths.get_output_directory}


def next_output(prefix: str, suffix: str, width: int, height: int) -> Path:
    """The next free ``<output>/<prefix>_00001_<suffix>``, numbered as ComfyUI's own saves are."""
    folder, name, counter, _, _ = folder_paths.get_save_image_path(
        prefix, folder_paths.get_output_directory(), width, height
    )
    return Path(folder) / f"{name}_{counter:05}_{suffix}"


def saved(endings: tuple[str, ...], in_series: str) -> list[str]:
    """Names under input and output with one of ``endings``, newest first; output ones end in ` [output]`.

    Several numbered files of the ending ``in_series`` in one folder are listed as that folder.
    """
    found = {}
    for mark, root in ROOTS.items():
        for folder, _, files in os.walk(root()):
            names = [name for name in files if name.endswith(endings)]
            series = [name for name in names if name.endswith(in_series) and Path(name).stem[-1:].isdigit()]
            entries = [name for name in names if name not in series] + [""] if len(series) > 1 else names
            for path in (Path(folder, name) for name in entries):
                with suppress(FileNotFoundError):  # removed since, or a link to what is no more
                    found[f"{path.relative_to(root()).as_posix()}{mark}"] = path.stat().st_mtime
    return sorted(found, key=found.get, reverse=True)


def saved_path(name: str) -> Path:
    """Full path of a name from `saved`. Raises FileNotFoundError, which names the file and the folder."""
    bare, base = folder_paths.annotated_filepath(name)
    root = Path(base or folder_paths.get_input_directory()).resolve()
    path = (root / bare.strip()).resolve()
    if not path.is_relative_to(root):
        raise FileNotFoundError(f"{name!r} lies outside of {root}; put the file into that folder")
    if not path.exists():
        raise FileNotFoundError(f"{bare.strip()!r} is missing; put it into {root} and press R to refresh the list")
    return path


def fingerprint(path: Path) -> str:
    """Another text when a file, or any file of a folder, has changed: a folder's own time only tells of its names."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    said = [(file.name, stat.st_size, stat.st_mtime_ns) for file in files for stat in [file.stat()]]
    return hashlib.sha256(repr(said).encode()).hexdigest()
