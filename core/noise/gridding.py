"""From random waves to values on a lattice: a non-uniform Fourier transform of type 1."""

import math

import torch
from torch import Tensor

from .waves import Waves
from .window import OVERSAMPLING, Window

BLOCK = 8192  # waves at a time: their window products take about 1 MB each
FACTORS = (2, 3, 5, 7)  # lengths whose Fourier transform is fast


@torch.no_grad()
def lattice_values(
    waves: Waves, window: Window, start: tuple[int, int], size: tuple[int, int], step: tuple[float, float]
) -> Tensor:
    """float32 ``[channels, size_y, size_x]``: the sum over waves at ``((start + k) * step)``, pairs being (x, y).

    Each wave's coefficient is spread with the window over a fine frequency grid, Fourier transforms bring the sum to
    the lattice, and the window's transform is divided out. The work is W^2 a wave and an FFT, where the plain sum
    takes the whole lattice a wave. Phases are float64, all else float32. Source: Dutt and Rokhlin 1993; Greengard and
    Lee 2004.
    """
    length = tuple(fast_length(math.ceil(OVERSAMPLING * (count + 1))) for count in size)
    centre = [start[axis] + size[axis] // 2 for axis in (0, 1)]
    radians = waves.frequencies.T * torch.tensor(step, dtype=torch.float64)[:, None]  # a lattice step
    phases = waves.phases + torch.tensor(centre, dtype=torch.float64) @ radians
    # cos(z x + b) = cos(-z x - b): all waves can have z_x >= 0, and half of the frequency grid is enough.
    sign = torch.where(radians[0] < 0, -1.0, 1.0).double()
    bins = radians * sign * torch.tensor(length, dtype=torch.float64)[:, None] / (2 * math.pi)
    spectrum = _spread(bins, phases * sign, waves.weights, window, length[1])
    return torch.cat([_transformed(channel, window, size, length) for channel in spectrum.split(1)])


def fast_length(least: int) -> int:
    """The next number from ``least`` on with no prime factor above 7, and even."""
    length = least + least % 2
    while not _is_smooth(length):
        length += 2
    return length


def _is_smooth(number: int) -> bool:
    for factor in FACTORS:
        while number % factor == 0:
            number //= factor
    return number == 1


def _spread(bins: Tensor, phases: Tensor, weights: Tensor, window: Window, rows: int) -> Tensor:
    """complex64 ``[channels, columns, rows]``; column m stands for bin ``m - W // 2``, rows wrap around."""
    half, channels = window.width // 2, weights.shape[1]
    columns = int(bins[0].max().item()) + window.width + 1
    grid = torch.zeros(channels, columns * rows * 2, dtype=torch.float32)
    steps = torch.arange(window.width)[:, None]
    for part in torch.arange(len(phases)).split(BLOCK):
        first = torch.ceil(bins[:, part] - window.width / 2)
        taps = window.taps((first + window.width / 2 - bins[:, part]).float())  # [W, 2, n]
        column, row = first.long()[0] + half + steps, (first.long()[1] + steps) % rows
        cells = (2 * (column[:, None] * rows + row)).flatten()  # [W, W, n]
        product = taps[:, None, 0] * taps[:, 1]
        for imaginary, turned in enumerate((phases[part].cos(), phases[part].sin())):
            for channel, amount in enumerate((turned[:, None] * weights[part]).float().T):
                grid[channel].index_add_(0, cells + imaginary, (amount * product).flatten())
    return torch.view_as_complex(grid.view(channels, columns, rows, 2))


def _transformed(spectrum: Tensor, window: Window, size: tuple[int, int], length: tuple[int, int]) -> Tensor:
    """Fourier transforms to the lattice: along y only where columns are, then real ones along x."""
    half = window.width // 2
    along_y = torch.fft.ifft(spectrum, dim=2, norm="forward").index_select(2, _around_centre(size[1], length[1]))
    along_y /= _rolloff(window, size[1], length[1])
    # Bins below 0 are the conjugates of those above, and a real transform counts every bin but 0 twice.
    folded = along_y[:, half:]
    folded[:, 1 : half + 1] += along_y[:, :half].flip(1).conj()
    folded[:, 1:] *= 0.5
    values = torch.fft.irfft(folded.mT, n=length[0], dim=2, norm="forward")
    values = values.index_select(2, _around_centre(size[0], length[0]))
    return values.div_(_rolloff(window, size[0], length[0]))


def _around_centre(count: int, length: int) -> Tensor:
    return (torch.arange(count) - count // 2) % length


def _rolloff(window: Window, count: int, length: int) -> Tensor:
    place = torch.arange(count, dtype=torch.float64) - count // 2
    return window.transform(2 * math.pi * place / length).float()
