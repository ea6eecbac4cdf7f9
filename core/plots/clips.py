"""From tensors to pictures and back: what the motion plots share."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

Report = Callable[[int, int], None]

LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601
OUTLIERS, FAR = 0.03, 1.5
HATCH = (0.52, 0.72)  # the two greys of pixels of which nothing is known


def backdrops(images: Tensor | None, count: int, height: int, width: int) -> Callable[[int], np.ndarray | None]:
    """Picture of frame ``i`` as ``[h, w, 3]``, or None without images. A single image serves every frame.

    ``images [F, C, h, w]`` in 0..1 with F = 1 or at least ``count``; C is 1 (grey), 3, or 4 (the last is left out).
    """
    if images is None:
        return lambda i: None
    if images.ndim != 4 or images.shape[1] not in (1, 3, 4):
        raise ValueError(f"images must be [frames, 1, 3 or 4 channels, height, width]; got {list(images.shape)}")
    if tuple(images.shape[-2:]) != (height, width):
        raise ValueError(
            f"the images are {images.shape[-1]} x {images.shape[-2]} pixels (width x height), the motion is "
            f"{width} x {height}; resize one of them (AqueductResizeMotion resizes motion)"
        )
    if len(images) != 1 and len(images) < count:
        raise ValueError(f"{len(images)} images for {count} frames of motion; give one image, or one per frame")

    def picture(i: int) -> np.ndarray:
        frame = images[min(i, len(images) - 1), :3].detach().to("cpu", torch.float32).clamp(0, 1)
        return frame.expand(3, -1, -1).permute(1, 2, 0).numpy()

    return picture


def rendered(count: int, draw: Callable[[int], np.ndarray], report: Report | None = None) -> Tensor:
    """IMAGE batch ``[count, h, w, 3]`` of ``draw(0)`` to ``draw(count - 1)``, one picture in memory at a time."""
    batch = None
    for i in range(count):
        picture = draw(i)
        batch = torch.empty(count, *picture.shape) if batch is None else batch
        batch[i] = torch.from_numpy(picture)
        if report is not None:
            report(i + 1, count)
    if batch is None:
        raise ValueError("there is nothing to draw: the motion has no frames")
    return batch


def luminance(picture: np.ndarray) -> np.ndarray:
    """``[h, w, 1]``: the picture without its colours, which would be mistaken for those of the plot."""
    return (picture @ LUMA)[..., None]


def hatching(height: int, width: int, period: float) -> np.ndarray:
    """``[h, w, 3]``: diagonal stripes in two greys, soft-edged."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    wave = np.sin(2 * np.pi * (x + y) / period).astype(np.float32)
    share = (0.5 + wave * period / 6).clip(0, 1)[..., None]  # rises within about a pixel
    return np.repeat(HATCH[0] + (HATCH[1] - HATCH[0]) * share, 3, axis=-1)


def hatch_period(height: int, width: int) -> float:
    """Pixels along x from stripe to stripe."""
    return max(8.0, min(height, width) / 24)


def typical_length(flow: Tensor, valid: Tensor | None = None) -> float:
    """The greatest length in a clip, in pixels, leaving out a few outliers that are much longer than the rest.

    Sorted by length, the longest vectors that make up 3 % of all motion (the sum of lengths) are outliers if the
    greatest is over 1.5 times the first that is none. So a small object before a still background sets the scale, and
    single wild vectors do not. The result grows in proportion to the flow; it is 0 if nothing moves.
    ``flow [N, 2, H, W]``, ``valid`` bool ``[N, H, W]``.
    """
    lengths = flow.detach().to("cpu", torch.float32).norm(dim=1)
    known = (lengths.flatten() if valid is None else lengths[valid.to("cpu")]).numpy()
    if not known.any():
        return 0.0
    known = np.sort(known)
    motion = np.cumsum(known, dtype=np.float64)
    most = known[np.searchsorted(motion, (1 - OUTLIERS) * motion[-1])]
    return float(known[-1] if known[-1] <= FAR * most else most)
