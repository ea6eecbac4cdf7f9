"""Endpoint errors of a sparse-to-dense network beside those of every formula, on worlds of held-out pictures.

python3 scripts/densifier_errors.py runs/densifier.safetensors
"""

import sys
from pathlib import Path

from _pack import load_pack

load_pack()

import torch
from torch import Tensor

from aqueduct.core import checkpoints
from aqueduct.core.motion.densify import DENSIFIERS
from aqueduct.core.motion.densify.hints import scattered_hints
from aqueduct.core.training.jobs.densifier import worlds
from aqueduct.core.training.sparse_to_dense import HintedScenes
from aqueduct.scripts._training_pictures import training_pictures

HELD_OUT = {64: 100, 192: 30}  # side in pixels -> worlds
HELD_OUT_SEED = 77


@torch.no_grad()
def evaluate(path: Path) -> None:
    """In pixels; best first."""
    network = checkpoints.load(path, part="densifier")[0].float()
    pictures = training_pictures(held_out=True, unrelated=True)
    for side, count in HELD_OUT.items():
        generator = torch.Generator().manual_seed(HELD_OUT_SEED)
        scenes = HintedScenes.draw(worlds(pictures, side), count, generator)
        asked = zip(scenes.picture.split(1), scenes.hints.split(1), scenes.known.split(1), strict=True)
        fields = {"learned": torch.cat([network.flow(*one) for one in asked]), "rest": torch.zeros_like(scenes.flow)}
        fields |= {label: _formula(name, settings, scenes) for label, name, settings in formulas(side)}
        rows = {label: errors(found, scenes) for label, found in fields.items()}
        print(f"{side} pixels, {count} worlds      mean   median of scenes   hinted objects alone")
        for label in sorted(rows, key=rows.get):
            print(f"{label:22s}" + "".join(f"{value:10.3f}" for value in rows[label]))


def formulas(side: int) -> list[tuple[str, str, dict]]:
    """``(label, name, settings)``: every densifier; those with a radius at three of them."""
    rows = [("thin-plate", "thin-plate", {}), ("edge-aware", "edge-aware", {})]
    rows.append(("edge-aware 1/4", "edge-aware", {"radius": side / 4}))
    for share in (16, 8, 4):
        radius = side / share
        rows += [(f"{name} 1/{share}", name, {"radius": radius}) for name in ("gaussian", "rigid")]
        rows.append((f"nearest 1/{share}", "nearest", {"radius": radius, "feather": radius / 2}))
    return rows


def errors(found: Tensor, scenes: HintedScenes) -> tuple[float, float, float]:
    """The mean endpoint error of all pixels, the median of the scenes' means, the mean of hinted objects' pixels."""
    apart = (found - scenes.flow).norm(dim=1)
    return apart.mean().item(), apart.mean((1, 2)).median().item(), apart[scenes.objects].mean().item()


def _formula(name: str, settings: dict, scenes: HintedScenes) -> Tensor:
    """Every field of one densifier."""
    fields = []
    for hints, known, picture in zip(scenes.hints, scenes.known, scenes.picture, strict=True):
        guide = {"guide": picture} if name == "edge-aware" else {}
        fields.append(DENSIFIERS[name](*scattered_hints(hints, known), known.shape[-2:], **settings, **guide))
    return torch.stack(fields)


if __name__ == "__main__":
    for given in sys.argv[1:]:
        evaluate(Path(given))
