"""Every pixel moves with the nearest point, up to a distance."""

import torch
from torch import Tensor

from ...optional import need
from ..sampling import pixel_grid


def nearest(
    points: Tensor, vectors: Tensor, size: tuple[int, int], radius: float = 64.0, feather: float = 32.0
) -> Tensor:
    """``vectors [N, 2]`` carried to all pixels nearest to each of ``points [N, 2]`` (pixels) -> ``[2, H, W]``.

    Within ``radius`` pixels of a point the motion is its vector, then it eases to rest over ``feather`` pixels
    (smoothstep; 0 cuts it off). Between points that move differently the field tears, half way.
    """
    if not radius >= 0 or not feather >= 0:
        raise ValueError(f"radius and feather must be at least 0, got {radius} and {feather}")
    spatial = need("scipy.spatial", "making a dense field of tracks")
    pixels = pixel_grid(*size, dtype=torch.float64).flatten(1).T
    distance, index = spatial.cKDTree(points.double().cpu().numpy()).query(pixels.numpy())
    distance = torch.from_numpy(distance)
    ease = ((radius + feather - distance) / feather).clamp(0, 1) if feather else (distance <= radius).double()
    weight = ease * ease * (3 - 2 * ease)
    chosen = vectors.double().cpu()[torch.from_numpy(index)] * weight[:, None]
    return chosen.T.reshape(2, *size).float().to(points.device)
