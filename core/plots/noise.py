"""What a clip's noise is like, in one picture: is it white, and does it follow the motion."""

import torch
from torch import Tensor

from ..noise.report import LAGS, NoiseStatistics
from .canvas import INK, PAPER, Colour, Overlay
from .panel import TEXT, Panel

BLUE, ORANGE, GREEN, GREY = (31, 119, 180), (214, 96, 40), (44, 140, 70), (150, 156, 165)


def noise_picture(statistics: NoiseStatistics, width: int = 760, height: int = 300) -> Tensor:
    """IMAGE ``[1, height, width, 3]`` in 0..1: lag correlations, then mean, std and correlations from frame to frame.

    Left: every frame's correlation with itself 1 to 3 pixels away in x and in y, as a dot, over the band that white
    noise stays in. Right: mean and std of each frame, and its correlation along the motion with the frame before and
    with the first, where the statistics have them.
    """
    sheet = Overlay(height, width, (*PAPER, 255))
    middle = round(width * 0.42)
    _lag_panel(Panel(sheet, (52, 34, middle - 18, height - 44), *_lag_range(statistics)), statistics)
    curves = {"mean": (statistics.mean, BLUE), "std": (statistics.std, INK)}
    if statistics.along_previous is not None:
        nothing = statistics.mean.new_full((1,), torch.nan)  # frame 0 has no frame before
        curves["with the frame before"] = (torch.cat([nothing, statistics.along_previous]), GREEN)
        curves["with the first frame"] = (torch.cat([nothing, statistics.along_first]), ORANGE)
    _frame_panel(Panel(sheet, (middle + 40, 34, width - 16, height - 44), *_frame_range(curves)), curves)
    return torch.from_numpy(sheet.reduced()[..., :3].copy())[None]


def _lag_range(statistics: NoiseStatistics) -> tuple[float, float]:
    values = torch.cat([statistics.lag_x, statistics.lag_y]).nan_to_num().abs().max().item()
    reach = max(2 * statistics.lag_band, 1.1 * values)
    return -reach, reach


def _lag_panel(panel: Panel, statistics: NoiseStatistics) -> None:
    panel.title(f"correlation of pixels, and +-{statistics.lag_band:.2g} (4 sigma)")
    panel.band(-statistics.lag_band, statistics.lag_band)
    panel.levels()
    for side, (name, lags) in enumerate((("x", statistics.lag_x), ("y", statistics.lag_y))):
        for k in range(LAGS):
            x = (side * LAGS + k + 0.5) / (2 * LAGS)
            for value in lags[:, k].tolist():
                if value == value:
                    panel.sheet.disc(panel.at(x, value), 2.2, BLUE, BLUE, 0.5)
            panel.under(x, f"{name} {k + 1}")
    panel.sheet.text((panel.at(0.5, 0)[0], panel.bottom + 32), "pixels apart", TEXT, "mm")


def _frame_range(curves: dict[str, tuple[Tensor, Colour]]) -> tuple[float, float]:
    values = torch.cat([values for values, _ in curves.values()])
    values = values[values.isfinite()]
    return min(-0.2, values.min().item()), max(1.2, values.max().item())


def _frame_panel(panel: Panel, curves: dict[str, tuple[Tensor, Colour]]) -> None:
    panel.title("frame by frame")
    for value in (0.0, 0.5, 1.0):
        panel.level(value, f"{value:g}")
    frames = len(next(iter(curves.values()))[0])
    across = [(k + 0.5) / frames for k in range(frames)]
    x = panel.left
    for name, (values, colour) in curves.items():
        panel.curve(across, values.tolist(), colour)
        panel.sheet.line([(x, panel.bottom + 32), (x + 14, panel.bottom + 32)], colour, 2)
        panel.sheet.text((x + 18, panel.bottom + 32), name, TEXT)
        x += 32 + 6.2 * len(name)
    for k in sorted({0, (frames - 1) // 2, frames - 1}):
        panel.under(across[k], str(k))
