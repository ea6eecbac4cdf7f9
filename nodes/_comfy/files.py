"""Model files: ComfyUI's `models/aqueduct` and the small models that come with the pack."""

from pathlib import Path

import folder_paths

FOLDER = "aqueduct"
EXTENSIONS = {".safetensors", ".pt", ".pth", ".ckpt", ".tar"}  # releases of 2019 are called .pth.tar
SHIPPED = Path(__file__).resolve().parents[2] / "models"


def register_folder() -> None:
    """Tell ComfyUI about `models/aqueduct`; keeps folders that extra_model_paths.yaml has added."""
    paths, extensions = folder_paths.folder_names_and_paths.setdefault(FOLDER, ([], set()))
    for path in (str(Path(folder_paths.models_dir) / FOLDER), str(SHIPPED)):
        if path not in paths:
            paths.append(path)
    if not extensions:
        folder_paths.folder_names_and_paths[FOLDER] = (paths, EXTENSIONS)


def model_files() -> list[str]:
    """Names of the files to offer, shipped ones included."""
    register_folder()
    return folder_paths.get_filename_list(FOLDER)


def model_path(name: str) -> str:
    """Full path. Raises FileNotFoundError naming the file, the folders searched and what they hold."""
    return _find(FOLDER, name)


def vae_path(name: str) -> str:
    return _find("vae", name)


def _find(folder: str, name: str) -> str:
    if folder == FOLDER:
        register_folder()
    path = folder_paths.get_full_path(folder, name)
    if path is None:
        searched = "\n  ".join(folder_paths.get_folder_paths(folder))
        raise FileNotFoundError(
            f"model file {name!r} is missing. Put it into one of these folders and press R to refresh:\n  {searched}\n"
            f"There now: {', '.join(folder_paths.get_filename_list(folder)) or 'nothing'}"
        )
    return path
