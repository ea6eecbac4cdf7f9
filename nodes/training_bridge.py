"""Training of bridges, from scratch or beside a core MODEL, and of core MODELs on Gaussian-process noise."""

import comfy.sd
import folder_paths
from comfy_api.latest import io

from ..core.bridges import bridge_gmax
from ..core.networks.lora import ATTENTION_AND_FEED_FORWARD
from ..core.training.sizes import LATTE_SIZES
from ._comfy.bridge_lora import Way, load_bridge_lora, train_bridge_beside
from ._comfy.gp_lora import train_gp_noise
from ._comfy.host_loss import WEIGHTS
from ._comfy.host_training import Host, Rank
from ._comfy.lora import read_lora
from ._comfy.model import load_bridge_model
from ._comfy.noise import SPECTRA, Fields
from ._comfy.schema import BRIDGE, CATEGORY, DATASET, PRIOR, Schema
from ._comfy.scratch_bridge import train_from_scratch
from ._comfy.training import Common, common_inputs, trained_outputs

TRAINING = f"{CATEGORY}/training"
HOSTS = "Wan, LTXV, SD1.5, SDXL, SVD, ..."


def told_inputs() -> list:
    """What a MODEL is told of the clips, and sees them with."""
    return [
        io.Conditioning.Input("conditioning", optional=True, tooltip=(
            "The text of all clips, where the dataset brings none of its own (CLIPTextEncode)"
        )),
        io.Vae.Input("vae", optional=True, tooltip=(
            "The VAE of the dataset: to show samples, and for an image-to-video Wan to see the first frame"
        )),
    ]  # fmt: skip


def lora_inputs() -> list:
    return [
        io.Int.Input("rank", default=16, min=1, max=1024, tooltip=(
            "Of the LoRA: how much can be learnt, and how large the file is. No unit"
        )),
        io.Float.Input("alpha", default=16.0, min=0.01, max=4096.0, step=0.01, tooltip=(
            "The LoRA is multiplied by alpha / rank; alpha = rank is 1. No unit"
        )),
        io.String.Input("layers", default=ATTENTION_AND_FEED_FORWARD, tooltip=(
            "Which layers of the MODEL get a LoRA: those whose name this regular expression is found in. The default: "
            "attention and feed-forward. Empty: every linear layer and convolution. Paper: all weights are trained"
        )),
    ]  # fmt: skip


