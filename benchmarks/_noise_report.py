"""The tables and the plot of `noise.py`, from its JSON."""

from pathlib import Path

BARS = {"over_naive": 100.0, "over_chunked": 30.0, "error": 1e-3}
SHIPPED = "lattice, 6 taps"
# Published for one thread of another machine, milliseconds a frame: Go-with-the-Flow's NoiseWarper (as packed in
# kijai/ComfyUI-VideoNoiseWarp) and the naive sum, on the same 16 frames. Only their ratio means anything here.
GO_WITH_THE_FLOW = {"128 x 128": (123.0, 258.0), "512 x 512": (1854.0, 10126.0)}


def report(result: dict) -> str:
    bar, accuracy = result["bar"], result["accuracy"]
    naive, chunked = (_spread(bar[key][SHIPPED]) for key in ("over_naive", "over_chunked"))
    lines = [
        "# Gaussian noise along motion: accuracy and cost",
        "",
        f"`{result['command']}` on {result['machine']}, torch {result['torch']}, one thread. 4 channels, J = 3000, the "
        "length scale of a 128 x 128 latent. Processor time, ways taken in turns, medians. *Naive*: the points x waves "
        f"block in memory; *chunked*: {bar['block']} points at a time in place, the fastest block; both float32, timed "
        "on 128 x 128 points and scaled. *Lattice*: from the seed on, everything prepared included; 6 taps is what "
        "`GaussianField` uses. *Ready*: the tiles are there.",
        "",
        "![Time against error, and time against waves](noise.png)",
        "",
        f"| {bar['frames']} frames of 128 x 128 points | measured | wanted |",
        "|---|---|---|",
        f"| times faster than naive | {naive} | at least {BARS['over_naive']:.0f} |",
        f"| times faster than chunked | {chunked} | at least {BARS['over_chunked']:.0f} |",
        f"| relative error | {accuracy[SHIPPED]:.1e} | at most {BARS['error']:.0e} |",
        "",
        "Brackets: least and greatest of the rounds.",
        "",
        "| | ms a frame | error |",
        "|---|---|---|",
        *(f"| {name} | {value:.2f} | {accuracy[name]:.1e} |" for name, value in bar["milliseconds"].items()),
        "",
        f"A pan by a tenth of the frame each frame, over 16 frames, needs more tiles: "
        f"{result['leaving']['milliseconds']:.2f} ms a frame, {result['leaving']['over_chunked']:.0f} times faster "
        "than chunked.",
        "",
    ]
    lines += _warpers(result["paths"], result["warpers"])
    return "\n".join(lines + _paths(result["paths"]) + _accuracy(accuracy) + _scaling(result["scaling"])) + "\n"


def _spread(values: list[float]) -> str:
    middle, least, most = values
    return f"{middle:.0f} ({least:.0f} to {most:.0f})"


def _warpers(paths: dict, warpers: dict) -> list[str]:
    lines = [
        "## Beside Go-with-the-Flow",
        "",
        "Cost of 16 frames, as a share of the naive sum on the same machine: theirs as published, ours as measured "
        "here. *Read*: the field at given points, everything it prepares included (wanted: 10 times less). *Whole*: "
        "`warp_noise`, which also composes the motion and goes wherever it leads. Their noise and that of `white` is "
        "white, that of `gp` a Gaussian field's.",
        "",
        "| | theirs | gp, read | gp, whole | white, whole |",
        "|---|---|---|---|---|",
    ]
    for side, row in warpers.items():
        theirs, naive = GO_WITH_THE_FLOW[side]
        read = paths[f"{side}, 16"]
        shares = [read[SHIPPED] / read["naive"], row["gp"] / row["naive"], row["white"] / row["naive"]]
        told = (f"{share:.4f} ({theirs / naive / share:.0f} times less)" for share in shares)
        lines.append(f"| {side} | {theirs / naive:.2f} | " + " | ".join(told) + " |")
    return [*lines, ""]


def _paths(paths: dict) -> list[str]:
    names = list(next(iter(paths.values())))
    lines = [
        "## Milliseconds a frame",
        "",
        "In brackets: times faster than naive in the same rounds.",
        "",
        "| points, frames | " + " | ".join(names) + " |",
        "|---|" + "---|" * len(names),
    ]
    for case, row in paths.items():
        lines.append(f"| {case} | " + " | ".join(f"{row[n]:.3g} ({row['naive'] / row[n]:.3g})" for n in names) + " |")
    return [*lines, ""]


def _accuracy(accuracy: dict) -> list[str]:
    lines = ["## Relative RMS error against the float64 sum", "", "| | error |", "|---|---|"]
    return [*lines, *(f"| {name} | {value:.1e} |" for name, value in accuracy.items()), ""]


def _scaling(scaling: dict) -> list[str]:
    lines = [
        "## Waves and resolutions",
        "",
        "One draw with its tile, and one frame of 128 x 128 points read from it.",
        "",
        "| | waves | prepare, ms | read, ms |",
        "|---|---|---|---|",
    ]
    return lines + [
        f"| {name} | {row['waves']} | {row['prepare']:.1f} | {row['read']:.2f} |" for name, row in scaling.items()
    ]


def figure(result: dict, path: Path) -> None:
    """Two panels: time a frame against error, and time a frame against the number of frames."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    drawing, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2))
    for name, value in result["bar"]["milliseconds"].items():
        left.plot(result["accuracy"][name], value, "o", label=name)
    left.set(xscale="log", yscale="log", xlabel="relative error", ylabel="ms a frame", title="16 frames, 128 x 128")
    left.legend(fontsize=8)
    for index, name in enumerate(next(iter(result["paths"].values()))):
        for side, style in (("128", "-"), ("512", "--")):
            rows = {case: row[name] for case, row in result["paths"].items() if case.startswith(side)}
            frames = [int(case.rsplit(", ", 1)[1]) for case in rows]
            label = name if side == "128" else None
            right.plot(frames, list(rows.values()), style, color=f"C{index}", marker="o", markersize=3, label=label)
    title = "128 x 128 (line), 512 x 512 (dashed)"
    right.set(xscale="log", yscale="log", xlabel="frames", ylabel="ms a frame", title=title)
    right.legend(fontsize=7, loc="center right")
    for axis in (left, right):
        axis.grid(alpha=0.3)
    drawing.tight_layout()
    drawing.savefig(path, dpi=100)
