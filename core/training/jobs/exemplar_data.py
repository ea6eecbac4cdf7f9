"""Triples to learn exemplar-guided translation from: scenes and crops of photographs, or a folder of one's own."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ...controls import mask_map
from ...tables import unknown
from ..config import Files
from ..exemplar_folder import ExemplarFolder
from ..exemplar_pairs import CONTROLS, PictureCrops, Triples
from ..task import Batch
from ..texture_scenes import TextureScenes

Draw = Callable[[torch.Generator], Triples]
PICTURES = (
    "9 of 10 pictures of comfyui-workflow-templates-media-image 0.3.160 (MIT), two photos of scikit-learn (CC BY 2.0) "
    "and 22 frames of Big Buck Bunny (CC BY 3.0)"
)
SOFTER = 0.25  # share of the batches with CoCosNet's thresholds, so that users' own edges are not new to a model


@dataclass(frozen=True)
class SceneTriples:
    """So many scenes with ``edges``, scenes with ``masks``, and ``crops`` of photographs with edges in each batch, of
    ``size`` pixels."""

    size: int = 32
    edges: int = 12
    masks: int = 8
    crops: int = 12

    @property
    def batch(self) -> int:
        return self.edges + self.masks + self.crops

    def about(self) -> str:
        return (
            f"procedural scenes (edges, masks) and crops of photographs (edges), {self.size} pixels; photographs: "
            f"{PICTURES}"
        )

    def open(self, files: Files) -> Draw:
        scenes, photos = TextureScenes(self.size), PictureCrops(files.pictures(), self.size)

        def draw(generator: torch.Generator) -> Triples:
            softer = float(torch.rand((), generator=generator)) < SOFTER
            find = CONTROLS["canny-cocosnet" if softer else "canny"]
            drawn = [
                scenes.sample(self.edges, generator, lambda photo, labels: find(photo)),
                scenes.sample(self.masks, generator, lambda photo, labels: mask_map(labels)),
                photos.sample(self.crops, generator, find),
            ]
            return Triples(*(torch.cat([getattr(t, name) for t in drawn]) for name in ("control", "photo", "exemplar")))

        return draw


@dataclass(frozen=True)
class FolderTriples:
    """``batch`` triples a step, of ``size`` pixels, from the pictures in ``folder``: see `ExemplarFolder` for whose
    exemplar is whose, and for ``pairs``.

    ``controls``: the folder of the control images, or, without it, ``control`` in `CONTROLS` makes them. Paths are
    relative to the folder of runs.

    All pictures are read once before the first step, so that none proves broken later, when a resumed run would draw
    others. What is drawn is read at once, the whole batch on every process: with many of these and large pictures,
    reduce the pictures beforehand.
    """

    folder: str
    size: int
    batch: int = 8
    control: str = "canny"
    controls: str | None = None
    pairs: str | None = None

    def __post_init__(self):
        if self.control not in CONTROLS:
            raise ValueError(unknown("control", self.control, list(CONTROLS)))

    def about(self) -> str:
        return f"pictures of {self.folder}, {self.size} pixels; control: {self.controls or self.control}"

    def open(self, files: Files) -> Draw:
        """Raises ValueError as `ExemplarFolder`."""
        control = CONTROLS[self.control] if self.controls is None else files.folder / self.controls
        pairs = None if self.pairs is None else files.folder / self.pairs
        found = ExemplarFolder(files.folder / self.folder, self.size, control, pairs).settle()
        return lambda generator: found.sample(self.batch, generator)


def as_batch(triples: Triples) -> Batch:
    return dict(vars(triples))


def pooled_token(pictures: Tensor) -> Tensor:
    """``[n, 12]``: mean and deviation over the picture of its colours and of their differences along x."""
    slopes = pictures.diff(dim=-1).abs()
    return torch.cat([s for x in (pictures, slopes) for s in (x.mean((2, 3)), x.std((2, 3)))], dim=1)
