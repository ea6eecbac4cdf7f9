"""The pictures of `warped_diffusion.py`: two rows of plots from its JSON, and slices through space and time."""

import math
import statistics
from pathlib import Path

import torch
from torch import Tensor

# way -> (colour, line)
STYLES = {
    "truth": ("black", ":"), "fixed": ("C7", "-"), "resample": ("C1", "-"), "nearest": ("C8", "--"),
    "bilinear": ("C5", "--"), "white warp": ("C9", "-"), "white warp + x0": ("C9", "--"),
    "resample, GP": ("C1", ":"), "resample, GP + full": ("C6", "--"), "GP warp": ("C0", "-"),
    "GP warp + full": ("C3", "-"), "GP warp + full, both": ("C3", "--"), "GP warp + outer": ("C4", "--"),
    "GP warp + x0": ("C2", "-"), "GP warp + full, as printed": ("C3", ":"),
}  # fmt: skip
STRIPS = ("truth", "input", "GP warp", "+ guidance")


def figure(result: dict, path: Path) -> None:
    """Above: error to the first frame against the frame (the paper's Figure 3); below: PSNR of every way."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    cases = {
        "inpainting, view moving by (2, 0) px": result["shifts"]["inpaint"]["2, 0"],
        "super-resolution, view moving by (8, 0) px": result["shifts"]["superres"]["8, 0"],
        "super-resolution, carphone": result["video"]["superres"]["carphone"]["rows"],
    }
    drawing, axes = plt.subplots(2, len(cases), figsize=(17, 11))
    for column, (title, rows) in enumerate(cases.items()):
        _errors(axes[0, column], title, rows)
        _restoration(axes[1, column], rows)
    axes[0, -1].legend(fontsize=7, ncol=2)
    drawing.tight_layout()
    drawing.savefig(path, dpi=90)
    plt.close(drawing)


def _errors(axis, title: str, rows: dict) -> None:
    for name, (colour, line) in STYLES.items():
        clips = torch.tensor(rows[name]["by_frame"])
        frames, means = range(1, clips.shape[1] + 1), clips.mean(0)
        means = torch.where(means > 1e-12, means, math.nan)  # whole pixels can be met exactly: off the scale
        if bool(means.isnan().all()):
            continue
        axis.plot(frames, means, line, color=colour, marker="o", markersize=3, label=name)
        if len(clips) > 1 and name in ("GP warp", "GP warp + full"):
            error = clips.std(0) / math.sqrt(len(clips))
            low = torch.maximum(means - error, means / 10)
            axis.fill_between(frames, low, means + error, color=colour, alpha=0.15, linewidth=0)
    axis.set(yscale="log", xlabel="frame", ylabel="self-warping error to the first frame (values 0..1)", title=title)
    axis.grid(alpha=0.3)


def _restoration(axis, rows: dict) -> None:
    names = [name for name in ("first guess", *STYLES) if name in rows and name != "truth"]
    means = [statistics.mean(rows[name]["psnr"]) for name in names]
    count = len(rows[names[0]]["psnr"])
    errors = [statistics.stdev(rows[name]["psnr"]) / math.sqrt(count) if count > 1 else 0 for name in names]
    colours = [STYLES.get(name, ("0.7", "-"))[0] for name in names]
    axis.barh(names, means, xerr=errors, color=colours, alpha=0.8)
    axis.invert_yaxis()
    axis.set(xlim=(0.8 * min(means), 1.06 * max(means)), xlabel="PSNR, dB (bars: standard error over clips)")
    axis.grid(alpha=0.3, axis="x")


def slice_picture(strips: dict[str, list[Tensor]], path: Path) -> None:
    """One row of pixels over time, downwards. What moves along draws clean slanted lines; what does not, flickers."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    drawing, axes = plt.subplots(len(STRIPS), len(strips), figsize=(5 * len(strips), 8.6))
    for column, (title, rows) in enumerate(strips.items()):
        for axis, name, row in zip(axes[:, column], STRIPS, rows, strict=True):
            axis.imshow((row / 2 + 0.5).clamp(0, 1).permute(1, 2, 0).numpy(), interpolation="nearest", aspect="auto")
            axis.set(xticks=[], yticks=[])
            axis.set_ylabel(f"{name}\ntime downwards" if column == 0 else "", fontsize=9)
        axes[0, column].set_title(f"{title}: one row of pixels", fontsize=10)
    drawing.tight_layout()
    drawing.savefig(path, dpi=90)
    plt.close(drawing)
