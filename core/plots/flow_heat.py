"""Cycle energy as heat: where following the flow there and back does not return."""

import numpy as np
import torch
from torch import Tensor

from .canvas import INK, Overlay, spelled, text_size, text_width, with_legend
from .clips import Report, backdrops, luminance, rendered

FLOOR = 0.01  # pixels^2: a tenth of a pixel astray; less is drawn as nothing
CONTOUR = (0, 175, 200)
START, TURN, HUE = 0.0, 0.55, 1.8  # cubehelix: from violet where it is dark to yellow where it is light
SHADE = 0.65


def heat_colours(share: np.ndarray) -> np.ndarray:
    """Colours ``[..., 3]`` for 0 (white) to 1 (nearly black), through yellow, red and violet.

    Cubehelix (Green 2011, A colour scheme for the display of astronomical intensity images): lightness falls evenly,
    so that the order survives a grey print and any kind of colour vision.
    """
    light = 1 - 0.92 * np.clip(share, 0, 1)
    angle = 2 * np.pi * (START + TURN * light)
    swing = HUE * light * (1 - light) / 2
    cos, sin = np.cos(angle), np.sin(angle)
    weights = ((-0.14861, 1.78277), (-0.29227, -0.90649), (1.97294, 0.0))
    channels = [light + swing * (a * cos + b * sin) for a, b in weights]
    return np.stack(channels, axis=-1).clip(0, 1).astype(np.float32)


def energy_heat(
    energy: Tensor,
    valid: Tensor | None = None,
    images: Tensor | None = None,
    *,
    top: float | None = None,
    legend: bool = True,
    report: Report | None = None,
) -> Tensor:
    """IMAGE ``[N, H, W, 3]`` of the cycle energy ``[N, H, W]`` in pixels^2, on a logarithmic scale.

    The scale runs from 0.01 (below it: white, or the image's grey) to ``top``, by default the power of ten that the
    clip's maximum does not exceed, and at least 10. Where ``valid`` (bool ``[N, H, W]``, as ``cycle_mask`` gives it) is
    False the threshold is exceeded or the motion leaves the frame: a contour surrounds it. ``images [N or 1, C, H, W]``
    shade the colours by their luminance.
    """
    count, height, width = energy.shape
    top = heat_top(float(energy.max())) if top is None else top
    if not top > FLOOR:
        raise ValueError(f"the scale of the energy begins at {FLOOR} px^2, its top must lie above; got {top}")
    backdrop = backdrops(images, count, height, width)
    key = heat_legend(top, valid is not None, height, width) if legend else None
    thickness = max(1, round(min(height, width) / 320))

    def draw(i: int) -> np.ndarray:
        picture = heat_colours(heat_share(energy[i].detach().to("cpu", torch.float32).numpy(), top))
        below = backdrop(i)
        if below is not None:
            picture = picture * (1 - SHADE + SHADE * luminance(below))
        if valid is not None:
            edge = inner_edge(~valid[i].cpu().numpy(), thickness)
            picture[edge] = np.array(CONTOUR, dtype=np.float32) / 255
        return with_legend(picture, key)

    return rendered(count, draw, report)


def heat_share(energy: np.ndarray, top: float) -> np.ndarray:
    """0 to 1 along the scale, even in the logarithm from ``FLOOR`` to ``top``."""
    return (np.log(np.maximum(energy, FLOOR) / FLOOR) / np.log(top / FLOOR)).clip(0, 1)


def heat_top(maximum: float) -> float:
    """The power of ten, 10 or more, at or above ``maximum``."""
    return float(10.0 ** max(1, np.ceil(np.log10(max(maximum, FLOOR)) - 1e-9)))


def inner_edge(mask: np.ndarray, thickness: int) -> np.ndarray:
    """The pixels of ``mask`` that lie within ``thickness`` of a pixel outside it (up, down, left or right)."""
    core = np.pad(mask, 1, mode="edge")
    for _ in range(thickness):
        inner = core[1:-1, 1:-1]
        inner = inner & core[:-2, 1:-1] & core[2:, 1:-1] & core[1:-1, :-2] & core[1:-1, 2:]
        core = np.pad(inner, 1, mode="edge")
    return mask & ~core[1:-1, 1:-1]


def heat_legend(top: float, contour: bool, height: int, width: int) -> np.ndarray:
    """The colour bar with its powers of ten, and what the contour means."""
    size = text_size(height, width)
    title = "cycle energy, px^2 (log)"
    pad, bar = round(size * 0.6), round(size * 0.7)
    wide = max(text_width(title, size), round(size * 9.5))
    rows = round(size * (3.7 if contour else 2.4)) + bar
    sheet = Overlay(rows + pad, wide + 2 * pad)
    sheet.panel(size / 3)
    sheet.text((pad, pad / 2 + size * 0.6), title, size)
    upper = pad // 2 + round(size * 1.3)
    shades = heat_colours((np.arange(wide * sheet.zoom) + 0.5) / (wide * sheet.zoom))
    sheet.picture(np.repeat(shades[None], bar * sheet.zoom, axis=0), pad, upper)
    first, last = round(np.log10(FLOOR)), int(np.floor(np.log10(top) + 1e-9))
    every = 1 if (last - first) * 3.6 * size <= wide else 2  # labels need room
    for power in range(first, last + 1):
        share = heat_share(np.array(10.0**power), top).item()
        x = pad - 0.5 + wide * share
        sheet.line([(x, upper + bar * 0.7), (x, upper + bar)], INK, 0.5)
        if (power - first) % every == 0:
            anchor = "lt" if share < 0.1 else "rt" if share > 0.9 else "mt"
            sheet.text((x, upper + bar + size * 0.2), spelled(10.0**power), size, anchor)
    if contour:
        y = upper + bar + size * 1.95
        sheet.line([(pad, y), (pad + size, y)], CONTOUR, max(1.0, size / 10))
        sheet.text((pad + size * 1.5, y), "over the threshold", size)
    return sheet.reduced()
