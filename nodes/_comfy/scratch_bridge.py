"""A bridge network of this pack, trained from nothing."""

from pathlib import Path

import torch
from torch import Tensor

from ...core import checkpoints
from ...core.bridges import Bridge
from ...core.networks.latte import LatteVideo
from ...core.networks.video_bridge import VideoBridge
from ...core.training.bridge_task import bridge_task, sample_clips
from ...core.training.clip_tasks import device_of
from ...core.training.sizes import LATTE_SIZES
from .dataset import Dataset
from .host_loss import WEIGHTS
from .loading import LATENT_FORMATS
from .training import Common, Trained, run_training, trainable
from .training_data import class_names, compared, enter, identity, latent_of, one_size, shown

SAMPLE_STEPS = 10
# As the models that ship: the prior beside the state, and its correction as output (docs/formats.md).
KIND = {
    "parameterisation": "prior_residual",
    "precondition": "unit_noise",
    "layout": {"concat_prior": True, "concat_first_frame": False, "prepend_first_frame": False},
    "image_condition": "first frame of the prior",
}


def train_from_scratch(data: Dataset, bridge: Bridge, size: str, weight: str, vae, given: Common) -> Trained:
    """A `LatteVideo` of that size (a name in `LATTE_SIZES`), of the data's classes if they have some."""
    clips, latent, names = data.latents, latent_of(data.latents), class_names(data.latents)
    arguments = LATTE_SIZES[size].arguments(one_size(clips, "a bridge from scratch"), len(names))
    arguments["in_channels"] *= 2  # the prior, beside the state
    config = {
        "about": f"FrameBridge, trained on {data.about}",
        "parts": {"model": {"architecture": "LatteVideo", "arguments": arguments}},
        "bridge": {"kind": bridge.kind, "constants": dict(bridge.constants)},
        **KIND,
        "class_names": names,
        "latent": latent,
        "training": {**given.told(), "data": data.about, "loss": f"FrameBridge algorithm 1, weight {weight}"},
    }
    video = VideoBridge.from_config(config)
    with trainable(given.seed) as device:
        network = LatteVideo(**arguments).initialise(torch.Generator().manual_seed(given.seed)).to(device)
        task = bridge_task(network, video, clips, WEIGHTS[weight], given.batch, given.seed, config, enter(latent))

        def save(path: Path) -> None:
            checkpoints.save(dict(task.parts), path, config)

        sample = None if latent["format"] != "pixel" and vae is None else _sampler(network, video, clips, latent, vae)
        return run_training(task, given, save=save, folder="aqueduct", sample=sample, of=identity(clips), alone=True)


def _sampler(network: LatteVideo, video: VideoBridge, clips, latent: dict, vae):
    rows, form = shown(clips), LATENT_FORMATS[latent["format"]]()

    def sample(step: int) -> Tensor:
        device = device_of(network)
        first = torch.stack([form.process_in(clips.tensor(row, "latent")[:, 0]) for row in rows]).to(device)
        y = clips.batch(rows, ["class"])["class"].to(device) if network.classes else None
        made = sample_clips(network, video, first, y, SAMPLE_STEPS, 0)
        return compared(clips, list(form.process_out(made)), rows, latent, vae, step)

    return sample
