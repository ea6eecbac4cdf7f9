"""Flow as colour: direction is hue, length is saturation, white stands still."""

import numpy as np
import torch
from torch import Tensor

from .canvas import Overlay, spelled, text_size, text_width, with_legend
from .clips import Report, backdrops, hatch_period, hatching, luminance, rendered, typical_length

# Baker et al. 2011 (A Database and Evaluation Methodology for Optical Flow), from its colour code: steps between
# the six corners red, yellow, green, cyan, blue, magenta. More steps where the eye tells more colours apart.
STEPS = (15, 6, 4, 11, 13, 6)
CORNERS = ((1, 0, 0), (1, 1, 0), (0, 1, 0), (0, 1, 1), (0, 0, 1), (1, 0, 1))
TOO_LONG = 0.75  # colours of vectors beyond the scale are darkened by this
SHADE = 0.65  # how dark the darkest pixel of an image makes the colour that lies over it


def colour_wheel() -> np.ndarray:
    """The 55 colours ``[55, 3]``: red points right, then clockwise on the screen: yellow down, cyan left, violet up."""
    corners = np.array(CORNERS, dtype=np.float32)
    following = np.roll(corners, -1, axis=0)
    arcs = [
        start + (end - start) * (np.arange(steps, dtype=np.float32) / steps)[:, None]
        for start, end, steps in zip(corners, following, STEPS, strict=True)
    ]
    return np.concatenate(arcs)


def colours_of(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Colours ``[..., 3]`` of vectors given in units of the scale: white at 0, full at length 1, darkened beyond.

    The wheel is closed: the 55th colour leads back to the first. (The original code puts 54 steps on the circle, which
    leaves a small jump between directions just above and just below right.)
    """
    wheel = colour_wheel()
    place = np.mod(np.arctan2(y, x) / (2 * np.pi), 1.0) * len(wheel)
    low = np.floor(place).astype(int) % len(wheel)
    share = (place - np.floor(place))[..., None]
    pure = (1 - share) * wheel[low] + share * wheel[(low + 1) % len(wheel)]
    length = np.hypot(x, y)[..., None]
    return np.where(length <= 1, 1 - length * (1 - pure), TOO_LONG * pure).astype(np.float32)


def flow_colours(
    flow: Tensor,
    valid: Tensor | None = None,
    images: Tensor | None = None,
    *,
    scale: float | None = None,
    legend: bool = True,
    report: Report | None = None,
) -> Tensor:
    """IMAGE ``[N, H, W, 3]`` of ``flow [N, 2, H, W]``: the colour code of Baker et al. 2011, which most readers know.

    ``scale`` is the length, in pixels, of full saturation, one for the clip; default ``typical_length``, so that the
    picture of ``k`` times a flow is the picture of the flow. Longer vectors are darker. ``valid`` bool ``[N, H, W]``:
    pixels of unknown motion are hatched. ``images [N or 1, C, H, W]`` shade the colours by their luminance. The legend
    is a disc of the colours with its scale, in the lower left corner (small pictures: ``canvas.legend_corner``).
    """
    count, _, height, width = flow.shape
    scale = typical_length(flow, valid) if scale is None else scale
    unit = scale if scale > 0 else 1.0
    backdrop = backdrops(images, count, height, width)
    hatched = valid is not None and not bool(valid.all())
    key = wheel_legend(scale, hatched, height, width) if legend else None
    stripes = None if valid is None else hatching(height, width, hatch_period(height, width))

    def draw(i: int) -> np.ndarray:
        x, y = (flow[i].detach().to("cpu", torch.float32) / unit).numpy()
        picture, below = colours_of(x, y), backdrop(i)
        if below is not None:
            picture = picture * (1 - SHADE + SHADE * luminance(below))
        if valid is not None:
            picture = np.where(valid[i].cpu().numpy()[..., None], picture, stripes)
        return with_legend(picture, key)

    return rendered(count, draw, report)


def wheel_legend(scale: float, hatched: bool, height: int, width: int) -> np.ndarray:
    """A disc of all colours up to ``scale``, what its rim and the hatching mean, for a picture of the given size."""
    size = text_size(height, width)
    lines = [f"rim: {spelled(scale)} px", "per frame"] + (["hatched: unknown"] if hatched else [])
    pad, side = round(size * 0.5), round(size * 3.8)
    sheet = Overlay(side + 2 * pad, side + 3 * pad + max(text_width(line, size) for line in lines))
    sheet.panel(size / 3)
    across = side * sheet.zoom
    along = (np.arange(across, dtype=np.float32) + 0.5) / across * 2 - 1
    x, y = np.meshgrid(along, along)
    inside = (np.hypot(x, y) <= 1)[..., None].astype(np.float32)
    sheet.picture(np.concatenate([colours_of(x, y), inside], axis=-1), pad, pad)
    for row, line in enumerate(lines):
        sheet.text((side + 2 * pad, pad + side / 2 + size * 1.3 * (row + 0.5 - len(lines) / 2) - 0.5), line, size)
    return sheet.reduced()
