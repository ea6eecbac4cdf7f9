"""A background that turns, zooms and slides as a whole, and objects that move against it."""

import torch
from torch import Tensor

from ..sampling import pixel_grid
from .gaussian import CENTRES, gaussian

ROUNDS = 20  # of reweighting, of each kind
SHARP = 0.05  # pixels: smaller residuals all count as agreement


def rigid(
    points: Tensor,
    vectors: Tensor,
    size: tuple[int, int],
    radius: float = 64.0,
    smoothing: float = 1e-3,
    centres: int = CENTRES,
) -> Tensor:
    """The similarity that most points follow, plus Gaussians for what deviates from it -> ``[2, H, W]`` pixels.

    The similarity (rotation, zoom, shift) is the least-squares one (Umeyama 1991) of the background points; which
    those are is found by reweighting: as long as they are the majority, points that move otherwise lose their say.
    One point alone is a shift, two are followed exactly. ``radius``, ``smoothing`` and ``centres`` are `gaussian`'s.
    """
    turn, shift = dominant_similarity(points, vectors)
    x, y = pixel_grid(*size, points.device, torch.float64)
    moved = turn * torch.complex(x, y) + shift
    background = torch.stack([moved.real, moved.imag])
    at = points.double()
    explained = torch.view_as_real(turn * torch.view_as_complex(at.contiguous()) + shift)
    return (background + gaussian(at, vectors - explained, size, radius, smoothing, centres)).float()


def dominant_similarity(points: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Complex ``(a, b)`` of the displacement ``a z + b`` at ``z = x + i y`` that most ``points [N, 2]`` share.

    Iteratively reweighted least squares: with weights 1/r for the sum of distances, which the majority decides, then
    with 1/r^2, which all but forgets the rest.
    """
    z = torch.view_as_complex(points.double().contiguous())
    displacement = torch.view_as_complex(vectors.double().contiguous())
    weights = torch.ones_like(z.real)
    for power in [1] * ROUNDS + [2] * ROUNDS:
        turn, shift = _similarity(z, displacement, weights)
        residual = (displacement - turn * z - shift).abs()
        weights = (residual.square() + SHARP**2) ** (-power / 2)
    return _similarity(z, displacement, weights)


def _similarity(z: Tensor, displacement: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted least squares of ``a z + b``; in the plane this is Umeyama's similarity without reflection."""
    share = weights / weights.sum()
    z_mean, moved_mean = (share * z).sum(), (share * displacement).sum()
    centred = z - z_mean
    spread = (share * centred.abs().square()).sum()
    if spread < 1e-12:  # one place: nothing tells how it turns
        return torch.zeros_like(moved_mean), moved_mean
    turn = (share * centred.conj() * (displacement - moved_mean)).sum() / spread
    return turn, moved_mean - turn * z_mean
