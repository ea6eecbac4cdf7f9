"""The U-Net of guided diffusion (ADM, Dhariwal & Nichol 2021), in the layout and with the key names of its releases.

Residual blocks resample and are modulated by time (scale and shift after the second norm); self-attention at chosen
levels and always in the middle. DDBM's, BBDM's and many other checkpoints have this layout.

Layers come from ``operations`` (default ``torch.nn``): a host may hand in its own casting, offloading ones.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from .initial import start
from .latte import sinusoidal


class Resample(nn.Module):
    """Half or double the size, without weights: mean of 2 x 2 pixels, or each pixel four times."""

    def __init__(self, factor: int):
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=2, mode="nearest") if self.factor == 2 else F.avg_pool2d(x, 2)


class ResBlock(nn.Module):
    """Residual block modulated by ``emb``; ``factor`` 2 doubles the size inside, -2 halves it."""

    def __init__(self, channels: int, emb: int, out: int, factor: int = 1, groups: int = 32, *, operations, **factory):
        super().__init__()
        self.resample = nn.Identity() if factor == 1 else Resample(factor)
        self.in_layers = nn.Sequential(
            operations.GroupNorm(groups, channels, **factory),
            nn.SiLU(),
            operations.Conv2d(channels, out, 3, padding=1, **factory),
        )
        self.emb_layers = nn.Sequential(nn.SiLU(), operations.Linear(emb, 2 * out, **factory))
        self.out_layers = nn.Sequential(
            operations.GroupNorm(groups, out, **factory),
            nn.SiLU(),
            nn.Identity(),  # dropout in the released layouts
            operations.Conv2d(out, out, 3, padding=1, **factory),
        )
        changes = out != channels
        self.skip_connection = operations.Conv2d(channels, out, 1, **factory) if changes else nn.Identity()

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        norm, activation, convolution = self.in_layers
        h = convolution(self.resample(activation(norm(x))))
        scale, shift = self.emb_layers(emb)[:, :, None, None].chunk(2, dim=1)
        norm, activation, _, convolution = self.out_layers
        h = convolution(activation(torch.addcmul(shift, norm(h), 1 + scale)))
        return self.skip_connection(self.resample(x)) + h


class AttentionBlock(nn.Module):
    """Self-attention over all pixels; ``qkv`` is laid out head by head (the older order of the releases)."""

    def __init__(self, channels: int, heads: int, groups: int = 32, *, operations, **factory):
        super().__init__()
        self.heads = heads
        self.norm = operations.GroupNorm(groups, channels, **factory)
        self.qkv = operations.Conv1d(channels, 3 * channels, 1, **factory)
        self.proj_out = operations.Conv1d(channels, channels, 1, **factory)

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(self.norm(x).flatten(2))
        q, k, v = rearrange(qkv, "n (h three d) l -> three n h l d", three=3, h=self.heads)
        attended = rearrange(F.scaled_dot_product_attention(q, k, v), "n h l d -> n (h d) l")
        return x + self.proj_out(attended).view_as(x)


class Stage(nn.ModuleList):
    """Blocks in a row; residual ones are shown the time."""

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        for block in self:
            x = block(x, emb) if isinstance(block, ResBlock) else block(x)
        return x


class UNet(nn.Module):
    """``[N, in_channels, H, W]`` at times ``[N]`` to ``[N, out_channels, H, W]``.

    Level i has ``channels * multipliers[i]`` channels at 1/2^i of the size, ``blocks`` residual blocks on the way down
    and one more on the way up, and attention where ``attention`` names i; heads have ``head_channels``. H and W must
    be multiples of 2^(levels - 1); ``channels`` of ``groups``, those of the group norms.

    Source: Dhariwal & Nichol 2021, section 3 and its released code's key names.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        channels: int,
        multipliers: Sequence[int],
        blocks: int = 2,
        attention: Sequence[int] = (),
        head_channels: int = 64,
        groups: int = 32,
        *,
        operations=nn,
        dtype=None,
        device=None,
    ):
        super().__init__()
        self.channels, self.in_channels, self.out_channels = channels, in_channels, out_channels
        self.levels, self.outermost = len(multipliers), blocks + 1
        factory = {"operations": operations, "dtype": dtype, "device": device}
        layers = {"dtype": dtype, "device": device}
        emb = 4 * channels
        widths = [channels * multiplier for multiplier in multipliers]

        def block(before: int, after: int, factor: int = 1) -> ResBlock:
            return ResBlock(before, emb, after, factor, groups, **factory)

        def attend(width: int) -> AttentionBlock:
            return AttentionBlock(width, max(1, width // head_channels), groups, **factory)

        def at_level(level: int, before: int) -> list[nn.Module]:
            own = [attend(widths[level])] if level in attention else []
            return [block(before, widths[level]), *own]

        self.time_embed = nn.Sequential(
            operations.Linear(channels, emb, **layers), nn.SiLU(), operations.Linear(emb, emb, **layers)
        )
        stages, width, skips = [Stage([operations.Conv2d(in_channels, channels, 3, padding=1, **layers)])], channels, []
        skips.append(channels)
        for level in range(self.levels):
            for _ in range(blocks):
                stages.append(Stage(at_level(level, width)))
                width = widths[level]
                skips.append(width)
            if level + 1 < self.levels:
                stages.append(Stage([block(width, width, -2)]))
                skips.append(width)
        self.input_blocks = nn.ModuleList(stages)
        self.middle_block = Stage([block(width, width), attend(width), block(width, width)])
        stages = []
        for level in reversed(range(self.levels)):
            for n in range(blocks + 1):
                own = at_level(level, width + skips.pop())
                width = widths[level]
                stages.append(Stage([*own, block(width, width, 2)] if level and n == blocks else own))
        self.output_blocks = nn.ModuleList(stages)
        self.out = nn.Sequential(
            operations.GroupNorm(groups, width, **layers),
            nn.SiLU(),
            operations.Conv2d(width, out_channels, 3, padding=1, **layers),
        )

    def initialise(self, generator: torch.Generator) -> "UNet":
        """Start of a training: the last layer of every residual branch, and the output, zero; the rest Xavier."""
        start(self, generator, {ResBlock: lambda m: m.out_layers[-1], AttentionBlock: lambda m: m.proj_out})
        nn.init.zeros_(self.out[-1].weight)
        return self

    def forward(self, x: Tensor, timesteps: Tensor, outer: bool = False) -> Tensor:
        """``outer``: gradients pass through the outermost level alone; what lies deeper is held as a constant."""
        self._check(x)
        emb = self.time_embed(sinusoidal(timesteps, self.channels).to(x.dtype))
        skips = []
        for n, stage in enumerate(self.input_blocks):
            x = stage(x.detach() if outer and n == self.outermost else x, emb)
            skips.append(x)
        x = self.middle_block(x, emb)
        for stage in self.output_blocks:
            x = stage(torch.cat([x, skips.pop()], dim=1), emb)
        return self.out(x)

    def _check(self, x: Tensor) -> None:
        step = 2 ** (self.levels - 1)
        if x.dim() != 4 or x.shape[1] != self.in_channels or x.shape[2] % step or x.shape[3] % step:
            raise ValueError(
                f"expected [N, {self.in_channels}, H, W] with H and W multiples of {step}, got {list(x.shape)}"
            )