class AqueductTrainBridge(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return Schema(
            node_id="AqueductTrainBridge",
            display_name="Train Bridge",
            category=TRAINING,
            description=(
                "Trains FrameBridge: fine-tunes any core MODEL to a bridge as a LoRA, SNR-aligned (SAF), or with no "
                "MODEL wired trains a small network of this pack from scratch. With a neural prior: FrameBridge-NP."
            ),
            search_aliases=["framebridge", "SAF", "snr aligned fine-tuning", "train lora", "image to video training"],
            inputs=[
                DATASET.Input("dataset", tooltip="From AqueductVideoDataset, encoded by the MODEL's own VAE"),
                io.Model.Input("model", optional=True, tooltip=(
                    f"The MODEL to fine-tune: {HOSTS}; in 16 or 32 bits, or cast from fp8. Without: a "
                    "network of this pack, from scratch"
                )),
                BRIDGE.Input("bridge", optional=True, tooltip="The process. Without, and paper: bridge-gmax"),
                PRIOR.Input("prior", optional=True, tooltip=(
                    "A neural prior of clips like these (AqueductTrainNeuralPrior on this dataset): the bridge starts "
                    "from its guess of the clip, frozen, which begins with the image. Without: from the image, "
                    "repeated. Paper: FrameBridge-NP with, FrameBridge without"
                )),
                *told_inputs(),
                io.ClipVision.Input("clip_vision", optional=True, tooltip=(
                    "For MODELs that see the first frame through CLIP, too: SVD, image-to-video Wan 2.1"
                )),
                io.Combo.Input("size", options=list(LATTE_SIZES), default="tiny", tooltip=(
                    "Of the network, if it is trained from scratch. tiny and small are for a CPU. Paper: Latte-S/2"
                )),
                io.Combo.Input("weight", options=list(WEIGHTS), default=next(iter(WEIGHTS)), tooltip=(
                    "Of the squared error in z_0 at bridge time t, no unit. eq. 6: alpha^2 / sigma^2, which counts "
                    "what is nearly done most. even: 1 at every t. Paper: eq. 6"
                )),
                io.Boolean.Input("saf", default=True, tooltip=(
                    "SNR-aligned fine-tuning: the MODEL is shown each state at the level of the same signal-to-noise "
                    "ratio, as it was trained to. Off, to compare: z_t as it is. Paper: on"
                )),
                io.Boolean.Input("prior_input", default=True, tooltip=(
                    "The MODEL's first layer sees the prior, too, as further channels that begin at zero. Paper: on. "
                    "Off: a plain LoRA file, for a MODEL that sees the image by its own conditioning"
                )),
                *lora_inputs(),
                *common_inputs(
                    "bridge", steps=2000, learning_rate=1e-4, batch=1, sample_every=250,
                    paper="20000 steps at 1e-5, batch 64 (fine-tuning); 400000, batch 40 (from scratch)",
                ),
            ],
            outputs=[io.Model.Output(display_name="model"), BRIDGE.Output(display_name="bridge"), *trained_outputs()],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, dataset, size, weight, saf, prior_input, rank, alpha, layers, model=None, bridge=None, prior=None,
        conditioning=None, vae=None, clip_vision=None, **common,
    ):  # fmt: skip
        bridge, given = bridge or bridge_gmax(), Common(**common)
        if model is None:
            trained = train_from_scratch(dataset, bridge, size, weight, vae, given, prior)
            return io.NodeOutput(load_bridge_model(str(trained.path))[0], bridge, *trained.outputs())
        way = Way(bridge, "aligned" if saf else "as it is", weight, prior_input, Rank(rank, alpha, layers), prior)
        trained = train_bridge_beside(Host(model, dataset, conditioning, vae, clip_vision), way, given)
        return io.NodeOutput(*load_bridge_lora(model, trained.path, 1.0), *trained.outputs())


class AqueductTrainGPNoise(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return Schema(
            node_id="AqueductTrainGPNoise",
            display_name="Train Model on GP Noise",
            category=TRAINING,
            description=(
                "Fine-tunes a core MODEL, as a LoRA, so that it takes Gaussian-process noise (AqueductGPNoise) for "
                "white noise (Warped Diffusion, section 4.1)."
            ),
            search_aliases=["warped diffusion", "correlated noise", "gaussian process", "train lora"],
            inputs=[
                io.Model.Input("model", tooltip=f"The MODEL to fine-tune: {HOSTS}; in 16 or 32 bits, or cast from fp8"),
                DATASET.Input("dataset", tooltip=(
                    "From AqueductVideoDataset, encoded by the MODEL's own VAE. A MODEL of pictures learns from single "
                    "frames of the clips"
                )),
                *told_inputs(),
                io.Float.Input("length_scale", default=0.0, min=0.0, max=1000.0, step=0.01, tooltip=(
                    "Of the noise's covariance, latent pixels, as in AqueductGPNoise; 0 takes the shortest the grid "
                    "can hold. The paper's is that: 2 / pi = 0.64"
                )),
                io.Int.Input("features", default=3000, min=1, max=1_000_000, tooltip=(
                    "Random waves of a field, as in AqueductGPNoise. Paper: 3000"
                )),
                io.Boolean.Input("full_rank", default=False, tooltip=(
                    "One wave for every cell of the frequency plane in place of random ones, as in AqueductGPNoise. "
                    "Paper: off"
                )),
                *lora_inputs(),
                *common_inputs(
                    "gp_noise", steps=2000, learning_rate=1e-4, batch=1, sample_every=250,
                    paper="100000 steps at 5e-6, batch 64 (SDXL, all weights)",
                ),
                io.Combo.Input("spectrum", options=list(SPECTRA), default="truncated normal", tooltip=(
                    "Of the fields, as in AqueductGPNoise. Paper: truncated normal"
                )),
                io.Boolean.Input("along_motion", default=False, tooltip=(
                    "For MODELs of video, and a dataset with motion: the noise of a clip is one field that follows its "
                    "motion, as AqueductGPNoise makes it with a motion. Off: every frame has a field of its own, and "
                    "noise that follows a motion, whose frames are alike, was never seen. Paper: off (pictures)"
                )),
            ],
            outputs=[io.Model.Output(display_name="model"), *trained_outputs()],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, model, dataset, length_scale, features, full_rank, rank, alpha, layers, spectrum, along_motion,
        conditioning=None, vae=None, **common,
    ):  # fmt: skip
        fields, host = Fields(length_scale, features, full_rank, spectrum), Host(model, dataset, conditioning, vae)
        trained = train_gp_noise(host, fields, along_motion, Rank(rank, alpha, layers), Common(**common))
        tuned, _ = comfy.sd.load_lora_for_models(model, None, read_lora(trained.path)[1], 1.0, 0)
        return io.NodeOutput(tuned, *trained.outputs())


class AqueductLoadBridgeLoRA(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return Schema(
            node_id="AqueductLoadBridgeLoRA",
            display_name="Load Bridge LoRA",
            category=f"{CATEGORY}/loaders",
            description=(
                "Makes a core MODEL the bridge that AqueductTrainBridge fine-tuned it to: LoRA, prior input, SNR "
                "alignment, and the process to sample it with."
            ),
            search_aliases=["framebridge lora", "SAF lora", "snr aligned lora"],
            inputs=[
                io.Model.Input("model", tooltip="The MODEL that the file was trained on, or a finetune of it"),
                io.Combo.Input("file", options=folder_paths.get_filename_list("loras"), tooltip=(
                    "File in models/loras, made by AqueductTrainBridge beside a MODEL"
                )),
                io.Float.Input("strength", default=1.0, min=-10.0, max=10.0, step=0.01, tooltip=(
                    "LoRA and prior input are multiplied by this, no unit; 0: the MODEL itself, aligned. Trained for 1"
                )),
            ],
            outputs=[io.Model.Output(display_name="model"), BRIDGE.Output(display_name="bridge")],
        )  # fmt: skip

    @classmethod
    def execute(cls, model, file, strength):
        path = folder_paths.get_full_path_or_raise("loras", file)
        return io.NodeOutput(*load_bridge_lora(model, path, strength))


NODES = [AqueductTrainBridge, AqueductTrainGPNoise, AqueductLoadBridgeLoRA]
