"""Motion on disk."""

from comfy_api.latest import io

from ..core.motion.flow_files import load_motion, save_motion
from ._comfy.places import fingerprint, next_output, saved, saved_path
from ._comfy.schema import CATEGORY, MOTION, Schema

# name in the menu -> how the name on disk ends; without an ending it is a folder
FORMATS = {"safetensors": ".safetensors", "flo folder": ""}


class AqueductSaveMotion(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return Schema(
            node_id="AqueductSaveMotion",
            display_name="Save Motion",
            category=f"{CATEGORY}/motion",
            description="Writes a motion into the output folder: one safetensors file, or Middlebury .flo files.",
            search_aliases=["export flow", "flo"],
            is_output_node=True,
            inputs=[
                MOTION.Input("motion", tooltip="What to save"),
                io.String.Input("filename_prefix", default="motion/aqueduct", tooltip=(
                    "Place under ComfyUI's output folder; a number is added"
                )),
                io.Combo.Input("format", options=list(FORMATS), default="safetensors", tooltip=(
                    "safetensors: everything, in one file. flo folder: forward_00000.flo, backward_00000.flo and so "
                    "on, for other programs"
                )),
            ],
            outputs=[io.String.Output(display_name="file")],
        )  # fmt: skip

    @classmethod
    def execute(cls, motion, filename_prefix, format):
        path = next_output(filename_prefix, FORMATS[format], motion.width, motion.height)
        save_motion(path, motion.to("cpu"))
        return io.NodeOutput(str(path), ui={"text": (str(path),)})


class AqueductLoadMotion(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return Schema(
            node_id="AqueductLoadMotion",
            display_name="Load Motion",
            category=f"{CATEGORY}/loaders",
            description="Reads a motion that was saved: a safetensors file, a .flo file or a folder of them.",
            search_aliases=["import flow", "flo"],
            inputs=[
                io.Combo.Input("file", options=saved((".safetensors", ".flo"), ".flo"), tooltip=(
                    "From ComfyUI's input folder, or its output folder where the name ends in [output]; newest first"
                )),
            ],
            outputs=[MOTION.Output(display_name="motion")],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, file):
        try:
            if file is not None:  # None: another node hands the name in
                saved_path(file)
        except FileNotFoundError as missing:
            return str(missing)
        return True

    @classmethod
    def fingerprint_inputs(cls, file):
        return float("nan") if file is None else fingerprint(saved_path(file))  # NaN: load anew each time

    @classmethod
    def execute(cls, file):
        return io.NodeOutput(load_motion(saved_path(file)))


NODES = [AqueductSaveMotion, AqueductLoadMotion]
