"""Hints: the vectors of a few points, laid on the pixels of a picture for networks to read."""

import torch
from torch import Tensor


def hint_map(points: Tensor, vectors: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """``vectors [N, 2]`` on the pixels nearest to ``points [N, 2]`` -> (``[2, H, W]``, known bool ``[1, H, W]``).

    Points that share a pixel are averaged; points outside the image are left out, because there is no pixel for them.
    """
    height, width = size
    column, row = (points + 0.5).floor().long().unbind(1)
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    index = (row * width + column)[inside]
    hints, known = _averaged(index, vectors[inside].float(), height * width)
    return hints.T.reshape(2, height, width), known.reshape(1, height, width)


def resized_hints(hints: Tensor, known: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Hints ``[B, 2, H, W]``, ``known [B, 1, H, W]`` over the picture resized to ``size``: still single pixels.

    Vectors are scaled with the picture. Hints that come to share a pixel are averaged.
    """
    batch, (height, width) = len(hints), size
    clip, _, row, column = known.nonzero(as_tuple=True)
    vectors = hints[clip, :, row, column] * hints.new_tensor([width / hints.shape[-1], height / hints.shape[-2]])
    row, column = ((2 * at + 1) * new // (2 * old) for at, new, old in (
        (row, height, hints.shape[-2]), (column, width, hints.shape[-1])
    ))  # fmt: skip
    moved, there = _averaged((clip * height + row) * width + column, vectors, batch * height * width)
    return moved.view(batch, height, width, 2).movedim(-1, 1), there.view(batch, 1, height, width)


def scattered_hints(hints: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """``(points [N, 2], vectors [N, 2])`` of ``hints [2, H, W]`` where ``known [1, H, W]``; the way back."""
    row, column = known[0].nonzero(as_tuple=True)
    return torch.stack([column, row], 1).to(hints), hints[:, row, column].T


def check_hints(picture: Tensor, hints: Tensor, known: Tensor) -> None:
    """ValueError or TypeError unless the three are ``[B, 3, H, W]``, ``[B, 2, H, W]`` and bool ``[B, 1, H, W]``."""
    batch, size = len(picture), picture.shape[-2:]
    for name, given, channels in (("picture", picture, 3), ("hints", hints, 2), ("known", known, 1)):
        if given.shape != (batch, channels, *size):
            raise ValueError(f"{name} must be [{batch}, {channels}, {size[0]}, {size[1]}], got {list(given.shape)}")
    if known.dtype != torch.bool:
        raise TypeError(f"known says where there is a hint: bool, got {known.dtype}")


def _averaged(index: Tensor, vectors: Tensor, pixels: int) -> tuple[Tensor, Tensor]:
    """``([pixels, 2], bool [pixels])``: the mean of the ``vectors [N, 2]`` that fall on each pixel."""
    count = torch.bincount(index, minlength=pixels)
    total = vectors.new_zeros(pixels, 2).index_add_(0, index, vectors)
    return total / count.clamp(min=1)[:, None], count > 0
