"""MotionAdapter: a trainable control branch beside a frozen backbone, shown the first frame carried along the motion.

A Flow-ControlNet (MOFA-Video; EMG sections 3 and 4.3, Figure 2): features of the first frame at several scales are
carried to every frame by the motion, added to a copy of the backbone's encoder, and what that copy makes of them is
added to the backbone through projections that start at zero. So a new adapter changes nothing.

It is written over three things a backbone offers: `Site`s where residuals can be added, an encoder to copy, and
features of an image at that encoder's scales. Whoever runs the backbone adds the residuals.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..motion.carry import Carry


@dataclass(frozen=True)
class Site:
    """A place in a backbone where a residual ``[frames, channels, H / stride, W / stride]`` can be added."""

    channels: int
    stride: int


# (features [b, C, h, w], carry) -> [b * F, C, h, w]
Carrying = Callable[[Tensor, Carry], Tensor]


def gathered(features: Tensor, carry: Carry) -> Tensor:
    """Each pixel of frame t reads where it was in the first frame; zero where it was not seen."""
    return carry.resized(*features.shape[-2:]).apply(features).flatten(0, 1)


class FirstFrameFeatures(nn.Module):
    """``image [b, 3, H, W]`` in 0..1 -> features ``[b, channels[k], H / strides[k], W / strides[k]]``, with masks.

    Pixels are folded into channels down to each stride, then convolved twice. A channel of ones comes last at every
    scale: once carried, it says where the first frame is seen.
    """

    def __init__(
        self, channels: Sequence[int], strides: Sequence[int], *, operations=nn, dtype=None, device=None
    ):  # fmt: skip
        super().__init__()
        if len(channels) != len(strides):
            raise ValueError(f"one width for each scale, got {len(channels)} widths for strides {list(strides)}")
        factory = {"dtype": dtype, "device": device}
        self.strides = tuple(strides)
        self.scales = nn.ModuleList(
            nn.Sequential(
                operations.Conv2d(3 * stride**2, width, 3, padding=1, **factory),
                nn.SiLU(),
                operations.Conv2d(width, width - 1, 3, padding=1, **factory),
            )
            for width, stride in zip(channels, strides, strict=True)
        )

    def forward(self, image: Tensor) -> list[Tensor]:
        found = []
        image = 2 * image - 1
        for stride, scale in zip(self.strides, self.scales, strict=True):
            features = scale(F.pixel_unshuffle(image, stride))
            found.append(torch.cat([features, torch.ones_like(features[:, :1])], dim=1))
        return found


class MotionAdapter(nn.Module):
    """``features``, ``branch`` and one zero-initialised projection per site.

    Args:
        features: ``image [b, 3, H, W]`` in 0..1 -> list of [b, C_k, H / s_k, W / s_k]``.
        branch: ``(entering, timesteps, carried=list of [b F, C_k, ...], **arguments)`` -> hidden states, one per site:
            the backbone's own encoder, trained on. ``entering`` and ``timesteps`` are what the backbone is given.
        sites: where the residuals go, in the order of the branch's hidden states.
        carrying: how features get from the first frame to the others.
        entering: channels of the branch's hidden states, where they are not those of the sites.
    """

    def __init__(
        self, features: nn.Module, branch: nn.Module, sites: Sequence[Site], carrying: Carrying = gathered, *,
        entering: Sequence[int] | None = None, operations=nn, dtype=None, device=None,
    ):  # fmt: skip
        super().__init__()
        self.features, self.branch, self.carrying = features, branch, carrying
        self.sites = tuple(sites)
        entering = [site.channels for site in sites] if entering is None else entering
        self.projections = nn.ModuleList(
            operations.Conv2d(before, site.channels, 1, dtype=dtype, device=device)
            for before, site in zip(entering, sites, strict=True)
        )
        self.zero()

    def zero(self) -> "MotionAdapter":
        """Projections at zero: the adapter changes nothing."""
        with torch.no_grad():
            for projection in self.projections:
                projection.weight.zero_()
                projection.bias.zero_()
        return self

    def carried(self, image: Tensor, carry: Carry) -> list[Tensor]:
        """The first frame's features in every frame, ``[b F, C_k, h_k, w_k]``; they do not depend on time."""
        return [self.carrying(features, carry) for features in self.features(image)]

    def forward(self, entering: Tensor, timesteps: Tensor, carried: Sequence[Tensor], **arguments) -> list[Tensor]:
        """Residuals, one per site."""
        hidden = self.branch(entering, timesteps, carried=carried, **arguments)
        if len(hidden) != len(self.projections):
            raise ValueError(f"the branch gives {len(hidden)} hidden states for {len(self.projections)} sites")
        return [project(state) for project, state in zip(self.projections, hidden, strict=True)]
