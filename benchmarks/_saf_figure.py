"""The plot of `saf.py`: a panel of learning curves for every measure, the spread over seeds shaded."""

import statistics
from pathlib import Path

from _saf_report import LOSS, MEASURES, curves
from _saf_training import ARMS, DIFFUSION


def figure(result: dict, path: Path) -> None:
    """Nothing is drawn before the first training has ended."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    if not any(curves(result, arm, LOSS) for arm in ARMS):
        return
    drawing, axes = plt.subplots(2, 3, figsize=(16, 9))
    for axis, key in zip(axes.flat, MEASURES, strict=True):
        _panel(axis, result, key)
    drawing.legend(*axes.flat[1].get_legend_handles_labels(), loc="lower center", ncol=len(ARMS), fontsize=10)
    drawing.tight_layout(rect=(0, 0.04, 1, 1))
    drawing.savefig(path, dpi=80)
    plt.close(drawing)


def _panel(axis, result: dict, key: str) -> None:
    for index, arm in enumerate(ARMS):
        found = curves(result, arm, key)
        if not found or (key == LOSS and arm == DIFFUSION):
            continue
        points = sorted(found[0])
        values = [[curve[point] for curve in found] for point in points]
        label = arm if len(found) > 1 else f"{arm} (one seed)"
        axis.plot(points, list(map(statistics.mean, values)), "o-", color=f"C{index}", markersize=3, label=label)
        low, high = list(map(min, values)), list(map(max, values))
        axis.fill_between(points, low, high, color=f"C{index}", alpha=0.2, linewidth=0)
    axis.set(xlabel="iterations of fine-tuning", title=MEASURES[key].title)
    if not MEASURES[key].high:
        axis.set_yscale("log")
        axis.yaxis.set_major_formatter("{x:g}")
        axis.yaxis.set_minor_formatter("{x:g}")
    axis.grid(alpha=0.3, which="both")
