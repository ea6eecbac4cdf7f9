"""The pictures of `motion.py`, from its JSON."""

from pathlib import Path

import torch

DEFAULTS = (0.01, 0.5)


def figure(result: dict, path: Path) -> None:
    """Six panels: thresholds, speed, error and validity over the horizon, presets, batch."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    drawing, axes = plt.subplots(2, 3, figsize=(17, 10))
    _thresholds(axes[0, 0], result["masks"])
    _errors(axes[0, 1], result["horizon"])
    _shares(axes[0, 2], result["horizon"])
    _presets(axes[1, 0], result["video"])
    _speeds(axes[1, 1], result["masks"])
    _lengths(axes[1, 2], result["batching"])
    for axis in axes.flat:
        axis.grid(alpha=0.3)
    drawing.tight_layout()
    drawing.savefig(path, dpi=90)
    plt.close(drawing)


def _thresholds(axis, masks: dict) -> None:
    for source, style in (("exact flow", "-"), ("DIS flow", "--")):
        for index, alpha1 in enumerate(masks["alpha1"]):
            values = [cell["f1"] for cell in masks["grid"][source][index]]
            label = f"alpha1 = {alpha1:g}" if style == "-" else None
            axis.plot(masks["alpha2"], values, style, color=f"C{index}", marker="o", markersize=3, label=label)
        row = masks["grid"][source][masks["alpha1"].index(DEFAULTS[0])]
        f1 = row[masks["alpha2"].index(DEFAULTS[1])]["f1"]
        axis.plot(DEFAULTS[1], f1, "*", color="black", markersize=13, label="defaults" if style == "-" else None)
    axis.set(
        xscale="log", xlabel="alpha2 (px²)", ylabel="F1", ylim=(0.4, 1),
        title="Finding hidden pixels by the cycle test\n(solid: exact flow, dashed: DIS flow)",
    )  # fmt: skip
    axis.set_xticks(masks["alpha2"], [f"{value:g}" for value in masks["alpha2"]])
    axis.minorticks_off()
    axis.legend(fontsize=8, loc="lower left", ncol=2)


def _errors(axis, horizon: dict) -> None:
    lines = {
        "direct: 0 to t from two images (Lagrangian)": ("direct_px", "C3-"),
        "composed: adjacent fields followed": ("composed_px", "C0-"),
        "one adjacent field, t-1 to t (Eulerian)": ("step_px", "C2-"),
        "direct, pixels passing the cycle test": ("direct_valid_px", "C3:"),
        "composed, pixels passing": ("composed_valid_px", "C0:"),
    }
    _curves(axis, horizon["world"], lines)
    axis.set(
        xscale="log", yscale="log", xlabel="frames apart, t", ylabel="mean endpoint error (px)",
        title=f"Error of DIS motion over t frames\n(exact worlds, {horizon['speed']:g} px a frame)",
    )  # fmt: skip
    _ticks(axis, horizon["horizons"])
    axis.legend(fontsize=8)


def _shares(axis, horizon: dict) -> None:
    lines = {
        "truly visible": ("truly_seen", "k-"), "direct": ("direct_valid", "C3-"),
        "composed": ("composed_valid", "C0-"), "one adjacent field": ("step_valid", "C2-"),
    }  # fmt: skip
    _curves(axis, horizon["world"], {f"worlds: {name}": line for name, line in lines.items()})
    del lines["truly visible"]
    for clip, mark in (("bikes", ":"),):
        styles = {f"{clip}: {name}": (key, style[:-1] + mark) for name, (key, style) in lines.items()}
        _curves(axis, horizon["video"][clip], styles)
    axis.set(
        xscale="log", xlabel="frames apart, t", ylabel="share of pixels", ylim=(0, 1.02),
        title="Pixels left to learn from\n(passing the cycle test; solid: exact worlds, dotted: bikes)",
    )  # fmt: skip
    _ticks(axis, horizon["horizons"])
    axis.legend(fontsize=8, loc="lower left")


def _curves(axis, values: dict, lines: dict[str, tuple[str, str]]) -> None:
    for name, (key, style) in lines.items():
        kept = {int(t): pair for t, pair in values[key].items() if pair[0] is not None}
        means, errors = (torch.tensor([pair[i] for pair in kept.values()]) for i in (0, 1))
        axis.plot(list(kept), means, style, marker="o", markersize=3, label=name)
        axis.fill_between(list(kept), means - errors, means + errors, color=style[:-1], alpha=0.12, linewidth=0)


def _ticks(axis, values: list[int]) -> None:
    axis.set_xticks(values, [str(value) for value in values])
    axis.minorticks_off()


def _presets(axis, video: dict) -> None:
    times = video["ms_per_pair"]
    for name, clip in video["clips"].items():
        axis.plot(list(times.values()), [clip[preset]["ratio"] for preset in times], marker="o", label=name)
    for preset, ms in times.items():
        axis.annotate(preset, (ms, 1), (0, 4), textcoords="offset points", ha="center", fontsize=9)
    axis.axhline(1, color="grey", linewidth=0.8)
    axis.set(
        xscale="log", ylim=(0.9, None), xlabel="ms of one processor per pair, 512 x 218 px",
        ylabel="times smaller than without warping",
        title="DIS presets on real video\n(difference of neighbouring frames after warping)",
    )  # fmt: skip
    axis.set_xlim(min(times.values()) / 1.4, max(times.values()) * 1.4)
    axis.set_xticks(list(times.values()), [f"{ms:.0f}" for ms in times.values()])
    axis.minorticks_off()
    axis.legend(fontsize=9, loc="upper left")


def _speeds(axis, masks: dict) -> None:
    speeds = [float(speed) for speed in masks["speeds"]]
    for index, source in enumerate(("exact flow", "DIS flow")):
        for key, style in (("f1", "-"), ("precision", "--"), ("recall", ":")):
            values = [row[source][key] for row in masks["speeds"].values()]
            name = {"f1": "F1"}.get(key, key)
            axis.plot(speeds, values, style, color=f"C{index}", marker="o", markersize=3, label=f"{name}, {source}")
    axis.set(
        xlabel="speed of the shapes (px a frame)", ylabel="score", ylim=(0.4, 1.02),
        title="Finding hidden pixels: fast motion is easier\n(default thresholds)",
    )  # fmt: skip
    axis.legend(fontsize=8)


def _lengths(axis, batching: dict) -> None:
    for name, seconds in batching["lengths"].items():
        size = batching["cases"][name]["size"]
        lengths = [int(length) for length in seconds]
        axis.plot(lengths, list(seconds.values()), marker="o", label=f"{name}, {size[1]} x {size[0]}")
    ratios = ", ".join(f"{name} {row['ratio']:.2f}" for name, row in batching["cases"].items())
    axis.set(
        xlabel="frames of the clip", ylabel="seconds, both directions", ylim=(0, None),
        title=f"Time against length, all pairs as one batch\n(loop / batch at {batching['frames']} frames: {ratios})",
    )  # fmt: skip
    axis.title.set_fontsize(9)
    axis.legend(fontsize=9)


def mask_picture(panels: dict[str, torch.Tensor], path: Path) -> None:
    """Images and masks (white: hidden) side by side."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    drawing, axes = plt.subplots(1, len(panels), figsize=(3.2 * len(panels), 2.8))
    for axis, (title, content) in zip(axes, panels.items(), strict=True):
        if content.dtype == torch.bool:
            axis.imshow(content.numpy(), cmap="gray", vmin=0, vmax=1)
        else:
            axis.imshow(content.permute(1, 2, 0).numpy())
        axis.set_title(title, fontsize=10)
        axis.set_axis_off()
    drawing.tight_layout()
    drawing.savefig(path, dpi=90)
    plt.close(drawing)
