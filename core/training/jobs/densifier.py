"""The network that makes tracks dense (`core.networks.SparseToDense`), on worlds of photographs."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ...networks import SparseToDense
from ..config import Files, Recipe
from ..motion_clips import PhotoWorlds
from ..sparse_to_dense import HintedScenes, Scenes, belonging_loss, sparse_to_dense_loss
from ..task import Batch, Task


@dataclass(frozen=True)
class Squares:
    """So many ``scenes`` of ``side`` pixels, made once; ``batch`` of them a step, with new hints each time."""

    side: int
    scenes: int
    batch: int

    def open(self, files: Files) -> Scenes:
        def made() -> dict[str, Tensor]:
            generator = torch.Generator().manual_seed(self.side)
            return vars(Scenes.draw(worlds(files.pictures(), self.side), self.scenes, generator))

        return Scenes(**files.kept(f"scenes_{self.side}_{self.scenes}", made))


def worlds(pictures: Sequence[Tensor], side: int) -> PhotoWorlds:
    """Square worlds of two frames; an object crosses up to a sixteenth of the picture between them."""
    fitting = [picture for picture in pictures if side <= min(picture.shape[1:]) <= max(4 * side, 200)]
    return PhotoWorlds(fitting, side, side, frames=2, speed=side / 16)


@dataclass(frozen=True)
class DensifierJob:
    """Each batch is of one of the sizes in ``data``, as likely; ``arguments`` are `SparseToDense`'s."""

    data: tuple[Squares, ...]
    arguments: dict[str, int] = field(default_factory=dict)

    def __post_init__(self):
        if not self.data:
            raise ValueError("there are no scenes: give at least one table [[data]]")

    def make(self, recipe: Recipe, files: Files) -> Task:
        pools = [squares.open(files) for squares in self.data]
        network = SparseToDense(**self.arguments).initialise(torch.Generator().manual_seed(recipe.seed))
        network = network.train().to(files.device, memory_format=torch.channels_last)

        def draw(generator: torch.Generator, n: int) -> Batch:
            """Whole scenes: where hints may lie, and so how many numbers are drawn, is read from the pictures."""
            size = int(torch.randint(len(pools), (), generator=generator))
            chosen = torch.randint(len(pools[size]), (self.data[size].batch,), generator=generator)
            return vars(pools[size].hinted(chosen, generator, turned=True))

        def loss(drawn: Batch) -> Tensor:
            scenes = HintedScenes(**{name: value.to(files.device) for name, value in drawn.items()})
            flow, shares = network.shared(scenes.picture, scenes.hints, scenes.known)
            return sparse_to_dense_loss(flow, scenes.flow) + belonging_loss(shares, scenes.layer, scenes.known)

        return Task({"densifier": network}, list(network.parameters()), draw, loss, self.describe(recipe))

    def describe(self, recipe: Recipe) -> dict:
        """The configuration that goes into the file's metadata."""
        sides = " and ".join(str(squares.side) for squares in self.data)
        return {
            "about": recipe.about,
            "parts": {"densifier": {"architecture": "SparseToDense", "arguments": self.arguments}},
            "training": {
                "data": "worlds cut from 9 of 10 pictures of comfyui-workflow-templates-media-image 0.3.160 (MIT), two "
                "photos of scikit-learn (CC BY 2.0) and 22 frames of Big Buck Bunny (CC BY 3.0), "
                f"{sides} pixels wide",
                "scenes": {squares.side: squares.scenes for squares in self.data},
                "batch": {squares.side: squares.batch for squares in self.data},
                **recipe.training(),
                "loss": "endpoint error, squared below 0.1 pixel, and cross-entropy of what goes with which hint",
            },
        }  # fmt: skip
