"""Motion adapters that learn beside core MODELs, while a sampler runs these: Wan's from nothing, Stable Video
Diffusion's from one that there is."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import comfy.model_base
import torch
from comfy.patcher_extension import WrappersMP
from torch import Tensor, nn
from torch.nn import functional as F

from ...core import checkpoints
from ...core.data.dataset import LatentDataset
from ...core.motion.carry import Carry, carry
from ...core.motion.field import MotionField
from ...core.noise.maps import latent_motion
from ...core.training.clip_tasks import AdapterObjective, check_motion, consistency
from ...core.training.geometric import total_loss
from ...core.training.task import Batch, Task
from .adapters import LoadedAdapter
from .alignment import level_of_share
from .backbones import BACKBONES, Backbone, backbone_of
from .host_loss import Asked, OwnLoss, output_factor, white
from .host_training import SAMPLE_STEPS, Host, sampled
from .runs import bound
from .training import Common, Trained, run_training
from .training_models import described

SITES = 8  # blocks of a transformer, spread over its depth, behind which a new adapter adds
WRAPPER_KEY = "aqueduct_adapter_in_training"


def check_hosted(model) -> None:
    """ValueError for a MODEL that there are no adapters for."""
    if not any(backbone.hosts(model.model) for backbone in BACKBONES):
        names = ", ".join(backbone.name for backbone in BACKBONES)
        raise ValueError(f"motion adapters are for {names}; this MODEL is {described(model)}: wire another")


def new_part(model, clips: LatentDataset) -> dict:
    """Architecture and arguments of a new adapter for a Wan. Raises ValueError for other MODELs.

    The branch of Stable Video Diffusion's is its own encoder, hundreds of millions of weights that are in a released
    adapter, trained already.
    """
    if not isinstance(model.model, comfy.model_base.WAN21):
        raise ValueError(
            f"an adapter for {described(model)} is not made anew: wire one to `adapter` to train on (MOFA-Video's, "
            f"AqueductLoadMotionAdapter)"
        )
    network, shapes = model.model.diffusion_model, clips.index.clips[0].shapes
    depth, patch = len(network.blocks), network.patch_size[1]
    spread = torch.linspace(0, depth - 1, min(SITES, depth)).round().long().tolist()
    arguments = {
        "width": network.dim, "depth": depth, "blocks": spread, "patch": patch,
        "stride": patch * (shapes["first"][-1] // shapes["latent"][-1]),
    }  # fmt: skip
    return {"architecture": "TokenMotionAdapter", "arguments": arguments}


@dataclass(eq=False)
class Learning:
    """An adapter in training on a MODEL: a DIFFUSION_MODEL wrapper, aimed at one clip of the data after the other."""

    network: nn.Module
    backbone: Backbone
    clips: LatentDataset
    clip: int = 0

    def __post_init__(self) -> None:
        # Of one clip alone, for the steps of a sample: at the size of a film it takes a hundred megabytes.
        self._way = lru_cache(1)(lambda clip, film: carry(self.motion(film)))

    def __call__(self, executor, *args, **kwargs):
        call = bound(executor, args, kwargs)
        seen = self.backbone.read(call.arguments, executor.class_obj, self.network)
        image, way = self.first(seen.film), self.way(seen.film)
        carried = self.network.carried(image.to(seen.entering.device), way.to(seen.entering.device))
        arguments = {name: _full(value) for name, value in seen.arguments.items()}
        residuals = self.network(_full(seen.entering), _full(seen.timesteps), carried, **arguments)
        self.backbone.add(call.arguments, [one.to(seen.entering.dtype) for one in residuals], self.network)
        return executor(*call.args, **call.kwargs)

    def first(self, film: tuple[int, int]) -> Tensor:
        image = self.clips.tensor(self.clip, "first")[None].float() / 255
        return F.interpolate(image, film, mode="bilinear", antialias=True)

    def way(self, film: tuple[int, int]) -> Carry:
        return self._way(self.clip, film)

    def motion(self, size: tuple[int, int]) -> MotionField:
        """Of the clip, from latent frame to latent frame, at this size."""
        own = MotionField(self.clips.tensor(self.clip, "forward"), self.clips.tensor(self.clip, "backward"))
        return latent_motion(own, self.backbone.compression).resized(*size)


def _full(value):
    return value.float() if isinstance(value, Tensor) and value.is_floating_point() else value


@dataclass(frozen=True, eq=False)
class AdapterLoss(OwnLoss):
    """The MODEL's own objective, and EMG eq. 10 on the clip it predicts (in latents)."""

    learning: Learning
    objective: AdapterObjective

    def of_row(self, clip: Tensor, share: Tensor, seed: Tensor, frame: Tensor) -> Tensor:
        self.learning.clip = int(clip)
        z_0, sampling = self.data(int(clip), float(frame)), self.asked.model.model_sampling
        level = torch.tensor([level_of_share(sampling, float(share))], dtype=torch.float32, device=z_0.device)
        x = sampling.noise_scaling(level, self.drawn(int(clip), int(seed), z_0), z_0.clone())
        self.asked.about(int(clip), z_0, seed=int(seed))
        prediction = self.asked.predict(x, level[0], int(seed))
        own = ((prediction - z_0) / output_factor(sampling, level)).square().mean()
        whole = prediction if prediction.dim() == 5 else prediction.movedim(0, 1)[None]
        motion = self.learning.motion(tuple(whole.shape[-2:])).to(whole.device)
        tested = self.asked.clips.tensor(int(clip), "mask")[:, 0].to(whole.device)
        field = motion.forward[None], motion.backward[None], tested[None]
        return total_loss(own, consistency(whole, *field, self.objective.mask), self.objective.weight)

    def sample(self, clip: int, steps: int, seed: int) -> Tensor:
        self.learning.clip = clip
        return super().sample(clip, steps, seed)


