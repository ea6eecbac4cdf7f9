"""Flow estimators by their name in the menu. RAFT lies in `models/optical_flow`, under ComfyUI's memory management."""

from pathlib import Path

import comfy.model_management as mm
import comfy.model_patcher
import folder_paths

from ...core.motion.estimators import (
    DEFAULT_PRESET,
    PRESETS,
    RELEASES,
    DisEstimator,
    Estimator,
    load_raft,
    raft_from_module,
    where_to_get,
)

FOLDER = "optical_flow"
EXTENSIONS = {".pth", ".pt", ".safetensors"}
DIS = {f"dis-{preset}": preset for preset in PRESETS}
ESTIMATORS = [*reversed(DIS), *RELEASES]
DEFAULT_ESTIMATOR = f"dis-{DEFAULT_PRESET}"


def register_folder() -> None:
    """Tell ComfyUI about `models/optical_flow`, which core itself knows from 2026 on only."""
    paths, extensions = folder_paths.folder_names_and_paths.setdefault(FOLDER, ([], set()))
    own = str(Path(folder_paths.models_dir) / FOLDER)
    if own not in paths:
        paths.append(own)
    if not extensions:
        folder_paths.folder_names_and_paths[FOLDER] = (paths, EXTENSIONS)


def estimator_called(name: str) -> Estimator:
    """The estimator called ``name``. Raises FileNotFoundError, which says what to get and where to put it."""
    if name in DIS:
        return DisEstimator(DIS[name])
    raft = load_raft(_raft_path(name))
    patcher = comfy.model_patcher.ModelPatcher(
        raft.module, load_device=mm.get_torch_device(), offload_device=mm.unet_offload_device()
    )
    mm.load_models_gpu([patcher])
    return raft


def estimator_of_socket(patcher) -> Estimator:
    """The RAFT inside core's OPTICAL_FLOW, loaded by ComfyUI. Raises ValueError for what other packs call so."""
    if not hasattr(patcher, "model") or not hasattr(patcher, "load_device"):
        raise ValueError(
            f"OPTICAL_FLOW here is core's RAFT (Load Optical Flow Model), got {type(patcher).__name__}: other packs "
            f"use that name for flow fields. Wire the frames to this node instead and let it estimate"
        )
    found = raft_from_module(patcher.model)
    mm.load_models_gpu([patcher])
    return found


def _raft_path(name: str) -> str:
    """The released file, or the same weights as .safetensors."""
    register_folder()
    wanted = Path(RELEASES[name].file)
    for file in (wanted.name, f"{wanted.stem}.safetensors"):
        path = folder_paths.get_full_path(FOLDER, file)
        if path is not None:
            return path
    folders = folder_paths.get_folder_paths(FOLDER)
    there = ", ".join(folder_paths.get_filename_list(FOLDER)) or "nothing"
    raise FileNotFoundError(
        f"{where_to_get(name, folders[0])}, then queue again (.safetensors of the same name works too).\n"
        f"Searched: {', '.join(folders)}. There now: {there}. Without weights: estimator {DEFAULT_ESTIMATOR}"
    )
