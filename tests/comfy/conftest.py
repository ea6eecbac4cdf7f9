"""ComfyUI inside the test process, for tests that look at sampling or patching rather than at a server's answers."""

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from aqueduct.scripts._server import ComfyServer
from aqueduct.tests.comfy.own_models import server_with
from aqueduct.tests.comfy.sd_host import write_tiny_sd15
from aqueduct.tests.comfy.wan_host import write_tiny_wan

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker("comfy")


@pytest.fixture(scope="session")
def comfy(comfyui_path: Path, tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """The `comfy` package, on the CPU. Tests import what they need of ComfyUI inside their functions, after this.

    ComfyUI reads its flags from the command line at import, and its `nodes` must be its own nodes.py whatever else
    is importable, so both are settled here, once, before anything of it is imported.
    """
    sys.path.insert(0, str(comfyui_path))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["main.py", "--cpu", "--use-pytorch-cross-attention"])
        import comfy.options

        comfy.options.enable_args_parsing()
        import comfy.cli_args
    import folder_paths

    folder_paths.set_output_directory(str(tmp_path_factory.mktemp("output")))
    folder_paths.set_input_directory(str(tmp_path_factory.mktemp("input")))
    folder_paths.set_temp_directory(str(tmp_path_factory.mktemp("temp")))
    _pin_nodes(comfyui_path)
    return comfy


def _pin_nodes(comfyui_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("nodes", comfyui_path / "nodes.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["nodes"] = module
    spec.loader.exec_module(module)


@pytest.fixture(scope="session")
def host_server(comfy, comfyui_path, tmp_path_factory) -> Iterator[ComfyServer]:
    """A server that finds tiny random files: Wan's under the names the workflows ask for, and those of `sd_host`."""
    folder = tmp_path_factory.mktemp("host_models")
    write_tiny_wan(folder)
    write_tiny_sd15(folder)
    with server_with(comfyui_path, folder, {"diffusion_models": ".", "vae": "."}) as running:
        yield running
