"""Motion that is known in closed form, and what white noise may look like by chance."""

import math

import torch
from scipy import stats

from aqueduct.core.motion import MotionField, pixel_grid
from aqueduct.core.noise.report import noise_statistics


def affine_points(matrix, shift, height, width):
    """``[2, H, W]``: ``matrix (p - middle) + middle + shift`` of every pixel p."""
    middle = torch.tensor([(width - 1) / 2, (height - 1) / 2])[:, None, None]
    points = pixel_grid(height, width) - middle
    return torch.einsum("ij,jhw->ihw", torch.as_tensor(matrix, dtype=torch.float32), points) + middle + shift_of(shift)


def shift_of(shift):
    return torch.tensor(shift, dtype=torch.float32)[:, None, None]


def affine_motion(matrix, shift, frames, height, width):
    """Each frame is the one before, moved: p was at ``matrix (p - middle) + middle + shift``."""
    grid = pixel_grid(height, width)
    backward = affine_points(matrix, shift, height, width) - grid
    inverse = torch.linalg.inv(torch.tensor(matrix, dtype=torch.float64))
    there = inverse @ torch.tensor(shift, dtype=torch.float64)
    forward = affine_points(inverse, (-there).tolist(), height, width) - grid
    fields = (field.expand(frames - 1, -1, -1, -1).contiguous() for field in (forward, backward))
    return MotionField(*fields)


def still(frames, height, width):
    return MotionField(torch.zeros(frames - 1, 2, height, width), torch.zeros(frames - 1, 2, height, width))


def turned(angle, scale=1.0):
    c, s = scale * math.cos(angle), scale * math.sin(angle)
    return [[c, -s], [s, c]]


# name -> (matrix, shift): from a frame's pixels to where they were in the frame before
MOTIONS = {
    "whole pixels": ([[1, 0], [0, 1]], (-3, 2)),
    "half a pixel": ([[1, 0], [0, 1]], (0.5, 0.5)),
    "parts of a pixel": ([[1, 0], [0, 1]], (0.3, -1.1)),
    "zoom in by 1.25": ([[0.8, 0], [0, 0.8]], (0, 0)),
    "zoom in by 2": ([[0.5, 0], [0, 0.5]], (0, 0)),
    "zoom out by 1.25": ([[1.25, 0], [0, 1.25]], (0, 0)),
    "zoom out by 2": ([[2, 0], [0, 2]], (0, 0)),
    "rotation": (turned(0.2), (0, 0)),
    "shear": ([[1, 0.4], [0, 1]], (0, 0)),
    "squeeze": ([[1.6, 0.2], [0, 0.6]], (0.4, 0)),
}


def white_noise(shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def assert_white(noise):
    """``[C, H, W]`` is N(0, 1) and uncorrelated, by mean, variance and nine lags within four sigma, and by
    Kolmogorov-Smirnov at 1e-4. A correct program fails with probability 8e-4, over the choice of seed."""
    values, count = noise.double(), noise.numel()
    assert abs(values.mean()) < 4 / count**0.5
    assert abs(values.square().mean() - 1) < 4 * (2 / count) ** 0.5
    height, width = noise.shape[-2:]
    for dy, dx in ((0, 1), (0, 2), (0, 3), (1, 0), (2, 0), (3, 0), (1, 1), (2, 1), (1, -1)):
        a = values[:, : height - dy, max(0, -dx) : width - max(0, dx)]
        b = values[:, dy:, max(0, dx) : width - max(0, -dx)]
        assert abs((a * b).mean()) < 4 / a.numel() ** 0.5, (dy, dx)
    assert stats.kstest(values.flatten().numpy(), "norm").pvalue > 1e-4


def along(noise, motion):
    """(with the frame before, with the first frame), averages over the clip."""
    found = noise_statistics(noise, motion)
    return found.along_previous.nanmean().item(), found.along_first.nanmean().item()
