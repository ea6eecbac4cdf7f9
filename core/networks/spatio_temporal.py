"""What Stable Video Diffusion's U-Net is made of: image layers, each followed by one over time and a learned blend.

Frames lie in the batch axis, clip by clip: ``[b * frames, ...]``. Key names are those of the diffusers library, in
which checkpoints are published. Source: Blattmann et al. 2023, "Stable Video Diffusion" (section 4 and appendix D);
"Align your Latents" (Blattmann et al. 2023, section 3.1) for the blend.

Layers come from ``operations`` (default ``torch.nn``): a host may hand in its own casting, offloading ones.
"""

from functools import partial

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor, nn

from .latte import sinusoidal


class Embedding(nn.Module):
    """``inputs`` numbers -> ``out``, through a SiLU MLP of width ``inner``."""

    def __init__(self, inputs: int, inner: int, out: int, *, operations, **factory):
        super().__init__()
        self.linear_1 = operations.Linear(inputs, inner, **factory)
        self.linear_2 = operations.Linear(inner, out, **factory)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear_2(F.silu(self.linear_1(x)))


class Blend(nn.Module):
    """``m * spatial + (1 - m) * temporal``, m the sigmoid of the one weight."""

    def __init__(self, *, dtype=None, device=None):
        super().__init__()
        self.mix_factor = nn.Parameter(torch.full((1,), 0.5, dtype=dtype, device=device))

    def forward(self, spatial: Tensor, temporal: Tensor) -> Tensor:
        return torch.lerp(temporal, spatial, self.mix_factor.to(spatial.device).float().sigmoid().to(spatial.dtype))


class Residual(nn.Module):
    """Two convolutions, the embedding added between them. ``convolution(in, out, **factory)`` keeps the size.

    ``x [n, channels, ..., h, w]`` with ``emb [n, ..., emb]``: what lies between is the time axis, if there is one.
    """

    def __init__(self, channels: int, out: int, emb: int, groups: int, eps: float, convolution, operations, **factory):
        super().__init__()
        self.norm1 = operations.GroupNorm(groups, channels, eps=eps, **factory)
        self.conv1 = convolution(channels, out, **factory)
        self.time_emb_proj = operations.Linear(emb, out, **factory)
        self.norm2 = operations.GroupNorm(groups, out, eps=eps, **factory)
        self.conv2 = convolution(out, out, **factory)
        if channels != out:
            self.conv_shortcut = operations.Conv2d(channels, out, 1, **factory)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        h = h + self.time_emb_proj(F.silu(emb)).movedim(-1, 1)[..., None, None]
        h = self.conv2(F.silu(self.norm2(h)))
        return h + (self.conv_shortcut(x) if hasattr(self, "conv_shortcut") else x)


class SpatioTemporalResidual(nn.Module):
    """A residual block on every frame, one along time on its result, and their blend."""

    def __init__(self, channels: int, out: int, emb: int, groups: int, eps: float, *, operations, **factory):
        super().__init__()
        image = partial(operations.Conv2d, kernel_size=3, padding=1)
        time = partial(operations.Conv3d, kernel_size=(3, 1, 1), padding=(1, 0, 0))
        self.spatial_res_block = Residual(channels, out, emb, groups, eps, image, operations, **factory)
        self.temporal_res_block = Residual(out, out, emb, groups, eps, time, operations, **factory)
        self.time_mixer = Blend(**factory)

    def forward(self, x: Tensor, emb: Tensor, frames: int) -> Tensor:
        x = self.spatial_res_block(x, emb)
        clip = rearrange(x, "(b f) c h w -> b c f h w", f=frames)
        moved = self.temporal_res_block(clip, emb.unflatten(0, (-1, frames)))
        return self.time_mixer(x, rearrange(moved, "b c f h w -> (b f) c h w"))


