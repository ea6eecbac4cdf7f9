"""A global encoder of style, learnt without labels: two crops of one picture are to be alike (VICReg)."""

from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from ...networks.style_encoder import StyleEncoder
from ..config import Files, Recipe
from ..restoration import Crops
from ..self_supervised import projector, random_view, vicreg
from ..task import Batch, Task
from ..texture_scenes import random_families, random_layouts, render
from .exemplar_data import PICTURES


@dataclass(frozen=True)
class Encoder:
    """Arguments of a `StyleEncoder`."""

    features: int = 128
    widths: tuple[int, ...] = (16, 32, 64, 64)
    size: int = 64

    def arguments(self) -> dict:
        return {**asdict(self), "widths": list(self.widths)}


@dataclass(frozen=True)
class Views:
    """In a group of pictures so many ``scenes`` of the procedural world and ``crops`` of photographs; ``groups`` a
    step."""

    scenes: int = 64
    crops: int = 64
    groups: int = 1


@dataclass(frozen=True)
class StyleEncoderJob:
    """VICReg on scenes and photographs, of the ``size`` that the encoder sees.

    Its loss is of the pictures of a group together, which are to differ from one another. So a row of a batch is a
    whole group, and with several processes there are as many ``groups`` or a multiple of them.
    """

    network: Encoder = Encoder()
    data: Views = Views()

    def make(self, recipe: Recipe, files: Files) -> Task:
        size = self.network.size
        with torch.random.fork_rng():
            torch.manual_seed(recipe.seed)
            encoder, head = StyleEncoder(**self.network.arguments()), projector(self.network.features)
        encoder, head, photos = encoder.to(files.device), head.to(files.device), Crops(files.pictures(), size)

        def group(generator: torch.Generator) -> Tensor:
            """Two views of every picture, ``[2 n, 3, s, s]``."""
            count = self.data.scenes
            layouts, families = random_layouts(count, generator), random_families(count, generator)
            scenes = render(layouts, families, size) * 2 - 1
            pictures = torch.cat([scenes, photos.sample(self.data.crops, generator)])
            return torch.cat([random_view(pictures, generator) for _ in range(2)])

        def draw(generator: torch.Generator, n: int) -> Batch:
            return {"views": torch.stack([group(generator) for _ in range(self.data.groups)])}

        def loss(drawn: Batch) -> Tensor:
            each = drawn["views"].to(files.device)
            return torch.stack([vicreg(*head(encoder(views)).chunk(2)) for views in each]).mean()

        parameters = [*encoder.parameters(), *head.parameters()]
        return Task({"encoder": encoder}, parameters, draw, loss, self.describe(recipe), [head])

    def describe(self, recipe: Recipe) -> dict:
        """The configuration that goes into the file's metadata."""
        data = f"procedural scenes and crops of photographs, {self.network.size} pixels; photographs: {PICTURES}"
        told = {"data": data, "batch": asdict(self.data), "loss": "VICReg of two crops of each picture"}
        return {
            "about": recipe.about,
            "parts": {"encoder": {"architecture": "StyleEncoder", "arguments": self.network.arguments()}},
            "training": {**recipe.training(), **told},
        }
