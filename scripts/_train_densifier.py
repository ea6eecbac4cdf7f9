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
from aqueduct.core.training.loop import LoopSettings, Progress, train
from aqueduct.core.training.motion_clips import PhotoWorlds
from aqueduct.core.training.sparse_to_dense import HintedScenes, endpoint_error, sparse_to_dense_loss
from aqueduct.scripts._train_restoration import training_pictures

BATCHES = {96: 14, 128: 8, 192: 4, 256: 2}  # side in pixels -> scenes: as many pixels in each, objects of all sizes
HELD_OUT = {"side": 192, "scenes": 60, "seed": 77}


@dataclass(frozen=True)
class DensifierRecipe:
    """One run; ``arguments`` are `SparseToDense`'s."""

    about: str
    settings: LoopSettings
    arguments: dict = field(default_factory=dict)
    seed: int = 0
    data_seed: int = 41


_SETTINGS = LoopSettings(steps=4000, learning_rate=2e-3, warmup=100, save_every=250)
DENSIFIER_RECIPES = {
    "densifier": DensifierRecipe("tracks to dense motion", _SETTINGS),
    "densifier_small": DensifierRecipe("the same, one level less", _SETTINGS, {"multipliers": [1, 2, 2]}),
}


def worlds(pictures: list[Tensor], side: int) -> PhotoWorlds:
    """Square worlds of two frames; an object crosses up to a sixteenth of the picture between them."""
    large = [picture for picture in pictures if min(picture.shape[1:]) >= min(side, 192)]
    return PhotoWorlds(large, side, side, frames=2, speed=side / 16)


def describe(recipe: DensifierRecipe) -> dict:
    """The configuration that goes into the file's metadata."""
    return {
        "about": recipe.about,
        "parts": {"densifier": {"architecture": "SparseToDense", "arguments": recipe.arguments}},
        "training": {
            "data": "worlds cut from 9 of 10 pictures of comfyui-workflow-templates-media-image 0.3.160 (MIT), two "
            "photos of scikit-learn (CC BY 2.0) and 22 frames of Big Buck Bunny (CC BY 3.0), 96 to 256 pixels wide",
            "seed": recipe.seed, "data_seed": recipe.data_seed, "batch": BATCHES, "steps": recipe.settings.steps,
            "optimiser": f"AdamW, peak rate {recipe.settings.learning_rate}, cosine to zero, no EMA",
            "loss": "endpoint error, squared below 0.1 pixel",
        },
    }  # fmt: skip


def run_densifier(name: str, recipe: DensifierRecipe, folder: Path) -> None:
    """Train, export `<name>.safetensors` and its loss curve `<name>.losses.txt` to ``folder``, and `evaluate`."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures = training_pictures()
    sources = {side: worlds(pictures, side) for side in BATCHES}
    network = SparseToDense(**recipe.arguments).initialise(torch.Generator().manual_seed(recipe.seed))
    network = network.train().to(memory_format=torch.channels_last)

    def loss(generator: torch.Generator) -> Tensor:
        side = list(BATCHES)[int(torch.randint(len(BATCHES), (), generator=generator))]
        scenes = HintedScenes.draw(sources[side], BATCHES[side], generator)
        return sparse_to_dense_loss(network.flow(scenes.picture, scenes.hints, scenes.known), scenes.flow)

    def report(step: int, progress: Progress) -> None:
        if step % 100 == 0 or step + 1 == recipe.settings.steps:
            recent = progress.losses[-100:]
            print(f"{name} step {step:5d} loss {sum(recent) / len(recent):.4f} {progress.seconds:6.0f} s", flush=True)

    generator = torch.Generator().manual_seed(recipe.data_seed)
    checkpoint = folder / f"{name}.resume.pt"
    progress = train(network.parameters(), loss, recipe.settings, generator, checkpoint=checkpoint, report=report)
    config = describe(recipe)
    config["training"]["final_loss"] = round(sum(progress.losses[-200:]) / len(progress.losses[-200:]), 6)
    config["training"]["seconds"] = round(progress.seconds)
    checkpoints.save({"densifier": network}, folder / f"{name}.safetensors", config)
    (folder / f"{name}.losses.txt").write_text("\n".join(f"{value:.6f}" for value in progress.losses) + "\n")
    evaluate(folder / f"{name}.safetensors")


@torch.no_grad()
def evaluate(path: Path) -> dict[str, float]:
    """The mean endpoint error, pixels at a side of 192, on worlds of held-out pictures; printed, best first."""
    source = worlds(training_pictures(held_out=True), HELD_OUT["side"])
    scenes = HintedScenes.draw(source, HELD_OUT["scenes"], torch.Generator().manual_seed(HELD_OUT["seed"]))
    network = checkpoints.load(path, part="densifier")[0].float()
    fields = {name: _formula(name, scenes) for name in DENSIFIERS}
    fields["rest"] = torch.zeros_like(scenes.flow)
    asked = (scenes.picture.split(1), scenes.hints.split(1), scenes.known.split(1))
    fields["learned"] = torch.cat([network.flow(*one) for one in zip(*asked, strict=True)])
    errors = {name: endpoint_error(found, scenes.flow).mean().item() for name, found in fields.items()}
    for name in sorted(errors, key=errors.get):
        print(f"{name:12s} {errors[name]:.3f} px")
    return errors


def _formula(name: str, scenes: HintedScenes) -> Tensor:
    """Every field of one densifier, with a radius that fits the size."""
    side = scenes.flow.shape[-1]
    settings = {"radius": side / 8} if name in ("gaussian", "nearest", "rigid") else {}
    settings |= {"feather": side / 16} if name == "nearest" else {}
    fields = []
    for hints, known, picture in zip(scenes.hints, scenes.known, scenes.picture, strict=True):
        guide = {"guide": picture} if name == "edge-aware" else {}
        fields.append(DENSIFIERS[name](*scattered_hints(hints, known), (side, side), **settings, **guide))
    return torch.stack(fields)


if __name__ == "__main__":
    for given in sys.argv[1:]:
        evaluate(Path(given))
