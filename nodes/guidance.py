"""Guidance along a motion, for MODELs and GUIDERs under any sampler."""

from functools import partial

from comfy_api.latest import io

from ..core.guidance import ABSOLUTE, REFERENCES, previous_frame
from ._comfy.guidance import guidance_inputs, shared_inputs
from ._comfy.guided_model import guided_outputs, host_guidance
from ._comfy.schema import CATEGORY, Schema
from .motion_use import alphas


class AqueductEquivarianceGuidance(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return Schema(
            node_id="AqueductEquivarianceGuidance",
            display_name="Equivariance Guidance",
            category=f"{CATEGORY}/guidance",
            description=(
                "Steers a MODEL or GUIDER, under any sampler, so that what it predicts moves along with a motion "
                "(Warped Diffusion)."
            ),
            search_aliases=["warped diffusion", "temporal consistency", "flow guidance", "self guidance"],
            inputs=[
                *guided_inputs(),
                *guidance_inputs(),
            ],
            outputs=[io.Model.Output(display_name="model"), io.Guider.Output(display_name="guider")],
        )

    @classmethod
    def execute(cls, motion, reference, model=None, guider=None, **given):
        compared = REFERENCES[reference]
        return io.NodeOutput(*guided_outputs(model, guider, lambda: host_guidance(motion, reference=compared, **given)))


class AqueductGeometricConsistency(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return Schema(
            node_id="AqueductGeometricConsistency",
            display_name="Geometric Consistency",
            category=f"{CATEGORY}/guidance",
            description=(
                "Steers a MODEL or GUIDER, under any sampler, by the loss that Eulerian Motion Guidance trains with: "
                "neighbouring frames agree along the motion, wherever its cycle closes."
            ),
            search_aliases=["eulerian motion guidance", "EMG", "cycle consistency", "occlusion", "flow guidance"],
            inputs=[
                *guided_inputs(),
                *shared_inputs(),
                *alphas(),
            ],
            outputs=[io.Model.Output(display_name="model"), io.Guider.Output(display_name="guider")],
        )

    @classmethod
    def execute(cls, motion, alpha1, alpha2, model=None, guider=None, **given):
        compared = partial(previous_frame, alpha1=alpha1, alpha2=alpha2)
        return io.NodeOutput(*guided_outputs(
            model, guider, lambda: host_guidance(motion, reference=compared, penalty=ABSOLUTE, **given)
        ))  # fmt: skip


def guided_inputs() -> list:
    return [
        io.Model.Input("model", optional=True, tooltip="The MODEL to guide, or wire a GUIDER"),
        io.Guider.Input("guider", optional=True, tooltip="The GUIDER to guide, of any kind, or wire a MODEL"),
    ]


NODES = [AqueductEquivarianceGuidance, AqueductGeometricConsistency]
