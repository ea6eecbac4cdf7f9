"""The pictures of `emg.py`: plots from its JSON, and sheets of frames side by side."""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

COLOURS = {
    "truth": "black", "pure warp": "C7", "pure warp, Lagrangian": "C8", "Lagrangian": "C3",
    "Eulerian, no mask": "C1", "Eulerian + BGC": "C4", "Eulerian + BGC, anchored": "C0",
    "shipped adapter, carried": "C2", "shipped adapter, carried, without anchoring": "C6",
    "bridge from the carried picture": "C5",
}  # fmt: skip
CURVES = {
    "identity": "similarity to frame 0, carried along", "sharpness": "sharpness, share of frame 0's",
    "warping": "warping error x 1000, to the frame before", "psnr": "PSNR to the truth, dB",
}  # fmt: skip
SHEET_FRAMES, ZOOM, GAP = (10, 50, 100), 4, 8


def figure(result: dict, path: Path) -> None:
    """A row of drift curves for every kind of clip; below, endpoint errors and the cost of flow."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    drifts = {part: rows for part, rows in result.items() if part.startswith("drift of ")}
    drawing, axes = plt.subplots(len(drifts) + 1, 4, figsize=(20, 4.4 * (len(drifts) + 1)), squeeze=False)
    for line, (part, rows) in zip(axes, drifts.items(), strict=False):
        _curves(line, part, rows)
    _ends(axes[-1, 0], _part(result, "control"))
    _ratios(axes[-1, 1], _part(result, "flow"))
    for axis in axes[-1, 2:]:
        axis.axis("off")
    drawing.tight_layout()
    drawing.savefig(path, dpi=75)
    plt.close(drawing)


def _part(result: dict, start: str) -> dict:
    return next((rows for part, rows in result.items() if part.startswith(start)), {})


def _curves(axes, part: str, rows: dict) -> None:
    for axis, (key, label) in zip(axes, CURVES.items(), strict=True):
        for name, row in rows.items():
            values = [float("nan") if value is None else value for value in row["curves"][key]]
            axis.plot(range(len(values)), values, color=COLOURS.get(name), label=name)
        axis.set(xlabel="frame", ylabel=label, title=part)
        axis.grid(alpha=0.3)
        if key == "warping":
            axis.set_yscale("log")
        if key == "psnr":
            axis.set_ylim(top=45)
    axes[0].legend(fontsize=7)


def _ends(axis, rows: dict) -> None:
    """Endpoint errors sorted: how many tracks end within so many pixels."""
    for index, (name, row) in enumerate(
        (name, row) for name, row in rows.items() if "adapter" in row and name != "zero tracks"
    ):
        for made, style in (("adapter", "-"), ("pure warp", ":")):
            ends = sorted(row[made]["end"])
            axis.plot(ends, [(n + 1) / len(ends) for n in range(len(ends))], style, color=f"C{index}",
                      label=f"{name}, {made}")  # fmt: skip
    axis.axvline(1.5, color="grey", linewidth=0.8)
    axis.set(xscale="log", xlabel="endpoint error, px", ylabel="share of tracks", title="Where drawn tracks end")
    axis.grid(alpha=0.3)
    if rows:
        axis.legend(fontsize=7)


def _ratios(axis, rows: dict) -> None:
    sides = sorted({name.split(" px")[0] for name in rows}, key=float)
    for index, side in enumerate(sides):
        own = {int(name.split(", ")[1].split()[0]): row for name, row in rows.items() if name.startswith(f"{side} px")}
        axis.plot(list(own), [row["ratio"] for row in own.values()], "o-", color=f"C{index}", label=f"{side} px")
        low, high = ([pick(row["ratios"]) for row in own.values()] for pick in (min, max))
        axis.fill_between(list(own), low, high, color=f"C{index}", alpha=0.15, linewidth=0)
    axis.axhline(1, color="grey", linewidth=0.8)
    axis.set(xlabel="frames", ylabel="sequential time / batched time", title="Flow of a training clip")
    axis.grid(alpha=0.3)
    if sides:
        axis.legend(fontsize=8)


def frame_sheet(clips: dict[str, Tensor], path: Path, frames=SHEET_FRAMES) -> None:
    """A PNG or JPG: a row for each of ``clips`` (name -> ``[F, 3, H, W]`` in 0..1), its frames side by side.

    Frames count from 1, so that the hundredth is the last of a hundred. The first column is the picture itself.
    """
    from PIL import Image, ImageDraw, ImageFont

    chosen = [1, *frames]
    side = next(iter(clips.values())).shape[-1] * ZOOM
    label, title = 150, 24
    width, height = label + len(chosen) * (side + GAP), title + len(clips) * (side + GAP)
    sheet = Image.new("RGB", (width, height), (255, 255, 255))
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(15)
    for column, frame in enumerate(chosen):
        draw.text((label + column * (side + GAP) + side / 2, title / 2), f"frame {frame}", (40, 44, 52), font, "mm")
    for row, (name, clip) in enumerate(clips.items()):
        top = title + row * (side + GAP)
        draw.multiline_text((6, top + side / 2), name.replace(" ", "\n", 1), (40, 44, 52), font, "lm")
        for column, frame in enumerate(chosen):
            large = F.interpolate(clip[frame - 1][None], scale_factor=ZOOM, mode="nearest")[0]
            pixels = (large.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
            sheet.paste(Image.fromarray(pixels), (label + column * (side + GAP), top))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path, quality=90)
