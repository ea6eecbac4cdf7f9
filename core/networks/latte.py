"""LatteVideo: a video transformer with factorised attention (Latte, Ma et al. 2024, variant 1).

Even blocks attend over the tokens of one frame, odd blocks over the frames of one token. Every block is modulated by
time and class through adaLN-Zero (DiT). Layout and key names are those of FrameBridge's released Latte-S/2 files, so
that their state dicts load as they are; the neural prior (``time=False``) is the same network without ``t_embedder``.

Layers come from ``operations`` (default ``torch.nn``): a host may hand in its own casting, offloading ones.
"""

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn


def sinusoidal(positions: Tensor, dim: int, max_period: float = 10000.0) -> Tensor:
    """Sinusoidal features ``[..., dim]``, cosines first (the order of DiT's timestep embedding)."""
    half = dim // 2
    frequencies = torch.exp(-math.log(max_period) * torch.arange(half, device=positions.device) / half)
    angles = positions.float()[..., None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def position_table_1d(positions: Tensor, dim: int) -> Tensor:
    """Sine-cosine table ``[n, dim]``, sines first (the order of MAE's and DiT's position tables)."""
    return sinusoidal(positions, dim).roll(dim // 2, dims=-1)


def position_table_2d(height: int, width: int, dim: int) -> Tensor:
    """Table ``[height * width, dim]``, row-major tokens: first half encodes x, second half y (DiT's order)."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.cat([position_table_1d(p.reshape(-1), dim // 2) for p in (x, y)], dim=-1)


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return torch.addcmul(shift[:, None], x, 1 + scale[:, None])


class Attention(nn.Module):
    """Multi-head self-attention over ``[n, tokens, hidden]``."""

    def __init__(self, hidden: int, heads: int, *, operations, **factory):
        super().__init__()
        self.heads = heads
        self.qkv = operations.Linear(hidden, 3 * hidden, **factory)
        self.proj = operations.Linear(hidden, hidden, **factory)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = rearrange(self.qkv(x), "n l (three h d) -> three n h l d", three=3, h=self.heads)
        return self.proj(rearrange(F.scaled_dot_product_attention(q, k, v), "n h l d -> n l (h d)"))


class Mlp(nn.Module):
    def __init__(self, hidden: int, inner: int, *, operations, **factory):
        super().__init__()
        self.fc1 = operations.Linear(hidden, inner, **factory)
        self.fc2 = operations.Linear(inner, hidden, **factory)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x), approximate="tanh"))


class LatteBlock(nn.Module):
    """adaLN-Zero transformer block (DiT section 3.2): ``c`` gives shift, scale and gate of attention and MLP."""

    def __init__(self, hidden: int, heads: int, mlp_ratio: float, *, operations, **factory):
        super().__init__()
        norm = {"elementwise_affine": False, "eps": 1e-6, **factory}
        self.norm1 = operations.LayerNorm(hidden, **norm)
        self.attn = Attention(hidden, heads, operations=operations, **factory)
        self.norm2 = operations.LayerNorm(hidden, **norm)
        self.mlp = Mlp(hidden, int(hidden * mlp_ratio), operations=operations, **factory)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), operations.Linear(hidden, 6 * hidden, **factory))

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        shift1, scale1, gate1, shift2, scale2, gate2 = self.adaLN_modulation(c).chunk(6, dim=1)
        x = torch.addcmul(x, gate1[:, None], self.attn(modulate(self.norm1(x), shift1, scale1)))
        return torch.addcmul(x, gate2[:, None], self.mlp(modulate(self.norm2(x), shift2, scale2)))


class FinalLayer(nn.Module):
    def __init__(self, hidden: int, patch: int, out_channels: int, *, operations, **factory):
        super().__init__()
        self.norm_final = operations.LayerNorm(hidden, elementwise_affine=False, eps=1e-6, **factory)
        self.linear = operations.Linear(hidden, patch * patch * out_channels, **factory)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), operations.Linear(hidden, 2 * hidden, **factory))

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        shift, scale = self.adaLN_modulation(c).chunk(2, dim=1)
        return self.linear(modulate(self.norm_final(x), shift, scale))


class PatchEmbed(nn.Module):
    def __init__(self, in_channels: int, hidden: int, patch: int, *, operations, **factory):
        super().__init__()
        self.proj = operations.Conv2d(in_channels, hidden, patch, stride=patch, **factory)

    def forward(self, x: Tensor) -> Tensor:
        return rearrange(self.proj(x), "n d h w -> n (h w) d")


class TimeEmbed(nn.Module):
    """256 sinusoidal features of the timestep -> hidden, through a SiLU MLP."""

    features = 256

    def __init__(self, hidden: int, *, operations, **factory):
        super().__init__()
        self.mlp = nn.Sequential(
            operations.Linear(self.features, hidden, **factory), nn.SiLU(), operations.Linear(hidden, hidden, **factory)
        )

    def forward(self, t: Tensor, dtype: torch.dtype) -> Tensor:
        return self.mlp(sinusoidal(t, self.features).to(dtype))


class ClassEmbed(nn.Module):
    def __init__(self, entries: int, hidden: int, *, operations, **factory):
        super().__init__()
        self.embedding_table = operations.Embedding(entries, hidden, **factory)

    def forward(self, y: Tensor, dtype: torch.dtype) -> Tensor:
        return self.embedding_table(y).to(dtype)


class LatteVideo(nn.Module):
    """Factorised video transformer ``x [b, in_channels, frames, height, width] -> [b, out_channels, ...]``.

    Args:
        in_channels, out_channels: latent channels of the input (prior and first frame concatenated, if the model takes
            them) and of the prediction.
        frames, height, width: the only clip size the position tables hold, in latent frames and latent pixels.
        patch, hidden, depth, heads, mlp_ratio: transformer sizes; ``depth`` is even (spatial, temporal, spatial, ...).
        classes: number of classes; one more embedding (index ``classes``) stands for "no class". 0: unconditional.
        time: False builds the neural prior, which has no time.
        operations, dtype, device: layer namespace and factory arguments.

    Source: Latte section 3.1; FrameBridge appendix C.3 (Latte-S/2: patch 2, hidden 384, depth 12, 6 heads).
    """

    def __init__(
        self, *, in_channels: int, out_channels: int, frames: int, height: int, width: int, patch: int, hidden: int,
        depth: int, heads: int, classes: int, mlp_ratio: float = 4.0, time: bool = True,
        operations=nn, dtype=None, device=None,
    ):  # fmt: skip
        super().__init__()
        _check_sizes(height, width, patch, hidden, heads, depth)
        self.in_channels, self.out_channels, self.classes, self.patch = in_channels, out_channels, classes, patch
        self.size = (frames, height, width)
        self.dtype = dtype
        factory = {"operations": operations, "dtype": dtype, "device": device}
        self.x_embedder = PatchEmbed(in_channels, hidden, patch, **factory)
        self.t_embedder = TimeEmbed(hidden, **factory) if time else None
        self.y_embedder = ClassEmbed(classes + 1, hidden, **factory) if classes else None
        spatial = position_table_2d(height // patch, width // patch, hidden)[None]
        temporal = position_table_1d(torch.arange(frames), hidden)[None]
        self.pos_embed = nn.Parameter(spatial.to(device=device, dtype=dtype), requires_grad=False)
        self.temp_embed = nn.Parameter(temporal.to(device=device, dtype=dtype), requires_grad=False)
        self.blocks = nn.ModuleList(LatteBlock(hidden, heads, mlp_ratio, **factory) for _ in range(depth))
        self.final_layer = FinalLayer(hidden, patch, out_channels, **factory)

    def initialise(self, generator: torch.Generator | None = None) -> "LatteVideo":
        """DiT's initialisation: Xavier linears, small embeddings, and zero gates: every block starts as identity."""
        for name, parameter in self.named_parameters():
            if not parameter.requires_grad:
                continue
            if parameter.dim() < 2 or "adaLN" in name or name.startswith("final_layer"):
                nn.init.zeros_(parameter)
            elif name.startswith(("t_embedder", "y_embedder")):
                nn.init.normal_(parameter, std=0.02, generator=generator)
            else:
                nn.init.xavier_uniform_(parameter.data.view(parameter.shape[0], -1), generator=generator)
        return self

    def forward(self, x: Tensor, t: Tensor | None = None, y: Tensor | None = None) -> Tensor:
        """``t`` [b]: timesteps, required unless ``time=False``; ``y`` [b]: class indices, required if ``classes``."""
        self._check_input(x, t, y)
        b, _, frames, height, width = x.shape
        tokens_h, tokens_w = height // self.patch, width // self.patch
        x = self.x_embedder(rearrange(x, "b c f h w -> (b f) c h w"))
        x = x + self.pos_embed.to(x)
        condition = self._condition(b, t, y, x)
        per_frame = condition.repeat_interleave(frames, dim=0)
        per_token = condition.repeat_interleave(tokens_h * tokens_w, dim=0)
        for i in range(0, len(self.blocks), 2):
            x = self.blocks[i](x, per_frame)
            x = rearrange(x, "(b f) l d -> (b l) f d", b=b)
            if i == 0:
                x = x + self.temp_embed.to(x)
            x = self.blocks[i + 1](x, per_token)
            x = rearrange(x, "(b l) f d -> (b f) l d", b=b)
        x = self.final_layer(x, per_frame)
        return rearrange(
            x, "(b f) (h w) (p q c) -> b c f (h p) (w q)",
            b=b, h=tokens_h, w=tokens_w, p=self.patch, q=self.patch,
        )  # fmt: skip

    def _condition(self, batch: int, t: Tensor | None, y: Tensor | None, like: Tensor) -> Tensor:
        condition = like.new_zeros(batch, like.shape[-1])
        if self.t_embedder is not None:
            condition = condition + self.t_embedder(t, like.dtype)
        if self.y_embedder is not None:
            condition = condition + self.y_embedder(y, like.dtype)
        return condition

    def _check_input(self, x: Tensor, t: Tensor | None, y: Tensor | None) -> None:
        expected = (self.in_channels, *self.size)
        if x.dim() != 5 or tuple(x.shape[1:]) != expected:
            raise ValueError(
                f"LatteVideo expects [batch, {', '.join(map(str, expected))}] (channels, frames, height, width), "
                f"got {list(x.shape)}; clip length and size are fixed by the model file"
            )
        if (t is None) != (self.t_embedder is None):
            raise ValueError("this network takes no time" if t is not None else "this network needs the time `t`")
        if (y is None) != (self.y_embedder is None):
            raise ValueError("this network takes no class" if y is not None else "this network needs the class `y`")
        for name, value in (("t", t), ("y", y)):
            if value is not None and tuple(value.shape) != (x.shape[0],):
                raise ValueError(f"`{name}` is one value per clip, [{x.shape[0]}], got {list(value.shape)}")
        if y is not None:
            self._check_classes(y)

    def _check_classes(self, y: Tensor) -> None:
        if y.is_floating_point():
            raise ValueError(f"classes are whole numbers, got {y.dtype}")
        least, most = torch.stack(torch.aminmax(y)).tolist()
        if least < 0 or most > self.classes:
            raise ValueError(
                f"classes run from 0 to {self.classes - 1} ({self.classes} stands for no class), "
                f"got {least if least < 0 else most}"
            )


def _check_sizes(height: int, width: int, patch: int, hidden: int, heads: int, depth: int) -> None:
    if height % patch or width % patch:
        raise ValueError(f"height and width must be multiples of the patch size {patch}, got {height} x {width}")
    if hidden % heads or hidden % 4:
        raise ValueError(f"hidden must be a multiple of the heads ({heads}) and of 4, got {hidden}")
    if depth % 2:
        raise ValueError(f"depth counts spatial and temporal blocks in turn and must be even, got {depth}")
