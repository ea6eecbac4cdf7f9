"""Nodes that make z_T, the prior a bridge starts from."""

from comfy_api.latest import io

from ..core.checkpoints import read_config
from ._comfy.alignment import posterior_mean
from ._comfy.files import model_files, model_path
from ._comfy.latents import replicate
from ._comfy.loading import check_loader
from ._comfy.prior import load_prior
from ._comfy.schema import CATEGORY, PRIOR, Schema


class AqueductReplicatePrior(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return Schema(
            node_id="AqueductReplicatePrior",
            display_name="Replicate Frame as Prior",
            category=f"{CATEGORY}/prior",
            description="z_T of FrameBridge: the latent of one image, repeated for every frame.",
            search_aliases=["still video latent", "repeat frame"],
            inputs=[
                io.Latent.Input("latent", tooltip=(
                    "Latent of one image per clip. [B,C,h,w] gives frames in the batch axis (SVD, AnimateDiff, the "
                    "shipped models); [B,C,1,h,w] (Wan, LTXV, Hunyuan) gives [B,C,T,h,w]"
                )),
                io.Int.Input("frames", default=8, min=1, max=4096, tooltip=(
                    "Video frames of the clip. The shipped models: 8; FrameBridge: 16"
                )),
                io.Int.Input("temporal_compression", default=1, min=1, max=64, tooltip=(
                    "Video frames per latent frame: 1 (image latents), 4 (Wan, Hunyuan), 8 (LTXV). "
                    "T = (frames - 1) / this + 1 must be whole"
                )),
            ],
            outputs=[io.Latent.Output(display_name="prior")],
        )  # fmt: skip

    @classmethod
    def execute(cls, latent, frames, temporal_compression):
        return io.NodeOutput(replicate(latent, frames, temporal_compression))


class AqueductLoadNeuralPrior(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return Schema(
            node_id="AqueductLoadNeuralPrior",
            display_name="Load Neural Prior",
            category=f"{CATEGORY}/loaders",
            description="Loads a neural prior: a file of its own, or the prior inside a bridge model's file.",
            search_aliases=["framebridge prior", "nwarp"],
            inputs=[
                io.Combo.Input("file", options=model_files(), tooltip=(
                    "File in models/aqueduct, or one that comes with the pack; it must hold a prior"
                )),
            ],
            outputs=[PRIOR.Output(display_name="prior")],
        )  # fmt: skip

    @classmethod
    def execute(cls, file):
        path = model_path(file)
        config = read_config(path)
        if "prior" not in config["parts"]:
            check_loader("AqueductLoadNeuralPrior", file, config)
        return io.NodeOutput(load_prior(path))


class AqueductNeuralPrior(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return Schema(
            node_id="AqueductNeuralPrior",
            display_name="Neural Prior",
            category=f"{CATEGORY}/prior",
            description="z_T of FrameBridge-NP: a coarse clip predicted from one image and a class, in one step.",
            search_aliases=["coarse video", "framebridge-np"],
            inputs=[
                PRIOR.Input("prior", tooltip=(
                    "From AqueductLoadNeuralPrior, AqueductLoadBridgeModel or AqueductTrainNeuralPrior"
                )),
                io.Latent.Input("latent", tooltip=(
                    "Latent of one image per clip, at the model's size: [B,C,h,w], or [B,C,1,h,w] of a video VAE"
                )),
                io.Conditioning.Input("conditioning", tooltip="The class, from AqueductMotionClass (not 'none')"),
                io.Boolean.Input("keep_image", default=True, tooltip=(
                    "Put the given latent in place of the predicted first frame, which is known. On for the shipped "
                    "models; off gives the network's raw output, for FrameBridge's released files"
                )),
            ],
            outputs=[io.Latent.Output(display_name="prior")],
        )  # fmt: skip

    @classmethod
    def execute(cls, prior, latent, conditioning, keep_image):
        if prior is None:
            raise ValueError("this model file holds no neural prior: load one with AqueductLoadNeuralPrior")
        return io.NodeOutput({"samples": prior.predict(latent["samples"], conditioning, keep_image)})


class AqueductPosteriorMeanPrior(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return Schema(
            node_id="AqueductPosteriorMeanPrior",
            display_name="Posterior Mean Prior",
            category=f"{CATEGORY}/prior",
            description=(
                "A neural prior from any host MODEL without training: its prediction at maximum noise is "
                "E[z_0 | image, conditions], the optimum a neural prior is trained for (FrameBridge Proposition 3)."
            ),
            search_aliases=["training free prior", "x0 prediction"],
            inputs=[
                io.Model.Input("model", tooltip="A diffusion or flow MODEL (not a bridge, not SNR-aligned)"),
                io.Conditioning.Input("conditioning", tooltip=(
                    "Positive conditioning, with the image for image-to-video hosts; there is no CFG here"
                )),
                io.Latent.Input("latent", tooltip="Only its shape matters: the empty or replicated latent of the clip"),
                io.Int.Input("seed", default=0, min=0, max=0xFFFFFFFFFFFFFFFF, control_after_generate=True,
                             tooltip="Seed of the noise the model is shown"),
                io.Int.Input("draws", default=1, min=1, max=64, tooltip=(
                    "Predictions to average, each from another noise (seed, seed + 1, ...). 1 is enough if the model "
                    "ignores its noisiest input; more averages out what it does not"
                )),
            ],
            outputs=[io.Latent.Output(display_name="prior")],
        )  # fmt: skip

    @classmethod
    def execute(cls, model, conditioning, latent, seed, draws):
        return io.NodeOutput({**latent, "samples": posterior_mean(model, conditioning, latent["samples"], seed, draws)})


NODES = [AqueductReplicatePrior, AqueductLoadNeuralPrior, AqueductNeuralPrior, AqueductPosteriorMeanPrior]
