"""Clips side by side in one picture: a row each, time to the right."""

from collections.abc import Sequence

import torch
from torch import Tensor

MOST = 8  # frames shown of a clip
GAP = 2  # pixels


def film_strips(clips: Sequence[Tensor], most: int = MOST) -> Tensor:
    """IMAGE ``[1, h, w, 3]`` of ``clips``, each ``[f, 3, h, w]`` in 0..1 and all of one size; frames evenly spread."""
    rows = []
    for clip in clips:
        shown = torch.linspace(0, len(clip) - 1, min(most, len(clip))).round().long()
        rows.append(_joined([frame.cpu() for frame in clip[shown]], 2))
    return _joined(rows, 1).clamp(0, 1).movedim(0, -1)[None].contiguous()


def _joined(parts: list[Tensor], axis: int) -> Tensor:
    """With a white line between them."""
    shape = list(parts[0].shape)
    shape[axis] = GAP
    white = parts[0].new_ones(shape)
    between = [piece for part in parts for piece in (white, part)]
    return torch.cat(between[1:], axis)
