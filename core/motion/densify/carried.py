"""The first frame as it looks later on, for densifiers that follow a picture."""

import torch
from torch import Tensor
from torch.nn import functional as F

from ..neighbourhood import highest_nearby
from ..sampling import inside, pixel_grid, sample

ROUNDS = 10  # of the fixed point
EXACT = 0.5  # pixels: what the inverse may be off
TORN = 2.0  # pixels: neighbours that come from places farther apart belong to different things


class CarriedImage:
    """``shown [C, H, W]``: ``image`` as it looks after the forward fields it was told to `follow`.

    The map back to the first frame is composed and the picture read once, as in `advect`. The fields that lead back
    are still to be made, so each step is inverted. Where two pixels land on one, the one that moved farther is in
    front: an object covers the ground, in this picture as in the fields made of it. What is uncovered looks like the
    ground beside it, which is what moved least nearby.
    """

    def __init__(self, image: Tensor):
        self.image = image[None].float()
        self.shown = image
        self.grid = pixel_grid(*image.shape[-2:], image.device)[None]
        self.back = torch.zeros_like(self.grid)

    def follow(self, forward: Tensor) -> None:
        """On to the next frame, by ``forward [2, H, W]`` of this one."""
        origin = _origins(forward[None].to(self.grid), self.grid)
        self.back = origin - self.grid + _read_untorn(self.back, origin)
        self.shown = sample(self.image, self.grid + self.back)[0]


def _origins(flow: Tensor, grid: Tensor) -> Tensor:
    """Where every pixel of the next frame comes from, or seems to: ``[1, 2, H, W]`` for ``flow`` of that shape.

    A fixed point as in `invert`, on whole pixels so that objects keep their rims, from two starts: the longest vector
    that could reach the pixel, which finds what moved there, and none, which finds what stayed.
    """
    size = flow.shape[-2:]
    length = flow.norm(dim=1, keepdim=True)
    reach = int(length.max().ceil())
    origin = highest_nearby(-length, grid, reach)
    for start in (torch.zeros_like(flow), highest_nearby(length, flow, reach)):
        vector = start
        for _ in range(ROUNDS):
            vector = sample(flow, (grid - vector).round())
        off = (sample(flow, (grid - vector).round()) - vector).square().sum(1)
        origin = torch.where((off <= EXACT**2) & inside(grid - vector, *size), grid - vector, origin)
    return origin


def _read_untorn(field: Tensor, points: Tensor) -> Tensor:
    """``field`` at ``points``: bilinear, but beside a tear the nearest pixel's own vector: there is none between."""
    spread = F.max_pool2d(field, 3, 1, 1) + F.max_pool2d(-field, 3, 1, 1)
    torn = (spread.amax(1, keepdim=True) > TORN).float()
    nearest = points.round()
    return torch.where(sample(torn, nearest) > 0.5, sample(field, nearest), sample(field, points))
