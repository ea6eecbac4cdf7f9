"""A control branch for Stable Video Diffusion: a copy of the encoder half of its U-Net, with MOFA-Video's additions.

Layout and key names are those of MOFA-Video's released Flow-ControlNet (Niu et al. 2024, section 3.2), which are
diffusers' for SVD, so that its state dict loads as it is. The branch sees what the backbone sees, and besides it
features of the first frame, carried along the motion; a `MotionAdapter` projects what it returns and adds it to the
backbone.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from .latte import sinusoidal
from .spatio_temporal import Embedding, SpatioTemporalResidual, SpatioTemporalTransformer


class Halve(nn.Module):
    """Half the size (odd ones round up), by a strided convolution."""

    def __init__(self, channels: int, *, operations, **factory):
        super().__init__()
        self.conv = operations.Conv2d(channels, channels, 3, stride=2, padding=1, **factory)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class Down(nn.Module):
    """One level of the encoder. Returns every state on the way; the last is what goes on."""

    def __init__(self, before, width, layers, emb, groups, attend, last, *, operations, **factory):
        super().__init__()
        own = {"operations": operations, **factory}
        eps = 1e-5 if attend is None else 1e-6  # as published: levels with attention have the smaller one
        self.resnets = nn.ModuleList(
            SpatioTemporalResidual(width if n else before, width, emb, groups, eps, **own) for n in range(layers)
        )
        if attend is not None:
            self.attentions = nn.ModuleList(SpatioTemporalTransformer(width, *attend, **own) for _ in range(layers))
        if not last:
            self.downsamplers = nn.ModuleList([Halve(width, **own)])

    def forward(self, x: Tensor, emb: Tensor, context: Tensor, frames: int) -> list[Tensor]:
        states = []
        for n, residual in enumerate(self.resnets):
            x = residual(x, emb, frames)
            if hasattr(self, "attentions"):
                x = self.attentions[n](x, context, frames)
            states.append(x)
        if hasattr(self, "downsamplers"):
            states.append(self.downsamplers[0](x))
        return states


class Middle(nn.Module):
    """Residual blocks around a transformer."""

    def __init__(self, width, emb, groups, attend, *, operations, **factory):
        super().__init__()
        own = {"operations": operations, **factory}
        self.attentions = nn.ModuleList([SpatioTemporalTransformer(width, *attend, **own)])
        self.resnets = nn.ModuleList(SpatioTemporalResidual(width, width, emb, groups, 1e-5, **own) for _ in range(2))

    def forward(self, x: Tensor, emb: Tensor, context: Tensor, frames: int) -> Tensor:
        x = self.attentions[0](self.resnets[0](x, emb, frames), context, frames)
        return self.resnets[1](x, emb, frames)


class SvdBranch(nn.Module):
    """States of the encoder and of the middle block, ``[b * frames, c, h, w]`` each, in the encoder's order.

    Level i has ``widths[i]`` channels at 1/2^i of the latent, ``layers`` residual blocks, and, where ``attention[i]``,
    as many transformers of ``heads[i]`` heads; the middle block has the last level's heads. The defaults are those of
    the released Flow-ControlNet. Its third level has 10 heads where SVD itself has 20: its class is built without the
    backbone's settings, and the shapes of its tensors do not tell.

    Source: MOFA-Video (Niu et al. 2024) section 3.2, its released code for where features are added, and SVD.
    """

    def __init__(
        self, in_channels: int = 8, widths: Sequence[int] = (320, 640, 1280, 1280), layers: int = 2,
        heads: Sequence[int] = (5, 10, 10, 20), attention: Sequence[bool] = (True, True, True, False),
        context: int = 1024, added: int = 768, groups: int = 32, *, operations=nn, dtype=None, device=None,
    ):  # fmt: skip
        super().__init__()
        if not len(widths) == len(heads) == len(attention):
            raise ValueError(
                f"one width, number of heads and attention per level, got {len(widths)}, {len(heads)}, {len(attention)}"
            )
        own = {"operations": operations, "dtype": dtype, "device": device}
        emb = 4 * widths[0]
        self.in_channels, self.context, self.added = in_channels, context, added
        self.widths, self.layers = tuple(widths), layers
        self.conv_in = operations.Conv2d(in_channels, widths[0], 3, padding=1, dtype=dtype, device=device)
        self.time_embedding = Embedding(widths[0], emb, emb, **own)
        self.add_embedding = Embedding(added, emb, emb, **own)
        self.down_blocks, before = nn.ModuleList(), widths[0]
        for level, (width, number, attends) in enumerate(zip(widths, heads, attention, strict=True)):
            attend, last = (number, context, groups) if attends else None, level == len(widths) - 1
            self.down_blocks.append(Down(before, width, layers, emb, groups, attend, last, **own))
            before = width
        self.mid_block = Middle(before, emb, groups, (heads[-1], context, groups), **own)

    @property
    def states(self) -> list[tuple[int, int]]:
        """Channels, and latent pixels to one, of every state that `forward` returns."""
        found, last = [(self.widths[0], 1)], len(self.widths) - 1
        for level, width in enumerate(self.widths):
            found += [(width, 2**level)] * self.layers
            found += [(width, 2 ** (level + 1))] * (level < last)
        return [*found, (self.widths[-1], 2**last)]

    def forward(
        self, entering: Tensor, timesteps: Tensor, *, context: Tensor, added: Tensor, frames: int,
        carried: Sequence[Tensor] | None = None,
    ) -> list[Tensor]:  # fmt: skip
        """Skips in the encoder's order, then the middle state.

        ``entering [b * frames, in_channels, h, w]`` (the noisy latent, scaled as the backbone gets it, and the image
        latent); ``timesteps`` (0.25 log sigma), ``context [n, tokens, context]`` and ``added [n, added]`` for n = b
        clips or b * frames. ``carried``: the first frame's features in every frame, ``[b * frames, c, h_k, w_k]`` on as
        many scales as there are levels, each half as large as the one before; added to the first state, then to what
        leaves each level; the last of them after the last level and once more before the middle block, as released.
        Raises ValueError for what does not fit.
        """
        clips = self._clips(entering, frames)
        timesteps, context, added = (
            _per_frame(value, clips, frames, name)
            for name, value in (("timesteps", timesteps), ("context", context), ("added", added))
        )
        for name, value, width in (("context", context, self.context), ("added", added, self.added)):
            if value.shape[-1] != width:
                raise ValueError(f"{name} must be {width} wide, got {list(value.shape)}: is this model SVD?")
        if carried is not None and len(carried) != len(self.widths):
            raise ValueError(f"expected carried features on {len(self.widths)} scales, got {len(carried)}")
        dtype = entering.dtype
        emb = self.time_embedding(sinusoidal(timesteps, self.widths[0]).to(dtype)) + self.add_embedding(added.to(dtype))
        context = context.to(dtype)
        x = _with(self.conv_in(entering), carried, 0)
        states = [x]
        for level, block in enumerate(self.down_blocks, 1):
            on_the_way = block(x, emb, context, frames)
            states += on_the_way
            x = _with(on_the_way[-1], carried, min(level, len(self.widths) - 1))
        x = _with(x, carried, -1)
        return [*states, self.mid_block(x, emb, context, frames)]

    def _clips(self, entering: Tensor, frames: int) -> int:
        if entering.dim() != 4 or entering.shape[1] != self.in_channels:
            raise ValueError(f"expected [b * frames, {self.in_channels}, h, w], got {list(entering.shape)}")
        if frames < 1 or len(entering) % frames:
            raise ValueError(f"a batch of {len(entering)} is no whole number of clips of {frames} frames")
        return len(entering) // frames


def _per_frame(value: Tensor, clips: int, frames: int, name: str) -> Tensor:
    """One row per frame, from rows per frame or per clip."""
    if len(value) == clips * frames:
        return value
    if len(value) == clips:
        return value.repeat_interleave(frames, dim=0)
    raise ValueError(f"{name} must have {clips} (clips) or {clips * frames} (frames) rows, got {len(value)}")


def _with(x: Tensor, carried: Sequence[Tensor] | None, scale: int) -> Tensor:
    if carried is None:
        return x
    if carried[scale].shape != x.shape:
        raise ValueError(f"carried features on scale {scale} must be {list(x.shape)}, got {list(carried[scale].shape)}")
    return x + carried[scale].to(x)
