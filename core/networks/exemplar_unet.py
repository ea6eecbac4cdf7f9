"""EBDM's networks: a bridge denoiser that is shown an exemplar's global token and detailed features, and its siamese.

The trunk is the ADM U-Net of BBDM, whose released weights load into it. Behind the residual blocks of chosen levels,
and in the middle, lie sites: exemplar attention, cross-attention to the token, feed-forward.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from .exemplar_attention import ExemplarAttention, Memory, Weight, resized
from .initial import start
from .latte import sinusoidal
from .unet import AttentionBlock, ResBlock, UNet


@dataclass(frozen=True, eq=False)
class Style:
    """An exemplar as a denoiser is shown it: the same at every step.

    ``token [n or 1, m, context]``, or None; ``memories``, one for each site, or None where the exemplar network is not
    engaged; ``weight`` of both: a number or a map ``[n or 1, 1, h, w]``, 0 where the exemplar does not act.
    """

    token: Tensor | None = None
    memories: Sequence[Memory] | None = None
    weight: Weight = 1.0

    def weighted(self, weight: Weight) -> "Style":
        return replace(self, weight=weight)


class CrossAttention(nn.Module):
    """Pixels attend to tokens ``[n or 1, m, context]``: what is to be added to ``x``. Of one token all get the same."""

    def __init__(self, channels: int, context: int, heads: int, groups: int, *, operations, **layers):
        super().__init__()
        self.heads = heads
        self.norm = operations.GroupNorm(groups, channels, **layers)
        self.q = operations.Conv2d(channels, channels, 1, bias=False, **layers)
        self.k = operations.Linear(context, channels, bias=False, **layers)
        self.v = operations.Linear(context, channels, bias=False, **layers)
        self.proj = operations.Conv2d(channels, channels, 1, **layers)

    def forward(self, x: Tensor, tokens: Tensor) -> Tensor:
        q = rearrange(self.q(self.norm(x)), "n (heads d) h w -> n heads (h w) d", heads=self.heads)
        tokens = tokens.to(x).expand(len(x), -1, -1)
        k, v = (rearrange(to(tokens), "n m (heads d) -> n heads m d", heads=self.heads) for to in (self.k, self.v))
        attended = F.scaled_dot_product_attention(q, k, v)
        return self.proj(rearrange(attended, "n heads (h w) d -> n (heads d) h w", h=x.shape[2]))


class FeedForward(nn.Module):
    """Gated GELU pixel by pixel, with its residual."""

    def __init__(self, channels: int, expansion: int, groups: int, *, operations, **layers):
        super().__init__()
        self.norm = operations.GroupNorm(groups, channels, **layers)
        self.enter = operations.Conv2d(channels, 2 * expansion * channels, 1, **layers)
        self.leave = operations.Conv2d(expansion * channels, channels, 1, **layers)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.enter(self.norm(x)).chunk(2, dim=1)
        return x + self.leave(value * F.gelu(gate))


class Site(nn.Module):
    """Where an exemplar enters the denoiser, or (``attention`` an `AttentionBlock`) leaves the exemplar network."""

    def __init__(
        self, attention: nn.Module, channels: int, context: int, heads: int, groups: int, expansion: int, **factory
    ):
        super().__init__()
        self.attention = attention
        self.cross = CrossAttention(channels, context, heads, groups, **factory)
        self.feed = FeedForward(channels, expansion, groups, **factory)

    def styled(self, x: Tensor, styles: Sequence[Style], index: int) -> Tensor:
        """In the denoiser; the site's ``index`` says which memory of each style is its own."""
        brought = [(s.weight, s.memories[index]) for s in styles if s.memories is not None]
        x = _with_all(x, [(weight, self.attention.addition(x, memory)) for weight, memory in brought])
        tokens = [(s.weight, s.token) for s in styles if s.token is not None]
        return self.feed(_with_all(x, [(weight, self.cross(x, token)) for weight, token in tokens]))

    def plain(self, x: Tensor, token: Tensor) -> Tensor:
        """In the exemplar network."""
        x = self.attention(x)
        return self.feed(x + self.cross(x, token))


def _with_all(x: Tensor, additions: Sequence[tuple[Weight, Tensor]]) -> Tensor:
    for weight, addition in additions:
        x = x + resized(weight, x) * addition
    return x


