#!/usr/bin/env python3
"""Run shipped workflows on a real ComfyUI and leave their pictures in a folder.

Sets up whatever is missing; needs nothing but Python 3.10 or newer.
"""

import argparse
import re
import subprocess
from contextlib import ExitStack
from pathlib import Path

from _pack import ROOT, load_pack

load_pack()

from aqueduct.scripts import _shipped
from aqueduct.scripts._console import HouseError, readable_errors, step
from aqueduct.scripts._environment import Environment, prepare
from aqueduct.scripts._server import ComfyServer

DEFAULT_WORKFLOWS = [
    "framebridge", "framebridge_neural_prior", "draw_motion", "camera_motion", "video_motion",
    "warped_diffusion_superres", "animate_along_tracks", "exemplar_edges",
]  # fmt: skip
MOST_PREVIEWS = 4


def main() -> None:
    options = parse_arguments()
    if options.list:
        print("\n".join(_shipped.names()))
        return
    if options.image and not options.image.is_file():
        raise HouseError(f"{options.image} is no file")
    workflows = options.workflow or DEFAULT_WORKFLOWS
    for workflow in workflows:
        _shipped.load(workflow)  # a misspelt name should fail before minutes of set-up
    environment = prepare(tools=False)
    with ExitStack() as stack:
        with step(f"Starting ComfyUI from {environment.comfyui}"):
            server = stack.enter_context(start_server(environment, options))
        made = []
        for workflow in workflows:
            for image in [None, options.image] if options.image and _shipped.takes_image(workflow) else [None]:
                made += run_workflow(server, environment, workflow, image, options.output)
    print("\n".join(str(path) for path in made))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = ", ".join(DEFAULT_WORKFLOWS)
    parser.add_argument("--workflow", nargs="+", metavar="NAME", help=f"which ones (default {default})")
    parser.add_argument("--list", action="store_true", help="list the shipped workflows and stop")
    parser.add_argument("--image", type=Path, help="run each that starts from an image a second time, on this one")
    parser.add_argument("--output", type=Path, default=Path("aqueduct_demo"), help="folder (default ./aqueduct_demo)")
    parser.add_argument("--port", type=int, help="port of the server (default: a free one)")
    parser.add_argument("--gpu", action="store_true", help="let ComfyUI use the accelerator it finds")
    return parser.parse_args()


def start_server(environment: Environment, options: argparse.Namespace) -> ComfyServer:
    return ComfyServer(environment.python, environment.comfyui, port=options.port, cpu=not options.gpu)


def run_workflow(
    server: ComfyServer, environment: Environment, workflow: str, image: Path | None, output: Path
) -> list[Path]:
    """Run `workflow`, on `image` if given, and return the files it left under `output`."""
    prompt = _shipped.prepare(workflow, server, environment.python)
    label = workflow
    if image:
        _shipped.use_image(prompt, server.upload_image(image))
        label += f"-{slug(image.stem)}"
    with step(f"Running {label}"):
        outputs = server.run(prompt, timeout=3600)["outputs"]
    titles = {node_id: node["_meta"]["title"] for node_id, node in prompt.items()}
    saved = []
    for node_id, reported in outputs.items():
        saved += save_node(server, environment, reported, output / f"{label}-{slug(titles[node_id])}")
    return saved


def save_node(server: ComfyServer, environment: Environment, outputs: dict, stem: Path) -> list[Path]:
    """Save the files one node reported, as `stem` with a number if there are several, and sheets of the animated."""
    entries = [entry for group in outputs.values() for entry in group]
    files = [entry for entry in entries if isinstance(entry, dict) and "filename" in entry]
    if len(files) > MOST_PREVIEWS and all(entry["type"] == "temp" for entry in files):
        return []  # a clip shown frame by frame on its node, which the graph also saves as a video
    animated = any(outputs.get("animated", ()))
    saved = []
    for index, entry in enumerate(files):
        number = f"-{index + 1}" if len(files) > 1 else ""
        name = f"{stem.name}{number}{Path(entry['filename']).suffix}"
        saved.append(server.download(entry, stem.with_name(name).absolute()))
        if animated:
            saved.append(contact_sheet(environment, saved[-1]))
    return saved


def contact_sheet(environment: Environment, animation: Path) -> Path:
    sheet = animation.with_name(f"{animation.stem}-frames.png")
    subprocess.run([environment.python, ROOT / "scripts" / "_sheet.py", animation, sheet], check=True)
    return sheet


def slug(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


if __name__ == "__main__":
    with readable_errors():
        main()
