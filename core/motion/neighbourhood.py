"""What is within reach of a pixel."""

import torch
from torch import Tensor
from torch.nn import functional as F


def highest_nearby(score: Tensor, values: Tensor, reach: int) -> Tensor:
    """``values [1, C, H, W]`` where ``score [1, 1, H, W]`` is highest in a square of ``reach`` pixels to each side."""
    reach = min(reach, max(score.shape[-2:]))
    for down, across in ((reach, 0), (0, reach)):  # the highest of a square: of each column, then of those in a row
        edges = (across, across, down, down)
        window = (2 * down + 1, 2 * across + 1)
        score, index = F.max_pool2d(F.pad(score, edges, value=-torch.inf), window, stride=1, return_indices=True)
        index = index.flatten(2).expand(-1, values.shape[1], -1)
        values = F.pad(values, edges).flatten(2).gather(2, index).view_as(values)
    return values
