"""Nodes of image restoration models: the loader, and what the model is shown of the damaged pictures."""

import torch
from comfy_api.latest import io

from ..core.checkpoints import read_config
from ._comfy.files import model_files, model_path
from ._comfy.loading import check_loader
from ._comfy.restoration import CONDITION_KEY, damaged, load_restoration_model, restoration_of
from ._comfy.schema import CATEGORY, Schema
from ._comfy.vae import FROM_FILE, load_vae


class AqueductLoadRestorationModel(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return Schema(
            node_id="AqueductLoadRestorationModel",
            display_name="Load Restoration Model",
            category=f"{CATEGORY}/loaders",
            description="Loads a model that enlarges pictures or fills holes in them, and its pixel-space VAE.",
            search_aliases=["super-resolution model", "inpainting model", "warped diffusion model", "image restorer"],
            inputs=[
                io.Combo.Input("file", options=model_files(), tooltip=(
                    "File in models/aqueduct, or one that comes with the pack: those two want Gaussian Process Noise. "
                    "Each file says what noise it was trained with"
                )),
            ],
            outputs=[io.Model.Output(display_name="model"), io.Vae.Output(display_name="vae")],
        )  # fmt: skip

    @classmethod
    def execute(cls, file):
        path = model_path(file)
        check_loader("AqueductLoadRestorationModel", file, read_config(path))
        model, config = load_restoration_model(path)
        return io.NodeOutput(model, load_vae(FROM_FILE, config, file))


class AqueductRestorationCondition(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return Schema(
            node_id="AqueductRestorationCondition",
            display_name="Restoration Condition",
            category=f"{CATEGORY}/conditioning",
            description="Damaged pictures as the CONDITIONING of a restoration model, and the LATENT to sample.",
            search_aliases=["super-resolution", "upscale video", "inpaint video", "warped diffusion condition"],
            inputs=[
                io.Model.Input("model", tooltip="MODEL of AqueductLoadRestorationModel; it knows what is to be done"),
                io.Image.Input("images", tooltip=(
                    "Super-resolution: the small frames; the result is 8 times as large (the paper's factor, set by "
                    "the file). Inpainting: the frames with holes. Width and height of the result are multiples of 8 "
                    "pixels"
                )),
                io.Mask.Input("mask", optional=True, tooltip=(
                    "Inpainting only: 1 = missing; soft edges count as missing, too. One for all frames or one per "
                    "frame; scaled to the size of the images"
                )),
            ],
            outputs=[
                io.Conditioning.Output(display_name="positive"),
                io.Conditioning.Output(display_name="negative"),
                io.Latent.Output(display_name="latent"),
            ],
        )  # fmt: skip

    @classmethod
    def execute(cls, model, images, mask=None):
        condition, latent = damaged(restoration_of(model), images, mask)
        conditioning = [[torch.zeros(1, 1, 1), {CONDITION_KEY: condition}]]
        # The model never saw pictures without their condition: its negative is its positive, and CFG changes nothing.
        return io.NodeOutput(conditioning, conditioning, latent)


NODES = [AqueductLoadRestorationModel, AqueductRestorationCondition]
