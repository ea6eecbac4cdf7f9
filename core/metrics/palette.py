"""How far apart the colours of two pictures are, whatever is painted in them and however large.

Colours are compared in CIELAB, where a distance of 2.3 is just noticeable (Sharma 2003). A histogram would tell a
picture of much sky from one of little. In `palette_distance` a colour counts once, whether it covers a tenth of the
picture or half, so that a few odd colours tell; in `colour_distance` it counts as often as there are pixels of it.
"""

import torch
from torch import Tensor

from ..optional import need

WHITE = (0.95047, 1.0, 1.08883)  # XYZ of D65
# Linear sRGB to XYZ, IEC 61966-2-1
PRIMARIES = ((0.4124564, 0.3575761, 0.1804375), (0.2126729, 0.7151522, 0.0721750), (0.0193339, 0.1191920, 0.9503041))
CELL = 8.0  # side of the cells of colours that count as one
EXACT = "donot_use_mm_for_euclid_dist"  # the fast way finds small distances where there are none
SHARE = 0.004  # least part of a picture that is a colour of it, not the blur of an edge or a speck


def lab(pictures: Tensor) -> Tensor:
    """CIELAB (D65) of sRGB pictures ``[..., 3, H, W]`` in 0..1: L in 0..100, a and b in about -110..110."""
    channels = pictures.movedim(-3, -1)
    linear = torch.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055).clamp(min=0) / 1.055) ** 2.4)
    xyz = linear @ channels.new_tensor(PRIMARIES).T / channels.new_tensor(WHITE)
    delta = 6 / 29
    root = torch.where(xyz > delta**3, xyz.clamp(min=delta**3) ** (1 / 3), xyz / (3 * delta**2) + 4 / 29)
    x, y, z = root.unbind(-1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=-3)


def palette(picture: Tensor, cell: float = CELL, share: float = SHARE) -> Tensor:
    """The colours of ``picture [3, H, W]`` in 0..1, ``[n, 3]`` in CIELAB, by falling count.

    A colour is the mean of the pixels in a cell of ``cell`` a side, if those are at least ``share`` of all; where no
    cell has so many, the fullest.
    """
    if picture.dim() != 3 or picture.shape[0] != 3:
        raise ValueError(f"expected one picture [3,H,W], got {list(picture.shape)}")
    colours = lab(picture).flatten(1).T.double()
    _, which, counts = (colours / cell).round().unique(dim=0, return_inverse=True, return_counts=True)
    means = colours.new_zeros(len(counts), 3).index_add_(0, which, colours) / counts[:, None]
    order = counts.argsort(descending=True, stable=True)
    enough = int((counts >= share * len(colours)).sum())
    return means[order[: max(enough, 1)]]


def palette_distance(first: Tensor, second: Tensor, cell: float = CELL, share: float = SHARE) -> float:
    """Mean distance in CIELAB from a colour of one picture to the nearest of the other, both ways.

    Pictures ``[3, H, W]`` in 0..1, not necessarily of one size. Zero for the same colours in whatever amounts and
    places, as long as each has its `SHARE`; the difference itself for two pictures of one colour each.
    """
    apart = torch.cdist(palette(first, cell, share), palette(second, cell, share), compute_mode=EXACT)
    return ((apart.amin(0).mean() + apart.amin(1).mean()) / 2).item()


def colour_distance(first: Tensor, second: Tensor) -> float:
    """Mean distance in CIELAB from a pixel of one picture to the nearest colour of the other, both ways (Chamfer).

    Pictures ``[3, H, W]`` in 0..1, not necessarily of one size. Zero for the same colours in whatever amounts and
    places; a share of odd pixels adds only that share.
    """
    neighbours = need("scipy.spatial", "comparing colours pixel by pixel").KDTree
    a, b = (lab(picture).flatten(1).T.double().numpy() for picture in (first.cpu(), second.cpu()))
    there, back = neighbours(b).query(a)[0], neighbours(a).query(b)[0]
    return float(there.mean() + back.mean()) / 2
