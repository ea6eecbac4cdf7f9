"""Conditional motion propagation (CMP, Zhan et al. 2019): from a picture and a few vectors to motion everywhere.

MOFA-Video's sparse-to-dense network, in the layout and with the key names of the release (without its ``module.``):
a ResNet-50 that keeps to 1/8 of the size by dilation, a shallow encoder of the vectors, and a decoder that looks at
both at four scales and comes back up by way of the ResNet's first features. Each component of the motion is one of 99
bins, as in the paper: what may move in two ways is not told as their mean.

Layers come from ``operations`` (default ``torch.nn``), batch norms are `Norm` where it has none.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..motion.densify.hints import check_hints, resized_hints

SIDE = 384  # pixels: the pictures of its training
BINS, REACH = 99, 50.0  # of each component; pixels to each side of rest
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of the pictures in training, as usual for ResNets
LONGEST = 20.0  # pixels: how long `Cmp.flow` makes the longest hint


class Norm(nn.BatchNorm2d):
    """With the statistics of its training, always, wherever they lie: hosts that offload weights do not move these."""

    def forward(self, x: Tensor) -> Tensor:
        mean, variance, weight, bias = (
            one.to(x) for one in (self.running_mean, self.running_var, self.weight, self.bias)
        )
        return F.batch_norm(x, mean, variance, weight, bias, eps=self.eps)


class Bottleneck(nn.Module):
    """ResNet's residual block; ``width`` channels inside, four times as many outside."""

    def __init__(self, channels: int, width: int, stride: int, dilation: int, **factory):
        super().__init__()
        out = 4 * width
        self.conv1 = _conv(channels, width, 1, bias=False, **factory)
        self.bn1 = _norm(width, **factory)
        self.conv2 = _conv(width, width, 3, stride, dilation, bias=False, **factory)
        self.bn2 = _norm(width, **factory)
        self.conv3 = _conv(width, out, 1, bias=False, **factory)
        self.bn3 = _norm(out, **factory)
        self.downsample = None
        if channels != out:
            self.downsample = nn.Sequential(
                _conv(channels, out, 1, stride, bias=False, **factory), _norm(out, **factory)
            )

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.bn1(self.conv1(x)))
        h = F.relu(self.bn2(self.conv2(h)))
        return F.relu(self.bn3(self.conv3(h)) + (x if self.downsample is None else self.downsample(x)))


class ImageEncoder(nn.Module):
    """ResNet-50 (He et al. 2016) whose last two stages do not stride: all their convolutions are dilated, 2 and 4."""

    def __init__(self, out: int, **factory):
        super().__init__()
        self.conv1 = _conv(3, 64, 7, stride=2, bias=False, **factory)
        self.bn1 = _norm(64, **factory)
        self.layer1 = _layer(64, 64, 3, 1, 1, **factory)
        self.layer2 = _layer(256, 128, 4, 2, 1, **factory)
        self.layer3 = _layer(512, 256, 6, 1, 2, **factory)
        self.layer4 = _layer(1024, 512, 3, 1, 4, **factory)
        self.conv5 = _conv(2048, out, 1, **factory)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Features at 1/2, 1/4 and 1/8 of the size."""
        half = F.relu(self.bn1(self.conv1(image)))
        quarter = self.layer1(F.max_pool2d(half, 3, stride=2, padding=1))
        return half, quarter, self.conv5(self.layer4(self.layer3(self.layer2(quarter))))


class FlowEncoder(nn.Module):
    """``[N, 4, H, W]`` to features at 1/8: the sparse vectors, and twice where they are known."""

    def __init__(self, out: int, **factory):
        super().__init__()
        self.features = nn.Sequential(
            *_block(4, 16, 5, stride=2, **factory), nn.MaxPool2d(2), *_block(16, out, 3, **factory), nn.AvgPool2d(2)
        )

    def forward(self, sparse: Tensor) -> Tensor:
        return self.features(sparse)


class FlowDecoder(nn.Module):
    """Joint features at 1/8 to logits at 1/2: convolved at four scales, then fused with the picture's on the way up."""

    def __init__(self, channels: int, out: int, **factory):
        super().__init__()

        def scale(factor: int) -> nn.Sequential:
            pool = [] if factor == 1 else [nn.MaxPool2d(factor)]
            blocks = [_block(before, 128, 3, **factory) for before in (channels, 128, 128)]
            return nn.Sequential(*pool, *(layer for block in blocks for layer in block))

        self.decoder1, self.decoder2, self.decoder4, self.decoder8 = (scale(factor) for factor in (1, 2, 4, 8))
        self.fusion8 = nn.Sequential(*_block(4 * 128, 256, 3, **factory))
        self.skipconv4 = nn.Sequential(*_block(256, 128, 3, **factory))
        self.fusion4 = nn.Sequential(*_block(256 + 128, 128, 3, **factory))
        self.skipconv2 = nn.Sequential(*_block(64, 32, 3, **factory))
        self.fusion2 = nn.Sequential(*_block(128 + 32, 64, 3, **factory))
        self.head = _conv(64, out, 1, **factory)

    def forward(self, joint: Tensor, quarter: Tensor, half: Tensor) -> Tensor:
        scales = [decoder(joint) for decoder in (self.decoder1, self.decoder2, self.decoder4, self.decoder8)]
        fused = self.fusion8(torch.cat([_upsampled(scale, joint) for scale in scales], dim=1))
        fused = self.fusion4(torch.cat([_upsampled(fused, quarter), self.skipconv4(quarter)], dim=1))
        fused = self.fusion2(torch.cat([_upsampled(fused, half), self.skipconv2(half)], dim=1))
        return self.head(fused)


