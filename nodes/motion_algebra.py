"""Nodes that make one motion of others."""

from comfy_api.latest import io

from ._comfy.schema import CATEGORY, MOTION, Schema


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


NODES = [AqueductResizeMotion]
