"""Clips of moving digits (`core.training.digits`): FrameBridge, its neural prior, and diffusions to compare them with.

Every draw is in the order digit, direction, start, time, noise, dropped class.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ... import checkpoints
from ...bridges.diffusion import CosineDiffusion
from ...bridges.parameterisation import PARAMETERISATIONS
from ...bridges.precondition import PRECONDITIONS
from ...bridges.process import PROCESSES, Bridge
from ...networks.latte import LatteVideo
from ...networks.layout import InputLayout
from ...networks.neural_prior import NeuralPrior, make_prior
from ...networks.video_bridge import VideoBridge
from ...tables import unknown
from ..config import Files, Recipe
from ..digits import DIRECTIONS, MovingDigits, load_glyphs
from ..objectives import draw_between, draw_bridge, uniform_weight, z0_loss
from ..task import Batch, Task

CLASSES = len(DIRECTIONS)
# A diffusion is a bridge that never reaches its prior: one loss for both.
TRAINED = {**PROCESSES, CosineDiffusion().kind: CosineDiffusion}
NAMES = {"kind": TRAINED, "parameterisation": PARAMETERISATIONS, "precondition": PRECONDITIONS}


@dataclass(frozen=True)
class Sizes:
    """Of a `LatteVideo`, and with that of the clips: ``frames`` of ``height x width`` pixels, in patches."""

    frames: int = 8
    height: int = 32
    width: int = 32
    patch: int = 8
    hidden: int = 128
    depth: int = 6
    heads: int = 4

    def __post_init__(self):
        if self.height != self.width:
            raise ValueError(f"digits move on a square, got {self.width} x {self.height} pixels")

    def arguments(self, in_channels: int) -> dict:
        return {"out_channels": 3, **vars(self), "in_channels": in_channels, "classes": CLASSES}

    def world(self) -> MovingDigits:
        return MovingDigits(load_glyphs(held_out=False)[0], size=self.height, frames=self.frames)


@dataclass(frozen=True)
class Process:
    """What the network denoises, and how: see `docs/formats.md` for the names."""

    kind: str = "bridge-gmax"
    constants: dict[str, float] = field(default_factory=dict)
    parameterisation: str = "prior_residual"
    precondition: str = "unit_noise"
    layout: InputLayout = InputLayout(concat_prior=True)

    def __post_init__(self):
        for what, known in NAMES.items():
            if getattr(self, what) not in known:
                raise ValueError(unknown(what, getattr(self, what), list(known)))
        self.process()

    def process(self) -> Bridge:
        try:
            return TRAINED[self.kind](**self.constants)
        except TypeError as error:  # a constant that this process does not have
            raise ValueError(f"{self.kind}: {error}") from error

    def config(self) -> dict:
        process = self.process()
        return {
            "bridge": {"kind": process.kind, "constants": dict(getattr(process, "constants", ()))},
            "parameterisation": self.parameterisation,
            "precondition": self.precondition,
            "layout": vars(self.layout),
            "image_condition": "first frame of the prior",
        }


@dataclass(frozen=True)
class Draws:
    """``batch``: clips a step."""

    batch: int = 32


@dataclass(frozen=True)
class GuidedDraws(Draws):
    """``class_dropout``: share of the clips whose direction the network is not told."""

    class_dropout: float = 0.1


@dataclass(frozen=True)
class Start:
    """Earlier runs: ``model``, whose weights this one begins with, and ``prior``, whose clips it begins from."""

    model: str | None = None
    prior: str | None = None


@dataclass(frozen=True)
class BridgeJob:
    """Image to video by a bridge from the repeated first frame or from a neural prior's clip (FrameBridge, algorithm
    1); or, with a diffusion for a process, from noise."""

    network: Sizes = Sizes()
    bridge: Process = Process()
    data: GuidedDraws = GuidedDraws()
    start: Start = Start()

    def make(self, recipe: Recipe, files: Files) -> Task:
        config = self.describe(recipe)
        network = LatteVideo(**config["parts"]["model"]["arguments"])
        network.initialise(torch.Generator().manual_seed(recipe.seed))
        if self.start.model is not None:
            start_from(network, checkpoints.load(files.model(self.start.model))[0])
        parts = {"model": network.train().to(files.device)}
        if self.start.prior is not None:
            prior, its = checkpoints.load(files.model(self.start.prior), part="prior")
            parts["prior"], config["parts"]["prior"] = prior.to(files.device), its["parts"]["prior"]
        world, process = self.network.world(), self.bridge.process()
        shape = (self.data.batch, 3, self.network.frames, self.network.height, self.network.width)
        video = VideoBridge.from_config(config, process)

        def draw(generator: torch.Generator, n: int) -> Batch:
            drawn = world.draw(self.data.batch, generator)
            t = draw_between(self.data.batch, generator)
            eps = torch.randn(shape, generator=generator)
            dropped = torch.rand(self.data.batch, generator=generator) < self.data.class_dropout
            return drawn | {"t": t, "eps": eps, "dropped": dropped}

        def loss(batch: Batch) -> Tensor:
            z_0, y = clips_of(world, batch, files.device)
            t, eps, dropped = (batch[name].to(files.device) for name in ("t", "eps", "dropped"))
            first = z_0[:, :, 0]
            z_T = make_prior(parts.get("prior"), first, y, z_0.shape[2])
            denoiser = video.denoiser(network, z_T, first, torch.where(dropped, CLASSES, y))
            prediction = denoiser(draw_bridge(process, z_0, z_T, t, eps), t)
            return z0_loss(prediction, z_0, uniform_weight(process, t))

        return Task(parts, list(network.parameters()), draw, loss, config)

    def describe(self, recipe: Recipe) -> dict:
        """The configuration that goes into the file's metadata, but for the prior's part."""
        arguments = self.network.arguments(self.bridge.layout.channels(3))
        parts = {"model": {"architecture": "LatteVideo", "arguments": arguments}}
        return {**described(recipe, self.data, self.start.model), "parts": parts, **self.bridge.config()}


@dataclass(frozen=True)
class NeuralPriorJob:
    """The clip from its first frame and direction by regression: its optimum is their mean (FrameBridge eq. 8)."""

    network: Sizes = Sizes()
    data: Draws = Draws()

    def make(self, recipe: Recipe, files: Files) -> Task:
        config = self.describe(recipe)
        prior = NeuralPrior(**config["parts"]["prior"]["arguments"])
        prior.network.initialise(torch.Generator().manual_seed(recipe.seed))
        prior.train().to(files.device)
        world = self.network.world()

        def draw(generator: torch.Generator, n: int) -> Batch:
            return world.draw(self.data.batch, generator)

        def loss(batch: Batch) -> Tensor:
            z_0, y = clips_of(world, batch, files.device)
            return z0_loss(prior(z_0[:, :, 0], y), z_0, torch.ones(len(z_0)))

        return Task({"prior": prior}, list(prior.parameters()), draw, loss, config)

    def describe(self, recipe: Recipe) -> dict:
        arguments = self.network.arguments(3) | {"residual": True}
        parts = {"prior": {"architecture": "NeuralPrior", "arguments": arguments}}
        return {**described(recipe, self.data, None), "parts": parts}


def clips_of(world: MovingDigits, batch: Batch, device: torch.device) -> tuple[Tensor, Tensor]:
    """``video [b, 3, f, h, w]`` and ``direction [b]`` of what `MovingDigits.draw` drew."""
    clips = world.clips(*(batch[name].to(device) for name in ("digit", "direction", "start")))
    return clips.video, clips.direction


def start_from(network: LatteVideo, start: nn.Module) -> None:
    """Copy a host's weights; input channels it did not have start at zero, so that it first ignores the prior."""
    state = start.state_dict()
    weight = torch.zeros_like(network.x_embedder.proj.weight)
    weight[:, : start.in_channels] = state["x_embedder.proj.weight"]
    network.load_state_dict(state | {"x_embedder.proj.weight": weight})


def described(recipe: Recipe, data: Draws, start: str | None) -> dict:
    """What the files of both kinds of training say."""
    return {
        "about": recipe.about,
        "class_names": list(DIRECTIONS),
        "latent": {"format": "pixel", "channels": 3, "vae": "pixel_space"},
        "training": {
            "data": "sklearn load_digits, 85 % of the scans (split seed 0), moving at 1.5 px a frame",
            **recipe.training(),
            "start": start, "loss": "mean squared error in z_0, uniform weight", **vars(data),
        },
    }  # fmt: skip
