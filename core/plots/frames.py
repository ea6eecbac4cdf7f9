"""Curves over the frames of a clip, one diagram each."""

import torch
from torch import Tensor

from .canvas import PAPER, Overlay
from .panel import TEXT, Panel

BLUE = (31, 119, 180)
WIDE, HIGH = 380, 190  # of one diagram
COLUMNS = 2


def frame_curves(curves: dict[str, Tensor]) -> Tensor:
    """IMAGE ``[1, height, width, 3]`` in 0..1: a diagram for each of ``curves``, title -> values ``[F]``.

    What is not finite is left out. Raises ValueError without curves.
    """
    if not curves:
        raise ValueError("there is nothing to draw: give at least one curve")
    columns, rows = min(COLUMNS, len(curves)), -(-len(curves) // COLUMNS)
    sheet = Overlay(rows * HIGH, columns * WIDE, (*PAPER, 255))
    for n, (title, values) in enumerate(curves.items()):
        left, top = n % COLUMNS * WIDE, n // COLUMNS * HIGH
        panel = Panel(sheet, (left + 58, top + 34, left + WIDE - 16, top + HIGH - 30), *_range(values))
        panel.title(title)
        panel.levels()
        count = len(values)
        across = [(k + 0.5) / count for k in range(count)]
        panel.curve(across, values.tolist(), BLUE)
        for k in sorted({0, (count - 1) // 2, count - 1}):
            panel.under(across[k], str(k))
        panel.sheet.text((panel.right, top + 16), "frame", TEXT, "rm")
    return torch.from_numpy(sheet.reduced()[..., :3].copy())[None]


def _range(values: Tensor) -> tuple[float, float]:
    """Of the finite values, and not so narrow that rounding would fill it."""
    known = values[values.isfinite()]
    low, high = (known.min().item(), known.max().item()) if len(known) else (0.0, 1.0)
    room = max(high - low, 0.02 * max(abs(low), abs(high)), 1e-6) / 10
    return low - room, high + room
