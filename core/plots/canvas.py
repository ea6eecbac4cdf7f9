"""Shapes and text over pictures, antialiased by drawing large and averaging down.

Coordinates are those of the motion fields: pixels, ``(x, y)``, pixel centres at integers. A picture is a NumPy array
``[h, w, 3]``, float32 in 0..1, which is one frame of an IMAGE.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]
Point = tuple[float, float]

INK, PAPER, PANEL = (40, 44, 52), (255, 255, 255), (255, 255, 255, 225)
LEGEND_SHARE = 8  # a legend may cover one part in eight of a picture


class Overlay:
    """A transparent sheet of the picture's size. What is drawn on it is laid over a picture by ``over``."""

    def __init__(self, height: int, width: int, background: tuple[int, ...] = (0, 0, 0, 0)):
        self.height, self.width = height, width
        self.zoom = 4 if height * width <= 2**20 else 2
        self._sheet = Image.new("RGBA", (width * self.zoom, height * self.zoom), background)
        self._draw = ImageDraw.Draw(self._sheet)

    def at(self, x: float, y: float) -> Point:
        """Where the point lies on the large sheet, measured as Pillow does, which rounds down: from its upper left."""
        return (x + 0.5) * self.zoom, (y + 0.5) * self.zoom

    def line(self, points: Iterable[Point], colour: tuple[int, ...], thickness: float) -> None:
        thick = max(1, round(thickness * self.zoom))
        self._draw.line([self.at(*point) for point in points], fill=colour, width=thick, joint="curve")

    def polygon(self, points: Iterable[Point], colour: tuple[int, ...]) -> None:
        self._draw.polygon([self.at(*point) for point in points], fill=colour)

    def disc(self, centre: Point, radius: float, colour: tuple[int, ...] | None, rim: Colour, thickness: float) -> None:
        x, y = self.at(*centre)
        r = radius * self.zoom
        self._draw.ellipse([x - r, y - r, x + r, y + r], fill=colour, outline=rim, width=round(thickness * self.zoom))

    def panel(self, radius: float) -> None:
        """A rounded sheet of paper as large as the overlay, for legends."""
        box = [0, 0, self._sheet.width - 1, self._sheet.height - 1]
        self._draw.rounded_rectangle(box, radius * self.zoom, PANEL, (*INK, 120), max(1, self.zoom // 2))

    def text(self, point: Point, text: str, size: int, anchor: str = "lm", colour: Colour = INK) -> None:
        font = ImageFont.load_default(size * self.zoom)
        self._draw.text(self.at(*point), text, fill=colour, font=font, anchor=anchor)

    def picture(self, pixels: np.ndarray, left: int, top: int) -> None:
        """``pixels [h, w, 3 or 4]`` of the large sheet, at an edge of a pixel of the small one."""
        patch = Image.fromarray((pixels * 255).round().astype(np.uint8)).convert("RGBA")
        self._sheet.alpha_composite(patch, (left * self.zoom, top * self.zoom))

    def reduced(self) -> np.ndarray:
        """``[h, w, 4]``, float32, straight alpha; the average over each pixel's area."""
        return np.asarray(self._sheet.reduce(self.zoom), dtype=np.float32) / 255

    def over(self, picture: np.ndarray) -> np.ndarray:
        """The picture with this sheet on top; untouched pixels keep their exact values."""
        return laid_over(picture, self.reduced())


def laid_over(picture: np.ndarray, patch: np.ndarray, top: int = 0, left: int = 0) -> np.ndarray:
    """A new picture: ``patch [h, w, 4]`` (straight alpha) composited with its upper left pixel at ``(top, left)``."""
    height, width = patch.shape[:2]
    result = picture.copy()
    below = result[top : top + height, left : left + width]
    below += patch[..., 3:] * (patch[..., :3] - below)
    return result


def text_size(height: int, width: int) -> int:
    """Of legends, in pixels: 11 in a picture of 256; grows a little slower than the picture; never under 9."""
    return max(9, round(11 * (min(height, width) / 256) ** 0.75))


def text_width(text: str, size: int) -> int:
    return int(np.ceil(ImageFont.load_default(size).getlength(text)))


def spelled(value: float) -> str:
    """A number for a legend: three digits, more only before the point."""
    return f"{value:.3g}" if abs(value) < 999.5 else f"{value:.0f}"


def legend_corner(patch: np.ndarray, height: int, width: int) -> tuple[int, int] | None:
    """``(top, left)`` of a legend in the lower left corner, or None: no legend where it would cover over an eighth."""
    margin = max(2, round(min(height, width) / 64))
    rows, columns = patch.shape[:2]
    fits = rows + 2 * margin <= height and columns + 2 * margin <= width
    if not fits or rows * columns * LEGEND_SHARE > height * width:
        return None
    return height - margin - rows, margin


def with_legend(picture: np.ndarray, patch: np.ndarray | None) -> np.ndarray:
    """The picture with its legend in the lower left corner, if there is one and it fits (``legend_corner``)."""
    corner = None if patch is None else legend_corner(patch, *picture.shape[:2])
    return picture if corner is None else laid_over(picture, patch, *corner)


def text_legend(lines: Sequence[str], size: int) -> np.ndarray:
    """A legend of words only."""
    pad = round(size * 0.6)
    sheet = Overlay(round(size * 1.3 * len(lines)) + pad, max(text_width(line, size) for line in lines) + 2 * pad)
    sheet.panel(size / 3)
    for row, line in enumerate(lines):
        sheet.text((pad, pad / 2 + size * 1.3 * (row + 0.5) - 0.5), line, size)
    return sheet.reduced()
