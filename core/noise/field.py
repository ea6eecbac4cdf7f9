"""Gaussian-process noise as a function on the plane."""

import math

import torch
from torch import Tensor

from .direct import direct
from .draws import derived_seed
from .lattice import Lattice
from .spectra import Spectrum, truncated_normal
from .waves import FullRank, Waves, full_rank_waves, independent_waves

FARTHEST = 1e6  # unit squares; a float64 phase keeps nine digits there


def finest_length_scale(height: int, width: int, truncation: float = 2.0) -> tuple[float, float]:
    """``(x, y)``: the shortest length scales that a grid of this size samples without aliasing.

    Source: Warped Diffusion appendix F.2, ``truncation / (2 pi eps) <= resolution / 2``; with its truncation of 2 the
    paper's choice ``eps = 2 / (pi resolution)`` is exactly this limit.
    """
    return truncation / (math.pi * width), truncation / (math.pi * height)


class GaussianField:
    """One draw of a Gaussian process ``R^2 -> R^channels``: mean 0, variance 1, independent channels.

    ``seed``: the draw depends on it (and on the arguments here) alone, never on devices, dtypes or batches.
    ``length_scale``: of the covariance, in units of the square's side; one number, or (x, y) for grids that are not
    square. ``features``: the number J of random waves, or `FullRank` for one in every cell of the frequency plane.
    ``truncation``: frequencies end at truncation / length_scale. ``spectrum``: from the truncation to the law of the
    frequencies, `spectra.truncated_normal` (the paper's) or `spectra.flat`.

    Points are (x, y), with the unit square as the frame; the field is defined on the whole plane. Source: Warped
    Diffusion section 3.1. Raises ValueError for arguments that define no such field.
    """

    def __init__(
        self,
        seed: int,
        channels: int,
        length_scale: float | tuple[float, float],
        features: int | FullRank = 3000,
        truncation: float = 2.0,
        spectrum=truncated_normal,
    ):
        pair = length_scale if isinstance(length_scale, (tuple, list)) else (length_scale, length_scale)
        self.length_scale = tuple(float(value) for value in pair)
        _check(channels, self.length_scale, features, truncation)
        self.seed, self.channels, self.features, self.truncation = seed, channels, features, float(truncation)
        self.spectrum: Spectrum = spectrum(self.truncation)
        # Mixed, because torch's generator on the CPU looks at the lower 32 bits of a seed alone.
        generator = torch.Generator().manual_seed(derived_seed(seed))
        draw = full_rank_waves if isinstance(features, FullRank) else independent_waves
        self.waves: Waves = draw(generator, channels, features, self.spectrum, self.length_scale)
        self._lattice = Lattice(self.waves)

    def __repr__(self) -> str:
        x, y = self.length_scale
        return (
            f"GaussianField(seed {self.seed}, {self.channels} channels, length scale {x:.4g} x {y:.4g}, "
            f"{self.spectrum.kind}, {len(self.waves)} waves)"
        )

    def evaluate(self, points: Tensor) -> Tensor:
        """``[..., 2]`` points (x, y) to float32 ``[..., channels]``, on the points' device.

        Within 1e-5 of `reference`, at a cost for each point that does not grow with the number of waves (`Lattice`);
        what the first call prepares stays with the field. A point's value depends on that point alone: not on the
        others, their order or number. Raises ValueError for points that are not finite or farther out than a million
        squares.
        """
        chosen = _checked_points(points)
        # Coordinates need float64, which not every accelerator has.
        home = chosen if chosen.device.type in ("cpu", "cuda") else chosen.cpu()
        return self._lattice.evaluate(home).to(points.device).reshape(*points.shape[:-1], self.channels)

    def reference(self, points: Tensor) -> Tensor:
        """The same in float64, by the sum over all waves: slow, and what `evaluate` is tested against."""
        return direct(self.waves, _checked_points(points)).reshape(*points.shape[:-1], self.channels)

    def grid(self, height: int, width: int, device: torch.device | str = "cpu") -> Tensor:
        """float32 ``[channels, height, width]``: pixel (i, j) at ``x = (j + 0.5) / width, y = (i + 0.5) / height``.

        Exactly `evaluate` at those points. Raises ValueError when so coarse a grid would alias.
        """
        self.check_sampling(height, width)
        return self.evaluate(pixel_centres(height, width).to(device)).movedim(-1, 0).contiguous()

    def check_sampling(self, height: int, width: int) -> None:
        """Raise ValueError when a grid of this size is coarser than the field's Nyquist rate."""
        if height < 1 or width < 1:
            raise ValueError(f"a grid needs at least one pixel, got {width} x {height}")
        limits = finest_length_scale(height, width, self.truncation)
        for axis, got, least in zip("xy", self.length_scale, limits, strict=True):
            if got < least * (1 - 1e-9):
                raise ValueError(
                    f"length scale {got:.6g} along {axis} is under the sampling limit of {width} x {height} pixels: "
                    f"truncation / (pi pixels) = {least:.6g}. Use that or more, or a finer grid"
                )


def pixel_centres(height: int, width: int) -> Tensor:
    """float64 ``[height, width, 2]``: the centres (x, y) of the pixels of the unit square."""
    x = (torch.arange(width, dtype=torch.float64) + 0.5) / width
    y = (torch.arange(height, dtype=torch.float64) + 0.5) / height
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)


def _check(channels: int, length_scale: tuple[float, ...], features: int | FullRank, truncation: float) -> None:
    if channels < 1:
        raise ValueError(f"channels must be 1 or more, got {channels}")
    if len(length_scale) != 2 or not all(0 < value < math.inf for value in length_scale):
        raise ValueError(f"length_scale must be one positive number or two, (x, y), got {length_scale}")
    if not isinstance(features, FullRank) and features < 1:
        raise ValueError(f"features must be 1 or more, got {features}; the paper uses 3000, FullRank() needs no number")
    if not 0 < truncation <= 8:
        raise ValueError(
            f"truncation must be in (0, 8], got {truncation}: the paper cuts frequencies at 2 standard deviations, "
            f"and beyond 8 nothing is left to cut"
        )


def _checked_points(points: Tensor) -> Tensor:
    if points.shape[-1:] != (2,) or not points.is_floating_point():
        raise ValueError(f"points must be floating point [..., 2], (x, y), got {points.dtype} {list(points.shape)}")
    if not bool((points.abs() <= FARTHEST).all()):  # also false for NaN
        raise ValueError(
            f"points must be finite and within {FARTHEST:g} unit squares, got values in [{points.min().item():.6g}, "
            f"{points.max().item():.6g}]; a motion that grows without end makes such points"
        )
    return points.reshape(-1, 2)
