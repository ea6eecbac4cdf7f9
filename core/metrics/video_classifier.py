"""A small video classifier, trained on the world of moving digits; its features carry the Frechet video distance."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..training.digits import DIRECTIONS


class VideoClassifier(nn.Module):
    """Clips ``[b, 3, frames, 32, 32]`` -> logits of direction and digit. 3D convolutions, 64 features.

    The input is grey (the mean over channels). ``features`` are the 64 pooled activations before the two linear heads.
    """

    def __init__(self, digits: int = 10):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv3d(1, 16, 3, stride=(1, 2, 2), padding=1), nn.GroupNorm(4, 16), nn.SiLU(),
            nn.Conv3d(16, 32, 3, stride=(1, 2, 2), padding=1), nn.GroupNorm(4, 32), nn.SiLU(),
            nn.Conv3d(32, 64, 3, stride=(2, 2, 2), padding=1), nn.GroupNorm(4, 64), nn.SiLU(),
            nn.Conv3d(64, 64, 3, padding=1), nn.GroupNorm(4, 64), nn.SiLU(),
        )  # fmt: skip
        self.mix = nn.Linear(64 * 4 * 4 * 4, 64)
        self.direction = nn.Linear(64, len(DIRECTIONS))
        self.digit = nn.Linear(64, digits)

    def features(self, video: Tensor) -> Tensor:
        return F.silu(self.mix(self.layers(video.mean(1, keepdim=True)).flatten(1)))

    def forward(self, video: Tensor) -> tuple[Tensor, Tensor]:
        features = self.features(video)
        return self.direction(features), self.digit(features)


def classification_loss(network: VideoClassifier, video: Tensor, direction: Tensor, label: Tensor) -> Tensor:
    """Sum of the two cross-entropies."""
    towards, digit = network(video)
    return F.cross_entropy(towards, direction) + F.cross_entropy(digit, label)


@torch.no_grad()
def all_features(network: VideoClassifier, video: Tensor, batch: int = 64) -> Tensor:
    return torch.cat([network.features(part) for part in video.split(batch)])
