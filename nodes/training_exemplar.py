"""Training of exemplar-guided translation."""

from dataclasses import replace
from functools import partial

import torch
from comfy_api.latest import io

from ..core import checkpoints
from ..core.bridges import brownian
from ..core.networks.layout import InputLayout
from ..core.plots.film_strips import film_strips
from ..core.training.exemplar import STAGES, Objective, ebdm, late_times
from ..core.training.exemplar_pairs import CONTROLS
from ..core.training.exemplar_task import EXEMPLAR_SIZES, Translator
from ..core.training.plateau import Plateau
from ._comfy.dataset import folder_path
from ._comfy.exemplar_model import takes_exemplars
from ._comfy.model import load_bridge_model
from ._comfy.schema import CATEGORY, Schema
from ._comfy.training import Common, common_inputs, run_training, trainable, trained_outputs
from ._comfy.training_exemplar import (
    Encoder,
    Space,
    check_stage,
    content,
    networks,
    pictures_of,
    pixels_of,
    seen_through,
)
from ._comfy.training_models import arguments_of

STEPS, SHOWN = 10, 3  # of the bridge, and pictures, for samples


class AqueductTrainExemplar(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return Schema(
            node_id="AqueductTrainExemplar",
            display_name="Train Exemplar Model",
            category=f"{CATEGORY}/training",
            description=(
                "Trains a bridge from control images to pictures in the style of an exemplar (EBDM), in its two "
                "stages: first the bridge, with the exemplar's global token; then the exemplar network and attention."
            ),
            search_aliases=["ebdm", "train style transfer", "exemplar training"],
            inputs=[
                io.Combo.Input("stage", options=["1", "2"], default="1", tooltip=(
                    "1: the bridge learns to translate, each picture its own exemplar. 2: exemplar network and "
                    "attention learn from another picture, all else frozen; goes on from the MODEL of stage 1"
                )),
                io.Model.Input("model", optional=True, tooltip=(
                    "Stage 2: the MODEL of stage 1, or one that has both to train on (exemplar_scenes.safetensors). "
                    "Stage 1: a MODEL to train on; without it a new one"
                )),
                io.Image.Input("images", optional=True, tooltip=(
                    "Pictures in place of a folder, larger than resolution; the exemplar is another crop of the picture"
                )),
                io.Vae.Input("vae", optional=True, tooltip=(
                    "The VAE in whose latents the bridge goes. Without: in pixels. Paper: VQ-f4"
                )),
                io.ClipVision.Input("clip_vision", optional=True, tooltip=(
                    "DINOv2, for the global token. Without: the small encoder of the shipped model, which becomes part "
                    "of the file. Paper: DINOv2"
                )),
                io.String.Input("folder", default="", tooltip=(
                    "Folder of pictures, below ComfyUI's input folder or its whole path. Pictures in one subfolder are "
                    "exemplars of each other (one person, one style each); in the folder itself, other crops of "
                    "themselves are"
                )),
                io.String.Input("pairs", default="", tooltip=(
                    "File in folder with lines target,exemplar,... (CoCosNet's lists), in place of subfolders"
                )),
                io.Combo.Input("control", options=list(CONTROLS), default=next(iter(CONTROLS)), tooltip=(
                    "What the bridge starts from: the picture's Canny edges, with OpenCV's usual thresholds or with "
                    "CoCosNet's softer ones, which the paper follows"
                )),
                io.String.Input("controls", default="", tooltip=(
                    "Folder of control images (masks, poses) by the names of the pictures, in place of edges"
                )),
                io.Int.Input("resolution", default=32, min=8, max=4096, step=8, tooltip=(
                    "Side of the crops that are trained on, pixels. Shipped model: 32. Paper: 256"
                )),
                io.Combo.Input("size", options=list(EXEMPLAR_SIZES), default="small", tooltip=(
                    "Of a new network. tiny: 0.3 million weights in all; small: 2.1, the shipped model's; EBDM-f4: the "
                    "paper's, for latents of VQ-f4 and large GPUs"
                )),
                io.Float.Input("variance", default=0.05, min=1e-4, max=10.0, step=1e-4, round=False, tooltip=(
                    "Of the Brownian bridge of a new network, no unit: a small one lets a small network learn. Shipped "
                    "model: 0.05. Paper: 1"
                )),
                io.Float.Input("late", default=0.5, min=0.0, max=1.0, step=0.05, tooltip=(
                    "Share of the training in the last twentieth of the times, where a bridge of little variance "
                    "decides on the look. Shipped model: 0.5. Paper: 0"
                )),
                io.Boolean.Input("plateau", default=False, tooltip=(
                    "Lower the rate to a fifth whenever the loss stops falling, in place of the cosine. Paper: on"
                )),
                *common_inputs(
                    "exemplar", steps=2000, learning_rate=1.5e-3, batch=32, ema=0.998, sample_every=500,
                    paper="rate 1e-5, batch 8, accumulate 2, an EMA",
                ),
            ],
            outputs=[
                io.Model.Output(display_name="model"),
                *trained_outputs(),
            ],
        )  # fmt: skip

    @classmethod
    def fingerprint_inputs(cls, folder="", controls="", **others):
        """Other pictures, another training: folders are looked at anew, which ComfyUI does not do by itself."""
        return [pixels_of(place) for place in (folder, controls)]

    @classmethod
    def execute(
        cls, stage, folder, pairs, control, controls, resolution, size, variance, late, plateau, model=None,
        images=None, vae=None, clip_vision=None, **common,
    ):  # fmt: skip
        given, number = Common(**common), int(stage)
        finds = folder_path(controls) if controls.strip() else CONTROLS[control]
        sample, about = pictures_of(folder, images, resolution, finds, pairs, given.batch)
        objective = _objective(model, variance, late)
        with trainable(given.seed) as device:
            space, encoder = Space.of(vae, resolution), Encoder.make(clip_vision, model, device)
            check_stage(model, number, space, encoder)
            arguments = EXEMPLAR_SIZES[size].arguments(space.latent["channels"], encoder.features)
            arguments = arguments if model is None else arguments_of(model)
            denoiser, network = networks(model, arguments, number, given.seed, device)
            translator = Translator(STAGES[number - 1], objective, denoiser, network, space.enter, encoder.see)
            told = {"stage": number, "data": about, "control": controls.strip() or control, "late": late}
            training = {**given.told(), **told, "loss": "EBDM eq. 7", "plateau": plateau}
            config = _config(translator, arguments, encoder, space, resolution) | {"training": training}
            others = {} if encoder.network is None else {"encoder": encoder.network}
            task = translator.task(sample, space.shape(given.batch, resolution), others, config)
            data = {"pictures": pixels_of(folder), "controls": pixels_of(controls), "pairs": pairs}
            data |= seen_through(vae, clip_vision)
            trained = run_training(
                task, given, folder="aqueduct", alone=True, of=data | {"images": content(images)},
                save=lambda path: checkpoints.save(dict(task.parts), path, config),
                sample=_sampler(translator, sample, space, given.seed, device), plateau=Plateau() if plateau else None,
            )  # fmt: skip
        loaded, _ = load_bridge_model(str(trained.path))
        return io.NodeOutput(loaded, *trained.outputs())


def _objective(model, variance: float, late: float) -> Objective:
    """EBDM's on the MODEL's own bridge, or on a new one."""
    times = partial(late_times, share=late)
    if model is None or not takes_exemplars(model):
        return replace(ebdm(), bridge=brownian(variance=variance), times=times)
    video = model.model.video
    return replace(
        ebdm(), bridge=video.bridge, parameterisation=video.parameterisation, precondition=video.precondition,
        times=times,
    )  # fmt: skip


def _config(translator: Translator, arguments: dict, encoder: Encoder, space: Space, resolution: int) -> dict:
    """The configuration that goes into the file's metadata, but for its training."""
    asked = translator.objective
    parts = {"model": {"architecture": "ExemplarUNet", "arguments": arguments}}
    if translator.network is not None:
        parts["exemplar"] = {"architecture": "ExemplarNetwork", "arguments": arguments}
    if encoder.part is not None:
        parts["encoder"] = encoder.part
    return {
        "about": f"EBDM on {resolution} pixels, stage {STAGES.index(translator.stage) + 1}",
        "parts": parts,
        "latent": space.latent,
        "class_names": [],
        "bridge": {"kind": asked.bridge.kind, "constants": dict(asked.bridge.constants)},
        "parameterisation": asked.parameterisation.name,
        "precondition": asked.precondition.name,
        "layout": vars(InputLayout()),
        "image_condition": "first frame of the prior",
        "sampling": {"solver": "bbdm", "spacing": "uniform"},
        "exemplar": {"features": encoder.features, "encoder": encoder.source, "size": resolution},
    }


def _sampler(translator: Translator, draw, space: Space, seed: int, device: torch.device):
    """Control, exemplar, what is made of them, and the picture they are from, in rows; the same ones always."""

    def sample(step: int):
        triples = draw(torch.Generator().manual_seed(seed))
        control, photo, other = (x[:SHOWN].to(device) for x in (triples.control, triples.photo, triples.exemplar))
        own = translator.stage.exemplar(photo, other)
        made = space.leave(translator.translate(control, own, STEPS, seed))
        rows = [*((x / 2 + 0.5).cpu() for x in (control, own)), made.cpu(), (photo / 2 + 0.5).cpu()]
        return film_strips(rows, ["control", "exemplar", f"model, step {step}", "data"])

    return sample


NODES = [AqueductTrainExemplar]
