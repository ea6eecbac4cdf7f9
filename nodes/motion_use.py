"""Nodes that put a motion to use: warp a clip along it, carry one frame, find what is hidden."""

import torch
from comfy_api.latest import io

from ..core.motion import MotionField, advect, cycle_energy, cycle_mask, warp
from ..core.motion.cycle import ALPHA1, ALPHA2
from ..core.plots.motion import energy_heat
from ._comfy.images import latent_frames, like_latent, to_image, to_mask, with_alpha
from ._comfy.progress import reporter
from ._comfy.schema import CATEGORY, MOTION, Schema, blocked

ALPHA1_TOOLTIP = "Share of the squared motion, |forward|^2 + |backward|^2, that a cycle may miss by. No unit. EMG: 0.01"
ALPHA2_TOOLTIP = (
    "Squared distance a cycle may always miss by, pixels^2 at the motion's size: 0.5 is 0.7 pixels. Larger forgives "
    "poor flow, smaller finds slower occlusion. EMG: 0.5"
)
# name in the menu -> (the frames a field of `motion` takes, the field, the frames it aligns them with)
WARPS = {
    "next frame onto this": lambda motion, apart: [(i + apart, i) for i in range(motion.frames - apart)],
    "this frame onto next": lambda motion, apart: [(i, i + apart) for i in range(motion.frames - apart)],
}


def alphas() -> list:
    return [
        io.Float.Input("alpha1", default=ALPHA1, min=0.0, max=10.0, step=0.005, round=False, tooltip=ALPHA1_TOOLTIP),
        io.Float.Input("alpha2", default=ALPHA2, min=0.0, max=1e4, step=0.005, round=False, tooltip=ALPHA2_TOOLTIP),
    ]


