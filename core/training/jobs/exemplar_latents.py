"""EBDM on prepared latents: both stages at the paper's sizes, the global encoder's [CLS] prepared too.

Of each picture the data set holds ``latent`` and, of its control image, ``control``, both of the same VAE, and ``cls``,
what the global encoder gives (`core.data.extend` adds them). A picture's exemplars are those of its class, which is one
person, or one style.
"""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ... import checkpoints
from ...data.dataset import LatentDataset
from ...networks.exemplar_unet import ExemplarNetwork, initialise, start_from
from ..config import Files, Recipe
from ..exemplar import STAGES, Stage
from ..task import Batch, Task
from .exemplar import Goal
from .prepared import Clips, Latent, Network, check_has, described


@dataclass(frozen=True)
class LatentFirstStage:
    """Control to photograph; the exemplar is the photograph itself, by its token alone (EBDM section 4.2).

    ``network``: an `ExemplarUNet`; ``encoder``: what its token is of, ``dinov2`` for a CLIP_VISION in graphs.
    """

    data: Clips
    network: Network
    latent: Latent = field(default_factory=Latent)
    objective: Goal = field(default_factory=Goal)
    encoder: str = "dinov2"

    def make(self, recipe: Recipe, files: Files) -> Task:
        clips, stage = self.data.open(files, self.latent), self.stage
        denoiser = self.network.build()
        initialise(denoiser, torch.Generator().manual_seed(recipe.seed))
        denoiser.train().to(files.home)
        draw, read = _source(self, recipe, files, clips, stage)
        objective = self.objective.objective()

        def loss(drawn: Batch) -> Tensor:
            return stage.loss_at(denoiser, None, **read(drawn), objective=objective)

        parts = {"model": self.network.part}
        config = _described(self, recipe, parts, self.encoder)
        return Task({"model": denoiser}, stage.select(denoiser), draw, loss, config)

    @property
    def stage(self) -> Stage:
        return _dropping(STAGES[0], self.data.dropout)


@dataclass(frozen=True)
class LatentSecondStage:
    """Exemplar network and attention alone; the exemplar is another picture (EBDM section 4.2). ``model``: the first
    stage's run."""

    data: Clips
    model: str
    latent: Latent = field(default_factory=Latent)
    objective: Goal = field(default_factory=Goal)

    def make(self, recipe: Recipe, files: Files) -> Task:
        clips, stage = self.data.open(files, self.latent), _dropping(STAGES[1], self.data.dropout)
        denoiser, found = checkpoints.load(files.model(self.model))
        part = found["parts"]["model"]
        network = ExemplarNetwork(**part["arguments"])
        start_from(network, denoiser.float(), torch.Generator().manual_seed(recipe.seed))
        denoiser, network = denoiser.to(files.home), network.train().to(files.home)
        draw, read = _source(self, recipe, files, clips, stage)
        objective = self.objective.objective()

        def loss(drawn: Batch) -> Tensor:
            return stage.loss_at(denoiser, network, **read(drawn), objective=objective)

        parts = {"model": part, "exemplar": {"architecture": "ExemplarNetwork", "arguments": part["arguments"]}}
        config = _described(self, recipe, parts, found["exemplar"]["encoder"])
        networks = {"model": denoiser, "exemplar": network}
        return Task(networks, stage.select(denoiser, network), draw, loss, config)


def _dropping(stage: Stage, share: float) -> Stage:
    return Stage(stage.exemplar, stage.engaged, stage.trained, share)


def _source(job, recipe: Recipe, files: Files, clips: LatentDataset, stage: Stage):
    """``draw`` of a `Task`, and what reads its batch: arguments of `Stage.loss_at`."""
    names, count = ("latent", "control"), job.data.batch
    check_has(clips, (*names, "cls", "class"))
    if len(clips.buckets) > 1:
        raise ValueError(f"the pictures are of {len(clips.buckets)} sizes, {list(clips.buckets)}: prepare one")
    order, partner = clips.order(count, recipe.data_seed), _partners(clips)
    shape = clips.index.clips[0].shapes["latent"]
    shape, objective = (count, shape[0], *shape[2:]), job.objective.objective()

    def draw(generator: torch.Generator, n: int) -> Batch:
        rows = order.rows(n)
        shares = torch.rand(count, generator=generator, dtype=torch.float64)
        others = [partner(row, share) for row, share in zip(rows.tolist(), shares.tolist(), strict=True)]
        return {"clip": rows, "partner": torch.tensor(others), **stage.draw(shape, generator, objective)}

    def read(drawn: Batch) -> dict:
        def of(rows: Tensor, name: str) -> Tensor:
            value = clips.batch(rows, (name,))[name].to(files.device)
            return value if name == "cls" else job.latent.enter(value)[:, :, 0]

        exemplars = stage.exemplar(drawn["clip"], drawn["partner"])
        random = {name: value.to(files.device) for name, value in drawn.items() if name not in ("clip", "partner")}
        return {
            "z_T": of(drawn["clip"], "control"), "z_0": of(drawn["clip"], "latent"),
            "z": of(exemplars, "latent"), "cls": of(exemplars, "cls"), "drawn": random,
        }  # fmt: skip

    return draw, read


def _partners(clips: LatentDataset) -> Callable[[int, float], int]:
    """``(picture, share in [0, 1)) -> another of its class``, each as likely; itself where it is alone."""
    alike: dict[int, list[int]] = defaultdict(list)
    place = []
    for i, clip in enumerate(clips.index.clips):
        place.append(len(alike[clip.label]))
        alike[clip.label].append(i)

    def partner(row: int, share: float) -> int:
        others = alike[clips.index.clips[row].label]
        chosen = int(share * (len(others) - 1))
        return others[chosen + (len(others) > 1 and chosen >= place[row])]

    return partner


def _described(job, recipe: Recipe, parts: dict, encoder: str) -> dict:
    arguments, objective = parts["model"]["arguments"], job.objective.objective()
    common = described(recipe, job.data, job.latent, arguments["out_channels"], job.objective.about())
    return {
        **common,
        "parts": parts,
        "bridge": {"kind": objective.bridge.kind, "constants": dict(objective.bridge.constants)},
        "parameterisation": objective.parameterisation.name,
        "precondition": objective.precondition.name,
        "layout": {},
        "image_condition": "first frame of the prior",
        "sampling": {"solver": "bbdm", "spacing": "uniform"},
        "exemplar": {"features": arguments.get("features", 768), "encoder": encoder, "size": 0},
    }