class Cmp(nn.Module):
    """``forward``: the network itself, for pictures whose sides are multiples of 64; `flow`: what it is for.

    Source: Zhan et al. 2019, "Self-supervised learning via conditional motion propagation", section 3, and the released
    configuration `resnet50_vip+mpii_liteflow`.
    """

    def __init__(self, *, operations=nn, dtype=None, device=None):
        super().__init__()
        factory = {"operations": operations, "dtype": dtype, "device": device}
        self.image_encoder = ImageEncoder(256, **factory)
        self.flow_encoder = FlowEncoder(16, **factory)
        self.flow_decoder = FlowDecoder(256 + 16, 2 * BINS, **factory)

    def forward(self, image: Tensor, sparse: Tensor) -> Tensor:
        """Logits ``[N, 2 * 99, H / 2, W / 2]``, those of x first.

        ``image [N, 3, H, W]`` is normalised by `MEAN` and `STD`; ``sparse [N, 4, H, W]``: vectors in pixels, 0 where
        unknown, and 1 on two channels where they are known.
        """
        height, width = image.shape[-2:]
        if height % 64 or width % 64 or sparse.shape != (len(image), 4, height, width):
            raise ValueError(
                f"expected a picture [N, 3, H, W] with sides that are multiples of 64 and its hints [N, 4, H, W], got "
                f"{list(image.shape)} and {list(sparse.shape)}"
            )
        half, quarter, features = self.image_encoder(image)
        joint = torch.cat([features, self.flow_encoder(sparse)], dim=1)
        return self.flow_decoder(joint, quarter, half)

    def flow(self, picture: Tensor, hints: Tensor, known: Tensor) -> Tensor:
        """``[N, 2, H, W]`` in pixels of ``picture [N, 3, H, W]`` in 0..1, which may have any size.

        ``hints [N, 2, H, W]`` in pixels, read where ``known``, bool ``[N, 1, H, W]``. Everything is resized to 384 x
        384 for the network. There the longest hint of each picture is made 20 pixels long and the others with it, and
        the answer undoes it: things move together whatever the time between two frames, while a bin is a pixel wide and
        the last one ends at 50. Where all hints rest, or there is none, everything does.

        MOFA-Video hands the network ``2 x - 1``, not what it was trained on; this is what it was trained on.
        """
        check_hints(picture, hints, known)
        small = F.interpolate(picture, (SIDE, SIDE), mode="bilinear", antialias=True)
        small = (small - small.new_tensor(MEAN)[:, None, None]) / small.new_tensor(STD)[:, None, None]
        vectors, there = resized_hints(hints, known, (SIDE, SIDE))
        longest = vectors.norm(dim=1, keepdim=True).amax((2, 3), keepdim=True)
        shown = vectors * (LONGEST / torch.where(longest > 0, longest, 1.0))
        sparse = torch.cat([shown, there.to(shown), there.to(shown)], dim=1)
        flow = expected_flow(self(small, sparse)) * (longest / LONGEST)
        flow = F.interpolate(flow, (SIDE, SIDE), mode="bilinear", align_corners=True)
        height, width = picture.shape[-2:]
        flow = F.interpolate(flow, (height, width), mode="bilinear")
        return flow * flow.new_tensor([width / SIDE, height / SIDE])[:, None, None]


def expected_flow(logits: Tensor) -> Tensor:
    """The mean of the bins' centres, ``[N, 2 * 99, h, w]`` to ``[N, 2, h, w]`` in pixels of the network's input."""
    centres = (torch.arange(BINS, device=logits.device, dtype=logits.dtype) + 0.5) * (2 * REACH / BINS) - REACH
    return torch.einsum("nabhw,b->nahw", logits.unflatten(1, (2, BINS)).softmax(2), centres)


def _conv(
    channels: int, out: int, size: int, stride: int = 1, dilation: int = 1, bias: bool = True, *, operations, **factory
) -> nn.Module:
    padding = dilation * (size // 2)
    return operations.Conv2d(channels, out, size, stride, padding, dilation, bias=bias, **factory)


def _norm(channels: int, *, operations, **factory) -> nn.Module:
    return getattr(operations, "BatchNorm2d", Norm)(channels, **factory)  # ComfyUI's namespaces have none


def _block(channels: int, out: int, size: int, stride: int = 1, **factory) -> list[nn.Module]:
    return [_conv(channels, out, size, stride, **factory), _norm(out, **factory), nn.ReLU()]


def _layer(channels: int, width: int, count: int, stride: int, dilation: int, **factory) -> nn.Sequential:
    """``count`` bottlenecks, the first of which strides."""
    first = Bottleneck(channels, width, stride, dilation, **factory)
    return nn.Sequential(first, *(Bottleneck(4 * width, width, 1, dilation, **factory) for _ in range(count - 1)))


def _upsampled(x: Tensor, like: Tensor) -> Tensor:
    """To the size of ``like``, corner pixels on corner pixels, as in the release."""
    return F.interpolate(x, like.shape[-2:], mode="bilinear", align_corners=True)
