"""The pictures of `ebdm.py`: controls against exemplars, the compared models side by side, and a plot of steps."""

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

ZOOM, GAP, TITLE, INK = 2, 6, 22, (40, 44, 52)


def sheet(rows: Sequence[Sequence[Tensor | None]], titles: Sequence[str], path: Path) -> None:
    """A JPG or PNG: ``rows`` of pictures ``[3, H, W]`` in 0..1 under ``titles``; None leaves a place empty."""
    from PIL import Image, ImageDraw, ImageFont

    side = ZOOM * next(picture for row in rows for picture in row if picture is not None).shape[-1]
    size = (GAP + len(titles) * (side + GAP), TITLE + len(rows) * (side + GAP))
    drawing = Image.new("RGB", size, (255, 255, 255))
    draw, font = ImageDraw.Draw(drawing), ImageFont.load_default(13)
    for column, title in enumerate(titles):
        draw.text((GAP + column * (side + GAP) + side / 2, TITLE / 2), title, INK, font, "mm")
    for n, row in enumerate(rows):
        for column, picture in enumerate(row):
            if picture is not None:
                place = (GAP + column * (side + GAP), TITLE + n * (side + GAP))
                drawing.paste(Image.fromarray(_pixels(picture)), place)
    path.parent.mkdir(parents=True, exist_ok=True)
    drawing.save(path, quality=88)


def _pixels(picture: Tensor):
    large = F.interpolate(picture[None], scale_factor=ZOOM, mode="nearest")[0]
    return (large.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()


def steps_figure(sweep: dict, path: Path) -> None:
    """A line for each solver; ``sweep``: "solver, steps" -> scores."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    panels = ("ssim", "edge F1", "colours", "texture", "frechet")
    by_solver: dict[str, dict[int, dict]] = {}
    for name, row in sweep.items():
        solver, steps = name.split(", ")
        by_solver.setdefault(solver, {})[int(steps)] = row
    drawing, axes = plt.subplots(1, len(panels), figsize=(4 * len(panels), 3.4))
    for axis, key in zip(axes, panels, strict=True):
        for solver, rows in by_solver.items():
            values = [row[key][0] if key == "frechet" else sum(row[key]) / len(row[key]) for row in rows.values()]
            axis.plot(list(rows), values, "o-", markersize=3, label=solver)
        axis.set(xscale="log", xlabel="steps", title=key)
        counts = sorted({count for rows in by_solver.values() for count in rows})
        axis.set_xticks(counts, counts)
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize=8)
    drawing.tight_layout()
    drawing.savefig(path, dpi=70)
    plt.close(drawing)
