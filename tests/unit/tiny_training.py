"""A training that takes a moment: four-fold super-resolution on one picture, by a network in channels_last."""

from pathlib import Path

import torch
from PIL import Image

TOML = """
task = "restoration"
about = "a tiny one"
{top}
[restoration]
kind = "super-resolution"
factor = 4
noise = "white"
[network]
channels = 16
multipliers = [1, 2]
[data]
folder = "{folder}"
size = 8
batch = 2
shortest = [12]
[run]
steps = {steps}
warmup = 1
{run}
"""


def write_tiny_training(folder: Path, steps: int, top: str = "", run: str = "") -> Path:
    """``tiny.toml`` and its picture. ``top`` and ``run``: further lines of the file and of its table ``[run]``."""
    pictures, path = folder / "pictures", folder / "tiny.toml"
    pictures.mkdir()
    pixels = torch.arange(3 * 20 * 30).mul(7).remainder(251).byte().view(20, 30, 3)
    Image.fromarray(pixels.numpy()).save(pictures / "one.png")
    path.write_text(TOML.format(folder=pictures.as_posix(), steps=steps, top=top, run=run))
    return path
