"""Noise that can be carried along motion: Gaussian fields on the plane (Warped Diffusion, section 3.1)."""

from .field import GaussianField, finest_length_scale, pixel_centres
from .spectra import flat, truncated_normal
from .waves import FullRank

__all__ = ["FullRank", "GaussianField", "finest_length_scale", "flat", "pixel_centres", "truncated_normal"]
