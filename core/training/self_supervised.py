"""Learning a picture's style without labels: two crops of one picture are to be alike, and pictures to differ."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def vicreg(a: Tensor, b: Tensor, invariance: float = 25.0, variance: float = 25.0, covariance: float = 1.0) -> Tensor:
    """Of embeddings ``a, b [n, d]`` of two views: they agree, every feature varies, and no two features repeat.

    Source: VICReg (Bardes et al. 2022), eqs. 1 to 6, with its weights.
    """
    return invariance * F.mse_loss(a, b) + sum(variance * _hinge(x) + covariance * _redundance(x) for x in (a, b))


def _hinge(x: Tensor) -> Tensor:
    """How far the deviation of each feature over the batch falls short of 1."""
    return F.relu(1 - x.var(0).add(1e-4).sqrt()).mean()


def _redundance(x: Tensor) -> Tensor:
    centred = x - x.mean(0)
    covariance = centred.T @ centred / (len(x) - 1)
    return (covariance.square().sum() - covariance.diagonal().square().sum()) / x.shape[1]


def random_view(pictures: Tensor, generator: torch.Generator, least: float = 0.4) -> Tensor:
    """A square crop of each of ``pictures [n, c, s, s]``, of ``least`` to all of the side, mirrored or not, at size s.

    Colours stay: they are the style.
    """
    count = len(pictures)
    side = least + (1 - least) * torch.rand(count, generator=generator)
    mirrored = 1 - 2 * torch.randint(2, (count,), generator=generator)
    middle = (2 * torch.rand(count, 2, generator=generator) - 1) * (1 - side)[:, None]
    affine = torch.zeros(count, 2, 3)
    affine[:, 0, 0], affine[:, 1, 1], affine[:, :, 2] = side * mirrored, side, middle
    grid = F.affine_grid(affine, list(pictures.shape), align_corners=False)
    return F.grid_sample(pictures, grid, padding_mode="border", align_corners=False)


def projector(features: int, width: int = 256) -> nn.Sequential:
    """What the loss is put through, and thrown away afterwards (VICReg section 4.2, smaller)."""
    return nn.Sequential(nn.Linear(features, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, width))


def view_loss(encoder: nn.Module, head: nn.Module, pictures: Tensor, generator: torch.Generator) -> Tensor:
    """VICReg's loss of a batch of pictures, ``[n, 3, s, s]`` in -1..1."""
    both = torch.cat([random_view(pictures, generator) for _ in range(2)])
    return vicreg(*head(encoder(both)).chunk(2))
