"""The draw itself: random plane waves, fixed by a seed alone.

Everything is drawn in float64 on the CPU, from uniform numbers by inverse distribution functions, so that neither the
device, nor the dtype, nor how many points are evaluated at once has a part in it.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .spectra import Spectrum


@dataclass(frozen=True, eq=False)
class Waves:
    """``xi_c(x) = sum_j weights[j, c] cos(<frequencies[j], x> + phases[j])``, float64 on the CPU.

    ``frequencies [J, 2]`` in radians per unit of (x, y); ``phases [J]``; ``weights [J, channels]``. ``box``: bounds of
    the absolute frequencies along x and y.
    """

    frequencies: Tensor
    phases: Tensor
    weights: Tensor
    box: tuple[float, float]

    def __len__(self) -> int:
        return self.phases.shape[0]

    @property
    def channels(self) -> int:
        return self.weights.shape[1]


@dataclass(frozen=True)
class FullRank:
    """One wave in every cell of a frequency lattice, instead of a fixed number of independent ones.

    With J independent waves a field has rank J: the paper's 3000, for 16384 latent pixels. Here the cells are as wide
    as the Fourier modes of a square of side ``cover``, so there are at least as many waves as pixels can tell apart on
    that square. Each lies at random in its cell and carries the cell's power: the covariance over draws is exact, the
    field does not repeat itself (a wave at the centre of each cell would have period ``cover``).
    """

    cover: float = 2.0

    def __post_init__(self):
        if not 1 <= self.cover < math.inf:
            raise ValueError(f"cover must be at least 1, the side of the unit square, got {self.cover}")


def independent_waves(
    generator: torch.Generator, channels: int, count: int, spectrum: Spectrum, length_scales: tuple[float, float]
) -> Waves:
    """Random Fourier features: ``z`` i.i.d. from the spectrum, ``b`` uniform, ``w`` normal for each channel.

    Source: Warped Diffusion section 3.1, ``xi(x) = sqrt(2 / J) sum_j w_j cos(<z_j, x> + b_j)``.
    """
    frequencies = spectrum.quantile(_uniform(generator, count, 2)) / _row(length_scales)
    amplitudes = torch.full((count,), math.sqrt(2 / count), dtype=torch.float64)
    return _with_weights(generator, channels, frequencies, amplitudes, spectrum, length_scales)


def full_rank_waves(
    generator: torch.Generator, channels: int, rank: FullRank, spectrum: Spectrum, length_scales: tuple[float, float]
) -> Waves:
    """One wave in each cell of the lattice that `FullRank` describes.

    Each cell's frequency follows the spectrum's law within the cell, and its squared amplitude is twice the cell's
    share of the power; both are independent between the axes.
    """
    edges = []
    for length_scale in length_scales:
        cells = math.ceil(rank.cover * spectrum.bound / (math.pi * length_scale))
        edges.append(spectrum.share(torch.linspace(-1, 1, cells + 1, dtype=torch.float64) * spectrum.bound))
    low = torch.cartesian_prod(edges[0][:-1], edges[1][:-1])
    power = torch.cartesian_prod(edges[0].diff(), edges[1].diff())
    frequencies = spectrum.quantile(low + power * _uniform(generator, *low.shape)) / _row(length_scales)
    amplitudes = (2 * power.prod(1)).sqrt()
    return _with_weights(generator, channels, frequencies, amplitudes, spectrum, length_scales)


def _with_weights(generator, channels: int, frequencies: Tensor, amplitudes: Tensor, spectrum, length_scales) -> Waves:
    count = len(amplitudes)
    phases = 2 * math.pi * _uniform(generator, count)
    # Channel after channel: the first channels of a field do not depend on how many follow.
    normal = torch.stack([torch.special.ndtri(_uniform(generator, count)) for _ in range(channels)], dim=1)
    box = (spectrum.bound / length_scales[0], spectrum.bound / length_scales[1])
    return Waves(frequencies, phases, amplitudes[:, None] * normal, box)


def _uniform(generator: torch.Generator, *shape: int) -> Tensor:
    """Uniform on the open interval (0, 1): the middles of the 2^53 steps that a float64 draw can take."""
    return torch.rand(shape, generator=generator, dtype=torch.float64) + 2.0**-54


def _row(pair: tuple[float, float]) -> Tensor:
    return torch.tensor(pair, dtype=torch.float64)
