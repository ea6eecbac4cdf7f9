"""Exemplar-guided translation: EBDM's two stages, and a conditional diffusion to compare them with.

The global encoder they show the exemplar by is trained before: `jobs.style_encoder`.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from ... import checkpoints
from ...bridges import brownian
from ...bridges.diffusion import CosineDiffusion
from ...networks.exemplar_unet import ExemplarNetwork, ExemplarUNet, Style, initialise, start_from
from ...tables import unknown
from ..config import Files, Recipe
from ..exemplar import STAGES, Objective, draw_kept, ebdm, exemplar_loss_at, kept_in, late_times, uniform_times
from ..task import Batch, Task
from .exemplar_data import FolderTriples, SceneTriples, as_batch, pooled_token

Encode = Callable[[Tensor], Tensor]  # pictures [n, 3, h, w] in -1..1 -> [n, features]
# (share of late rows) -> (count, generator) -> times
TIMES = {"uniform": lambda share: uniform_times, "late": lambda share: partial(late_times, share=share)}
PIXELS = {"format": "pixel", "channels": 3, "vae": "pixel_space"}


@dataclass(frozen=True)
class Denoiser:
    """Sizes of an `ExemplarUNet`; ``features`` is what its global encoder gives."""

    channels: int = 16
    multipliers: tuple[int, ...] = (2, 3, 3)
    blocks: int = 1
    sites: tuple[int, ...] = (1, 2)
    head_channels: int = 24
    groups: int = 8
    features: int = 128
    context: int = 64
    expansion: int = 2

    def arguments(self, in_channels: int = 3) -> dict:
        own = {**asdict(self), "multipliers": list(self.multipliers), "sites": list(self.sites)}
        return {"in_channels": in_channels, "out_channels": 3} | own


@dataclass(frozen=True)
class Goal:
    """EBDM eq. 7 by a Brownian bridge of this ``variance`` (EBDM: 1), at ``times`` in `TIMES` (EBDM: uniform).

    ``share``: of the rows of late times, those that lie in the last twentieth.
    """

    variance: float = 1.0
    times: str = "uniform"
    share: float = 0.5

    def __post_init__(self):
        if self.times not in TIMES:
            raise ValueError(unknown("times", self.times, list(TIMES)))

    def objective(self) -> Objective:
        times = TIMES[self.times](self.share)
        return replace(ebdm(), bridge=brownian(variance=self.variance), times=times)

    def about(self) -> str:
        late = f", {self.share:.0%} of the times in the last twentieth" if self.times == "late" else ""
        return f"EBDM eq. 7 with its weight 1/t{late}"


@dataclass(frozen=True)
class Start:
    """Earlier runs, or files: the first stage's ``model``, and the one with the ``encoder``."""

    encoder: str
    model: str


@dataclass(frozen=True)
class Token:
    """What a first stage is shown of the exemplar: what the ``encoder`` of that run gives, or pooled colours."""

    encoder: str | None = None
    pooled: bool = False

    def __post_init__(self):
        if self.pooled and self.encoder is not None:
            raise ValueError(f"the token is pooled colours or that of {self.encoder!r}, not both")

    def encode(self, files: Files) -> Encode | None:
        """None: nothing."""
        if self.pooled:
            return pooled_token
        return None if self.encoder is None else load_encoder(self.encoder, files)


@dataclass(frozen=True)
class FirstStageJob:
    """Control to photograph; the exemplar is the photograph itself, by its token alone (EBDM section 4.2).

    Without ``[token]`` no exemplar is looked at: a baseline.
    """

    data: SceneTriples | FolderTriples
    network: Denoiser = Denoiser()
    objective: Goal = Goal()
    token: Token = Token()

    def make(self, recipe: Recipe, files: Files) -> Task:
        arguments, objective, stage = self.network.arguments(), self.objective.objective(), STAGES[0]
        denoiser = initialise(ExemplarUNet(**arguments), torch.Generator().manual_seed(recipe.seed)).to(files.device)
        encode, sample = self.token.encode(files), self.data.open(files)
        parameters = stage.select(denoiser)
        if encode is None:  # nothing of it is asked, so nothing of it can be trained
            for part in (denoiser.linear, *(site.cross for site in denoiser.sites)):
                part.requires_grad_(False)
            parameters = [p for p in parameters if p.requires_grad]
        drawing = stage if encode is not None else replace(stage, dropout=0.0)

        def draw(generator: torch.Generator, n: int) -> Batch:
            triples = sample(generator)
            return as_batch(triples) | drawing.draw(triples.photo.shape, generator, objective)

        def loss(drawn: Batch) -> Tensor:
            drawn = moved(drawn, files.device)
            control, photo = drawn["control"], drawn["photo"]
            if encode is None:
                return exemplar_loss_at(denoiser, control, photo, None, drawn["t"], drawn["eps"], objective)
            own = stage.exemplar(photo, drawn["exemplar"])
            return stage.loss_at(denoiser, None, control, photo, own, encode(own), drawn, objective)

        parts = {"model": ("ExemplarUNet", arguments)}
        config = described(recipe, parts, objective, self.data, self.objective.about(), drawing.dropout)
        return Task({"model": denoiser}, parameters, draw, loss, config, networks_of(encode))


