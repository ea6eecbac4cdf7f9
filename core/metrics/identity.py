"""Is it still the same figure? Crops around the centroid, compared by cosine similarity."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..training.digits import MovingDigits
from .tracking import centroids, ink


def crops(video: Tensor, side: int = 16) -> Tensor:
    """Unit-norm crops ``[b, frames, side * side]`` of the ink around its centroid (bilinear, so sub-pixel exact)."""
    batch, _, frames, height, width = video.shape
    middle = centroids(video).reshape(-1, 1, 1, 2)
    axis = torch.arange(side, dtype=video.dtype) - (side - 1) / 2
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    places = middle + torch.stack([x, y], dim=-1)
    grid = places * 2 / torch.tensor([width - 1, height - 1], dtype=video.dtype) - 1
    brightness = ink(video).reshape(-1, 1, height, width)
    cut = F.grid_sample(brightness, grid, mode="bilinear", align_corners=True)
    return F.normalize(cut.reshape(batch, frames, -1), dim=-1)


def nearest_digit(video: Tensor, world: MovingDigits) -> Tensor:
    """Index ``[b, frames]`` of the most similar of ``world.glyphs``, each drawn at the middle of the canvas."""
    count = len(world.glyphs)
    middle = torch.full((count, 2), (world.size - 1) / 2)
    bank = crops(world.clips(torch.arange(count), torch.zeros(count, dtype=torch.long), middle).video[:, :, :1])[:, 0]
    return (crops(video) @ bank.T).argmax(-1)


def similarity_to_input(video: Tensor, first_frame: Tensor) -> Tensor:
    """Mean cosine similarity ``[b]`` of the later frames' figure to the input's; stands for FrameBridge's PIC here."""
    reference = crops(first_frame[:, :, None])
    return (crops(video)[:, 1:] * reference).sum(-1).mean(1)