class AqueductWarp(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return Schema(
            node_id="AqueductWarp",
            display_name="Warp Along Motion",
            category=f"{CATEGORY}/motion",
            description=(
                "Moves every frame of a clip onto its neighbour along the motion; the two agree wherever the flow is "
                "right and nothing is hidden, which the mask marks."
            ),
            search_aliases=["optical flow warp", "apply flow", "remap"],
            inputs=[
                MOTION.Input("motion", tooltip="How the frames move; one of the clip's own size"),
                io.Image.Input("images", optional=True, tooltip="Clip to warp, one image per frame of the motion"),
                io.Latent.Input("latent", optional=True, tooltip=(
                    "Clip to warp, [F,C,h,w] or [1,C,F,h,w]; resize the motion to h x w first (AqueductResizeMotion)"
                )),
                io.Combo.Input("direction", options=list(WARPS), default="next frame onto this", tooltip=(
                    "next frame onto this: out[i] is frame i+1 seen from frame i (forward flow). this frame onto next: "
                    "out[i] is frame i carried to frame i+1 (backward flow)"
                )),
                io.Int.Input("apart", default=1, min=1, max=4096, tooltip=(
                    "Frames between the two: 1 is the neighbour; more composes the motion in between"
                )),
                *alphas(),
            ],
            outputs=[
                io.Image.Output(display_name="images"),
                io.Latent.Output(display_name="latent"),
                io.Mask.Output(display_name="valid"),
            ],
        )  # fmt: skip

    @classmethod
    def execute(cls, motion, direction, apart, alpha1, alpha2, images=None, latent=None):
        if images is None and latent is None:
            raise ValueError("nothing to warp: wire images or a latent")
        if apart >= motion.frames:
            raise ValueError(f"frames {apart} apart do not exist in {motion.frames} frames: set apart below that")
        pairs = WARPS[direction](motion, apart)
        flows, valid = _between(motion.bidirectional(reporter()).checked(alpha1, alpha2), pairs, alpha1, alpha2)
        warped = blocked("AqueductWarp: no images were wired in"), blocked("AqueductWarp: no latent was wired in")
        if images is not None:
            warped = to_image(_warp(with_alpha(images), flows, pairs, motion)), warped[1]
        if latent is not None:
            warped = warped[0], like_latent(_warp(latent_frames(latent), flows, pairs, motion), latent)
        return io.NodeOutput(*warped, to_mask(valid))


def _between(
    motion: MotionField, pairs: list[tuple[int, int]], alpha1: float, alpha2: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """For every (taken, onto): the flow on the grid of ``onto`` that says where to take from, and its validity.

    Frames further apart pass the cycle test over the whole way too, with alpha2 for each step of it (as `advect` does):
    what moves slowly passes it in every step.
    """
    report = reporter()
    flows, valid = [], []
    for done, (taken, onto) in enumerate(pairs, start=1):
        flow, ok = motion.between_valid(onto, taken)
        if abs(taken - onto) > 1:
            ok = ok & cycle_mask(flow[None], motion.between(taken, onto)[None], alpha1, alpha2 * abs(onto - taken))[0]
        flows.append(flow)
        valid.append(ok)
        report(done, len(pairs))
    return torch.stack(flows), torch.stack(valid)


def _warp(clip: torch.Tensor, flows: torch.Tensor, pairs: list[tuple[int, int]], motion: MotionField) -> torch.Tensor:
    if len(clip) != motion.frames:
        one, pace = len(clip) == 1, (len(clip) - 1) / motion.steps
        way = "AqueductAdvect moves a single image" if one else f"or slow it down by {pace:.4g} (AqueductComposeMotion)"
        raise ValueError(f"the motion has {motion.frames} frames, the clip {len(clip)}: give one per frame; {way}")
    return warp(clip[[taken for taken, _ in pairs]], flows.to(clip.device))


class AqueductAdvect(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return Schema(
            node_id="AqueductAdvect",
            display_name="Advect First Frame",
            category=f"{CATEGORY}/motion",
            description=(
                "Animates one image by motion alone: every frame follows its pixels back to the first one and reads it "
                "once, so nothing blurs over time. The mask is what the image never showed: inpaint it."
            ),
            search_aliases=["animate image", "move pixels", "cinemagraph", "motion brush"],
            inputs=[
                io.Image.Input("image", tooltip="The first frame (the first image of a batch is taken)"),
                MOTION.Input("motion", tooltip="How it moves, at the image's size"),
                *alphas(),
            ],
            outputs=[io.Image.Output(display_name="images"), io.Mask.Output(display_name="never_seen")],
        )  # fmt: skip

    @classmethod
    def execute(cls, image, motion, alpha1, alpha2):
        motion = motion.bidirectional(reporter())
        clip, unseen = advect(with_alpha(image[:1])[0], motion, alpha1, alpha2, reporter())
        return io.NodeOutput(to_image(clip), to_mask(unseen))


# name in the menu -> the field that is tested and the one that leads back
DIRECTIONS = {
    "forward": lambda motion: motion,
    "backward": lambda motion: MotionField(
        motion.backward, motion.forward, motion.backward_valid, motion.forward_valid
    ),
}


class AqueductCycleMask(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return Schema(
            node_id="AqueductCycleMask",
            display_name="Cycle Mask",
            category=f"{CATEGORY}/motion",
            description=(
                "Where following the motion there and back returns to the start (EMG, section 4.2): the pixels whose "
                "motion can be trusted, and those that are hidden in the other frame or leave it."
            ),
            search_aliases=["occlusion mask", "forward backward consistency", "flow confidence"],
            inputs=[
                MOTION.Input("motion", tooltip="Forward and backward motion; a missing backward one is inverted"),
                io.Combo.Input("direction", options=list(DIRECTIONS), default="forward", tooltip=(
                    "forward: mask[i] lies on frame i and looks at frame i+1. backward: mask[i] lies on frame i+1 and "
                    "looks back at frame i (what has just been uncovered)"
                )),
                *alphas(),
            ],
            outputs=[
                io.Mask.Output(display_name="valid"),
                io.Mask.Output(display_name="occluded"),
                io.Image.Output(display_name="energy"),
            ],
        )  # fmt: skip

    @classmethod
    def execute(cls, motion, direction, alpha1, alpha2):
        seen = DIRECTIONS[direction](motion.bidirectional(reporter()))
        valid = cycle_mask(seen.forward, seen.backward, alpha1, alpha2)
        energy = energy_heat(cycle_energy(seen.forward, seen.backward), valid, report=reporter())
        if seen.forward_valid is not None:
            valid = valid & seen.forward_valid
        return io.NodeOutput(to_mask(valid), to_mask(~valid), energy)


NODES = [AqueductWarp, AqueductAdvect, AqueductCycleMask]
