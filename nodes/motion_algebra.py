"""Nodes that make one motion of others."""

from comfy_api.latest import io

from ..core.motion import MotionField
from ..core.motion.algebra import concatenated, looped, masked, over, summed
from ..core.motion.retime import retimed
from ._comfy.images import mask_frames
from ._comfy.progress import reporter
from ._comfy.schema import CATEGORY, MOTION, Schema


def _times(amount: float) -> int:
    if amount < 1 or amount != int(amount):
        raise ValueError(f"a loop runs 1, 2, 3 ... times, got amount {amount:g}")
    return int(amount)


def _slowed(motion: MotionField, amount: float) -> MotionField:
    """``amount`` times as slow: 2 doubles the steps, 0.5 halves them; from the first frame to the last all the same."""
    if amount <= 0:
        raise ValueError(f"slow down by a factor above 0 (below 1 is faster), got {amount:g}")
    steps = max(1, round(motion.steps * amount))
    return retimed(motion, [motion.steps * step / steps for step in range(steps + 1)], reporter())


# name in the menu -> (what it needs besides the motion, what it makes of (motion, other, mask, amount))
OPERATIONS = {
    "camera over motion": (("other",), lambda motion, other, mask, amount: over(other, motion, reporter())),
    "sum": (("other",), lambda motion, other, mask, amount: summed(motion, other)),
    "then": (("other",), lambda motion, other, mask, amount: concatenated(motion, other)),
    "loop": ((), lambda motion, other, mask, amount: looped(motion, _times(amount))),
    "there and back": ((), lambda motion, other, mask, amount: looped(motion, _times(amount), ping_pong=True)),
    "slow down": ((), lambda motion, other, mask, amount: _slowed(motion, amount)),
    "reverse": ((), lambda motion, other, mask, amount: motion.bidirectional(reporter()).reversed()),
    "mask": (("mask",), lambda motion, other, mask, amount: masked(motion, mask_frames(mask), other, amount)),
}


class AqueductComposeMotion(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return Schema(
            node_id="AqueductComposeMotion",
            display_name="Compose Motion",
            category=f"{CATEGORY}/motion",
            description="Makes one motion of two, or another of one: camera over object, chains, loops, pace, masks.",
            search_aliases=["add motion", "concatenate motion", "loop motion", "slow motion", "mask motion"],
            inputs=[
                MOTION.Input("motion", tooltip="The motion to work on; the object's, under a camera"),
                MOTION.Input("other", optional=True, tooltip=(
                    "camera over motion: the camera's motion. sum, then: the second motion. mask: what holds outside "
                    "the mask (nothing wired: rest)"
                )),
                io.Mask.Input("mask", optional=True, tooltip=(
                    "mask: 1 where motion holds; one for all frames, or one per frame, at the motion's size"
                )),
                io.Combo.Input("operation", options=list(OPERATIONS), default="camera over motion", tooltip=(
                    "camera over motion: other looks at what motion moves, in the picture's own coordinates. sum: both "
                    "vectors at every place. then: one after the other. loop: again and again. there and back: each "
                    "time to the end and home. slow down: more frames for the same way. reverse: backwards. mask: "
                    "only inside the mask"
                )),
                io.Float.Input("amount", default=1.0, min=0.0, max=1000.0, step=0.05, round=False, tooltip=(
                    "loop, there and back: how often (whole). slow down: factor, 2 is half the speed, below 1 faster. "
                    "mask: softness of its edge, pixels (1 standard deviation). Not read by the others"
                )),
            ],
            outputs=[MOTION.Output(display_name="motion")],
        )  # fmt: skip

    @classmethod
    def execute(cls, motion, operation, amount, other=None, mask=None):
        needs, make = OPERATIONS[operation]
        wired = {"other": other, "mask": mask}
        missing = [name for name in needs if wired[name] is None]
        if missing:
            raise ValueError(f"{operation!r} needs {' and '.join(missing)}: wire it, or choose another operation")
        return io.NodeOutput(make(motion, other, mask, amount))


class AqueductResizeMotion(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return Schema(
            node_id="AqueductResizeMotion",
            display_name="Resize Motion",
            category=f"{CATEGORY}/motion",
            description="The same motion for frames of another size: the vectors are rescaled with the grid.",
            search_aliases=["scale optical flow", "motion for latents"],
            inputs=[
                MOTION.Input("motion", tooltip="What to resize"),
                io.Image.Input("images", optional=True, tooltip="Take the size of these; width, height are not read"),
                io.Latent.Input("latent", optional=True, tooltip=(
                    "Take the size of this LATENT (an eighth of the image's for most models), if no images are wired"
                )),
                io.Int.Input("width", default=512, min=1, max=16384, tooltip="Pixels, without images and latent"),
                io.Int.Input("height", default=512, min=1, max=16384, tooltip="Pixels, without images and latent"),
            ],
            outputs=[MOTION.Output(display_name="motion")],
        )  # fmt: skip

    @classmethod
    def execute(cls, motion, width, height, images=None, latent=None):
        if images is not None:
            height, width = images.shape[1:3]
        elif latent is not None:
            height, width = latent["samples"].shape[-2:]
        return io.NodeOutput(motion.resized(height, width))


NODES = [AqueductComposeMotion, AqueductResizeMotion]
