"""Training beside a core MODEL, while a sampler of ours runs it: nothing of it moves but what is trained."""

import hashlib
import logging
import math
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import comfy.model_management as mm
import comfy.samplers
import torch
from comfy.patcher_extension import WrappersMP
from torch import Tensor, nn

from ...core.data.dataset import LatentDataset
from ...core.networks.lora import Lora, chosen_layers
from ...core.training.task import Batch, Task
from .alignment import check_host, level_of_share
from .dataset import Dataset, weights_digest
from .gradients import check_differentiable, clone_for_gradients, gradients_through
from .host_conds import Told, told_of
from .host_loss import Asked, BridgeLoss, OwnLoss
from .identity import Identity
from .lora import host_name
from .training import Common, Trained, run_training, trainable
from .training_data import compared, identity, latent_of
from .training_samples import Sample

SAMPLE_STEPS = 8
ROOM_KEY = "aqueduct_training"
Body = Callable[[Asked], Trained]


@dataclass(frozen=True)
class Rank:
    """Of the LoRA: ``layers``, a regular expression of names."""

    rank: int
    alpha: float
    layers: str

    def made(self, network: nn.Module, seed: int) -> Lora:
        return Lora(chosen_layers(network, self.layers), self.rank, self.alpha, torch.Generator().manual_seed(seed))


class Within(comfy.samplers.Sampler):
    """A sampler that runs ``body`` where the guider's MODEL can be differentiated, and samples nothing."""

    def __init__(self, body: Callable[[object, dict], Trained], given: Common):
        self.body, self.given, self.result = body, given, None

    def sample(
        self, model_wrap, sigmas, extra_args, callback, noise, latent_image=None, denoise_mask=None, disable_pbar=False
    ):
        # The host's blocks are no blocks of what is trained: here is where they are computed twice.
        with gradients_through(model_wrap, self.given.recompute) as usable, trainable(self.given.seed):
            self.result = self.body(model_wrap, usable(extra_args["model_options"]))
        return torch.zeros_like(noise)


@dataclass(frozen=True, eq=False)
class Host:
    """A MODEL to train beside, the data, and what it is told of them.

    Raises ValueError for a MODEL that cannot be trained, and data that were not made for it.
    """

    patcher: object
    data: Dataset
    conditioning: list | None = None
    vae: object = None
    clip_vision: object = None

    def __post_init__(self):
        check_host(self.patcher)
        check_latents(self.patcher.model, self.data.latents)
        # Newer versions may have to load the MODEL anew: here, once for all that asks this one.
        object.__setattr__(self, "patcher", clone_for_gradients(self.patcher, way_out=None))
        check_differentiable(self.patcher, way_out=None)

    @property
    def clips(self) -> LatentDataset:
        return self.data.latents

    @property
    def name(self) -> str:
        return host_name(self.patcher.model)

    def told(self) -> Told:
        return told_of(self.patcher.model, self.data, self.conditioning, self.vae, self.clip_vision)

    def running(self, given: Common, patched: Callable, body: Body) -> Trained:
        """``body(asked)`` while a sampler runs ``patched(clone of the MODEL)``."""
        told, clone = self.told(), patched(self.patcher.clone())
        clone.add_wrapper_with_key(WrappersMP.PREPARE_SAMPLING, ROOM_KEY, _room(given))
        within = Within(lambda guider, options: body(Asked(guider, options, self.clips, told)), given)
        guider = comfy.samplers.CFGGuider(clone)
        guider.inner_set_conds({"positive": told(0)})
        empty = self._largest()
        guider.sample(empty, empty, within, torch.tensor([1.0, 0.0]), disable_pbar=True, seed=given.seed)
        return within.result

    def _largest(self) -> Tensor:
        shape = max(self.clips.buckets, key=math.prod)
        empty = torch.zeros(shape)
        return empty[None] if self.patcher.model.latent_format.latent_dimensions == 3 else empty.movedim(1, 0)

    def given_to(self, asked: Asked) -> dict:
        """JSON of what the result depends on, besides the inputs: the data, what is told of them, and the MODEL with
        what lies on it: LoRAs are in its weights while it runs, and another schedule in its levels, too."""
        carried = Identity()
        given = {
            "data": identity(self.clips), "model": self.name,
            "weights": weights_digest(asked.model.diffusion_model), "levels": levels_of(asked.model.model_sampling),
            "on the model": carried.carried(self.patcher),
            "conditioning": told_digest(asked.told, len(self.clips), carried),
        }  # fmt: skip
        return given | _not_the_same(carried.unknown)


