"""Inverse problems of pictures, and the conditional denoiser that solves them frame by frame.

Pictures are ``[N, 3, H, W]`` in -1..1 ("pixel space").
"""

from .denoiser import Precondition, image_denoiser
from .levels import karras_levels
from .problems import PROBLEMS, Inpainting, Problem, SuperResolution, make_problem

__all__ = [
    "PROBLEMS",
    "Inpainting",
    "Precondition",
    "Problem",
    "SuperResolution",
    "image_denoiser",
    "karras_levels",
    "make_problem",
]
