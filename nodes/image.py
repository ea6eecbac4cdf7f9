"""Images: an example, so that the shipped workflows run as they are, and a clip seen as one picture."""

import numpy as np
import torch
from comfy_api.latest import io
from PIL import Image

from ..core.plots.slices import SLICES, time_slice
from ._comfy.files import SHIPPED
from ._comfy.images import to_image, with_alpha
from ._comfy.schema import CATEGORY, Schema

STRIP, SIDE = SHIPPED / "held_out_digits.png", 32
NAMES = [f"digit {label}" for label in range(10)]


class AqueductExampleImage(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return Schema(
            node_id="AqueductExampleImage",
            display_name="Example Image",
            category=f"{CATEGORY}/image",
            description="A handwritten digit that the shipped models never saw in training, 32 x 32 pixels.",
            search_aliases=["sample digit", "demo image"],
            inputs=[
                io.Combo.Input("name", options=NAMES, default=NAMES[3], tooltip=(
                    "Which digit; one held-out scan of each, light on black"
                )),
            ],
            outputs=[io.Image.Output(display_name="image")],
        )  # fmt: skip

    @classmethod
    def execute(cls, name):
        left = NAMES.index(name) * SIDE
        with Image.open(STRIP) as strip:
            pixels = np.asarray(strip.convert("RGB").crop((left, 0, left + SIDE, SIDE)), dtype=np.float32)
        return io.NodeOutput(torch.from_numpy(pixels / 255)[None])


class AqueductTimeSlice(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return Schema(
            node_id="AqueductTimeSlice",
            display_name="Time Slice",
            category=f"{CATEGORY}/image",
            description="The same line of every frame, side by side over time: flicker shows as stripes.",
            search_aliases=["x-t slice", "spatiotemporal slice", "flicker", "temporal profile", "slit scan"],
            inputs=[
                io.Image.Input("images", tooltip="Frames of a clip"),
                io.Float.Input("position", default=0.5, min=0.0, max=1.0, step=0.01, tooltip=(
                    "Which line: a share of the height (along x) or of the width (along y); 0.5 is the middle"
                )),
                io.Combo.Input("along", options=list(SLICES), default="x", tooltip=(
                    "x: a row of each frame, time runs downwards. y: a column of each frame, time runs to the right. "
                    "Choose the direction things move in"
                )),
                io.Int.Input("thickness", default=4, min=1, max=256, tooltip="Pixels each frame is drawn high or wide"),
            ],
            outputs=[io.Image.Output(display_name="image")],
        )  # fmt: skip

    @classmethod
    def execute(cls, images, position, along, thickness):
        return io.NodeOutput(to_image(time_slice(with_alpha(images), position, along, thickness)))


NODES = [AqueductExampleImage, AqueductTimeSlice]
