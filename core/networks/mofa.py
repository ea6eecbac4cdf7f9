"""MOFA-Video's motion adapter for Stable Video Diffusion: the parts of its Flow-ControlNet, as a `MotionAdapter`.

Source: MOFA-Video (Niu et al. 2024) section 3.2; its released code where the paper is silent: how the picture enters,
where activations are, how flows are scaled.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..motion.carry import Carry
from ..motion.chunks import frame_chunks
from ..motion.splat import splat
from .motion_adapter import MotionAdapter, Site
from .svd_branch import SvdBranch

LATENT_STRIDE = 8  # pixels of the film to one of SVD's latent


def splatted(features: Tensor, carry: Carry) -> Tensor:
    """First-frame features ``[b, C, h, w]`` where ``carry.onward`` takes them, in every frame: ``[b * F, C, h, w]``.

    As released: the vectors are those of every (H / h)th pixel, which strided convolutions are centred on, divided by
    that stride; landing features are averaged. The first frame's own stay where they are. ``carry`` is of the film's
    size.
    """
    height, width = features.shape[-2:]
    scale = carry.onward.new_tensor([width / carry.size[1], height / carry.size[0]])[:, None, None]
    flows = F.interpolate(carry.onward.flatten(0, 1), (height, width), mode="nearest") * scale
    flows = flows.unflatten(0, (-1, carry.frames)).expand(len(features), -1, -1, -1, -1)
    each = 8 * 8 * features[0].numel()  # bytes: a handful of copies in double precision
    moved = []
    for own, flow in zip(features.float(), flows, strict=True):
        for part in frame_chunks(carry.frames, each, features.device):
            moved.append(splat(own.expand(len(flow[part]), -1, -1, -1), flow[part])[0])
    return torch.cat(moved).to(features.dtype)


class Stem(nn.Module):
    """A picture to features at 1/2^(n-1) of its size, n the number of ``widths``; a SiLU after every layer but one."""

    def __init__(self, widths: Sequence[int], out: int, *, operations, **factory):
        super().__init__()

        def convolution(before: int, after: int, stride: int = 1) -> nn.Module:
            return operations.Conv2d(before, after, 3, stride=stride, padding=1, **factory)

        self.conv_in = convolution(3, widths[0])
        self.blocks = nn.ModuleList()
        for before, after in zip(widths[:-1], widths[1:], strict=True):
            self.blocks.extend([convolution(before, before), convolution(before, after, stride=2)])
        self.conv_out = convolution(widths[-1], out)

    def forward(self, x: Tensor) -> Tensor:
        x = F.silu(self.conv_in(x))
        for block in self.blocks:
            x = F.silu(block(x))
        return self.conv_out(x)


class Encoder(nn.Module):
    """To the next scale, half as large."""

    def __init__(self, before: int, after: int, *, operations, **factory):
        super().__init__()
        self.conv_in = operations.Conv2d(before, after, 3, stride=2, padding=1, **factory)

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(self.conv_in(x))


class StridedFeatures(nn.Module):
    """``image [b, 3, H, W]`` in 0..1 -> features ``[b, channels[k], ...]`` at 1/8, 1/16, ... of its size.

    The stem gives the first scale and each encoder the next; all but the first pass a 1x1 convolution on their way out.
    ``stem``: its widths, each but the first at half the size of the one before.
    """

    def __init__(
        self, channels: Sequence[int], stem: Sequence[int], *, operations=nn, dtype=None, device=None
    ):  # fmt: skip
        super().__init__()
        own = {"operations": operations, "dtype": dtype, "device": device}
        self.stem = Stem(stem, channels[0], **own)
        self.encoders = nn.ModuleList(
            Encoder(before, after, **own) for before, after in zip(channels[:-1], channels[1:], strict=True)
        )
        self.zeroconvs = nn.ModuleList(
            operations.Conv2d(width, width, 1, dtype=dtype, device=device) for width in channels[1:]
        )

    def forward(self, image: Tensor) -> list[Tensor]:
        x = self.stem(2 * image - 1)  # the range that the released sampler hands in
        scales = [x]
        for encoder, leave in zip(self.encoders, self.zeroconvs, strict=True):
            x = encoder(x)
            scales.append(leave(x))
        return scales


class SvdAdapter(MotionAdapter):
    """The released adapter: `StridedFeatures`, carried by `splatted`, into an `SvdBranch`, with `MotionAdapter`'s
    projections. ``stem``: widths of the features' stem; the other arguments are `SvdBranch`'s.
    """

    def __init__(
        self, stem: Sequence[int] = (16, 32, 96, 256), *, operations=nn, dtype=None, device=None, **branch
    ):  # fmt: skip
        own = {"operations": operations, "dtype": dtype, "device": device}
        control = SvdBranch(**branch, **own)
        if len(control.widths) > 1 and control.widths[-1] != control.widths[-2]:
            raise ValueError(f"the last scale is added to the last two levels, of widths {list(control.widths)[-2:]}")
        features = StridedFeatures((control.widths[0], *control.widths[:-1]), stem, **own)
        sites = [Site(width, LATENT_STRIDE * stride) for width, stride in control.states]
        super().__init__(features, control, sites, splatted, **own)