def train_adapter_beside(
    host: Host, adapter: LoadedAdapter | None, objective: AdapterObjective, given: Common
) -> Trained:
    """Raises ValueError for a MODEL without adapters, data without motion, and an adapter of another MODEL."""
    check_motion(host.clips)
    if objective.carried:
        raise ValueError("carried is for bridges, which start from a picture, not for this MODEL: set it to 0")
    part = new_part(host.patcher, host.clips) if adapter is None else adapter.config["parts"]["adapter"]
    told = {"mask": objective.mask, "lambda_geo": objective.weight, "data": host.data.about}
    config = {
        "about": f"motion adapter (EMG) for {host.name}, trained on {host.data.about}",
        "parts": {"adapter": part},
        "training": {**given.told(), **told, "loss": "the MODEL's own, and EMG eq. 10"},
    }
    with torch.inference_mode(False):
        probe = checkpoints.build(config, "adapter", device="meta")
    learning = Learning(probe, backbone_of(host.patcher.model, probe), host.clips)

    def body(asked: Asked) -> Trained:
        learning.network = network = _network(config, adapter).to(asked.device)
        loss = AdapterLoss(asked, white, learning, objective)
        order = host.clips.order(given.batch, given.seed)

        def draw(generator: torch.Generator, n: int) -> Batch:
            return loss.draw(order.rows(n), generator)

        def save(path: Path) -> None:
            checkpoints.save({"adapter": network}, path, config)

        largest = order.first_with(host.clips.largest)
        return run_training(
            Task({"adapter": network}, list(network.parameters()), draw, loss, config, largest=largest), given,
            save=save, folder="aqueduct", of=host.given_to(asked), beside=asked.model,
            sample=sampled(asked, host, lambda: loss.sample(0, SAMPLE_STEPS, given.seed)),
        )  # fmt: skip

    def patched(clone):
        clone.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, WRAPPER_KEY, learning)
        return clone

    return host.running(given, patched, body)


def _network(config: dict, adapter: LoadedAdapter | None) -> nn.Module:
    """With weights of its own that can be trained, as the adapter's are now."""
    network = checkpoints.build(config, "adapter")
    if adapter is not None:
        theirs = {key: value.float() for key, value in adapter.network.state_dict().items()}
        checkpoints.load_strictly(network, theirs, "the adapter")
    return network.requires_grad_(True)
