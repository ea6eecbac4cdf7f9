"""How far apart pictures and clips look: distances of what a small trained network sees in them.

Made as LPIPS is (Zhang et al. 2018, section 3, without its learned weights per channel): features at every level of an
encoder, each pixel's scaled to unit length, squared differences. LPIPS itself rests on weights that do not ship here;
our super-resolution model stands in. Blur, shift and noise of growing strength grow further apart, and half a pixel of
shift is nearer than a blur of the same mean squared error, as eyes have it. Its numbers are not those of LPIPS.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ..networks.latte import sinusoidal
from ..networks.restorer import Restorer
from ..restoration import Precondition, make_problem

SIGMA = 0.5  # the noise level the network is told: at lower ones a breath of noise counts more than a shift
BATCH = 16

# pictures [N, 3, H, W] in 0..1 -> features at several levels, [N, C, h, w] each
Features = Callable[[Tensor], list[Tensor]]


class RestorerFeatures:
    """`Features`: the encoder of a super-resolution `Restorer`, shown each picture and what a measurement leaves of it.

    ``config``: that of the model's file. Pictures of any size; borders are repeated up to a multiple of what the
    network and its measurement take. Raises ValueError for a model of another problem.
    """

    def __init__(self, network: Restorer, config: dict, sigma: float = SIGMA):
        self.network, self.sigma = network, sigma
        self.problem = make_problem(config["restoration"])
        if self.problem.kind != "super-resolution":
            raise ValueError(f"features come from a super-resolution model, got one of {self.problem.kind}")
        self.precondition = Precondition(self.problem, config["precondition"]["std_data"])

    @property
    def step(self) -> int:
        return max(self.network.step, self.problem.factor)  # both are powers of two

    @torch.no_grad()
    def __call__(self, pictures: Tensor) -> list[Tensor]:
        height, width = pictures.shape[-2:]
        edges = (0, -width % self.step, 0, -height % self.step)
        z = F.pad(2 * pictures - 1, edges, mode="replicate") if any(edges) else 2 * pictures - 1
        guess = self.problem.condition(self.problem.measure(z))
        sigma = z.new_full((len(z),), self.sigma)
        _, _, into = self.precondition.scales(sigma[:1])
        unet = self.network.unet
        h = F.pixel_unshuffle(torch.cat([into * (z - guess), guess], dim=1), self.network.fold)
        emb = unet.time_embed(sinusoidal(sigma.log() / 4, unet.channels).to(h.dtype))
        found = []
        for stage in unet.input_blocks:
            h = stage(h, emb)
            found.append(h)
        return found


def perceptual_distance(pictures: Tensor, truth: Tensor, features: Features) -> Tensor:
    """``[N]`` of ``pictures, truth [N, 3, H, W]`` in 0..1: zero where they agree, each level adds 0 to 4.

    A level's part is the mean over its pixels of ``|u - v|^2`` between features of unit length.
    """
    if pictures.shape != truth.shape:
        raise ValueError(f"pictures and truth differ: {list(pictures.shape)} against {list(truth.shape)}")
    parts = zip(pictures.split(BATCH), truth.split(BATCH), strict=True)
    return torch.cat([feature_distance(features(one), features(other)) for one, other in parts])


def feature_distance(one: list[Tensor], other: list[Tensor]) -> Tensor:
    """`perceptual_distance` of what has been seen already: features of pictures and of the truth."""
    apart = [F.normalize(u, dim=1) - F.normalize(v, dim=1) for u, v in zip(one, other, strict=True)]
    return sum(level.square().sum(1).mean((1, 2)) for level in apart)


def clip_features(deepest: Tensor) -> Tensor:
    """``[2 C]`` of a clip's deepest features ``[F, C, h, w]``, for Frechet distances between sets of clips.

    What the frames show on average, and how much of it, place by place, changes from frame to frame.
    """
    changes = deepest.diff(dim=0).abs().mean((0, 2, 3))
    return torch.cat([deepest.mean((0, 2, 3)), changes])


def neighbour_similarity(deepest: Tensor) -> float:
    """Mean cosine similarity of neighbouring frames' features ``[F, C, h, w]``, pooled; CLIP-Cons takes CLIP's."""
    seen = F.normalize(deepest.mean((2, 3)), dim=1)
    return (seen[1:] * seen[:-1]).sum(1).mean().item()
