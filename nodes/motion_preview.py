"""Pictures of motion."""

from comfy_api.latest import io, ui

from ..core.plots.motion import PREVIEWS
from ._comfy.images import to_clip
from ._comfy.progress import reporter
from ._comfy.schema import CATEGORY, MOTION, Schema


class AqueductMotionPreview(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return Schema(
            node_id="AqueductMotionPreview",
            display_name="Motion Preview",
            category=f"{CATEGORY}/motion",
            description="Shows a motion: as colours with their wheel, arrows, a grid carried along, or cycle energy.",
            search_aliases=["visualize optical flow", "flow to image", "flow colour wheel"],
            is_output_node=True,
            inputs=[
                MOTION.Input("motion", tooltip="What to show"),
                io.Image.Input("images", optional=True, tooltip=(
                    "Drawn underneath: the clip, or one image for all frames, at the motion's size"
                )),
                io.Combo.Input("style", options=list(PREVIEWS), default="colours", tooltip=(
                    "colours: hue is direction, saturation is pixels per frame (wheel in the corner). arrows: where "
                    "pixels go. grid: lines of the first frame carried along the whole clip. energy: how far a cycle "
                    "misses, pixels^2, with the outline of what the cycle test rejects"
                )),
            ],
            outputs=[io.Image.Output(display_name="images")],
        )  # fmt: skip

    @classmethod
    def execute(cls, motion, style, images=None):
        clip = None if images is None else to_clip(images)
        if style == "energy":
            motion = motion.bidirectional(reporter())
        pictures = PREVIEWS[style](motion, clip, reporter())
        return io.NodeOutput(pictures, ui=ui.PreviewImage(pictures, cls=cls))


NODES = [AqueductMotionPreview]
