"""A bridge network of this pack, trained from nothing."""

from pathlib import Path

import torch
from torch import Tensor

from ...core import checkpoints
from ...core.bridges import Bridge
from ...core.data.dataset import LatentDataset
from ...core.networks.latte import LatteVideo
from ...core.networks.layout import InputLayout
from ...core.networks.neural_prior import NeuralPrior
from ...core.networks.video_bridge import VideoBridge
from ...core.training.bridge_task import bridge_task, sample_clips
from ...core.training.clip_tasks import device_of
from ...core.training.sizes import LATTE_SIZES
from .dataset import Dataset
from .host_loss import WEIGHTS
from .loading import LATENT_FORMATS
from .prior import LoadedPrior
from .prior_start import check_prior, frozen
from .training import Common, Trained, run_training, trainable
from .training_data import class_names, compared, enter, identity, latent_of, one_size, shown
from .training_samples import Sample

SAMPLE_STEPS = 10
# As the models that ship: the prior beside the state, and its correction as output (docs/formats.md).
KIND = {
    "parameterisation": "prior_residual",
    "precondition": "unit_noise",
    "image_condition": "first frame of the prior",
}
STILL = InputLayout(concat_prior=True)
COARSE = InputLayout(concat_prior=True, concat_first_frame=True)  # a guess shows the image in its first frame alone


def train_from_scratch(
    data: Dataset, bridge: Bridge, size: str, weight: str, vae, given: Common, prior: LoadedPrior | None = None
) -> Trained:
    """A `LatteVideo` of that size (a name in `LATTE_SIZES`), of the data's classes if they have some.

    With ``prior`` it starts from what that guesses, and the file holds both. Raises ValueError for one of other clips.
    """
    clips, names = data.latents, class_names(data.latents)
    shape = one_size(clips, "a bridge from scratch")
    if prior is not None:
        check_prior(prior, clips)
    layout = STILL if prior is None else COARSE
    arguments = LATTE_SIZES[size].arguments(shape, len(names)) | {"in_channels": layout.channels(shape[0])}
    config = _config(data, arguments, bridge, layout, prior)
    config["training"] = {**given.told(), "data": data.about, "loss": f"FrameBridge algorithm 1, weight {weight}"}
    latent = config["latent"]
    video = VideoBridge.from_config(config)
    with trainable(given.seed) as device:
        network = LatteVideo(**arguments).initialise(torch.Generator().manual_seed(given.seed)).to(device)
        coarse = None if prior is None else frozen(prior, device)
        draws = WEIGHTS[weight], given.batch, given.seed
        task = bridge_task(network, video, clips, *draws, config, enter(latent), coarse)

        def save(path: Path) -> None:
            checkpoints.save(dict(task.parts), path, config)

        seen = latent["format"] == "pixel" or vae is not None
        sample = _sampler(network, video, coarse, clips, latent, vae) if seen else None
        return run_training(task, given, save=save, folder="aqueduct", sample=sample, of=identity(clips), alone=True)


def _config(data: Dataset, arguments: dict, bridge: Bridge, layout: InputLayout, prior: LoadedPrior | None) -> dict:
    """What the file says of itself, but for the training."""
    parts = {"model": {"architecture": "LatteVideo", "arguments": arguments}}
    if prior is not None:
        parts["prior"] = prior.config["parts"]["prior"]
    return {
        "about": f"{'FrameBridge' if prior is None else 'FrameBridge-NP'}, trained on {data.about}",
        "parts": parts,
        "bridge": {"kind": bridge.kind, "constants": dict(bridge.constants)},
        **KIND,
        "layout": vars(layout),
        "class_names": class_names(data.latents),
        "latent": latent_of(data.latents),
    }


def _sampler(
    network: LatteVideo, video: VideoBridge, prior: NeuralPrior | None, clips: LatentDataset, latent: dict, vae
) -> Sample:
    rows, form = shown(clips), LATENT_FORMATS[latent["format"]]()

    def sample(step: int) -> Tensor:
        device = device_of(network)
        first = torch.stack([form.process_in(clips.tensor(row, "latent")[:, 0]) for row in rows]).to(device)
        y = clips.batch(rows, ["class"])["class"].to(device) if network.classes else None
        made = sample_clips(network, video, first, y, SAMPLE_STEPS, 0, prior)
        return compared(clips, list(form.process_out(made)), rows, latent, vae, step)

    return sample