@dataclass(frozen=True)
class SecondStageJob:
    """Exemplar network and attention alone; the exemplar is another picture (EBDM section 4.2).

    From a first stage, or on from a second.
    """

    start: Start
    data: SceneTriples | FolderTriples
    objective: Goal = Goal()

    def make(self, recipe: Recipe, files: Files) -> Task:
        denoiser, found = checkpoints.load(files.model(self.start.model))
        arguments, objective, stage = found["parts"]["model"]["arguments"], self.objective.objective(), STAGES[1]
        encoder, network = load_encoder(self.start.encoder, files), ExemplarNetwork(**arguments)
        if "exemplar" in found["parts"]:
            network.load_state_dict(checkpoints.load(files.model(self.start.model), part="exemplar")[0].state_dict())
        else:
            start_from(network, denoiser.float(), torch.Generator().manual_seed(recipe.seed))
        denoiser, network = denoiser.float().to(files.device), network.to(files.device)
        sample = self.data.open(files)

        def draw(generator: torch.Generator, n: int) -> Batch:
            triples = sample(generator)
            return as_batch(triples) | stage.draw(triples.photo.shape, generator, objective)

        def loss(drawn: Batch) -> Tensor:
            drawn = moved(drawn, files.device)
            other = stage.exemplar(drawn["photo"], drawn["exemplar"])
            return stage.loss_at(
                denoiser, network, drawn["control"], drawn["photo"], other, encoder(other), drawn, objective
            )

        parts = {
            "model": ("ExemplarUNet", arguments), "exemplar": ("ExemplarNetwork", arguments),
            "encoder": ("StyleEncoder", encoder_arguments(self.start.encoder, files)),
        }  # fmt: skip
        config = described(recipe, parts, objective, self.data, self.objective.about(), stage.dropout, self.start.model)
        networks = {"model": denoiser, "exemplar": network, "encoder": encoder}
        return Task(networks, stage.select(denoiser, network), draw, loss, config)


@dataclass(frozen=True)
class ExemplarDiffusionJob:
    """A conditional diffusion of the same size: from noise, the control on channels, the exemplar as a prompt."""

    data: SceneTriples | FolderTriples
    token: Token
    network: Denoiser = Denoiser()

    def make(self, recipe: Recipe, files: Files) -> Task:
        arguments, process, stage = self.network.arguments(in_channels=6), CosineDiffusion(), STAGES[0]
        denoiser = initialise(ExemplarUNet(**arguments), torch.Generator().manual_seed(recipe.seed)).to(files.device)
        encode, sample = self.token.encode(files), self.data.open(files)
        if encode is None:
            raise ValueError("this diffusion is shown a token: [token] names the run of its encoder, or is pooled")

        def draw(generator: torch.Generator, n: int) -> Batch:
            triples, count = sample(generator), self.data.batch
            kept = draw_kept(count, stage.dropout, generator)
            t = torch.rand(count, generator=generator, dtype=torch.float64)
            eps = torch.randn(triples.photo.shape, generator=generator)
            return as_batch(triples) | {"kept": kept, "t": t, "eps": eps}

        def loss(drawn: Batch) -> Tensor:
            drawn = moved(drawn, files.device)
            photo, eps, t = drawn["photo"], drawn["eps"], drawn["t"]
            style = kept_in(Style(denoiser.token(encode(photo))), drawn["kept"])
            alpha, _, sigma = (x.float()[:, None, None, None] for x in process.coefficients(t))
            entering = torch.cat([alpha * photo + sigma * eps, drawn["control"]], dim=1)
            velocity = denoiser(entering, 1000 * t.float(), [style])
            return (velocity - (alpha * eps - sigma * photo)).square().mean()

        told = "mean squared error in v, all times alike"
        config = described(recipe, {"model": ("ExemplarUNet", arguments)}, ebdm(), self.data, told, stage.dropout)
        del config["bridge"], config["parameterisation"], config["sampling"]
        config["diffusion"] = {"kind": process.kind, "parameterisation": "v"}
        return Task({"model": denoiser}, stage.select(denoiser), draw, loss, config, networks_of(encode))


def moved(drawn: Batch, device: torch.device) -> Batch:
    return {name: value.to(device) for name, value in drawn.items()}


def networks_of(encode: Encode | None) -> list[nn.Module]:
    return [encode] if isinstance(encode, nn.Module) else []


def load_encoder(run: str, files: Files) -> nn.Module:
    return checkpoints.load(files.model(run), part="encoder")[0].float().to(files.device)


def encoder_arguments(run: str, files: Files) -> dict:
    return checkpoints.read_config(files.model(run))["parts"]["encoder"]["arguments"]


def described(
    recipe: Recipe, parts: dict, objective: Objective, data: SceneTriples | FolderTriples, loss: str, dropout: float,
    start: str | None = None,
) -> dict:  # fmt: skip
    """The configuration that goes into the file's metadata."""
    return {
        "about": recipe.about,
        "parts": {name: {"architecture": kind, "arguments": arguments} for name, (kind, arguments) in parts.items()},
        "latent": PIXELS,
        "class_names": [],
        "bridge": {"kind": objective.bridge.kind, "constants": dict(objective.bridge.constants)},
        "parameterisation": objective.parameterisation.name,
        "precondition": objective.precondition.name,
        "layout": {},
        "image_condition": "first frame of the prior",
        "sampling": {"solver": "bbdm", "spacing": "uniform"},
        "exemplar": {"features": parts["model"][1]["features"], "encoder": "part", "size": data.size},
        "training": {
            "data": data.about(), **recipe.training(), "start": start, "batch": data.batch, "loss": loss,
            "exemplar_dropout": dropout,
        },
    }  # fmt: skip