class _Trunk(nn.Module):
    """An ADM U-Net with sites behind the first block of some of its stages."""

    def __init__(
        self, attention: Callable[[int, int], nn.Module], in_channels: int, out_channels: int, channels: int,
        multipliers: Sequence[int], blocks: int, sites: Sequence[int], head_channels: int, groups: int, context: int,
        expansion: int, fold: int, **factory,
    ):  # fmt: skip
        super().__init__()
        levels = len(multipliers)
        outside = [level for level in sites if not 0 <= level < levels]
        if outside:
            raise ValueError(f"sites name levels {outside}, and there are levels 0 to {levels - 1}")
        folded = (in_channels * fold**2, out_channels * fold**2)
        self.unet = UNet(*folded, channels, multipliers, blocks, (), head_channels, groups, **factory)
        self.fold, self.in_channels, self.out_channels = fold, in_channels, out_channels
        # Level of each stage whose first block a site follows; stages without one are not in it.
        down = {1 + level * (blocks + 1) + n: level for level in sites for n in range(blocks)}
        up = {(levels - 1 - level) * (blocks + 1) + n: level for level in sites for n in range(blocks + 1)}
        order = [*sorted(down.items()), (None, levels - 1), *sorted(up.items())]
        self.down = {stage: n for n, stage in enumerate(sorted(down))}
        self.middle = len(down)
        self.up = {stage: len(down) + 1 + n for n, stage in enumerate(sorted(up))}

        def site(width: int) -> Site:
            heads = max(1, width // head_channels)
            return Site(attention(width, heads), width, context, heads, groups, expansion, **factory)

        self.sites = nn.ModuleList(site(channels * multipliers[level]) for _, level in order)

    @property
    def step(self) -> int:
        """Width and height must be multiples of it."""
        return self.fold * 2 ** (self.unet.levels - 1)

    def enter(self, x: Tensor, timesteps: Tensor) -> tuple[Tensor, Tensor]:
        if x.dim() != 4 or x.shape[1] != self.in_channels or x.shape[2] % self.step or x.shape[3] % self.step:
            wanted = f"[n, {self.in_channels}, h, w] with h and w multiples of {self.step}"
            raise ValueError(f"expected {wanted}, got {list(x.shape)}")
        x = F.pixel_unshuffle(x, self.fold)
        return x, self.unet.time_embed(sinusoidal(timesteps, self.unet.channels).to(x.dtype))

    def walk(self, x: Tensor, emb: Tensor, visit: Callable[[Tensor, int], Tensor]) -> Tensor:
        """Everything but the last layers; ``visit(x, index of the site)`` at each site, in order."""
        skips = []
        for n, stage in enumerate(self.unet.input_blocks):
            x = self._stage(stage, x, emb, self.down.get(n), visit)
            skips.append(x)
        before, attention, *after = self.unet.middle_block
        x = visit(attention(before(x, emb)), self.middle)
        for block in after:
            x = block(x, emb)
        for n, stage in enumerate(self.unet.output_blocks):
            x = self._stage(stage, torch.cat([x, skips.pop()], dim=1), emb, self.up.get(n), visit)
        return x

    @staticmethod
    def _stage(stage: Sequence[nn.Module], x: Tensor, emb: Tensor, site: int | None, visit) -> Tensor:
        for n, block in enumerate(stage):
            x = block(x, emb) if isinstance(block, ResBlock) else block(x)
            if n == 0 and site is not None:
                x = visit(x, site)
        return x


class ExemplarUNet(_Trunk):
    """``[n, in_channels, h, w]`` at times ``[n]``, in the style of exemplars, to ``[n, out_channels, h, w]``.

    ``channels`` to ``groups``: as of `UNet`. ``sites``: levels whose residual blocks have a site behind them; the
    middle always has one. ``features``: width of the global encoder's [CLS]; ``context``: of the token. ``expansion``
    of the feed-forwards. ``fold``: pixels (its square of them) put into channels on the way in.

    With the default sizes and ``(3, 3, 128, (1, 4, 8))`` it is the denoiser of EBDM-f4 (its Table 5; ``docs/papers.md``
    compares the sizes). Source: EBDM section 4.1.
    """

    def __init__(
        self, in_channels: int, out_channels: int, channels: int, multipliers: Sequence[int], blocks: int = 2,
        sites: Sequence[int] = (1, 2), head_channels: int = 64, groups: int = 32, features: int = 768,
        context: int = 512, expansion: int = 4, fold: int = 1, *, operations=nn, dtype=None, device=None,
    ):  # fmt: skip
        factory = {"operations": operations, "dtype": dtype, "device": device}
        super().__init__(
            lambda width, heads: ExemplarAttention(width, heads, groups, **factory), in_channels, out_channels,
            channels, multipliers, blocks, sites, head_channels, groups, context, expansion, fold, **factory,
        )  # fmt: skip
        self.features = features
        self.linear = operations.Linear(features, context, dtype=dtype, device=device)

    def token(self, cls: Tensor) -> Tensor:
        """``[n, features]``, the encoder's [CLS], to ``[n, 1, context]`` (EBDM eq. 5)."""
        if cls.dim() != 2 or cls.shape[1] != self.features:
            raise ValueError(f"the global encoder gives [n, {self.features}] here, got {list(cls.shape)}")
        return self.linear(cls)[:, None]

    def forward(self, x: Tensor, timesteps: Tensor, styles: Sequence[Style] = ()) -> Tensor:
        """Without ``styles`` neither token nor exemplar is looked at."""
        for style in styles:
            if style.memories is not None and len(style.memories) != len(self.sites):
                raise ValueError(f"the exemplar brings {len(style.memories)} memories to {len(self.sites)} sites")
        h, emb = self.enter(x, timesteps)
        h = self.walk(h, emb, lambda h, index: self.sites[index].styled(h, styles, index))
        return F.pixel_shuffle(self.unet.out(h), self.fold)


class ExemplarNetwork(_Trunk):
    """The denoiser's siamese, which reads an exemplar's latent at ``t_ref = 0``; arguments as of `ExemplarUNet`.

    What comes after the last site is dropped, and self-attention stands where the denoiser has exemplar attention: of
    EBDM-f4's sizes that is 370.20 M parameters, where its Table 5 has 382.48 M. Source: EBDM section 4.1.
    """

    def __init__(
        self, in_channels: int, out_channels: int, channels: int, multipliers: Sequence[int], blocks: int = 2,
        sites: Sequence[int] = (1, 2), head_channels: int = 64, groups: int = 32, features: int = 768,
        context: int = 512, expansion: int = 4, fold: int = 1, *, operations=nn, dtype=None, device=None,
    ):  # fmt: skip
        factory = {"operations": operations, "dtype": dtype, "device": device}
        super().__init__(
            lambda width, heads: AttentionBlock(width, heads, groups, **factory), in_channels, out_channels,
            channels, multipliers, blocks, sites, head_channels, groups, context, expansion, fold, **factory,
        )  # fmt: skip
        del self.unet.out
        kept = max(self.up, default=-1) + 1
        del self.unet.output_blocks[kept:]
        if kept:
            del self.unet.output_blocks[-1][1:]
        else:
            del self.unet.middle_block[2]
        last = self.sites[-1]
        del last.attention, last.cross, last.feed

    def features(self, z: Tensor, token: Tensor) -> list[Tensor]:
        """``F_1`` of each site, for exemplar latents ``z [n, c, h, w]`` and their ``token [n or 1, m, context]``."""
        found: list[Tensor] = []

        def visit(h: Tensor, index: int) -> Tensor:
            found.append(h)
            return h if index + 1 == len(self.sites) else self.sites[index].plain(h, token)

        x, emb = self.enter(z, torch.zeros(len(z), device=z.device))
        self.walk(x, emb, visit)
        return found


def remember(
    denoiser: ExemplarUNet, network: ExemplarNetwork, z: Tensor, cls: Tensor, keep: Tensor | None = None
) -> Style:
    """The whole exemplar side, once per exemplar: token, features, and what each attention remembers of them.

    ``z [n, c, h, w]`` latents of the exemplars, ``cls [n, features]``; ``keep``: bool ``[n, H, W]``, the part that
    counts in the attention (the token is of the whole picture).
    """
    token = denoiser.token(cls.to(z))
    features = network.features(z, token)
    pairs = zip(denoiser.sites, features, strict=True)
    return Style(token, tuple(site.attention.remember(feature, keep) for site, feature in pairs))


def initialise(denoiser: ExemplarUNet, generator: torch.Generator) -> ExemplarUNet:
    """Start of a training: Xavier weights, the last layer of every branch zero."""
    denoiser.unet.initialise(generator)
    _start_sites(denoiser.sites, generator)
    start(denoiser.linear, generator, {})
    return denoiser


def start_from(network: ExemplarNetwork, denoiser: ExemplarUNet, generator: torch.Generator) -> ExemplarNetwork:
    """Start of stage 2: the denoiser's weights, and self-attention that is still the identity."""
    _start_sites(network.sites, generator)
    theirs = {key: value for key, value in denoiser.state_dict().items() if ".attention." not in key}
    own = network.state_dict()
    alike = {key for key, value in theirs.items() if key in own and own[key].shape == value.shape}
    others = [key for key in own if key not in alike and ".attention." not in key]
    if others:
        raise ValueError(f"the exemplar network is not this denoiser's siamese, which has no such {others[:3]}")
    network.load_state_dict({key: theirs[key] for key in alike}, strict=False)
    return network


def _start_sites(sites: nn.ModuleList, generator: torch.Generator) -> None:
    last = {ExemplarAttention: "proj", AttentionBlock: "proj_out", CrossAttention: "proj", FeedForward: "leave"}
    start(sites, generator, {kind: attrgetter(name) for kind, name in last.items()})
