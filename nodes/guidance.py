"""Guidance along a motion, for MODELs and GUIDERs under any sampler."""

from comfy_api.latest import io

from ._comfy.guidance import MODES, guidance_inputs
from ._comfy.guided_model import HostGuidance, guided_guider, guided_model
from ._comfy.progress import reporter
from ._comfy.schema import CATEGORY, Schema, blocked


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
                io.Model.Input("model", optional=True, tooltip="The MODEL to guide, or wire a GUIDER"),
                io.Guider.Input("guider", optional=True, tooltip="The GUIDER to guide, of any kind, or wire a MODEL"),
                *guidance_inputs(),
            ],
            outputs=[io.Model.Output(display_name="model"), io.Guider.Output(display_name="guider")],
        )

    @classmethod
    def execute(
        cls, motion, strength, start_percent, end_percent, mode, reference, share, bounded,
        model=None, guider=None, mask=None,
    ):  # fmt: skip
        if model is None and guider is None:
            raise ValueError("nothing to guide: wire a MODEL or a GUIDER")
        window = (start_percent, end_percent, share)
        motion = motion.bidirectional(reporter())
        guidance = HostGuidance(motion, mask, strength, window, MODES[mode], reference, bounded)
        return io.NodeOutput(
            blocked("no MODEL is wired to this guidance") if model is None else guided_model(model, guidance),
            blocked("no GUIDER is wired to this guidance") if guider is None else guided_guider(guider, guidance),
        )


NODES = [AqueductEquivarianceGuidance]
