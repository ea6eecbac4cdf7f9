"""Recipes that train nothing: parts of several runs put into one file."""

from dataclasses import dataclass
from pathlib import Path

from aqueduct.core import checkpoints
from aqueduct.core.training.loop import LoopSettings


@dataclass(frozen=True)
class JoinRecipe:
    """Parts of several runs in one file; ``settings`` so that it lists like a training."""

    about: str
    runs: tuple[str, ...]
    settings: LoopSettings = LoopSettings(steps=0)


JOIN_RECIPES = {
    "animate_photos": JoinRecipe(
        "backbone, motion adapter and densifier in one file: the one that ships",
        ("emg_backbone", "emg_adapter_on", "densifier"),
    )
}


def run_join(name: str, recipe: JoinRecipe, folder: Path) -> None:
    """`<name>.safetensors` of the parts of ``recipe.runs``, which ``folder`` holds; what the first says, holds."""
    networks, parts, trainings, config = {}, {}, {}, {}
    for run in recipe.runs:
        path = folder / f"{run}.safetensors"
        own = checkpoints.read_config(path)
        config = config or own
        for part in own["parts"]:
            networks[part], parts[part] = checkpoints.load(path, part=part)[0], own["parts"][part]
        trainings[run] = own["training"]
    about = "Animates photos along tracks: image-to-video bridge, EMG motion adapter, sparse-to-dense network"
    checkpoints.save(
        networks, folder / f"{name}.safetensors", config | {"about": about, "parts": parts, "training": trainings}
    )
