"""The loader of bridge models."""

from comfy_api.latest import io

from ..core.bridges import make_bridge
from ..core.checkpoints import read_config
from ._comfy.files import model_files, model_path
from ._comfy.loading import check_loader
from ._comfy.model import load_bridge_model
from ._comfy.prior import load_prior
from ._comfy.schema import BRIDGE, CATEGORY, PRIOR, Schema
from ._comfy.vae import FROM_FILE, load_vae, vae_choices


class AqueductLoadBridgeModel(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return Schema(
            node_id="AqueductLoadBridgeModel",
            display_name="Load Bridge Model",
            category=f"{CATEGORY}/loaders",
            description=(
                "Loads a trained bridge: MODEL (with what reads exemplars, where there is that), VAE, its process and, "
                "if the file holds one, its neural prior. Reads this pack's files, FrameBridge's released "
                "Latte-S/2 files and BBDM's LBBDM-f4."
            ),
            search_aliases=["framebridge loader", "bridge checkpoint", "bbdm loader"],
            inputs=[
                io.Combo.Input("file", options=model_files(), tooltip=(
                    "File in models/aqueduct, or one that comes with the pack. FrameBridge: its Latte-S/2 .pt files. "
                    "BBDM: its LBBDM-f4 .pth files"
                )),
                io.Combo.Input("vae", options=vae_choices(), default=FROM_FILE, tooltip=(
                    "The model's VAE: from the file (the shipped pixel-space models, BBDM's), or one of models/vae. "
                    "FrameBridge's Latte files need vae-ft-ema-560000-ema-pruned.safetensors"
                )),
            ],
            outputs=[
                io.Model.Output(display_name="model"),
                io.Vae.Output(display_name="vae"),
                BRIDGE.Output(display_name="bridge"),
                PRIOR.Output(display_name="prior"),
            ],
        )  # fmt: skip

    @classmethod
    def execute(cls, file, vae):
        path = model_path(file)
        check_loader("AqueductLoadBridgeModel", file, read_config(path))
        model, config = load_bridge_model(path)
        bridge = make_bridge(config["bridge"]["kind"], **config["bridge"]["constants"])
        prior = load_prior(path) if "prior" in config["parts"] else None
        return io.NodeOutput(model, load_vae(vae, config, file), bridge, prior)


NODES = [AqueductLoadBridgeModel]
