"""Where the self-attentions of a host's network are, and how one is known when it is asked: a `Family` for each kind.

All attention of ComfyUI's networks, self and cross, comes through ``optimized_attention_override`` of their
transformer_options without saying which it is. Marks tell: U-Nets call ``attn1_patch`` before a block's self-attention
and ``attn1_output_patch`` behind it; a transformer's replacement of a block is called around the block, whose first
attention is its self-attention.
"""

import functools
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import comfy.model_base
from comfy.ldm.lightricks.model import LTXVModel
from comfy.ldm.modules.attention import SpatialTransformer, SpatialVideoTransformer
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from comfy.ldm.wan.model import WanModel

from .reference_blocks import Block, Blocks

Site = tuple[str, int, int]  # one self-attention: part, block, and which of the block's
Grid = tuple[int, int, int]  # tokens: frames, height, width
SITE_KEY = "aqueduct_reference_site"  # in transformer_options while a transformer's block is asked
SKIPPED = "stg_skip_self_attn"  # in them: LTXV's spatio-temporal guidance leaves a block's self-attention out


@dataclass(eq=False)
class Turn:
    """Of which self-attentions of ``blocks`` it is the turn in one call of a network, as marks say."""

    blocks: frozenset[Block]
    coming: set[Site] = field(default_factory=set)

    def comes(self, site: Site) -> None:
        if site[:2] in self.blocks:
            self.coming.add(site)

    def passed(self, site: Site) -> None:
        self.coming.discard(site)

    def take(self, site: Site | None) -> Site | None:
        """``site`` the first time that it is asked in its turn."""
        if site not in self.coming:
            return None
        self.passed(site)
        return site


@dataclass(frozen=True)
class Family:
    """A kind of network. ``blocks(network)``: those with self-attention.

    ``marked(options, turn)``: transformer_options that tell ``turn``, with all that was in them still in force. As an
    attention is asked with these, ``site(options)`` says where that is, and ``grid(network, x, options)`` which tokens
    input ``x`` has there. ``own``: inputs that belong to what is made, not to a picture beside it. ``clips``: rows are
    the frames of clips, and are asked together.
    """

    name: str
    fits: Callable[[Any], bool]
    blocks: Callable[[Any], Blocks]
    marked: Callable[[dict, Turn], dict]
    site: Callable[[dict], Site | None]
    grid: Callable[[Any, Any, dict], Grid]
    own: tuple[str, ...]
    clips: bool = False


def family_of(model: comfy.model_base.BaseModel) -> Family:
    """Raises ValueError, with what it is and what would do, for a network that none is known for."""
    network = model.diffusion_model
    for family in FAMILIES:
        if family.fits(network):
            return family
    raise ValueError(
        f"an exemplar goes onto {', '.join(family.name for family in FAMILIES)}, or an exemplar model of this pack; "
        f"this MODEL is {type(model).__name__} around {type(network).__name__}: wire one of these"
    )


def _is_unet(network, kind: type) -> bool:
    """Whether all its transformers are of one kind."""
    transformers = (module for module in network.modules() if isinstance(module, SpatialTransformer))
    return isinstance(network, UNetModel) and {type(module) for module in transformers} == {kind}


def _unet_blocks(network: UNetModel) -> Blocks:
    parts = {"input": network.input_blocks, "middle": [network.middle_block], "output": network.output_blocks}
    there = {part: [i for i, block in enumerate(blocks) if _attends(block)] for part, blocks in parts.items()}
    return {part: numbers for part, numbers in there.items() if numbers}


def _attends(block) -> bool:
    """To itself: some U-Nets attend to the text in its place."""
    transformers = [layer for layer in block or () if isinstance(layer, SpatialTransformer)]
    return any(not inner.disable_self_attn for layer in transformers for inner in layer.transformer_blocks)


def _mark_unet(options: dict, turn: Turn, layers: int = 1) -> dict:
    """``layers``: how many share a place and take turns there, of which the first is over space."""
    asked = Counter()

    def before(query, context, value, extra: dict):
        site = _unet_site(extra)
        if asked[site] % layers == 0:
            turn.comes(site)
        asked[site] += 1
        return query, context, value

    def behind(out, extra: dict):
        turn.passed(_unet_site(extra))  # also where another replaced it, and did not ask
        return out

    there = options.get("patches", {})
    own = {
        "attn1_patch": [*there.get("attn1_patch", ()), before],
        "attn1_output_patch": [behind, *there.get("attn1_output_patch", ())],
    }
    return {**options, "patches": {**there, **own}}


def _unet_site(options: dict) -> Site | None:
    return (*options["block"], options["block_index"]) if "block_index" in options else None


def _unet_grid(network, x, options: dict) -> Grid:
    return (1, *options["activations_shape"][-2:])


def _token_grid(network, x, options: dict) -> Grid:
    frames, *cells = x.shape[2:]
    step, *patch = getattr(network, "patch_size", (1, 1, 1))
    return -(-frames // step), *(-(-side // cell) for side, cell in zip(cells, patch, strict=True))


def _token_site(options: dict) -> Site | None:
    return options.get(SITE_KEY)


def _mark_blocks(options: dict, turn: Turn) -> dict:
    replace = options.get("patches_replace", {})
    there = replace.get("dit", {})
    keys = {number: ("double_block", number) for _, number in turn.blocks}
    own = {key: _marking(there.get(key), turn, ("", number, 0)) for number, key in keys.items()}
    return {**options, "patches_replace": {**replace, "dit": {**there, **own}}}


def _marking(before: Callable | None, turn: Turn, site: Site) -> Callable:
    """A block, or what replaces it already (``before``) around it, marked right where the block itself is called.

    It may be asked once more without this mark, for a gradient (see `gradients`), with the options that it had.
    """

    def block(inputs: dict, extra: dict) -> dict:
        def original(inputs: dict) -> dict:
            options = inputs["transformer_options"]
            if options.get(SKIPPED):
                return extra["original_block"](inputs)
            options[SITE_KEY] = site
            turn.comes(site)
            out = extra["original_block"](inputs)
            turn.comes(site)
            del options[SITE_KEY]
            return out

        return original(inputs) if before is None else before(inputs, {**extra, "original_block": original})

    return block


FAMILIES = (
    Family(
        "Stable Diffusion (SD1.5, SD2, SDXL)", lambda network: _is_unet(network, SpatialTransformer), _unet_blocks,
        _mark_unet, _unet_site, _unet_grid, ("control",),
    ),
    # A layer over time follows each over space. Frames lie in the batch, so the exemplar is shown as a still clip.
    Family(
        "Stable Video Diffusion", lambda network: _is_unet(network, SpatialVideoTransformer), _unet_blocks,
        functools.partial(_mark_unet, layers=2), _unet_site, _unet_grid, ("control",), clips=True,
    ),
    # By exact class: those that inherit from these have attention of further inputs between.
    Family(
        "Wan", lambda network: type(network) is WanModel, lambda network: {"": range(len(network.blocks))},
        _mark_blocks, _token_site, _token_grid, ("time_dim_concat", "reference_latent", "context_latents"),
    ),
    Family(
        "LTXV", lambda network: type(network) is LTXVModel,
        lambda network: {"": range(len(network.transformer_blocks))}, _mark_blocks, _token_site, _token_grid,
        ("keyframe_idxs", "denoise_mask", "guide_attention_entries", "generated_keyframes", "stg_self_attn_blocks"),
    ),
)  # fmt: skip
