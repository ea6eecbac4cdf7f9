"""How far apart the textures of two pictures are, whatever their colours and however large each patch of them is.

At every place the energy of oriented band-pass filters is taken as shares, and a picture is the set of the shares
found in it: which directions and which spacings its patterns have.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .palette import EXACT, lab

WAVELENGTHS = (2.8, 4.0, 5.7)  # pixels, half an octave apart
DIRECTIONS = 6
POOL = 1.5  # deviation in pixels of the window over which energy is gathered
FLAT = 3.0  # contrast in CIELAB below which a place is flat rather than patterned
STRIDE = 4  # pixels between the places that are compared


def texture_shares(picture: Tensor) -> Tensor:
    """``[places, 3 x 6 + 1]`` of ``picture [3, H, W]`` in 0..1: non-negative, each place's sum is 1.

    Energies of complex Gabor filters (they do not depend on a pattern's phase), summed over the channels of CIELAB and
    gathered in a window around the place: by wavelength, then by direction (from upright stripes in steps of 30
    degrees). The last entry is the share of flatness. Shifting or turning the colours in CIELAB changes nothing,
    stretching them only how flat faint patterns are.
    """
    if picture.dim() != 3 or picture.shape[0] != 3:
        raise ValueError(f"expected one picture [3,H,W], got {list(picture.shape)}")
    bank = _gabors().to(picture)
    reach = bank.shape[-1] // 2
    if min(picture.shape[-2:]) <= reach:
        raise ValueError(f"the filters reach {reach} pixels, got a picture of {list(picture.shape[-2:])}")
    colours = F.pad(lab(picture)[:, None], (reach,) * 4, mode="reflect")
    answers = F.conv2d(colours, bank.flatten(0, 1)[:, None])
    energy = answers.unflatten(1, (2, -1)).square().sum((0, 1))
    energy = torch.cat([energy, torch.full_like(energy[:1], FLAT**2)])
    gathered = _gathered(energy[:, None])[:, 0, STRIDE // 2 :: STRIDE, STRIDE // 2 :: STRIDE].flatten(1).T
    return gathered / gathered.sum(1, keepdim=True)


def texture_distance(first: Tensor, second: Tensor) -> float:
    """Mean Hellinger distance from a place of one picture to the likest place of the other, both ways: 0 to 1.

    Pictures ``[3, H, W]`` in 0..1, not necessarily of one size.
    """
    one, other = texture_shares(first).sqrt(), texture_shares(second).sqrt()
    apart = torch.cdist(one, other, compute_mode=EXACT) / math.sqrt(2)
    return ((apart.amin(0).mean() + apart.amin(1).mean()) / 2).item()


def _gabors() -> Tensor:
    """``[2, 18, k, k]``: real and imaginary parts; the answer to a wave of contrast 1 of its own kind has energy 1."""
    reach = math.ceil(2.5 * _width(max(WAVELENGTHS)))
    places = torch.arange(-reach, reach + 1, dtype=torch.float64)
    y, x = torch.meshgrid(places, places, indexing="ij")
    parts = []
    for wavelength in WAVELENGTHS:
        window = (-(x.square() + y.square()) / (2 * _width(wavelength) ** 2)).exp()
        window = window / window.sum()
        for n in range(DIRECTIONS):
            angle = math.pi * n / DIRECTIONS
            phase = 2 * math.pi / wavelength * (x * math.cos(angle) + y * math.sin(angle))
            even = window * phase.cos()
            parts.append(torch.stack([2 * (even - window * even.sum()), 2 * window * phase.sin()]))
    return torch.stack(parts, dim=1)


def _width(wavelength: float) -> float:
    return 0.56 * wavelength  # one octave at half the height


def _gathered(x: Tensor) -> Tensor:
    reach = math.ceil(2.5 * POOL)
    taps = torch.arange(-reach, reach + 1, dtype=x.dtype, device=x.device)
    taps = (-taps.square() / (2 * POOL**2)).exp()
    taps = (taps / taps.sum()).view(1, 1, 1, -1)
    x = F.pad(x, (reach,) * 4, mode="reflect")
    return F.conv2d(F.conv2d(x, taps), taps.transpose(2, 3))
