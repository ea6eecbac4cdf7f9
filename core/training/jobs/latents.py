"""FrameBridge on prepared clips: the bridge from scratch or out of a diffusion host, and its neural prior."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ... import checkpoints
from ...bridges.parameterisation import Parameterisation
from ...bridges.process import Bridge
from ...networks.latte import LatteVideo
from ...networks.neural_prior import make_prior
from ...networks.video_bridge import VideoBridge
from ..clip_tasks import check_one_size, draw_seeds, noise, prior_task
from ..config import Files, Recipe
from ..objectives import Weight, draw_bridge, z0_loss
from ..task import Batch, Task
from .digits import Process
from .low_rank import LowRank, moved
from .prepared import (
    Clips,
    Latent,
    Network,
    Start,
    ask,
    check_has,
    class_names,
    condition_names,
    described,
    without,
)  # fmt: skip


@dataclass(frozen=True)
class LatentBridge:
    """FrameBridge, algorithm 1: from the repeated first frame or a neural prior's clip to the clip.

    With a start and a precondition ``aligned_...`` it is SAF, with another one fine-tuning without. ``lora``: in place
    of the whole network. ``times``: drawn
    among ``i / (times + 1)``, i from 1 to ``times``, as FrameBridge's released models have them.
    """

    data: Clips
    network: Network
    bridge: Process = field(default_factory=Process)
    latent: Latent = field(default_factory=Latent)
    start: Start = field(default_factory=Start)
    lora: LowRank | None = None
    times: int = 1000

    def make(self, recipe: Recipe, files: Files) -> Task:
        clips = self.data.open(files, self.latent)
        config = self.describe(recipe, class_names(clips))
        network = self.network.fresh(recipe.seed)
        widened = self.start.into(network, files)
        what = moved(network.train().to(files.home), self.network, self.lora, widened, recipe.seed)
        prior, priors = self.prior(files)
        config["parts"] = what.described | priors
        self.check(network, clips)
        order, names = clips.order(self.data.batch, recipe.data_seed), condition_names(network)
        coarse = condition_names(prior.network) if prior is not None else ()
        nothing, process, video = self.data.nothing(files), self.bridge.process(), VideoBridge.from_config(config)
        weight = own_output(video.parameterisation)

        def draw(generator: torch.Generator, n: int) -> Batch:
            count = self.data.batch
            return {
                "clip": order.rows(n),
                "time": torch.randint(1, self.times + 1, (count,), generator=generator),
                "noise": draw_seeds(count, generator),
                "dropped": torch.rand(count, generator=generator) < self.data.dropout,
            }

        def loss(drawn: Batch) -> Tensor:
            asked = {"latent", *names, *coarse}
            read = {name: value.to(files.device) for name, value in clips.batch(drawn["clip"], asked).items()}
            z_0 = self.latent.enter(read["latent"])
            first, t = z_0[:, :, 0], (drawn["time"].double() / (self.times + 1)).to(z_0.device)
            z_T = make_prior(prior, first, read["class"] if coarse else None, z_0.shape[2])
            z_t = draw_bridge(process, z_0, z_T, t, noise(drawn["noise"], z_0))
            told = {name: read[name] for name in names}
            told = without(told, drawn["dropped"], nothing, self.network.arguments.get("classes", 0))
            denoiser = video.denoiser(lambda x, at, told: ask(network, x, at, told), z_T, first, told)
            return z0_loss(denoiser(z_t, t), z_0, weight(process, t))

        largest = order.first_with(clips.largest)
        parts = what.parts | ({} if prior is None else {"prior": prior})
        return Task(parts, [p for p in what.parameters if p.requires_grad], draw, loss, config, what.networks, largest)

    def prior(self, files: Files) -> tuple[nn.Module | None, dict]:
        """The neural prior, and what the file says of it."""
        if self.start.prior is None:
            return None, {}
        prior, its = checkpoints.load(files.model(self.start.prior), part="prior", device=files.home)
        return prior.float(), {"prior": its["parts"]["prior"]}

    def check(self, network: nn.Module, clips) -> None:
        """ValueError for clips that the network cannot have."""
        layout, made = self.bridge.layout, network.out_channels
        if network.in_channels != layout.channels(made):
            raise ValueError(
                f"the network takes {network.in_channels} channels and gives {made}; with this layout it has to take "
                f"{layout.channels(made)}"
            )
        check_has(clips, condition_names(network))
        if isinstance(network, LatteVideo):
            frames, height, width = network.size
            check_one_size(clips, (made, frames - layout.prepend_first_frame, height, width), "this network")

    def describe(self, recipe: Recipe, classes: Sequence[str]) -> dict:
        """The configuration that goes into the file's metadata, but for the parts."""
        channels = self.network.arguments["out_channels"]
        loss = f"mean squared error of the network's own output, {self.bridge.parameterisation}"
        loss += " (FrameBridge eq. 6)" * (self.bridge.parameterisation == "psi")
        common = described(recipe, self.data, self.latent, channels, loss, classes)
        return {**common, **self.bridge.config()}


@dataclass(frozen=True)
class LatentPrior:
    """FrameBridge eq. 8: the neural prior, a `NeuralPrior`."""

    data: Clips
    network: Network
    latent: Latent = field(default_factory=Latent)

    def make(self, recipe: Recipe, files: Files) -> Task:
        clips, channels = self.data.open(files, self.latent), self.network.arguments["out_channels"]
        loss = "mean squared error (FrameBridge eq. 8)"
        config = described(recipe, self.data, self.latent, channels, loss, class_names(clips))
        config["parts"] = {"prior": self.network.part}
        prior = self.network.fresh(recipe.seed).train().to(files.home)
        check_has(clips, condition_names(prior.network))
        return prior_task(prior, clips, self.data.batch, recipe.data_seed, config, self.latent.enter)


def own_output(parameterisation: Parameterisation) -> Weight:
    """Makes the loss in ``z_0`` the one on the network's output: of ``psi`` it is FrameBridge's eq. 6."""

    def weight(bridge: Bridge, t: Tensor) -> Tensor:
        return parameterisation.decode(bridge, t)[0].square()

    return weight
