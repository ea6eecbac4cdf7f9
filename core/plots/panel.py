"""A diagram on a sheet: levels, bands, curves."""

import math
from collections.abc import Sequence

from .canvas import Colour, Overlay

GRID, BAND = (225, 228, 232), (214, 232, 218)
TEXT = 11


class Panel:
    """A rectangle of the sheet with a vertical scale; x runs from 0 to 1."""

    def __init__(self, sheet: Overlay, box: tuple[int, int, int, int], low: float, high: float):
        self.sheet, (self.left, self.top, self.right, self.bottom) = sheet, box
        self.low, self.high = low, high

    def at(self, x: float, value: float) -> tuple[float, float]:
        share = (value - self.low) / (self.high - self.low)
        return self.left + x * (self.right - self.left), self.bottom - share * (self.bottom - self.top)

    def level(self, value: float, label: str) -> None:
        self.sheet.line([self.at(0, value), self.at(1, value)], GRID, 1)
        x, y = self.at(0, value)
        self.sheet.text((x - 6, y), label, TEXT, "rm")

    def levels(self) -> None:
        for k in range(5):
            value = self.low + (self.high - self.low) * k / 4
            self.level(value, f"{value:.2g}" if abs(value) > 1e-9 else "0")

    def title(self, text: str) -> None:
        self.sheet.text((self.left, self.top - 18), text, TEXT + 1)

    def band(self, low: float, high: float) -> None:
        low, high = max(low, self.low), min(high, self.high)
        self.sheet.polygon([self.at(0, low), self.at(1, low), self.at(1, high), self.at(0, high)], BAND)

    def under(self, x: float, text: str) -> None:
        self.sheet.text((self.at(x, self.low)[0], self.bottom + 14), text, TEXT, "mm")

    def curve(self, across: Sequence[float], values: Sequence[float], colour: Colour) -> None:
        """Dots, and a line through them; what is not finite is left out."""
        points = [self.at(x, value) for x, value in zip(across, values, strict=True) if math.isfinite(value)]
        if len(points) > 1:
            self.sheet.line(points, colour, 2)
        for point in points:
            self.sheet.disc(point, 2, colour, colour, 0.5)
