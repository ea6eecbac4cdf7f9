"""Warped Diffusion as a core SAMPLER: a clip from an image model, its frames made together."""

from comfy_api.latest import io

from ..core.guidance import REFERENCES
from ._comfy.guidance import guidance_inputs
from ._comfy.guided_model import host_guidance
from ._comfy.schema import CATEGORY, Schema
from ._comfy.warped_diffusion import WarpedDiffusionSampler


class AqueductWarpedDiffusionSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return Schema(
            node_id="AqueductWarpedDiffusionSampler",
            display_name="Warped Diffusion Sampler",
            category=f"{CATEGORY}/guidance",
            description=(
                "SAMPLER that makes a clip with an image MODEL: frames in the batch, Euler steps, each then drawn "
                "towards the frame before along a motion. A few frames at a time where memory is short."
            ),
            search_aliases=["warped diffusion", "temporal consistency", "video restoration", "flow guidance"],
            inputs=[
                *guidance_inputs(),
                io.Int.Input("frames_at_once", default=0, min=0, max=10_000, tooltip=(
                    "Frames in one call of the MODEL; 0 takes all. Halved when memory runs out. The result is the "
                    "same. Paper: 1"
                )),
            ],
            outputs=[io.Sampler.Output(display_name="sampler")],
        )  # fmt: skip

    @classmethod
    def execute(cls, reference, frames_at_once, **given):
        guidance = host_guidance(reference=REFERENCES[reference], **given)
        return io.NodeOutput(WarpedDiffusionSampler(guidance, frames_at_once))


NODES = [AqueductWarpedDiffusionSampler]
