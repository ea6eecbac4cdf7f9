"""Motion measured from video."""

from comfy_api.latest import io

from ..core.motion.estimators import MAX_SIDE, estimate_motion
from ._comfy.flow_models import DEFAULT_ESTIMATOR, ESTIMATORS, estimator_called, estimator_of_socket
from ._comfy.images import to_clip
from ._comfy.progress import reporter
from ._comfy.schema import CATEGORY, MOTION, OPTICAL_FLOW, Schema


class AqueductOpticalFlow(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return Schema(
            node_id="AqueductOpticalFlow",
            display_name="Optical Flow",
            category=f"{CATEGORY}/motion",
            description=(
                "How the pixels of a clip move from each frame to the next and back, in one batch (EMG, section 4.3)."
            ),
            search_aliases=["estimate motion", "RAFT", "DIS", "bidirectional flow"],
            inputs=[
                io.Image.Input("images", tooltip="The clip: two frames or more, in order"),
                OPTICAL_FLOW.Input("optical_flow", optional=True, tooltip=(
                    "RAFT from core's Load Optical Flow Model; used in place of the estimator below"
                )),
                io.Combo.Input("estimator", options=ESTIMATORS, default=DEFAULT_ESTIMATOR, tooltip=(
                    "dis: OpenCV, on the CPU, no weights; fine is the most exact, fast and ultrafast are quick. raft: "
                    "torchvision's networks, from a file in models/optical_flow that you download (the message says "
                    "which). EMG estimates with a network"
                )),
                io.Int.Input("max_size", default=MAX_SIDE, min=64, max=8192, step=8, tooltip=(
                    "Longest side at which motion is estimated, pixels; larger frames are reduced for it and the "
                    "vectors scaled back up. More is slower and finds finer motion"
                )),
            ],
            outputs=[MOTION.Output(display_name="motion")],
        )  # fmt: skip

    @classmethod
    def execute(cls, images, estimator, max_size, optical_flow=None):
        found = estimator_called(estimator) if optical_flow is None else estimator_of_socket(optical_flow)
        return io.NodeOutput(estimate_motion(to_clip(images), found, max_size, reporter()))


NODES = [AqueductOpticalFlow]
