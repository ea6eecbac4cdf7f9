"""Motion adapters: networks that make an image-to-video MODEL follow a motion."""

from comfy_api.latest import io

from ..core.checkpoints import read_config
from ._comfy.adapters import PART, attached, load_adapter
from ._comfy.densifier import PART as DENSIFIER_PART
from ._comfy.densifier import load_densifier
from ._comfy.files import model_files, model_path
from ._comfy.loading import check_loader
from ._comfy.schema import ADAPTER, CATEGORY, DENSIFIER, MOTION, Schema, blocked


class AqueductLoadMotionAdapter(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return Schema(
            node_id="AqueductLoadMotionAdapter",
            display_name="Load Motion Adapter",
            category=f"{CATEGORY}/loaders",
            description=(
                "Loads a network that makes an image-to-video MODEL follow a motion, or one that makes tracks dense, "
                "or both. Reads this pack's files and MOFA-Video's released ones (Flow-ControlNet, CMP)."
            ),
            search_aliases=["mofa", "flow controlnet", "cmp", "sparse to dense", "emg"],
            inputs=[
                io.Combo.Input("file", options=model_files(), tooltip=(
                    "File in models/aqueduct, or one that comes with the pack; it must hold an adapter or a densifier"
                )),
            ],
            outputs=[ADAPTER.Output(display_name="adapter"), DENSIFIER.Output(display_name="densifier")],
        )  # fmt: skip

    @classmethod
    def execute(cls, file):
        path = model_path(file)
        config = read_config(path)
        check_loader("AqueductLoadMotionAdapter", file, config)
        return io.NodeOutput(
            load_adapter(path) if PART in config["parts"] else blocked(f"{file} holds no motion adapter"),
            load_densifier(path) if DENSIFIER_PART in config["parts"] else blocked(f"{file} holds no densifier"),
        )


class AqueductApplyMotionAdapter(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return Schema(
            node_id="AqueductApplyMotionAdapter",
            display_name="Apply Motion Adapter",
            category=f"{CATEGORY}/motion",
            description=(
                "Makes an image-to-video MODEL follow a motion (EMG, section 4.3; MOFA-Video): what the first frame "
                "shows is carried along the motion and shown to a network beside the MODEL's own."
            ),
            search_aliases=["mofa", "flow controlnet", "motion control", "drag animation", "emg"],
            inputs=[
                io.Model.Input("model", tooltip=(
                    "The MODEL that the adapter was trained on, or a finetune of it. It is not changed"
                )),
                ADAPTER.Input("adapter", tooltip="From AqueductLoadMotionAdapter. Several can follow each other"),
                MOTION.Input("motion", tooltip=(
                    "How the clip moves, at any size of the clip's aspect ratio. As many frames as the clip; with "
                    "temporal compression (Wan) of all video frames. Backward fields are found if there are none"
                )),
                io.Image.Input("image", tooltip=(
                    "The picture the clip starts from, at any size of its aspect ratio; of several its first counts"
                )),
                io.Float.Input("strength", default=1.0, min=0.0, max=10.0, step=0.01, tooltip=(
                    "What the adapter adds is multiplied by this, no unit; 0 changes nothing at all. Paper: 1"
                )),
                io.Float.Input("start_percent", default=0.0, min=0.0, max=1.0, step=0.001, tooltip=(
                    "From where on it counts, as a share of the MODEL's noise levels (as ControlNets), 0 to 1. Paper: 0"
                )),
                io.Float.Input("end_percent", default=1.0, min=0.0, max=1.0, step=0.001, tooltip=(
                    "Up to where it counts, as a share of the MODEL's noise levels, 0 to 1. Paper: 1"
                )),
            ],
            outputs=[io.Model.Output(display_name="model")],
        )  # fmt: skip

    @classmethod
    def execute(cls, model, adapter, motion, image, strength, start_percent, end_percent):
        return io.NodeOutput(attached(model, adapter, motion, image, strength, start_percent, end_percent))


NODES = [AqueductLoadMotionAdapter, AqueductApplyMotionAdapter]
