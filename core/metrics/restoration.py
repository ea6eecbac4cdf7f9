"""How close a restored picture is to the truth, and whether it is as sharp. One value per picture, ``[N]``."""

import torch
import torch.nn.functional as F
from torch import Tensor

WINDOW, STD, K1, K2 = 11, 1.5, 0.01, 0.03  # Wang et al. 2004, section III-C


def psnr(pictures: Tensor, truth: Tensor, data_range: float = 1.0, mask: Tensor | None = None) -> Tensor:
    """Peak signal to noise ratio in dB: ``10 log10(data_range^2 / mean squared error)``, infinite where they agree.

    ``pictures, truth [N, C, H, W]``; the mean is over channels and pixels, with ``mask [N, 1, H, W]`` (bool or weights)
    over those it has. ``data_range``: from black to white, 2 for values in -1..1. Where a mask is empty: nan.
    """
    _check(pictures, truth)
    squared = (pictures - truth).square()
    weight = torch.ones_like(squared) if mask is None else mask.to(squared).expand_as(squared)
    error = (weight * squared).flatten(1).sum(1) / weight.flatten(1).sum(1)
    return 10 * (data_range**2 / error).log10()


def ssim(pictures: Tensor, truth: Tensor, data_range: float = 1.0) -> Tensor:
    """Structural similarity: the mean over channels and over the places where the whole window lies in the picture.

    ``pictures, truth [N, C, H, W]``. Source: Wang, Bovik, Sheikh and Simoncelli 2004, eqs. 13 to 16: a Gaussian window
    of 11 x 11 pixels and deviation 1.5, K1 = 0.01, K2 = 0.03. Raises ValueError for pictures smaller than the window.
    """
    _check(pictures, truth)
    if min(pictures.shape[-2:]) < WINDOW:
        raise ValueError(f"SSIM's window has {WINDOW} x {WINDOW} pixels, got pictures {list(pictures.shape)}")
    mean_x, mean_y = _windowed(pictures), _windowed(truth)
    var_x = _windowed(pictures.square()) - mean_x.square()
    var_y = _windowed(truth.square()) - mean_y.square()
    covariance = _windowed(pictures * truth) - mean_x * mean_y
    c1, c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    brightness = (2 * mean_x * mean_y + c1) / (mean_x.square() + mean_y.square() + c1)
    structure = (2 * covariance + c2) / (var_x + var_y + c2)
    return (brightness * structure).flatten(1).mean(1)


def laplacian_energy(pictures: Tensor) -> Tensor:
    """The mean square of the five-point Laplacian over channels and inner pixels: fine detail, and noise as well.

    Its variance is a measure of focus (Pech-Pacheco et al. 2000); inside a picture its mean is next to nothing. Compare
    with the truth's: above it something was invented or is noisy, below it is blurred.
    """
    up, down = pictures[..., :-2, 1:-1], pictures[..., 2:, 1:-1]
    left, right = pictures[..., 1:-1, :-2], pictures[..., 1:-1, 2:]
    return (up + down + left + right - 4 * pictures[..., 1:-1, 1:-1]).square().flatten(1).mean(1)


def _windowed(x: Tensor) -> Tensor:
    """Weighted means over the window, ``[N, C, H - 10, W - 10]``; separable."""
    places = torch.arange(WINDOW, dtype=x.dtype, device=x.device) - WINDOW // 2
    taps = (-places.square() / (2 * STD**2)).exp()
    taps = (taps / taps.sum()).expand(x.shape[1], 1, 1, -1)
    return F.conv2d(F.conv2d(x, taps, groups=x.shape[1]), taps.transpose(2, 3), groups=x.shape[1])


def _check(pictures: Tensor, truth: Tensor) -> None:
    if pictures.dim() != 4 or pictures.shape != truth.shape:
        raise ValueError(
            f"expected pictures and truth alike [N,C,H,W], got {list(pictures.shape)}, {list(truth.shape)}"
        )
