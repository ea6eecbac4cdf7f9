"""What a motion adapter must know of the MODEL it goes onto: one `Backbone` for each kind of network.

ComfyUI calls its networks alike; they differ in how frames lie, in what reaches an encoder, and in where residuals can
be added without a change to them: U-Nets take a ``control`` of lists, transformers have replacements of their blocks.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import comfy.model_base
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from ...core.networks import MotionAdapter, VideoMotionAdapter
from ...core.networks.mofa import LATENT_STRIDE, SvdAdapter
from ...core.networks.token_adapter import TokenMotionAdapter
from .hosted import HostedVideoUNet

Arguments = dict[str, Any]  # of a network's call, by name


@dataclass(frozen=True)
class Seen:
    """What a network is given in one call, as its adapters want it.

    ``entering``, ``timesteps`` and ``arguments``: for `MotionAdapter.forward`; rows lie clip after clip. ``clips`` of
    ``frames`` (latent ones); ``cells``: height and width of the LATENT; ``film``: those of the picture and the motion
    that the adapter is shown.
    """

    entering: Tensor
    timesteps: Tensor
    clips: int
    frames: int
    cells: tuple[int, int]
    film: tuple[int, int]
    arguments: Arguments


@dataclass(frozen=True)
class Backbone:
    """A kind of network that motion adapters of one class go onto.

    ``name``: as messages call it. ``host``: class of the network, or of ComfyUI's model around it. ``compression``:
    video frames to a latent one. ``has(network)`` and ``wants(adapter)``: numbers that must agree.
    ``read(arguments, network, adapter)`` and ``add(arguments, residuals, adapter)``: of a call; ``add`` changes which
    objects ``arguments`` holds, never the objects.
    """

    name: str
    host: type
    adapter: type[MotionAdapter]
    compression: int
    has: Callable[[Any], dict[str, Any]]
    wants: Callable[[Any], dict[str, Any]]
    read: Callable[[Arguments, Any, Any], Seen]
    add: Callable[[Arguments, Sequence[Tensor], Any], None]

    def hosts(self, model: comfy.model_base.BaseModel) -> bool:
        return isinstance(model, self.host) or isinstance(model.diffusion_model, self.host)


def backbone_of(model: comfy.model_base.BaseModel, adapter: MotionAdapter) -> Backbone:
    """That of both. Raises ValueError, naming both, for an adapter of another backbone or another size of it."""
    own = next(backbone for backbone in BACKBONES if isinstance(adapter, backbone.adapter))
    if not own.hosts(model):
        kind = f"{type(model).__name__} around a {type(model.diffusion_model).__name__}"
        found = next((backbone.name for backbone in BACKBONES if backbone.hosts(model)), kind)
        raise ValueError(
            f"this motion adapter is for {own.name}, the MODEL is {found}: wire a MODEL of {own.name}, or load an "
            f"adapter for this one"
        )
    has, wants = own.has(model.diffusion_model), own.wants(adapter)
    if has != wants:
        raise ValueError(
            f"this motion adapter is for {own.name} with {_told(wants)}; the MODEL has {_told(has)}: wire the MODEL "
            f"that the adapter was trained on"
        )
    return own


def _told(numbers: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in numbers.items())


def with_residuals(control: dict | None, more: dict[str, Sequence[Tensor]]) -> dict[str, list]:
    """A ``control`` of new lists, ``more`` added to what it has. U-Nets take entries off the ends of these lists, so
    shorter ones are filled up in front."""
    joined = {name: list(there) for name, there in (control or {}).items()}
    for name, own in more.items():
        there = joined.get(name, [])
        length = max(len(own), len(there))
        pairs = zip(_filled(there, length), _filled(own, length), strict=True)
        joined[name] = [b if a is None else a if b is None else a + b for a, b in pairs]
    return joined


def _filled(residuals: Sequence[Tensor], length: int) -> list[Tensor | None]:
    return [None] * (length - len(residuals)) + list(residuals)


def _read_video_unet(arguments: Arguments, network: HostedVideoUNet, adapter) -> Seen:
    x = arguments["x"]
    clips, _, frames, *size = x.shape
    entering = F.pixel_unshuffle(rearrange(x, "b c f h w -> (b f) c h w"), network.fold)
    return Seen(entering, arguments["timesteps"], clips, frames, tuple(size), tuple(size), {})


def _add_to_sites(arguments: Arguments, residuals: Sequence[Tensor], adapter) -> None:
    arguments["control"] = with_residuals(arguments["control"], {"sites": residuals})


def _read_svd(arguments: Arguments, network, adapter) -> Seen:
    x, frames = arguments["x"], arguments["kwargs"]["num_video_frames"]
    cells = tuple(x.shape[-2:])
    film = tuple(LATENT_STRIDE * side for side in cells)
    own = {"context": arguments["context"], "added": arguments["y"], "frames": frames}
    return Seen(x, arguments["timesteps"], len(x) // frames, frames, cells, film, own)


def _add_to_skips(arguments: Arguments, residuals: Sequence[Tensor], adapter) -> None:
    """Skips in the encoder's order: the decoder takes them from the end."""
    *skips, middle = residuals
    arguments["control"] = with_residuals(arguments["control"], {"output": skips, "middle": [middle]})


