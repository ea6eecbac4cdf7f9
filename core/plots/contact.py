"""Many pictures on one sheet, each with a line of text under it."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .canvas import PAPER, Overlay, text_width

CELL, GAP, TEXT = 160, 8, 11
COLUMNS = 6


def contact_sheet(pictures: Sequence[Tensor], captions: Sequence[str]) -> Tensor:
    """IMAGE ``[1, height, width, 3]`` in 0..1 of ``pictures``, each ``[3, h, w]`` in 0..1 of any size, scaled into a
    square cell; a caption too long for it is cut. Raises ValueError without pictures."""
    if not pictures:
        raise ValueError("there is nothing to show: give at least one picture")
    columns = min(COLUMNS, len(pictures))
    rows, high = -(-len(pictures) // columns), CELL + 2 * TEXT + GAP
    sheet = Overlay(rows * high + GAP, columns * (CELL + GAP) + GAP, (*PAPER, 255))
    corners = [(n // columns * high + GAP, n % columns * (CELL + GAP) + GAP) for n in range(len(pictures))]
    for (top, left), caption in zip(corners, captions, strict=True):
        sheet.text((left, top + CELL + TEXT), shortened(caption, CELL), TEXT)
    image = torch.from_numpy(sheet.reduced()[..., :3].copy())
    for (top, left), picture in zip(corners, pictures, strict=True):
        small = _small(picture)
        height, width = small.shape[1:]
        down, right = top + (CELL - height) // 2, left + (CELL - width) // 2
        image[down : down + height, right : right + width] = small.movedim(0, -1)
    return image[None]


def shortened(text: str, width: int) -> str:
    """The text, or as much of it as fits into ``width`` pixels, with dots."""
    if text_width(text, TEXT) <= width:
        return text
    while text and text_width(text + "...", TEXT) > width:
        text = text[:-1]
    return text.rstrip() + "..."


def _small(picture: Tensor) -> Tensor:
    scale = CELL / max(picture.shape[1:])
    size = [max(1, round(side * scale)) for side in picture.shape[1:]]
    return F.interpolate(picture[None].float(), size, mode="bilinear", antialias=True)[0].clamp(0, 1)
