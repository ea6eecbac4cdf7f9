"""Bridges that start from a neural prior (FrameBridge-NP): training them, and telling who samples them."""

import logging
from dataclasses import dataclass

import torch
from comfy.latent_formats import LatentFormat
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ...core import checkpoints
from ...core.data.dataset import LatentDataset
from ...core.networks.neural_prior import NeuralPrior, make_prior
from .loading import LATENT_FORMATS
from .prior import LoadedPrior
from .runs import bound
from .training_data import class_names, latent_of
from .training_models import digest

WRAPPER_KEY = "aqueduct_neural_prior"


def check_prior(prior: LoadedPrior, clips: LatentDataset) -> None:
    """ValueError, naming both sides, unless these clips are what the prior guesses.

    A prior of no classes guesses clips of any.
    """
    network, its = prior.patcher.model.network, prior.config
    size, names, form = [network.in_channels, *network.size], list(its["class_names"]), its["latent"]["format"]
    ours, found = latent_of(clips)["format"], class_names(clips)
    if form == ours and all(list(shape) == size for shape in clips.buckets) and (not names or names == found):
        return
    shapes = " and ".join(str(list(shape)) for shape in clips.buckets)
    raise ValueError(
        f"this neural prior guesses {_latents(form)} {size} (channels, frames, height, width) of {_classes(names)}, "
        f"and the clips of the dataset are {_latents(ours)} {shapes} of {_classes(found)}: train a prior on this "
        f"dataset (AqueductTrainNeuralPrior), or make the dataset like that of the prior"
    )


def _latents(form: str) -> str:
    return {"pixel": "pixels", "raw": "latents of a VAE of no known kind"}.get(form, f"latents of the kind {form}")


def _classes(names: list[str]) -> str:
    shown = ", ".join(names[:6]) + (f", ... ({len(names)} in all)" if len(names) > 6 else "")
    return f"the classes {shown}" if names else "no classes"


def frozen(prior: LoadedPrior, device: torch.device) -> NeuralPrior:
    """A copy in core's own layers and float32, apart from what ComfyUI manages. Outside of inference mode."""
    network = checkpoints.build(prior.config, "prior")
    theirs = {key: value.float() for key, value in prior.patcher.model.state_dict().items()}
    checkpoints.load_strictly(network, theirs, "the neural prior")
    return network.eval().requires_grad_(False).to(device)


def told_of_prior(prior: LoadedPrior) -> dict:
    """JSON for a file that does not hold it: what it is, and a digest of its weights."""
    return {"about": prior.config.get("about", "a neural prior"), "weights": digest(prior.patcher.model)}


@dataclass(frozen=True, eq=False)
class Guesses:
    """``(clip) -> [c, f, h, w]``, raw latents: the guess of a neural prior, which begins with the clip's own image."""

    network: NeuralPrior
    clips: LatentDataset
    form: LatentFormat
    device: torch.device

    @classmethod
    def of(cls, prior: LoadedPrior, clips: LatentDataset, device: torch.device) -> "Guesses":
        return cls(frozen(prior, device), clips, LATENT_FORMATS[prior.config["latent"]["format"]](), device)

    def __call__(self, clip: int) -> Tensor:
        first = self.form.process_in(self.clips.tensor(clip, "latent")[None, :, 0]).to(self.device)
        known = self.network.network.classes
        y = self.clips.batch([clip], ["class"])["class"].to(self.device) if known else None
        return self.form.process_out(make_prior(self.network, first, y, self.network.frames))[0]


def watch_start(patcher, name: str, about: str) -> None:
    """Have this MODEL, a clone, log a warning when it is sampled from a still picture and not from a neural prior."""

    def wrapper(executor, *args, **kwargs):
        if is_still(bound(executor, args, kwargs).arguments["latent_image"]):
            logging.warning(
                f"{name} was trained to start from a neural prior ({about}), and this LATENT is one picture, repeated: "
                f"make it with AqueductNeuralPrior and that prior"
            )
        return executor(*args, **kwargs)

    patcher.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, WRAPPER_KEY, wrapper)


def is_still(latent: Tensor) -> bool:
    """Whether all frames of ``[b, c, f, h, w]``, or of ``[f, c, h, w]``, are alike, and there are some."""
    frames = latent.movedim(2, 0) if latent.dim() == 5 else latent
    return len(frames) > 1 and bool((frames == frames[:1]).all())
