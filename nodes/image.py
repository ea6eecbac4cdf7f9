"""Example images, so that the shipped workflows run as they are."""

import numpy as np
import torch
from comfy_api.latest import io
from PIL import Image

from ._comfy.files import SHIPPED
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


NODES = [AqueductExampleImage]
