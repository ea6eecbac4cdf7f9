"""Tracks drawn over frames: a dot for each point, a trail for where it has been."""

import colorsys

import numpy as np
import torch
from torch import Tensor

from .canvas import Colour, Overlay
from .clips import Report, backdrops, rendered

GOLDEN = (5**0.5 - 1) / 2  # steps of this share of a circle never come back near an earlier one soon
RIM = (20, 20, 24)


def draw_tracks(
    positions: Tensor,
    visible: Tensor,
    size: tuple[int, int],
    images: Tensor | None = None,
    *,
    trail: int | None = None,
    report: Report | None = None,
) -> Tensor:
    """IMAGE ``[T, H, W, 3]`` of tracks ``positions [T, N, 2]`` in pixels (x, y), ``visible`` bool ``[T, N]``.

    A dot marks a point in the frame shown, a ring one that is hidden there; the line is its way so far, of the last
    ``trail`` frames if given, left out where the point was hidden at either end. Colours depend on the number of the
    track alone. ``size`` is (height, width). Beneath lies white, or ``images [T or 1, C, H, W]``.
    """
    height, width = size
    count, tracks = positions.shape[:2]
    backdrop = backdrops(images, count, height, width)
    places = positions.detach().to("cpu", torch.float32).numpy()
    seen = visible.cpu().numpy()
    radius = max(1.5, min(height, width) / (110 if tracks <= 100 else 200))

    def draw(i: int) -> np.ndarray:
        below = backdrop(i)
        sheet = Overlay(height, width)
        first = 0 if trail is None else max(0, i - trail)
        for track in range(tracks):
            _draw_trail(sheet, places[first : i + 1, track], seen[first : i + 1, track], track_colour(track), radius)
        for track in range(tracks):
            colour, centre = track_colour(track), tuple(places[i, track].tolist())
            if seen[i, track]:
                sheet.disc(centre, radius * 1.5, colour, RIM, radius * 0.4)
            else:
                sheet.disc(centre, radius * 1.3, None, colour, radius * 0.5)
        return sheet.over(np.ones((height, width, 3), dtype=np.float32) if below is None else below)

    return rendered(count, draw, report)


def _draw_trail(sheet: Overlay, places: np.ndarray, seen: np.ndarray, colour: Colour, radius: float) -> None:
    for thickness, tint in ((radius * 1.3, RIM), (radius * 0.8, colour)):
        for k in range(len(places) - 1):
            if seen[k] and seen[k + 1]:
                sheet.line([tuple(places[k].tolist()), tuple(places[k + 1].tolist())], tint, thickness)


def track_colour(number: int) -> Colour:
    """Distinct for neighbouring numbers: the golden section walks the hues, and lightness alternates."""
    hue = (0.02 + number * GOLDEN) % 1
    red, green, blue = colorsys.hls_to_rgb(hue, (0.58, 0.44, 0.7)[number % 3], 0.95)
    return round(red * 255), round(green * 255), round(blue * 255)
