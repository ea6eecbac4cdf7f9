"""A small global encoder of an exemplar's style: stands in for DINOv2 in the model that ships with the pack."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class StyleEncoder(nn.Module):
    """Pictures ``[n, 3, H, W]`` in -1..1 to a [CLS] ``[n, features]`` of unit mean square.

    Convolutions that halve the size, one for each of ``widths``; then means and deviations over the picture of the
    last two levels, so that neither the place nor the number of things matters, and two linear layers. Pictures are
    first scaled so that the shorter side is ``size``. Where EBDM takes DINOv2's [CLS] this takes one trained here, also
    without labels (``core.training.self_supervised``).
    """

    def __init__(
        self, features: int = 128, widths: Sequence[int] = (24, 48, 96, 96), groups: int = 8, size: int = 64, *,
        operations=nn, dtype=None, device=None,
    ):  # fmt: skip
        super().__init__()
        layers = {"dtype": dtype, "device": device}
        self.features, self.size = features, size
        stages, before = [], 3
        for width in widths:
            stages.append(
                nn.Sequential(
                    operations.Conv2d(before, width, 3, stride=2, padding=1, **layers),
                    operations.GroupNorm(groups, width, **layers),
                    nn.SiLU(),
                    operations.Conv2d(width, width, 3, padding=1, **layers),
                    nn.SiLU(),
                )
            )
            before = width
        self.stages = nn.ModuleList(stages)
        pooled = 2 * (3 + sum(widths[-2:]))  # colours themselves beside the two levels
        self.head = nn.Sequential(
            operations.Linear(pooled, 2 * features, **layers), nn.SiLU(),
            operations.Linear(2 * features, features, **layers),
        )  # fmt: skip

    def forward(self, pictures: Tensor) -> Tensor:
        x = pictures
        scale = self.size / min(x.shape[-2:])
        if scale != 1:
            size = [max(self.size, round(side * scale)) for side in x.shape[-2:]]
            x = x.to(torch.promote_types(x.dtype, torch.float32))  # processors cannot scale halves
            x = F.interpolate(x, size, mode="bilinear", antialias=True).to(pictures.dtype)
        levels = [x]
        for stage in self.stages:
            levels.append(stage(levels[-1]))
        pooled = [statistic for level in (levels[0], *levels[-2:]) for statistic in _mean_and_deviation(level)]
        cls = self.head(torch.cat(pooled, dim=1))
        return cls * cls.square().mean(1, keepdim=True).add(1e-6).rsqrt()


def _mean_and_deviation(x: Tensor) -> tuple[Tensor, Tensor]:
    flat = x.flatten(2)
    return flat.mean(2), flat.var(2, unbiased=False).add(1e-6).sqrt()
