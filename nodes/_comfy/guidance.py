"""What the guidance nodes share: their block of inputs, modes on hosts, and the pairs of frames they compare."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import comfy.ldm.modules.diffusionmodules.openaimodel as openai
from comfy_api.latest import io
from torch import Tensor
from torch.nn import functional as F

from ...core.guidance import REFERENCES, Pairs, full, x0
from ...core.guidance.guided import Mode
from ...core.motion import MotionField
from ...core.networks import Restorer
from .gradients import check_differentiable
from .images import motion_mask
from .options import OUTER_KEY
from .schema import MOTION

Reference = Callable[[MotionField], Pairs]
GUIDANCE_MASK = "guidance mask"  # as messages call it


@dataclass(frozen=True)
class HostMode:
    """How a mode of core is carried out on a host.

    ``check(model)`` raises ValueError where it cannot be; ``options(network, model_options)`` asks the network for it.
    """

    mode: Mode
    backward: bool
    check: Callable[[Any], None]
    options: Callable[[Any, dict], dict] = lambda network, model_options: model_options


def check_outer(model) -> None:
    """ValueError unless the network has levels, and the gradient can be kept to the outermost."""
    network = model.model.diffusion_model
    if not isinstance(network, openai.UNetModel | Restorer):
        raise ValueError(
            f"mode outer takes the outermost level of a U-Net (SD1.5, SDXL, SVD, this pack's restoration models); a "
            f"{type(network).__name__} has no levels: use mode full or x0"
        )
    check_differentiable(model)


def outermost(network, model_options: dict) -> dict:
    """Options under which the network detaches what goes deeper than its outermost level."""
    options = {**model_options.get("transformer_options", {}), OUTER_KEY: True}
    if isinstance(network, openai.UNetModel) and len(network.channel_mult) > 1:
        last = ("input", network.num_res_blocks[0])

        def detach(h: Tensor, at: dict) -> Tensor:
            return h.detach() if at["block"] == last else h

        patches = options.get("patches", {})
        after_skip = [*patches.get("input_block_patch_after_skip", []), detach]
        options["patches"] = {**patches, "input_block_patch_after_skip": after_skip}
    return {**model_options, "transformer_options": options}


MODES = {
    "x0": HostMode(x0, backward=False, check=lambda model: None),
    "outer": HostMode(full, backward=True, check=check_outer, options=outermost),
    "full": HostMode(full, backward=True, check=check_differentiable),
}


def guidance_inputs() -> list:
    """The block of inputs of Warped Diffusion's guidance."""
    *first, share = shared_inputs()
    return [
        *first,
        io.Combo.Input("reference", options=list(REFERENCES), default="previous frame", tooltip=(
            "What each frame is held against, along the motion. Paper: the previous frame"
        )),
        share,
        io.Boolean.Input("bounded", default=True, tooltip=(
            "Never step further than to where the error would be zero, so that guidance comes to rest. Paper: off, a "
            "step of fixed length"
        )),
    ]  # fmt: skip


def shared_inputs() -> list:
    """The block of inputs that every guidance node has, in this order."""
    return [
        MOTION.Input("motion", tooltip=(
            "How the frames move, at the video's size; with temporal compression (Wan, LTXV) of all video frames. It "
            "is composed and resized for the LATENT"
        )),
        io.Mask.Input("mask", optional=True, tooltip=(
            "1 = guide here, 0 = not (threshold 0.5), at any size, one for all frames or one per frame. The cycle test "
            "of the motion is applied in any case"
        )),
        io.Float.Input("strength", default=1.0, min=0.0, max=1000.0, step=0.01, tooltip=(
            "Warped Diffusion's lambda, no unit; 0 changes nothing at all. 1 moves a frame by at most about 2 a step, "
            "whatever its size: raise it (10, 100) where frames of large latents still differ. Paper: 1"
        )),
        io.Float.Input("start_percent", default=0.0, min=0.0, max=1.0, step=0.001, tooltip=(
            "Where guidance starts, as a share of the sampler's steps, 0 to 1. Paper: 0"
        )),
        io.Float.Input("end_percent", default=1.0, min=0.0, max=1.0, step=0.001, tooltip=(
            "Where it ends, as a share of the sampler's steps, 0 to 1. Paper: 1"
        )),
        io.Combo.Input("mode", options=list(MODES), default="full", tooltip=(
            "Where the gradient goes. full: back through the network (the paper), outer: through its outermost level "
            "(U-Nets only), x0: nowhere, as fast as plain sampling. Paper: full"
        )),
        io.Float.Input("share", default=1.0, min=0.0, max=1.0, step=0.01, tooltip=(
            "Share of the steps from start to end that are guided, 0 to 1, evenly spread; saves time. Paper: 1"
        )),
    ]  # fmt: skip


def clip_pairs(motion: MotionField, reference: Reference, mask: Tensor | None) -> Pairs:
    """What is compared in a clip of the motion's frames, at the motion's size; ``mask`` lies on the earlier frames.

    Raises ValueError for a mask that has another number of frames, or motion that is not finite.
    """
    pairs = reference(motion)
    if mask is None:
        return pairs
    mask = motion_mask(mask, motion.frames, GUIDANCE_MASK)
    counts = F.interpolate(mask[:, None].float(), motion.size, mode="bilinear", antialias=True)[:, 0] >= 0.5
    chosen = counts[list(pairs.earlier)] if len(counts) > 1 else counts
    return Pairs(pairs.frames, pairs.later, pairs.earlier, pairs.flow, pairs.mask & chosen.to(pairs.mask.device))
