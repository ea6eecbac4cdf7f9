"""What `ebdm.py` asks for: scenes of layouts and families that no training drew, and crops of pictures held out."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from aqueduct.core.controls import canny, mask_map
from aqueduct.core.training.exemplar_pairs import PictureCrops, Triples
from aqueduct.core.training.texture_scenes import (
    CLASSES,
    NOTHING,
    Layouts,
    Questions,
    TextureScenes,
    random_families,
    random_layouts,
)
from aqueduct.scripts._training_pictures import training_pictures

SIZE = 64
SEED = 900_000  # trainings have seeds below a hundred
SHORTER = 128  # pixels of a held-out picture's shorter side: one reduction of each, so that no two crops are sisters
# Classes that all controls of the grid may show, and all its exemplars do.
GRID_KINDS = [CLASSES.index(name) for name in ("disc", "triangle", "cross")]


def edge_control(photos: Tensor, labels: Tensor) -> Tensor:
    return canny(photos)


def mask_control(photos: Tensor, labels: Tensor) -> Tensor:
    return mask_map(labels)


def drawn_edges(control: Tensor) -> Tensor:
    """``[n, 1, H, W]``, bool, of maps of edges in -1..1."""
    return control[:, :1] > 0


def boundaries(control: Tensor) -> Tensor:
    """``[n, 1, H, W]``, bool, of maps of classes: where the class below or to the right is another one."""
    edges = torch.zeros_like(control[:, :1], dtype=torch.bool)
    edges[..., :-1] |= (control.diff(dim=-1) != 0).any(1, keepdim=True)
    edges[..., :-1, :] |= (control.diff(dim=-2) != 0).any(1, keepdim=True)
    return edges


@dataclass(frozen=True, eq=False)
class Asked:
    """Questions with their answers, ``[n, 3, H, W]`` in -1..1; ``others``: each time the exemplar of another question.

    ``edges``: bool ``[n, 1, H, W]``, those of the control.
    """

    control: Tensor
    photo: Tensor
    exemplar: Tensor
    others: Tensor
    edges: Tensor

    def __len__(self) -> int:
        return len(self.control)

    def first(self, count: int) -> "Asked":
        return Asked(*(getattr(self, field.name)[:count] for field in fields(self)))


def asked(triples: Triples, edges_of: Callable[[Tensor], Tensor]) -> Asked:
    others = triples.exemplar.roll(1, 0)
    return Asked(triples.control, triples.photo, triples.exemplar, others, edges_of(triples.control))


def edge_scenes(count: int, seed: int = SEED) -> Asked:
    return asked(TextureScenes(SIZE).sample(count, torch.Generator().manual_seed(seed), edge_control), drawn_edges)


def mask_scenes(count: int, seed: int = SEED) -> Asked:
    return asked(TextureScenes(SIZE).sample(count, torch.Generator().manual_seed(seed), mask_control), boundaries)


def crops(count: int, seed: int = SEED) -> Asked:
    """Of each held-out picture in turn, so that the next question is about another picture."""
    generator = torch.Generator().manual_seed(seed)
    pictures = [p for p in training_pictures(held_out=True, unrelated=True) if min(p.shape[1:]) == SHORTER]
    drawn = [
        PictureCrops([pictures[n % len(pictures)]], SIZE).sample(1, generator, canny) for n in range(count)
    ]  # fmt: skip
    whole = Triples(*(torch.cat([getattr(t, x) for t in drawn]) for x in ("control", "photo", "exemplar")))
    return asked(whole, drawn_edges)


def one_layout_in_families(layouts: int, families: int, seed: int = SEED + 2) -> Asked:
    """Each of some layouts in each of as many families as told, in this order: one control, several exemplars."""
    generator = torch.Generator().manual_seed(seed)
    chosen = random_layouts(layouts, generator)[torch.arange(layouts).repeat_interleave(families)]
    exemplars = random_layouts(len(chosen), generator, chosen)
    questions = Questions(chosen, exemplars, random_families(len(chosen), generator))
    return asked(TextureScenes(SIZE).show(questions, edge_control), drawn_edges)


def grid(controls: int, families: int, seed: int = SEED + 3) -> Asked:
    """``controls`` layouts against the same ``families`` exemplars, row by row; every other layout by its mask.

    All layouts are of the same few kinds of shapes, and every exemplar shows them all.
    """
    generator = torch.Generator().manual_seed(seed)
    layouts = _of_kinds(random_layouts(controls, generator))
    everything = _of_kinds(random_layouts(families, generator, _everything(families)))
    of_families = random_families(families, generator)
    row, column = torch.arange(controls).repeat_interleave(families), torch.arange(families).repeat(controls)
    questions = Questions(layouts[row], everything[column], of_families[column])
    edges, masks = (TextureScenes(SIZE).show(questions, control) for control in (edge_control, mask_control))
    by_mask = (row % 2 == 1)[:, None, None, None]
    return asked(replace(edges, control=torch.where(by_mask, masks.control, edges.control)), drawn_edges)


def _of_kinds(layouts: Layouts) -> Layouts:
    kinds = torch.tensor(GRID_KINDS).repeat(2)[: layouts.kinds.shape[1]].expand_as(layouts.kinds)
    return replace(layouts, kinds=torch.where(layouts.kinds == NOTHING, NOTHING, kinds))


def _everything(count: int) -> Layouts:
    """Layouts to be shown at least: every kind of the grid, and a ground."""
    drawn = random_layouts(count, torch.Generator().manual_seed(0))
    kinds = torch.tensor([*GRID_KINDS, NOTHING, NOTHING])[: drawn.kinds.shape[1]].expand_as(drawn.kinds)
    return replace(drawn, kinds=kinds, horizon=torch.full_like(drawn.horizon, 0.5))


SETS: dict[str, Callable[[int], Asked]] = {
    "scenes by their edges": edge_scenes,
    "scenes by their masks": mask_scenes,
    "crops of photographs by their edges": crops,
}
