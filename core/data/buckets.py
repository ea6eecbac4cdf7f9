"""Sizes and lengths to train at: every clip is scaled and cut to the one of a few shapes that loses least of it.

Source: aspect-ratio bucketing as NovelAI described it in 2022 ("Improvements on Stable Diffusion"): sizes of about one
area, so that a batch of any of them costs the same.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import torch
import torch.nn.functional as F
from torch import Tensor

Size = tuple[int, int]  # height, width
RATIOS = ("1:2", "9:16", "2:3", "3:4", "1:1", "4:3", "3:2", "16:9", "2:1")  # width : height


@dataclass(frozen=True)
class SizeSettings:
    """The shapes that clips are cut to: ``width`` x ``height`` pixels alone, or with ``ratios`` ("16:9", width first)
    sizes of that area in these shapes too. ``enlarge``: the most a clip may be scaled up, 1 not at all; smaller clips
    are left out.
    """

    width: int = 256
    height: int = 256
    ratios: tuple[str, ...] = ()
    enlarge: float = 2.0

    def __post_init__(self):
        if min(self.width, self.height) < 1:
            raise ValueError(f"a size is at least 1 x 1 pixels, got {self.width} x {self.height}")
        if not self.enlarge >= 1:
            raise ValueError(f"enlarge is the most a clip may be scaled up, 1 or more; got {self.enlarge}")
        for ratio in self.ratios:
            parse_ratio(ratio)

    def sizes(self, multiple: int) -> list[Size]:
        """The sizes, in multiples of what the VAE makes one cell of. Raises ValueError if its own size is none."""
        for name, side in (("width", self.width), ("height", self.height)):
            if side % multiple:
                near = max(1, round(side / multiple)) * multiple
                raise ValueError(f"{name} is {side} pixels, and this VAE needs a multiple of {multiple}: take {near}")
        return bucket_sizes(self.width * self.height, [f"{self.width}:{self.height}", *self.ratios], multiple)


def parse_ratio(text: str) -> Fraction:
    """Width over height of "16:9". Raises ValueError for anything else."""
    try:
        width, height = (int(part) for part in text.split(":"))
        if min(width, height) < 1:
            raise ValueError
    except ValueError:
        raise ValueError(f'an aspect ratio reads width:height, for example "16:9"; got {text!r}') from None
    return Fraction(width, height)


def bucket_sizes(area: int, ratios: Sequence[str], multiple: int) -> list[Size]:
    """A size for each of ``ratios``, of about ``area`` pixels, sides in multiples of ``multiple``; none twice."""
    sizes = {}
    for ratio in (float(parse_ratio(text)) for text in ratios):
        sides = (math.sqrt(area / ratio), math.sqrt(area * ratio))
        sizes[tuple(max(1, round(side / multiple)) * multiple for side in sides)] = None
    return list(sizes)


def kept(clip: Size, size: Size) -> float:
    """The share of a clip's picture that is left when it is scaled to cover ``size`` and cut to it."""
    scale = max(size[0] / clip[0], size[1] / clip[1])
    return (size[0] * size[1]) / (clip[0] * clip[1] * scale * scale)


def best_size(clip: Size, sizes: Sequence[Size]) -> Size:
    """The size that keeps most of the clip; of several, the one with most pixels, then the first."""
    return max(sizes, key=lambda size: (round(kept(clip, size), 9), size[0] * size[1]))


def best_length(frames: int, lengths: Sequence[int]) -> int | None:
    """The longest length that so many frames fill; None if they fill none."""
    return max((length for length in lengths if length <= frames), default=None)


def windows(count: int, length: int, hop: int = 0, most: int = 0) -> list[int]:
    """Where the clips of ``length`` frames begin in ``count`` of them: every ``hop`` (0: end to end).

    ``most``: at most so many, evenly spread (0: all).
    """
    starts = list(range(0, count - length + 1, hop or length))
    if 0 < most < len(starts):
        starts = [starts[(2 * n + 1) * len(starts) // (2 * most)] for n in range(most)]
    return starts


def fitted(frame: Tensor, clip: Size, size: Size) -> Tensor:
    """A frame uint8 ``[3, h, w]`` of any pixels, which shows ``clip`` pixels upright, scaled to cover ``size`` and cut
    around its middle: uint8 ``[3, *size]``. Bicubic, antialiased; a frame of that size is left as it is.
    """
    scale = max(size[0] / clip[0], size[1] / clip[1])
    covering = tuple(max(side, round(own * scale)) for side, own in zip(size, clip, strict=True))
    if tuple(frame.shape[1:]) != covering:
        wide = F.interpolate(frame[None].float(), covering, mode="bicubic", antialias=True)[0]
        frame = wide.round_().clamp_(0, 255).to(torch.uint8)
    top, left = ((whole - side) // 2 for whole, side in zip(covering, size, strict=True))
    return frame[:, top : top + size[0], left : left + size[1]]