class Attention(nn.Module):
    """Multi-head attention of ``x [n, tokens, channels]`` to ``context [n, others, width]``, or to itself."""

    def __init__(self, channels: int, heads: int, context: int | None = None, *, operations, **factory):
        super().__init__()
        self.heads = heads
        self.to_q = operations.Linear(channels, channels, bias=False, **factory)
        self.to_k = operations.Linear(context or channels, channels, bias=False, **factory)
        self.to_v = operations.Linear(context or channels, channels, bias=False, **factory)
        self.to_out = nn.Sequential(operations.Linear(channels, channels, **factory))

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        context = x if context is None else context
        q, k, v = (
            rearrange(tokens, "n l (h d) -> n h l d", h=self.heads)
            for tokens in (self.to_q(x), self.to_k(context), self.to_v(context))
        )
        return self.to_out(rearrange(F.scaled_dot_product_attention(q, k, v), "n h l d -> n l (h d)"))


class Gate(nn.Module):
    """Half of the channels times the GELU of the other half (GEGLU, Shazeer 2020)."""

    def __init__(self, channels: int, out: int, *, operations, **factory):
        super().__init__()
        self.proj = operations.Linear(channels, 2 * out, **factory)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.proj(x).chunk(2, dim=-1)
        return value * F.gelu(gate)


class FeedForward(nn.Module):
    def __init__(self, channels: int, *, operations, **factory):
        super().__init__()
        gate = Gate(channels, 4 * channels, operations=operations, **factory)
        # The middle one is dropout in the released layout.
        self.net = nn.Sequential(gate, nn.Identity(), operations.Linear(4 * channels, channels, **factory))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class SpatialBlock(nn.Module):
    """Pre-norm self-attention, attention to the context, feed-forward, over the tokens of a sequence."""

    def __init__(self, channels: int, heads: int, context: int, *, operations, **factory):
        super().__init__()
        own = {"operations": operations, **factory}
        self.norm1 = operations.LayerNorm(channels, **factory)
        self.attn1 = Attention(channels, heads, **own)
        self.norm2 = operations.LayerNorm(channels, **factory)
        self.attn2 = Attention(channels, heads, context, **own)
        self.norm3 = operations.LayerNorm(channels, **factory)
        self.ff = FeedForward(channels, **own)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        x = x + self.attn1(self.norm1(x))
        x = x + self.attn2(self.norm2(x), context)
        return x + self.ff(self.norm3(x))


class TemporalBlock(SpatialBlock):
    """The same over the frames of each place, with one more feed-forward in front."""

    def __init__(self, channels: int, heads: int, context: int, *, operations, **factory):
        super().__init__(channels, heads, context, operations=operations, **factory)
        self.norm_in = operations.LayerNorm(channels, **factory)
        self.ff_in = FeedForward(channels, operations=operations, **factory)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        return super().forward(x + self.ff_in(self.norm_in(x)), context)


class SpatioTemporalTransformer(nn.Module):
    """Attention within every frame, then along time, blended; over time the context is that of a clip's first frame."""

    def __init__(self, channels: int, heads: int, context: int, groups: int, *, operations, **factory):
        super().__init__()
        own = {"operations": operations, **factory}
        self.channels = channels
        self.norm = operations.GroupNorm(groups, channels, eps=1e-6, **factory)
        self.proj_in = operations.Linear(channels, channels, **factory)
        self.transformer_blocks = nn.ModuleList([SpatialBlock(channels, heads, context, **own)])
        self.temporal_transformer_blocks = nn.ModuleList([TemporalBlock(channels, heads, context, **own)])
        self.time_pos_embed = Embedding(channels, 4 * channels, channels, **own)
        self.time_mixer = Blend(**factory)
        self.proj_out = operations.Linear(channels, channels, **factory)

    def forward(self, x: Tensor, context: Tensor, frames: int) -> Tensor:
        height, width = x.shape[-2:]
        tokens = self.proj_in(rearrange(self.norm(x), "n c h w -> n (h w) c"))
        places = tokens.shape[1]
        numbers = sinusoidal(torch.arange(frames, device=x.device), self.channels).to(x.dtype)
        when = self.time_pos_embed(numbers)
        first = repeat(context[::frames], "b l c -> (b s) l c", s=places)
        for spatial, temporal in zip(self.transformer_blocks, self.temporal_transformer_blocks, strict=True):
            tokens = spatial(tokens, context)
            along = temporal(rearrange(tokens, "(b f) s c -> (b s) f c", f=frames) + when, first)
            tokens = self.time_mixer(tokens, rearrange(along, "(b s) f c -> (b f) s c", s=places))
        return x + rearrange(self.proj_out(tokens), "n (h w) c -> n c h w", h=height, w=width)
