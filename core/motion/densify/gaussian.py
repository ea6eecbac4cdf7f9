"""Gaussian radial basis functions: motion around the points, rest far away."""

import torch
from torch import Tensor

from .scattered import merged

CENTRES = 1500
LEAST_SMOOTHING = 1e-9  # keeps the system solvable where many points stand within a radius


def gaussian(
    points: Tensor,
    vectors: Tensor,
    size: tuple[int, int],
    radius: float = 64.0,
    smoothing: float = 1e-3,
    centres: int = CENTRES,
) -> Tensor:
    """A sum of Gaussians at ``points [N, 2]`` that meets ``vectors [N, 2]`` there (pixels) -> ``[2, H, W]``.

    ``radius`` is the standard deviation in pixels: alone, a point's motion falls to 61 % at one radius and to 1 % at
    three. The weights solve ``(K + smoothing I) w = vectors`` (kernel ridge regression): a point alone keeps
    1 / (1 + smoothing) of its vector; 1e-9 is added for the numerics. Contradicting points much closer than a radius
    make a field of Gaussians overshoot beyond them; a smaller radius, or more smoothing, calms it. Points closer than
    half a pixel are averaged, and more than ``centres`` points over the cells of a grid (`merged`).
    """
    if not radius > 0 or not smoothing >= 0:
        raise ValueError(f"radius must be above 0 and smoothing at least 0, got {radius} and {smoothing}")
    points, vectors = merged(points, vectors, centres)
    unit = points / (radius * 2**0.5)
    kernel = torch.exp(-(unit[:, None] - unit).square().sum(-1))
    kernel.diagonal().add_(smoothing + LEAST_SMOOTHING)
    weights = torch.linalg.solve(kernel, vectors)
    # A Gaussian is a product over the axes, so the whole image is one matrix product per component.
    columns, rows = (
        torch.exp(-(torch.arange(length).to(unit) / (radius * 2**0.5) - at[:, None]).square())
        for length, at in zip(size[::-1], unit.unbind(1), strict=True)
    )
    return ((weights.T[:, :, None] * rows).transpose(1, 2) @ columns).float()
