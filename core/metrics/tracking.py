"""Where the ink is: centroids of a light figure on a dark ground, and what motion they show."""

import torch
from torch import Tensor

from ..training.digits import DIRECTIONS, DigitClips, MovingDigits

# Brightness in [0, 1] below which a pixel counts as ground: noise there would pull the centroid to the middle.
INK = 0.15


def ink(video: Tensor) -> Tensor:
    """Brightness ``[b, frames, h, w]`` in [0, 1] of clips ``[b, c, frames, h, w]`` in [-1, 1], ground set to zero."""
    bright = ((video.mean(1) + 1) / 2).clamp(0, 1)
    return torch.where(bright > INK, bright, torch.zeros_like(bright))


def centroids(video: Tensor) -> Tensor:
    """Intensity centroids ``[b, frames, 2]`` (x, y) in pixels; the middle of the frame where there is no ink at all."""
    weight = ink(video).flatten(2)
    height, width = video.shape[-2:]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    places = torch.stack([x, y], dim=-1).reshape(-1, 2).to(weight)
    total = weight.sum(-1, keepdim=True)
    middle = places.mean(0).expand(*weight.shape[:2], 2)
    return torch.where(total > 0, weight @ places / total.clamp_min(1e-6), middle)


def centroid_error(video: Tensor, truth: Tensor) -> Tensor:
    """Mean distance in pixels over frames 1 and on, per clip, of the centroids of ``video`` and ``truth``."""
    return (centroids(video) - centroids(truth))[:, 1:].norm(dim=-1).mean(1)


def shown_direction(video: Tensor, clips: DigitClips, world: MovingDigits) -> Tensor:
    """The direction ``[b]`` whose true path lies nearest (mean distance) to the tracked centroids.

    Paths start where the clip started and bounce at the same walls, so bounced clips are read correctly too.
    """
    tracked = centroids(video)
    offset = (centroids(clips.video) - clips.centres)[:, :1]  # of the digit's ink from its box, the same in every frame
    start = clips.centres[:, 0]
    distances = []
    for direction in range(len(DIRECTIONS)):
        path = world.paths(torch.full((len(start),), direction), start) + offset
        distances.append((tracked - path).norm(dim=-1).mean(1))
    return torch.stack(distances, dim=1).argmin(1)
