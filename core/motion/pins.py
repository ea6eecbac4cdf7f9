"""Brush strokes to a mask: where the background is held still."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

Stroke = tuple[Sequence[tuple[float, float]], float, bool]


def painted(strokes: Sequence[Stroke], size: tuple[int, int]) -> Tensor:
    """Paint strokes in order onto a float mask [height, width] of zeros.

    A stroke is ``(points, radius, erase)``: normalised points (x = u width - 0.5 in pixels), a radius as a share of the
    width, and whether it takes away. It covers what lies within the radius of its polyline; the edge goes from 1 to 0
    over one pixel, half of it on either side.
    """
    height, width = size
    mask = torch.zeros(height, width)
    for points, radius, erase in strokes:
        pixels = [(u * width - 0.5, v * height - 0.5) for u, v in points]
        _paint(mask, pixels, radius * width, erase)
    return mask


def _paint(mask: Tensor, points: list[tuple[float, float]], radius: float, erase: bool) -> None:
    reach = radius + 0.5
    for start, end in zip(points[:-1] or points, points[1:] or points, strict=True):
        rows = _window(start[1], end[1], reach, mask.shape[0])
        columns = _window(start[0], end[0], reach, mask.shape[1])
        patch = mask[rows, columns]
        if patch.numel():
            cover = (reach - _distance(rows, columns, start, end)).clamp(0, 1)
            torch.minimum(patch, 1 - cover, out=patch) if erase else torch.maximum(patch, cover, out=patch)


def _window(a: float, b: float, reach: float, length: int) -> slice:
    """The pixels of one axis that a segment from a to b can touch."""
    return slice(max(0, math.ceil(min(a, b) - reach)), max(0, min(length, math.floor(max(a, b) + reach) + 1)))


def _distance(rows: slice, columns: slice, start: tuple[float, float], end: tuple[float, float]) -> Tensor:
    """Distance in pixels of every pixel of a window from the segment."""
    x = torch.arange(columns.start, columns.stop, dtype=torch.float32)[None] - start[0]
    y = torch.arange(rows.start, rows.stop, dtype=torch.float32)[:, None] - start[1]
    dx, dy = end[0] - start[0], end[1] - start[1]
    along = ((x * dx + y * dy) / max(dx * dx + dy * dy, 1e-12)).clamp(0, 1)
    return torch.hypot(x - along * dx, y - along * dy)