def check_latents(model: nn.Module, clips: LatentDataset) -> None:
    """Raises ValueError unless the data are latents as this MODEL has them."""
    channels, wanted = next(iter(clips.buckets))[0], model.latent_format.latent_channels
    if channels != wanted:
        raise ValueError(
            f"the dataset's latents have {channels} channels and those of this MODEL, {host_name(model)}, {wanted}: "
            f"wire the MODEL's own VAE to AqueductVideoDataset"
        )


def _room(given: Common) -> Callable:
    """A PREPARE_SAMPLING wrapper: every sample of a batch is in memory at once."""

    def wrapper(executor, model, noise_shape, *args, **kwargs):
        return executor(model, [noise_shape[0] * given.batch, *noise_shape[1:]], *args, **kwargs)

    return wrapper


def trained_beside(
    asked: Asked, host: Host, given: Common, loss: BridgeLoss | OwnLoss, parts: dict[str, nn.Module], config: dict,
    save: Callable[[Path], None], sample: Sample | None = None,
) -> Trained:  # fmt: skip
    """Train ``parts``, the first of which is the LoRA, within a run of the host."""
    lora = next(iter(parts.values()))
    order = host.clips.order(given.batch, given.seed)
    parameters = [p for part in parts.values() for p in part.parameters()]

    def draw(generator: torch.Generator, n: int) -> Batch:
        return loss.draw(order.rows(n), generator)

    task = Task(parts, parameters, draw, loss, config, largest=order.first_with(host.clips.largest))
    of = host.given_to(asked)
    with lora.added():
        return run_training(task, given, save=save, folder="loras", sample=sample, of=of, beside=asked.model)


def sampled(asked: Asked, host: Host, made: Callable[[], Tensor]) -> Sample | None:
    """``sample`` of `run_training`: the first clip and what is ``made`` in its place; None without a way to see it."""
    latent = latent_of(host.clips)
    if latent["format"] != "pixel" and host.vae is None:
        return None

    def sample(step: int) -> Tensor:
        picture = compared(host.clips, [made()], [0], latent, host.vae, step)
        mm.load_models_gpu([asked.guider.model_patcher])  # in case the VAE took its place
        return picture

    return sample


def levels_of(sampling) -> dict:
    """JSON: of which kind a MODEL's levels are, and some of them."""
    kind = [one.__name__ for one in type(sampling).__mro__ if one.__module__.startswith("comfy.")]
    return {"kind": kind, "some": [float(f"{level_of_share(sampling, n / 8):.6g}") for n in range(1, 9)]}


def _not_the_same(unknown: list[str]) -> dict:
    """An entry that is another each time, where there is something that cannot be compared."""
    if not unknown:
        return {}
    names = ", ".join(sorted(set(unknown)))
    logging.warning(
        f"{names} on this MODEL or its CONDITIONING cannot be compared with another of its kind: once it has ended, "
        f"this training will not be found again, and once stopped, it cannot go on"
    )
    return {"what cannot be compared": f"{names} (run {uuid.uuid4().hex[:8]})"}


def told_digest(told: Told, count: int, identity: Identity) -> str:
    """Of all that is told of the clips: another text where any of it is another."""
    found = hashlib.sha256()
    for i in range(count):
        found.update(repr(_summed_up(told(i), identity)).encode())
    return found.hexdigest()[:16]


def _summed_up(tree, identity: Identity):
    """Tensors by their sums."""
    if isinstance(tree, Tensor):
        x = tree.detach().double()
        return tuple(tree.shape), f"{x.sum().item():.9e}", f"{x.square().sum().item():.9e}"
    if isinstance(tree, dict):
        return {key: _summed_up(value, identity) for key, value in sorted(tree.items())}
    if isinstance(tree, list | tuple):
        return [_summed_up(value, identity) for value in tree]
    return identity.of(tree)
