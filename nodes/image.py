"""Images: an example, so that the shipped workflows run as they are, and a clip seen as one picture."""

import numpy as np
import torch
from comfy_api.latest import io
from PIL import Image

from ..core.controls import mask_map
from ..core.plots.slices import SLICES, time_slice
from ..core.training.texture_scenes import example_scenes, labels, render
from ._comfy.files import SHIPPED
from ._comfy.images import to_image, with_alpha
from ._comfy.schema import CATEGORY, Schema

STRIP, SIDE = SHIPPED / "held_out_digits.png", 32
DIGITS = [f"digit {label}" for label in range(10)]
SCENES, SCENE_SIDE = 4, 64
# What each shows of the same four scenes, one after the other: (photos, classes) -> [n, 3, h, w]
SHOWN = {"scene": lambda photos, classes: photos, "mask map": lambda photos, classes: mask_map(classes)}
NAMES = [*DIGITS, *(f"{what} {n + 1}" for what in SHOWN for n in range(SCENES))]


class AqueductExampleImage(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return Schema(
            node_id="AqueductExampleImage",
            display_name="Example Image",
            category=f"{CATEGORY}/image",
            description="A picture that the shipped models never saw in training: a digit (32 pixels) or a scene (64).",
            search_aliases=["sample digit", "demo image", "sample scene", "mask map"],
            inputs=[
                io.Combo.Input("name", options=NAMES, default=NAMES[3], tooltip=(
                    "digit: a held-out scan, light on black, 32 x 32 pixels. scene: shapes in textures of their own, "
                    "64 x 64. mask map: what is where in the scene of that number, a colour for each kind of shape"
                )),
            ],
            outputs=[io.Image.Output(display_name="image")],
        )  # fmt: skip

    @classmethod
    def execute(cls, name):
        return io.NodeOutput(_digit(DIGITS.index(name)) if name in DIGITS else _scene(*name.rsplit(" ", 1)))


def _digit(index: int) -> torch.Tensor:
    with Image.open(STRIP) as strip:
        pixels = strip.convert("RGB").crop((index * SIDE, 0, (index + 1) * SIDE, SIDE))
    return torch.from_numpy(np.asarray(pixels, dtype=np.float32) / 255)[None]


def _scene(what: str, number: str) -> torch.Tensor:
    one = example_scenes(SCENES)[[int(number) - 1]]
    classes = labels(one.layouts, SCENE_SIDE)
    return to_image(SHOWN[what](render(one.layouts, one.families, SCENE_SIDE), classes))


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