def _svd_has(network) -> dict[str, Any]:
    return {
        "input channels": network.in_channels,
        "widths": [network.model_channels * times for times in network.channel_mult],
        "layers": list(network.num_res_blocks),
    }


def _svd_wants(adapter: SvdAdapter) -> dict[str, Any]:
    branch = adapter.branch
    return {
        "input channels": branch.in_channels,
        "widths": list(branch.widths),
        "layers": [branch.layers] * len(branch.widths),
    }


def _read_tokens(arguments: Arguments, network, adapter: TokenMotionAdapter) -> Seen:
    x, patch = arguments["x"], adapter.patch
    clips, _, frames, *cells = x.shape
    if cells[0] % patch or cells[1] % patch:
        raise ValueError(
            f"this motion adapter takes a LATENT whose height and width are multiples of {patch}, got {cells[1]} x "
            f"{cells[0]}: make the picture's width and height multiples of {adapter.stride}"
        )
    film = tuple(side // patch * adapter.stride for side in cells)
    return Seen(x, arguments["timestep"], clips, frames, tuple(cells), film, {})


def _add_to_tokens(arguments: Arguments, residuals: Sequence[Tensor], adapter: TokenMotionAdapter) -> None:
    options, clips = arguments["transformer_options"], len(arguments["x"])
    replace = options.get("patches_replace", {})
    blocks = dict(replace.get("dit", {}))
    for number, residual in zip(adapter.blocks, residuals, strict=True):
        tokens = rearrange(residual, "(b f) c h w -> b (f h w) c", b=clips)
        blocks["double_block", number] = _behind(blocks.get(("double_block", number)), tokens)
    arguments["transformer_options"] = {**options, "patches_replace": {**replace, "dit": blocks}}


def _behind(before: Callable | None, tokens: Tensor) -> Callable:
    """A block, or what replaces it already (``before``), and then ``tokens`` added."""

    def block(inputs: dict, extra: dict) -> dict:
        out = extra["original_block"](inputs) if before is None else before(inputs, extra)
        if out["img"].shape != tokens.shape:
            raise ValueError(
                f"this MODEL has {out['img'].shape[1]} tokens, the motion adapter {tokens.shape[1]} for the clip's own "
                f"frames: leave out what adds others (reference images)"
            )
        return {**out, "img": out["img"] + tokens}

    return block


BACKBONES = (
    Backbone(
        "the small video U-Net of this pack", HostedVideoUNet, VideoMotionAdapter, 1,
        lambda network: _first_and_sites(network.encoder, network.sites),
        lambda adapter: _first_and_sites(adapter.branch, adapter.sites),
        _read_video_unet, _add_to_sites,
    ),
    Backbone(
        "Stable Video Diffusion", comfy.model_base.SVD_img2vid, SvdAdapter, 1,
        _svd_has, _svd_wants, _read_svd, _add_to_skips,
    ),
    Backbone(
        "Wan", comfy.model_base.WAN21, TokenMotionAdapter, 4,
        lambda network: {"width": network.dim, "blocks": len(network.blocks), "patch": network.patch_size[1]},
        lambda adapter: {"width": adapter.width, "blocks": adapter.depth, "patch": adapter.patch},
        _read_tokens, _add_to_tokens,
    ),
)  # fmt: skip


def _first_and_sites(encoder, sites) -> dict[str, Any]:
    sizes = [f"{site.channels} at 1/{site.stride}" for site in sites]
    return {"input channels": encoder.conv_in.in_channels, "states": sizes}
