"""Clips side by side in one picture: a row each, time to the right, above it what it is."""

from collections.abc import Sequence

import torch
from torch import Tensor

from .canvas import PAPER, Overlay, text_width

MOST = 8  # frames shown of a clip
GAP = 2  # pixels
SMALLEST, SHARE = 9, 64  # of the text: pixels, and how many of them the row is wide for each


def film_strips(clips: Sequence[Tensor], names: Sequence[str] = (), most: int = MOST) -> Tensor:
    """IMAGE ``[1, h, w, 3]`` of ``clips``, each ``[f, 3, h, w]`` in 0..1 and all of one size; frames evenly spread.

    ``names``: a line of text above each row, or none. The picture is as wide as the longest of them.
    """
    rows = []
    for clip in clips:
        shown = torch.linspace(0, len(clip) - 1, min(most, len(clip))).round().long()
        rows.append(_joined([frame.cpu() for frame in clip[shown]], 2))
    if names:
        size = max(SMALLEST, round(rows[0].shape[2] / SHARE))
        width = max(rows[0].shape[2], *(text_width(name, size) + size for name in names))
        rows = [_named(row, name, size, width) for row, name in zip(rows, names, strict=True)]
    return _joined(rows, 1).clamp(0, 1).movedim(0, -1)[None].contiguous()


def _named(row: Tensor, name: str, size: int, width: int) -> Tensor:
    sheet = Overlay(round(1.6 * size), width, (*PAPER, 255))
    sheet.text((size // 2, sheet.height / 2 - 0.5), name, size)
    text = torch.from_numpy(sheet.reduced()[..., :3].copy()).movedim(-1, 0).to(row)
    return torch.cat([text, torch.nn.functional.pad(row, (0, width - row.shape[2]), value=1.0)], 1)


def _joined(parts: list[Tensor], axis: int) -> Tensor:
    """With a white line between them."""
    shape = list(parts[0].shape)
    shape[axis] = GAP
    white = parts[0].new_ones(shape)
    between = [piece for part in parts for piece in (white, part)]
    return torch.cat(between[1:], axis)
