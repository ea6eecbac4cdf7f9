"""Training of neural priors."""

import torch
from comfy_api.latest import io

from ..core import checkpoints
from ..core.networks.neural_prior import NeuralPrior
from ..core.training.clip_tasks import device_of, prior_task
from ..core.training.sizes import LATTE_SIZES
from ._comfy.loading import LATENT_FORMATS
from ._comfy.prior import load_prior
from ._comfy.schema import CATEGORY, DATASET, PRIOR, Schema
from ._comfy.training import Common, common_inputs, run_training, trainable, trained_outputs
from ._comfy.training_data import class_names, compared, enter, identity, latent_of, one_size, shown


class AqueductTrainNeuralPrior(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return Schema(
            node_id="AqueductTrainNeuralPrior",
            display_name="Train Neural Prior",
            category=f"{CATEGORY}/training",
            description=(
                "Trains the network that guesses a coarse clip from one image (FrameBridge eq. 8), from which a bridge "
                "then starts: the mean squared error of the clip, given its first frame and its class."
            ),
            search_aliases=["framebridge-np", "coarse video", "train prior", "nwarp"],
            inputs=[
                DATASET.Input("dataset", tooltip="From AqueductVideoDataset; all clips of one size"),
                io.Vae.Input("vae", optional=True, tooltip=(
                    "The VAE of the dataset, to show samples; data in pixel space need none"
                )),
                io.Combo.Input("size", options=list(LATTE_SIZES), default="tiny", tooltip=(
                    "Of the network. tiny: 0.5 million weights, small: 1.9, for a CPU. Latte-S/2 and Latte-B/2, of 2 x "
                    "2 latent pixels to a patch, are for GPUs. Paper: Latte-S/2 on UCF-101"
                )),
                io.Boolean.Input("residual", default=True, tooltip=(
                    "Predict the difference to the first frame, not the clip itself: learns faster. Paper: off"
                )),
                *common_inputs(
                    "neural_prior", steps=1000, learning_rate=1e-3, batch=16, ema=0.0, sample_every=250,
                    paper="400000 steps at 1e-5, batch 32",
                ),
            ],
            outputs=[
                PRIOR.Output(display_name="prior"),
                *trained_outputs(),
            ],
        )  # fmt: skip

    @classmethod
    def execute(cls, dataset, size, residual, vae=None, **common):
        given, clips = Common(**common), dataset.latents
        latent = latent_of(clips)
        names = class_names(clips)
        arguments = LATTE_SIZES[size].arguments(one_size(clips, "a neural prior"), len(names))
        arguments["residual"] = residual
        config = {
            "about": f"neural prior of FrameBridge, trained on {dataset.about}",
            "class_names": names,
            "latent": latent,
            "parts": {"prior": {"architecture": "NeuralPrior", "arguments": arguments}},
            "training": {**given.told(), "data": dataset.about, "loss": "FrameBridge eq. 8, mean squared error"},
        }
        with trainable(given.seed) as device:
            network = NeuralPrior(**arguments)
            network.network.initialise(torch.Generator().manual_seed(given.seed))
            network.to(device)
            task = prior_task(network, clips, given.batch, given.seed, config, enter(latent))
            trained = run_training(
                task, given, folder="aqueduct", alone=True, of=identity(clips),
                save=lambda path: checkpoints.save(dict(task.parts), path, config),
                sample=_sampler(network, clips, latent, vae),
            )  # fmt: skip
        return io.NodeOutput(load_prior(str(trained.path)), *trained.outputs())


def _sampler(network, clips, latent: dict, vae):
    """Guesses for some clips of the data, below them; None where there is no VAE to see them with."""
    if latent["format"] != "pixel" and vae is None:
        return None
    rows, form = shown(clips), LATENT_FORMATS[latent["format"]]()

    def sample(step: int):
        device = device_of(network)
        first = torch.stack([form.process_in(clips.tensor(row, "latent")[:, 0]) for row in rows]).to(device)
        y = clips.batch(rows, ["class"])["class"].to(device) if network.network.classes else None
        return compared(clips, list(form.process_out(network(first, y))), rows, latent, vae, step)

    return sample


NODES = [AqueductTrainNeuralPrior]
