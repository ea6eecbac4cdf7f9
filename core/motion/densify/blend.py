"""Motion blended from a few vectors whose shares are known at every pixel: locally rigid."""

import torch
from torch import Tensor

from ..sampling import pixel_grid

LEAST_SHARE = 1e-6  # below it the answer is next to nothing, and its direction does not matter


def blended(shares: Tensor, points: Tensor, vectors: Tensor, ridge: Tensor | float) -> Tensor:
    """``shares [K, H, W]`` of ``vectors [K, 2]`` at ``points [K, 2]`` (pixels) -> ``[2, H, W]`` pixels.

    Each pixel moves by the similarity (rotation, zoom, shift) that fits the vectors best in the sense of its shares:
    moving least squares (Schaefer et al. 2006, section 2.2), which a single vector, or vectors that agree, make a
    shift. What the shares lack to 1 rests. Rotation and zoom are damped where the points lie closer than ``ridge``
    pixels (above 0). A similarity is reproduced, but for that, wherever its points have all the shares.
    """
    if not len(points):
        return shares.new_zeros(2, *shares.shape[-2:])
    middle = points.mean(0)
    z, v = torch.view_as_complex((points - middle).contiguous()), torch.view_as_complex(vectors.contiguous())
    squares, products = z.abs().square(), z.conj() * v
    moments = torch.stack([torch.ones_like(squares), z.real, z.imag, v.real, v.imag, squares])
    moments = torch.cat([moments, torch.stack([products.real, products.imag])])
    total, *means = torch.einsum("mk,khw->mhw", moments, shares)
    x, y, across, down, spread, along, turning = (mean / total.clamp(min=LEAST_SHARE) for mean in means)
    damped = (spread - x.square() - y.square()).clamp(min=0) + ridge**2
    zoom = (along - x * across - y * down) / damped
    turn = (turning - x * down + y * across) / damped
    right, below = pixel_grid(*shares.shape[-2:], shares.device) - middle[:, None, None]
    right, below = right - x, below - y
    return total * torch.stack([across + zoom * right - turn * below, down + turn * right + zoom * below])
