"""Conditioning of bridge models."""

import torch
from comfy_api.latest import io

from ._comfy.model import CLASS_KEY, IMAGE_KEY
from ._comfy.schema import CATEGORY, Schema


class AqueductMotionClass(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return Schema(
            node_id="AqueductMotionClass",
            display_name="Motion Class",
            category=f"{CATEGORY}/conditioning",
            description="CONDITIONING of class-conditional bridge models: which motion, or which UCF-101 action.",
            search_aliases=["class label", "action class"],
            inputs=[
                io.String.Input("motion", default="right", tooltip=(
                    "Class name or index from 0, one for all clips or one per clip separated by commas; 'none' is the "
                    "null class, for the negative of CFG. Shipped models: right, down-right, down, down-left, left, "
                    "up-left, up, up-right"
                )),
                io.Latent.Input("image", optional=True, tooltip=(
                    "Latent of the image the clip starts from, [B,C,h,w]. Needed when the first frame of z_T is not "
                    "the image itself (FrameBridge's released neural prior); otherwise that frame is used. Wire it to "
                    "positive and negative alike"
                )),
            ],
            outputs=[io.Conditioning.Output(display_name="conditioning")],
        )  # fmt: skip

    @classmethod
    def execute(cls, motion, image=None):
        values = {CLASS_KEY: motion}
        if image is not None:
            values[IMAGE_KEY] = image["samples"]
        return io.NodeOutput([[torch.zeros(1, 1, 1), values]])


NODES = [AqueductMotionClass]
