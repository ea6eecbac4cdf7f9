"""The table and the plot of `framebridge.py`, from its JSON."""

from pathlib import Path

COLUMNS = {
    "direction": ("direction right", "{:.1%}"),
    "centroid_px": ("centroid error, px", "{:.2f}"),
    "identity_label": ("digit right", "{:.1%}"),
    "identity_scan": ("same scan", "{:.1%}"),
    "first_frame_psnr": ("frame 0 PSNR, dB", "{:.1f}"),
    "first_frame_ssim": ("frame 0 SSIM", "{:.3f}"),
    "similarity": ("similarity to input", "{:.3f}"),
    "mse": ("MSE", "{:.4f}"),
}
NOTES = """
Columns: mean ± standard error over clips (one training seed each, so the spread between trainings is not in it).
*direction right*: the true path nearest to the tracked centroids is the asked-for one. *centroid error*: mean distance
to the true clip's centroid, frames 1 to 7. *digit right*, *same scan*: nearest held-out scan (cosine similarity of
centroid-centred crops, frames 1 to 7) has the input's label, or is the input itself. *similarity to input*: that cosine
with the input's own crop. *FVD*: Frechet distance on 64 features of a small 3D-convolution classifier trained on the
training digits to tell direction and digit (not I3D). It is taken to the true clips of the same digits, starts and
directions, so a perfect model has 0; two independent sets of as many true clips are a floor apart, by sampling alone.
"""


def table(result: dict) -> str:
    """Markdown: the headline table, then quality against evaluations."""
    steps = result["headline_evaluations"]
    lines = [
        "# FrameBridge on held-out moving digits",
        "",
        f"`{result['command']}` on {result['machine']}, torch {result['torch']}. {result['clips']} clips of "
        f"{result['held_out_scans']} held-out scans, {steps} evaluations, classifier-free guidance off.",
        "",
        "| | " + " | ".join(title for title, _ in COLUMNS.values()) + " | FVD |",
        "|---|" + "---|" * (len(COLUMNS) + 1),
    ]
    lines += [_row(name, values) for name, values in result["headline"].items()]
    budgets = [f"{row}: {t['steps']} steps, final loss {t['final_loss']:.4f}" for row, t in result["training"].items()]
    accuracy = result["classifier_accuracy_on_truth"]
    lines += [
        "",
        f"FVD between independent sets of true clips: {result['fvd_floor']:.2f}. The feature classifier is right on "
        f"true held-out clips in {accuracy['direction']:.1%} (direction) and {accuracy['digit']:.1%} (digit).",
        "",
        "Training (batch 32, seed in the files): " + "; ".join(budgets) + ".",
        NOTES,
        f"## Quality against evaluations ({result['sweep_clips']} clips)",
        "",
        "Centroid error in px / digit right / FVD.",
        "",
    ]
    return "\n".join(lines + _sweep(result["sweep"])) + "\n"


def _row(name: str, values: dict) -> str:
    cells = []
    for key, (_, form) in COLUMNS.items():
        mean, error = values[key]
        cells.append(f"{form.format(mean)} ± {form.format(error)}")
    return f"| {name} | {' | '.join(cells)} | {values['fvd']:.2f} |"


def _sweep(sweep: dict) -> list[str]:
    counts = list(next(iter(sweep.values())))
    lines = ["| model, solver | " + " | ".join(map(str, counts)) + " |", "|---|" + "---|" * len(counts)]
    for name, by_steps in sweep.items():
        cells = [
            f"{v['centroid_px'][0]:.2f} / {v['identity_label'][0]:.0%} / {v['fvd']:.2f}" for v in by_steps.values()
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def figure(result: dict, path: Path) -> None:
    """Three panels over the number of evaluations: centroid error, digit accuracy, FVD."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    panels = {
        "centroid error (px)": lambda v: v["centroid_px"][0],
        "digit right": lambda v: v["identity_label"][0],
        "Frechet video distance": lambda v: v["fvd"],
    }
    solvers = {"sde": "-", "ancestral": "-", "ode": "--", "ddim": "--", "dbim-2": "-.", "dbim-3": ":"}
    rows = list(dict.fromkeys(name.rsplit(", ", 1)[0] for name in result["sweep"]))
    drawing, axes = plt.subplots(1, 3, figsize=(14, 6))
    for axis, (title, read) in zip(axes, panels.items(), strict=True):
        for name, by_steps in result["sweep"].items():
            row, solver = name.rsplit(", ", 1)
            steps = [int(count) for count in by_steps]
            values = [read(v) for v in by_steps.values()]
            colour = f"C{rows.index(row)}"
            axis.plot(steps, values, solvers[solver], color=colour, marker="o", markersize=3, label=name)
        axis.set(xscale="log", xlabel="network evaluations", title=title)
        axis.set_xticks(steps, steps)
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    axes[0].set(yscale="log")
    axes[2].set(yscale="log")
    drawing.legend(*axes[0].get_legend_handles_labels(), loc="lower center", ncol=4, fontsize=8)
    drawing.tight_layout(rect=(0, 0.18, 1, 1))
    drawing.savefig(path, dpi=110)
