"""Noise that can be carried along motion: Gaussian fields on the plane, and white noise that stays white.

Source: Warped Diffusion (Daras et al. 2024), sections 3.1 and 3.3; the white warp is this pack's own (`white.py`).
"""

from .draws import derived_seed, drawn
from .field import GaussianField, finest_length_scale, pixel_centres
from .maps import latent_motion, renewed
from .report import noise_statistics
from .spectra import flat, truncated_normal
from .warp import STRATEGIES, warp_noise
from .waves import FullRank

__all__ = [
    "STRATEGIES",
    "FullRank",
    "GaussianField",
    "derived_seed",
    "drawn",
    "finest_length_scale",
    "flat",
    "latent_motion",
    "noise_statistics",
    "pixel_centres",
    "renewed",
    "truncated_normal",
    "warp_noise",
]
