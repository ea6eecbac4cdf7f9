#!/usr/bin/env python3
"""Draw the README's contact sheet from the shipped models: held-out digits, what was asked, what came out.

    python3 benchmarks/gallery.py

Writes `docs/framebridge.png` and the thumbnails of the digit workflows. Nothing is picked: the clips are the first ones
that the seed gives.
"""

import argparse
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path[:0] = [str(HERE), str(ROOT / "scripts")]
from _pack import load_pack

load_pack()

import numpy as np
import torch
from _digits import generate, load_model
from PIL import Image, ImageDraw, ImageFont

from aqueduct.core.networks.neural_prior import make_prior
from aqueduct.core.training.digits import DIRECTIONS, MovingDigits, load_glyphs

ZOOM, GAP, LABEL = 3, 6, 150


def frames_row(video: torch.Tensor) -> np.ndarray:
    """``[3, f, h, w]`` in [-1, 1] -> one row of enlarged frames with gaps, uint8."""
    pixels = ((video.clamp(-1, 1) + 1) * 127.5).byte().permute(1, 2, 3, 0).numpy()
    pixels = pixels.repeat(ZOOM, axis=1).repeat(ZOOM, axis=2)
    gap = np.full((pixels.shape[1], GAP, 3), 255, dtype=np.uint8)
    return np.concatenate([part for frame in pixels for part in (frame, gap)], axis=1)


def sheet(blocks: list[tuple[str, list[tuple[str, torch.Tensor]]]]) -> Image.Image:
    """Blocks of labelled rows, one block per clip."""
    font, bold = ImageFont.load_default(13), ImageFont.load_default(15)
    rows = [
        (title if i == 0 else "", name, frames_row(video))
        for title, block in blocks
        for i, (name, video) in enumerate(block)
    ]
    height = sum(row.shape[0] + GAP for _, _, row in rows) + 14 * len(blocks)
    canvas = Image.new("RGB", (LABEL + rows[0][2].shape[1], height), "white")
    draw, y = ImageDraw.Draw(canvas), 0
    for title, name, row in rows:
        if title and y:
            y += 14
        draw.text((6, y + 8), title, fill=(20, 24, 32), font=bold)
        draw.text((6, y + 48), name, fill=(90, 96, 106), font=font)
        canvas.paste(Image.fromarray(row), (LABEL, y))
        y += row.shape[0] + GAP
    return canvas


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, default=ROOT / "models")
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(2)
    glyphs, _ = load_glyphs(held_out=True)
    world = MovingDigits(glyphs)
    clips = world.sample(4, torch.Generator().manual_seed(options.seed))
    plain = load_model(options.models, "framebridge_digits")
    refined = load_model(options.models, "framebridge_np_digits")
    coarse = make_prior(refined.prior, clips.video[:, :, 0], clips.direction, world.frames)
    rows = {
        "truth": clips.video,
        "FrameBridge": generate(plain, clips, "sde", 20, 0),
        "neural prior": coarse,
        "FrameBridge-NP": generate(refined, clips, "sde", 20, 0),
    }
    blocks = [
        (DIRECTIONS[clips.direction[i]], [(name, video[i]) for name, video in rows.items()])
        for i in range(len(clips.direction))
    ]
    (ROOT / "docs").mkdir(exist_ok=True)
    sheet(blocks[:3]).save(ROOT / "docs" / "framebridge.png")
    for workflow, names in {
        "framebridge": ("truth", "FrameBridge"),
        "framebridge_neural_prior": ("neural prior", "FrameBridge-NP"),
    }.items():
        thumbnail = sheet([(title, [row for row in block if row[0] in names]) for title, block in blocks])
        thumbnail.save(ROOT / "workflows" / f"{workflow}.jpg", quality=88)


if __name__ == "__main__":
    main()
