"""The workflows that ship with the pack, ready to run on a server."""

import json
import sys
from pathlib import Path

from . import _media
from ._client import ComfyClient, Prompt
from ._console import HouseError
from ._pack import ROOT
from ._workflow import to_prompt

WORKFLOWS = ROOT / "workflows"
IMAGE_LOADERS = ("AqueductExampleImage", "LoadImage")
ASSETS = ROOT / "web" / "docs" / "assets"


def names() -> list[str]:
    return sorted(path.stem for path in WORKFLOWS.glob("*.json"))


def load(name: str) -> dict:
    path = WORKFLOWS / f"{name}.json"
    if not path.is_file():
        raise HouseError(f"there is no workflow {name}; there are {', '.join(names()) or 'none yet'}")
    return json.loads(path.read_text(encoding="utf-8"))


def takes_image(name: str) -> bool:
    """Whether the workflow starts from an image that `use_image` can replace."""
    return any(node["type"] in IMAGE_LOADERS for node in load(name)["nodes"])


def prepare(name: str, server: ComfyClient, python: Path | str = sys.executable) -> Prompt:
    """The API prompt of a shipped workflow, with the example files it names uploaded to the server.

    `python` has pip, for sample videos that are not in the cache yet.
    """
    prompt = to_prompt(load(name), server.object_info())
    for asset in example_files(prompt, python):
        server.upload_image(asset)
    return prompt


def use_image(prompt: Prompt, name: str) -> None:
    """Let the workflow start from the uploaded image `name` instead of its example.

    Where there is a Load Image it is that one; else examples make way, but for controls: a photo is no mask map. The
    IMAGE is the first output of both nodes, so the links stay as they are.
    """
    loaders = [node for node in prompt.values() if node["class_type"] == "LoadImage"] or [
        node
        for node in prompt.values()
        if node["class_type"] in IMAGE_LOADERS and not str(node["inputs"].get("name")).startswith("mask map")
    ]
    if not loaders:
        raise HouseError("this workflow takes no image")
    for node in loaders:
        node |= {"class_type": "LoadImage", "inputs": {"image": name}}


def example_files(prompt: Prompt, python: Path | str = sys.executable) -> list[Path]:
    """The files of the pack, and the sample videos, that inputs of `prompt` refer to by name."""
    shipped = {path.name: path for path in ASSETS.iterdir() if path.is_file()} if ASSETS.is_dir() else {}
    values = {value for node in prompt.values() for value in node["inputs"].values() if isinstance(value, str)}
    videos = [name for name in _media.VIDEOS if f"{name}.mp4" in values]
    return [
        *(shipped[value] for value in sorted(values) if value in shipped),
        *(_media.video_path(name, python) for name in videos),
    ]
