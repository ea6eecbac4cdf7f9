"""A server that finds models in a folder of the tests, as it would a user's through extra_model_paths.yaml."""

import json
import sys
from pathlib import Path

from aqueduct.scripts._server import ComfyServer


def server_with(comfyui_path: Path, folder: Path, kinds: dict[str, str], saves: bool = False) -> ComfyServer:
    """``kinds``: kind of model -> its folder below ``folder``. ``saves``: new models are saved there, too."""
    paths = folder / "paths.yaml"
    paths.write_text(json.dumps({"tests": {"base_path": str(folder), "is_default": saves, **kinds}}))
    return ComfyServer(sys.executable, comfyui_path, arguments=["--extra-model-paths-config", str(paths)])
