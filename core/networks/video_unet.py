"""A small image-to-video U-Net in pixels: the backbone of the motion adapter that ships with the pack.

Pixels are folded into channels. Residual blocks see one frame each; behind each of them frames are mixed, by a
convolution over time where there are many pixels and by attention over time where there are few. The encoder is a
module of its own, because a motion adapter trains a copy of it.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from .initial import start
from .latte import sinusoidal
from .motion_adapter import FirstFrameFeatures, MotionAdapter, Site
from .unet import ResBlock


class TimeConvolution(nn.Module):
    """Residual convolution of three frames, pixel by pixel, over ``[b f, c, h, w]``; starts as the identity."""

    def __init__(self, channels: int, groups: int, *, operations, **factory):
        super().__init__()
        self.norm = operations.GroupNorm(groups, channels, **factory)
        self.conv = operations.Conv3d(channels, channels, (3, 1, 1), padding=(1, 0, 0), **factory)

    def forward(self, x: Tensor, frames: int) -> Tensor:
        clips = rearrange(F.silu(self.norm(x)), "(b f) c h w -> b c f h w", f=frames)
        return x + rearrange(self.conv(clips), "b c f h w -> (b f) c h w")


class TimeAttention(nn.Module):
    """Residual self-attention over the frames of each pixel, ``[b f, c, h, w]``; starts as the identity.

    Frames are told apart by a sinusoidal table of their numbers, so that any length will do.
    """

    def __init__(self, channels: int, heads: int, groups: int, *, operations, **factory):
        super().__init__()
        self.heads = heads
        self.norm = operations.GroupNorm(groups, channels, **factory)
        self.qkv = operations.Linear(channels, 3 * channels, **factory)
        self.proj = operations.Linear(channels, channels, **factory)

    def forward(self, x: Tensor, frames: int) -> Tensor:
        height, width = x.shape[-2:]
        tokens = rearrange(self.norm(x), "(b f) c h w -> (b h w) f c", f=frames)
        tokens = tokens + sinusoidal(torch.arange(frames, device=x.device), tokens.shape[-1]).to(tokens.dtype)
        q, k, v = rearrange(self.qkv(tokens), "n f (three h d) -> three n h f d", three=3, h=self.heads)
        attended = rearrange(F.scaled_dot_product_attention(q, k, v), "n h f d -> n f (h d)")
        mixed = self.proj(attended)
        return x + rearrange(mixed, "(b h w) f c -> (b f) c h w", h=height, w=width)


class Block(nn.Module):
    """A residual block of every frame, then frames mixed."""

    def __init__(self, before: int, after: int, emb: int, heads: int, groups: int, factor: int = 1, **factory):
        super().__init__()
        self.space = ResBlock(before, emb, after, factor, groups, **factory)
        self.time = (
            TimeAttention(after, heads, groups, **factory) if heads else TimeConvolution(after, groups, **factory)
        )

    def forward(self, x: Tensor, emb: Tensor, frames: int) -> Tensor:
        return self.time(self.space(x, emb), frames)


class VideoEncoder(nn.Module):
    """The way down: ``entering [b f, in_channels, h, w]`` (folded) -> hidden states, one per `sites` entry.

    ``carried``: channels of features to be added after the first convolution, and after it at every level; () if none.
    """

    def __init__(
        self, in_channels: int, channels: int, multipliers: Sequence[int], groups: int, carried: Sequence[int] = (), *,
        operations=nn, dtype=None, device=None,
    ):  # fmt: skip
        super().__init__()
        factory = {"operations": operations, "dtype": dtype, "device": device}
        layers = {"dtype": dtype, "device": device}
        self.channels, emb = channels, 4 * channels
        widths = [channels * m for m in multipliers]
        self.time_embed = nn.Sequential(
            operations.Linear(channels, emb, **layers), nn.SiLU(), operations.Linear(emb, emb, **layers)
        )
        self.conv_in = operations.Conv2d(in_channels, channels, 3, padding=1, **layers)
        blocks, before = [], channels
        for level, width in enumerate(widths):
            heads = width // 32 if level else 0
            blocks.append(Block(before, width, emb, heads, groups, -2 if level else 1, **factory))
            before = width
        self.levels = nn.ModuleList(blocks)
        self.middle = Block(before, before, emb, before // 32, groups, **factory)
        into = [channels, *widths] if carried else []
        self.carried = nn.ModuleList(
            operations.Conv2d(own, width, 1, **layers) for own, width in zip(carried, into, strict=True)
        )

    def embed(self, timesteps: Tensor, frames: int, dtype: torch.dtype) -> Tensor:
        """Time, one entry per frame."""
        emb = self.time_embed(sinusoidal(timesteps, self.channels).to(dtype))
        return emb.repeat_interleave(frames, 0)

    def forward(self, entering: Tensor, timesteps: Tensor, carried: Sequence[Tensor] = ()) -> list[Tensor]:
        frames = entering.shape[0] // timesteps.shape[0]
        emb = self.embed(timesteps, frames, entering.dtype)
        x = self._add(0, self.conv_in(entering), carried)
        hidden = [x]
        for n, level in enumerate(self.levels, start=1):
            x = self._add(n, level(x, emb, frames), carried)
            hidden.append(x)
        return [*hidden, self.middle(x, emb, frames)]

    def _add(self, n: int, x: Tensor, carried: Sequence[Tensor]) -> Tensor:
        """``x`` and the n-th carried features, folded to its size."""
        if not carried:
            return x
        own = carried[n].to(x.dtype)
        own = F.pixel_unshuffle(own, own.shape[-1] // x.shape[-1])
        return x + self.carried[n](own)


class VideoUNet(nn.Module):
    """``x [b, in_channels, frames, H, W]`` at times ``t [b]`` -> ``[b, out_channels, frames, H, W]``.

    Args:
        in_channels, out_channels: of the input (latent and prior joined) and of the prediction.
        frames: of the clips it was trained on; others will do, too.
        fold: so many pixels a side become channels; H and W are multiples of `step`.
        channels, multipliers: widths of the levels, each at half the size of the one before.
        groups: of the group norms.
    """

    def __init__(
        self, *, in_channels: int, out_channels: int, frames: int, channels: int = 48,
        multipliers: Sequence[int] = (1, 2), fold: int = 4, groups: int = 8, operations=nn, dtype=None, device=None,
    ):  # fmt: skip
        super().__init__()
        self.in_channels, self.out_channels, self.frames, self.fold = in_channels, out_channels, frames, fold
        self.widths, self.dtype = [channels * m for m in multipliers], dtype
        factory = {"operations": operations, "dtype": dtype, "device": device}
        self.encoder = VideoEncoder(in_channels * fold**2, channels, multipliers, groups, **factory)
        emb, before = 4 * channels, self.widths[-1]
        joins, ups = [], []
        for level in reversed(range(len(self.widths))):
            width = self.widths[level]
            joins.append(Block(before + width, width, emb, width // 32 if level else 0, groups, **factory))
            before = self.widths[max(level - 1, 0)]
            if level:
                ups.append(Block(width, before, emb, 0, groups, 2, **factory))
        joins.append(Block(2 * channels, channels, emb, 0, groups, **factory))
        self.joins, self.ups = nn.ModuleList(joins), nn.ModuleList(ups)
        layers = {"dtype": dtype, "device": device}
        self.out = nn.Sequential(
            operations.GroupNorm(groups, channels, **layers),
            nn.SiLU(),
            operations.Conv2d(channels, out_channels * fold**2, 3, padding=1, **layers),
        )

    @property
    def step(self) -> int:
        """Height and width are multiples of this."""
        return self.fold * 2 ** (len(self.widths) - 1)

    @property
    def sites(self) -> tuple[Site, ...]:
        """The first convolution, every level, and the middle."""
        return sites_of(self.widths, self.fold)

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None, control: Sequence[Tensor] | None = None) -> Tensor:
        """``control``: residuals ``[b frames, ...]``, one per site. ``y`` is not used: this network has no classes."""
        self._check(x)
        b, _, frames = x.shape[:3]
        entering = F.pixel_unshuffle(rearrange(x, "b c f h w -> (b f) c h w"), self.fold)
        hidden = self.encoder(entering, t)
        if control is not None:
            hidden = [state + residual.to(state.dtype) for state, residual in zip(hidden, control, strict=True)]
        emb = self.encoder.embed(t, frames, entering.dtype)
        h = hidden.pop()
        for n, join in enumerate(self.joins):
            h = join(torch.cat([h, hidden.pop()], dim=1), emb, frames)
            if n < len(self.ups):
                h = self.ups[n](h, emb, frames)
        h = F.pixel_shuffle(self.out(h), self.fold)
        return rearrange(h, "(b f) c h w -> b c f h w", b=b)

    def initialise(self, generator: torch.Generator) -> "VideoUNet":
        """Start of a training, see `initialise`; the output starts at zero."""
        initialise(self, generator)
        nn.init.zeros_(self.out[-1].weight)
        return self

    def _check(self, x: Tensor) -> None:
        if x.dim() != 5 or x.shape[1] != self.in_channels or x.shape[3] % self.step or x.shape[4] % self.step:
            raise ValueError(
                f"expected [batch, {self.in_channels}, frames, height, width] with height and width multiples of "
                f"{self.step}, got {list(x.shape)}"
            )


def sites_of(widths: Sequence[int], fold: int) -> tuple[Site, ...]:
    """Of an encoder whose levels have these widths: its first convolution, every level, and the middle."""
    levels = [Site(width, fold * 2**n) for n, width in enumerate(widths)]
    return (Site(widths[0], fold), *levels, levels[-1])


def initialise(network: nn.Module, generator: torch.Generator) -> None:
    """Xavier weights; the last layer of every residual branch zero, so that blocks start as identities."""
    last = {ResBlock: lambda m: m.out_layers[-1], TimeConvolution: lambda m: m.conv, TimeAttention: lambda m: m.proj}
    start(network, generator, last)


class VideoMotionAdapter(MotionAdapter):
    """The motion adapter of a `VideoUNet` with these arguments; those that do not concern its encoder are ignored.

    ``features``: widths of the first frame's features at full size and at the strides of the levels. At full size,
    because a pixel's shift within a folded cell is beyond what interpolation between cells can tell.
    """

    def __init__(
        self, *, in_channels: int, channels: int, multipliers: Sequence[int], fold: int, groups: int = 8,
        features: Sequence[int] = (12, 48, 96), operations=nn, dtype=None, device=None, **_,
    ):  # fmt: skip
        factory = {"operations": operations, "dtype": dtype, "device": device}
        strides = [fold * 2**n for n in range(len(multipliers))]
        own = FirstFrameFeatures(features, [1, *strides], **factory)
        entering = [features[0] * fold**2, *features[1:]]
        branch = VideoEncoder(in_channels * fold**2, channels, multipliers, groups, entering, **factory)
        super().__init__(own, branch, sites_of([channels * m for m in multipliers], fold), **factory)


def start_from(adapter: MotionAdapter, backbone: VideoUNet, generator: torch.Generator) -> MotionAdapter:
    """Start of a training: the branch is the backbone's encoder, the rest drawn, the projections zero."""
    initialise(adapter, generator)
    missing, unexpected = adapter.branch.load_state_dict(backbone.encoder.state_dict(), strict=False)
    if unexpected or any(not key.startswith("carried.") for key in missing):
        raise ValueError(f"the adapter's branch is not this backbone's encoder: {[*missing, *unexpected][:4]}")
    return adapter.zero()
