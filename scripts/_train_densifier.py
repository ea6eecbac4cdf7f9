"""Recipes of the network that makes tracks dense (`core.networks.SparseToDense`), on worlds of photographs.

python3 scripts/_train_densifier.py densifier.safetensors    # its endpoint error beside that of every formula
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path

if __name__ == "__main__":
    from _pack import load_pack

    load_pack()

import torch
from torch import Tensor

from aqueduct.core import checkpoints
from aqueduct.core.motion.densify import DENSIFIERS
from aqueduct.core.motion.densify.hints import scattered_hints
from aqueduct.core.networks import SparseToDense
from aqueduct.core.training.loop import LoopSettings
from aqueduct.core.training.motion_clips import PhotoWorlds
from aqueduct.core.training.sparse_to_dense import HintedScenes, Scenes, belonging_loss, sparse_to_dense_loss
from aqueduct.scripts._train_restoration import training_pictures
from aqueduct.scripts._train_run import export, run_training

SCENES = {64: 2500, 96: 1000}  # side in pixels -> scenes, made once; their hints are drawn anew each time
BATCHES = {64: 12, 96: 6}
HELD_OUT = {64: 100, 192: 30}
HELD_OUT_SEED = 77


@dataclass(frozen=True)
class DensifierRecipe:
    """One run; ``arguments`` are `SparseToDense`'s."""

    about: str
    settings: LoopSettings
    arguments: dict = field(default_factory=dict)
    seed: int = 0
    data_seed: int = 41


_SETTINGS = LoopSettings(steps=2400, learning_rate=3e-3, warmup=30)
DENSIFIER_RECIPES = {"densifier": DensifierRecipe("tracks to dense motion", _SETTINGS)}


def worlds(pictures: list[Tensor], side: int) -> PhotoWorlds:
    """Square worlds of two frames; an object crosses up to a sixteenth of the picture between them."""
    fitting = [picture for picture in pictures if side <= min(picture.shape[1:]) <= max(4 * side, 200)]
    return PhotoWorlds(fitting, side, side, frames=2, speed=side / 16)


def pool(side: int, folder: Path) -> Scenes:
    """Made once and kept beside the runs."""
    path = folder / f"densifier_{side}.pool.pt"
    if not path.exists():
        generator = torch.Generator().manual_seed(side)
        scenes = Scenes.draw(worlds(training_pictures(), side), SCENES[side], generator)
        beside = path.with_suffix(".part")
        torch.save(vars(scenes), beside)
        beside.rename(path)
    return Scenes(**torch.load(path, weights_only=True, mmap=True))


def describe(recipe: DensifierRecipe) -> dict:
    """The configuration that goes into the file's metadata."""
    return {
        "about": recipe.about,
        "parts": {"densifier": {"architecture": "SparseToDense", "arguments": recipe.arguments}},
        "training": {
            "data": "worlds cut from 9 of 10 pictures of comfyui-workflow-templates-media-image 0.3.160 (MIT), two "
            "photos of scikit-learn (CC BY 2.0) and 22 frames of Big Buck Bunny (CC BY 3.0), 64 and 96 pixels wide",
            "scenes": SCENES, "seed": recipe.seed, "data_seed": recipe.data_seed, "batch": BATCHES,
            "steps": recipe.settings.steps,
            "optimiser": f"AdamW, peak rate {recipe.settings.learning_rate}, cosine to zero, no EMA",
            "loss": "endpoint error, squared below 0.1 pixel, and cross-entropy of what goes with which hint",
        },
    }  # fmt: skip


def run_densifier(name: str, recipe: DensifierRecipe, folder: Path) -> None:
    """Train, export `<name>.safetensors` and its loss curve `<name>.losses.txt` to ``folder``, and `evaluate`."""
    folder.mkdir(parents=True, exist_ok=True)
    pools = {side: pool(side, folder) for side in BATCHES}
    network = SparseToDense(**recipe.arguments).initialise(torch.Generator().manual_seed(recipe.seed))
    network = network.train().to(memory_format=torch.channels_last)

    def loss(generator: torch.Generator) -> Tensor:
        side = list(BATCHES)[int(torch.randint(len(BATCHES), (), generator=generator))]
        chosen = torch.randint(len(pools[side]), (BATCHES[side],), generator=generator)
        scenes = pools[side].hinted(chosen, generator, turned=True)
        flow, shares = network.shared(scenes.picture, scenes.hints, scenes.known)
        return sparse_to_dense_loss(flow, scenes.flow) + belonging_loss(shares, scenes.layer, scenes.known)

    progress = run_training(name, network, loss, recipe.settings, recipe.data_seed, folder, every=100)
    export(name, {"densifier": network}, describe(recipe), progress, folder, last=200)
    evaluate(folder / f"{name}.safetensors")


@torch.no_grad()
def evaluate(path: Path) -> None:
    """Endpoint errors in pixels on worlds of held-out pictures, beside those of every formula; best first."""
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
