"""Flow as arrows on a grid of points, true to scale."""

import numpy as np
import torch
from torch import Tensor

from .canvas import Overlay, Point, spelled, text_size, text_width, with_legend
from .clips import Report, backdrops, rendered, typical_length

FILL, OUTLINE = (255, 200, 40), (30, 30, 36)  # light on dark: seen on any image
STRETCH = 1.6  # a typical arrow reaches this many grid spacings
ROUND_NUMBERS = (1.0, 2.0, 5.0)


def flow_arrows(
    flow: Tensor,
    valid: Tensor | None = None,
    images: Tensor | None = None,
    *,
    spacing: int | None = None,
    factor: float | None = None,
    legend: bool = True,
    report: Report | None = None,
) -> Tensor:
    """IMAGE ``[N, H, W, 3]`` of ``flow [N, 2, H, W]``: an arrow from every grid point to where ``factor`` times its
    vector leads.

    A vector is read at its point, not averaged. ``spacing`` in pixels (default ``arrow_spacing``); ``factor`` (default
    ``arrow_factor``: a power of ten times 1, 2 or 5, one for the clip) is written in the legend. A dot is a point that
    rests; where ``valid [N, H, W]`` is False nothing is drawn. Beneath lies white, or ``images [N or 1, C, H, W]``.
    """
    count, _, height, width = flow.shape
    spacing = arrow_spacing(height, width) if spacing is None else spacing
    if spacing < 1:
        raise ValueError(f"arrows need a spacing of at least one pixel, got {spacing}")
    typical = typical_length(flow, valid)
    factor = arrow_factor(typical, spacing) if factor is None else factor
    backdrop = backdrops(images, count, height, width)
    key = arrow_legend(typical, factor, spacing, height, width) if legend else None
    rows, columns = grid_points(height, spacing), grid_points(width, spacing)
    thickness = spacing / 12

    def draw(i: int) -> np.ndarray:
        below = backdrop(i)
        picture = np.ones((height, width, 3), dtype=np.float32) if below is None else below
        sheet = Overlay(height, width)
        vectors = flow[i][:, rows][:, :, columns].detach().to("cpu", torch.float32).numpy() * factor
        known = None if valid is None else valid[i][rows][:, columns].cpu().numpy()
        for r, y in enumerate(rows):
            for c, x in enumerate(columns):
                if known is None or known[r, c]:
                    draw_arrow(sheet, (x, y), tuple(vectors[:, r, c].tolist()), thickness)
        return with_legend(sheet.over(picture), key)

    return rendered(count, draw, report)


def arrow_spacing(height: int, width: int) -> int:
    """Pixels from arrow to arrow: 16 of them along the shorter side, but no nearer than 12 pixels."""
    return max(12, round(min(height, width) / 16))


def arrow_factor(typical: float, spacing: int) -> float:
    """The largest of ..., 0.5, 1, 2, 5, 10, ... with which a typical arrow stays within ``STRETCH`` spacings."""
    if typical <= 0:
        return 1.0
    return round_down(STRETCH * spacing / typical)


def round_down(value: float) -> float:
    """The largest power of ten times 1, 2 or 5 that is at most ``value``."""
    power = 10.0 ** np.floor(np.log10(value))
    return float(max(number * power for number in ROUND_NUMBERS if number * power <= value * (1 + 1e-9)))


def grid_points(length: int, spacing: int) -> list[int]:
    """Pixels ``spacing`` apart, centred in ``length``."""
    first = (length - 1) % spacing // 2
    return list(range(first, length, spacing))


def draw_arrow(sheet: Overlay, tail: Point, vector: Point, thickness: float) -> None:
    """From ``tail`` to exactly ``tail + vector``, up to ``thickness`` thick; a dot when it is too short to point."""
    length = float(np.hypot(*vector))
    if length < 0.8 * thickness:
        sheet.disc(tail, thickness * 0.5, FILL, OUTLINE, thickness * 0.25)
        return
    thickness *= min(1.0, max(0.5, length / (8 * thickness)))
    edge = max(0.4, thickness * 0.4)
    for grow, colour in ((edge, OUTLINE), (0.0, FILL)):
        sheet.polygon(arrow_shape(tail, vector, thickness, grow), colour)


def arrow_shape(tail: Point, vector: Point, thickness: float, grow: float = 0.0) -> list[Point]:
    """Outline of an arrow; ``grow`` widens it by about so many pixels on every side (the tip stays the tip at 0)."""
    length = float(np.hypot(*vector))
    along = np.array(vector) / length
    across = np.array([-along[1], along[0]])
    head = min(3.6 * thickness, 0.6 * length)
    half, wing = thickness / 2 + grow, head * 0.48 + 1.3 * grow
    profile = [(-grow, half), (length - head - grow * 0.6, half), (length - head - grow, wing), (length + 2 * grow, 0)]
    profile += [(s, -d) for s, d in reversed(profile[:-1])]
    return [tuple(np.array(tail) + s * along + d * across) for s, d in profile]


def arrow_legend(typical: float, factor: float, spacing: int, height: int, width: int) -> np.ndarray:
    """An arrow of a round number of pixels, and how much longer than the motion it is drawn."""
    size = text_size(height, width)
    shown = round_down(typical) if typical > 0 else 0.0
    lines = [
        f"{spelled(shown)} px per frame",
        f"drawn {spelled(factor)} times as long" if factor != 1 else "drawn true to length",
    ]
    pad, room = round(size * 0.6), max(round(shown * factor), round(size))
    sheet = Overlay(round(size * 2.6) + pad, room + 3 * pad + max(text_width(line, size) for line in lines))
    sheet.panel(size / 3)
    draw_arrow(sheet, (pad, (sheet.height - 1) / 2), (shown * factor, 0.0), spacing / 12)
    for row, line in enumerate(lines):
        sheet.text((room + 2 * pad, (sheet.height - 1) / 2 + size * 1.3 * (row - 0.5)), line, size)
    return sheet.reduced()
