"""The a, b, c curves of a bridge, and where a schedule evaluates it."""

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..bridges.process import Bridge

INK, GRID, PAPER, MARK = (40, 44, 52), (225, 228, 232), (255, 255, 255), (150, 156, 165)
COLOURS = {"a (data)": (31, 119, 180), "b (prior)": (214, 96, 40), "c (noise, std)": (44, 140, 70)}


def bridge_curves(bridge: Bridge, times: Tensor | None = None, width: int = 640, height: int = 400) -> Tensor:
    """IMAGE ``[1, height, width, 3]`` in [0, 1]: coefficients over bridge time; ``times`` are marked below the axis.

    ``c`` has its own scale when it exceeds the weights (its maximum is written beside its name).
    """
    scale = 2  # drawn large and reduced: smooth lines without an antialiasing renderer
    canvas = Image.new("RGB", (width * scale, height * scale), PAPER)
    draw = ImageDraw.Draw(canvas)
    frame = _Frame(50 * scale, 46 * scale, (width - 20) * scale, (height - 46) * scale)
    t = torch.linspace(0, 1, 401, dtype=torch.float64)
    curves = dict(zip(COLOURS, bridge.coefficients(t), strict=True))
    noise_max = curves["c (noise, std)"].max().item()
    curves["c (noise, std)"] = curves["c (noise, std)"] / max(noise_max, 1.0 if noise_max > 0.05 else noise_max)
    font = ImageFont.load_default(13 * scale)
    _axes(draw, frame, font, scale)
    for name, values in curves.items():
        draw.line(frame.points(t, values), fill=COLOURS[name], width=2 * scale, joint="curve")
    _legend(draw, font, scale, bridge, noise_max)
    if times is not None:
        _marks(draw, frame, times, scale)
    small = canvas.resize((width, height), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.asarray(small, dtype=np.float32) / 255)[None]


class _Frame:
    """The plot's rectangle: t in [0, 1] to the right, values in [0, 1] upwards."""

    def __init__(self, left: int, top: int, right: int, bottom: int):
        self.left, self.top, self.right, self.bottom = left, top, right, bottom

    def at(self, t: float, value: float) -> tuple[float, float]:
        return self.left + t * (self.right - self.left), self.bottom - value * (self.bottom - self.top)

    def points(self, t: Tensor, values: Tensor) -> list[tuple[float, float]]:
        return [self.at(*pair) for pair in zip(t.tolist(), values.tolist(), strict=True)]


def _axes(draw: ImageDraw.ImageDraw, frame: _Frame, font, scale: int) -> None:
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        draw.line([frame.at(0, share), frame.at(1, share)], fill=GRID, width=scale)
        draw.line([frame.at(share, 0), frame.at(share, 1)], fill=GRID, width=scale)
        x, y = frame.at(0, share)
        draw.text((x - 6 * scale, y), f"{share:g}", fill=INK, font=font, anchor="rm")
        x, y = frame.at(share, 0)
        draw.text((x, y + 12 * scale), f"{share:g}", fill=INK, font=font, anchor="mt")
    x, y = frame.at(0.5, 0)
    draw.text((x, y + 28 * scale), "bridge time t (0: video, 1: prior)", fill=INK, font=font, anchor="mt")


def _legend(draw: ImageDraw.ImageDraw, font, scale: int, bridge: Bridge, noise_max: float) -> None:
    draw.text((50 * scale, 8 * scale), str(bridge), fill=INK, font=font)
    x = 50 * scale
    for name, colour in COLOURS.items():
        label = f"{name}, max {noise_max:.3g}" if name.startswith("c") else name
        draw.line([(x, 36 * scale), (x + 18 * scale, 36 * scale)], fill=colour, width=3 * scale)
        draw.text((x + 24 * scale, 36 * scale), label, fill=INK, font=font, anchor="lm")
        x += 24 * scale + draw.textlength(label, font=font) + 20 * scale


def _marks(draw: ImageDraw.ImageDraw, frame: _Frame, times: Tensor, scale: int) -> None:
    for t in times.tolist():
        x, y = frame.at(t, 0)
        draw.line([(x, y), (x, y - 10 * scale)], fill=MARK, width=scale)
