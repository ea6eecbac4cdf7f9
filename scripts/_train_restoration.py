"""Recipes of the image restoration models: super-resolution and inpainting, with white and with GP noise.

White first, then fine-tuned to GP noise as in Warped Diffusion (section 4.1); the white model trains on for as many
steps, so that the two can be compared.
"""

from dataclasses import dataclass
from pathlib import Path

import torch

from aqueduct.core import checkpoints
from aqueduct.core.networks.restorer import Restorer
from aqueduct.core.restoration import Precondition, make_problem
from aqueduct.core.training.loop import LoopSettings
from aqueduct.core.training.restoration import DAMAGES, NOISES, Crops, Levels, denoising_loss, pyramid
from aqueduct.scripts._media import photo_path, picture_paths, read_clip, read_picture
from aqueduct.scripts._train_run import export, run_training

SIZE, BATCH = 64, 8
SHORTEST = (80, 128, 192, 256)  # of the shorter side, pixels: a crop is between a quarter of a picture and most of it
# Of other templates, yet of a subject that is in training (found by eye).
SAME_SUBJECT = {"api_elevenLabs_speech_to_text", "templates-1_click_multiple_scene_angles-v1.0"}
HELD_OUT_EVERY = 10  # of the pictures; the videos bikes and carphone are held out whole


@dataclass(frozen=True)
class RestorationRecipe:
    """One run. ``start``: the file of an earlier run."""

    about: str
    problem: dict
    noise: str
    settings: LoopSettings
    start: str | None = None
    seed: int = 0
    data_seed: int = 21


_WHITE = LoopSettings(steps=4000, learning_rate=1e-3, save_every=250)
_ON = LoopSettings(steps=2000, learning_rate=8e-4, warmup=50, save_every=250)
_PROBLEMS = {"superres": {"kind": "super-resolution", "factor": 8}, "inpaint": {"kind": "inpainting"}}
RESTORATION_RECIPES = {
    name: recipe
    for short, problem in _PROBLEMS.items()
    for name, recipe in {
        f"{short}_white": RestorationRecipe(f"{short}, white noise", problem, "white", _WHITE),
        f"{short}_white_on": RestorationRecipe(
            f"{short}, white noise, trained on", problem, "white", _ON, f"{short}_white", data_seed=22
        ),
        f"{short}_gp": RestorationRecipe(
            f"{short}, fine-tuned to GP noise: the one that ships", problem, "gp", _ON, f"{short}_white", data_seed=22
        ),
    }.items()
}


def training_pictures(held_out: bool = False, unrelated: bool = False) -> list[torch.Tensor]:
    """uint8 ``[3, h, w]`` at several sizes: pictures, two photos and an animation film; or those held out of all.

    Some held-out pictures have a sister in training: another result of the same template. ``unrelated`` leaves those
    out of the held-out ones, and what shows the same subject.
    """
    paths = picture_paths()
    chosen = [path for n, path in enumerate(paths) if (n % HELD_OUT_EVERY == 0) == held_out]
    if held_out and unrelated:
        known = {template_of(path) for n, path in enumerate(paths) if n % HELD_OUT_EVERY} | SAME_SUBJECT
        chosen = [path for path in chosen if template_of(path) not in known]
    pictures = [read_picture(path) for path in chosen]
    if not held_out:
        pictures += [read_picture(photo_path(name)) for name in ("china", "flower")]
        film = read_clip("bigbuckbunny", range(0, 132, 6), width=480)
        pictures += list((film * 255).round().byte())
    return [level for picture in pictures for level in pyramid(picture, SHORTEST) if min(level.shape[1:]) >= SIZE]


def template_of(path: Path) -> str:
    """The file's name without the number of the result."""
    return path.stem.rpartition("-")[0]


def arguments_of(recipe: RestorationRecipe) -> dict:
    condition_channels = make_problem(recipe.problem).condition_channels
    return {"condition_channels": condition_channels, "channels": 48, "multipliers": [1, 1, 2]}


def describe(recipe: RestorationRecipe) -> dict:
    """The configuration that goes into the file's metadata."""
    levels = Levels()
    return {
        "about": recipe.about,
        "parts": {"model": {"architecture": "Restorer", "arguments": arguments_of(recipe)}},
        "restoration": recipe.problem,
        "noise": recipe.noise,
        "precondition": {"kind": "edm", "std_data": make_problem(recipe.problem).std_guess},
        "levels": {"minimum": levels.minimum, "maximum": levels.maximum},
        "latent": {"format": "pixel", "channels": 3, "vae": "pixel_space"},
        "training": {
            "data": "9 of 10 pictures of comfyui-workflow-templates-media-image 0.3.160 (MIT), two photos of "
            "scikit-learn (CC BY 2.0), 22 frames of Big Buck Bunny (CC BY 3.0), reduced; crops of 64 x 64",
            "seed": recipe.seed, "data_seed": recipe.data_seed, "start": recipe.start, "batch": BATCH,
            "steps": recipe.settings.steps,
            "optimiser": f"AdamW, peak rate {recipe.settings.learning_rate}, cosine to zero, no EMA",
            "loss": f"EDM, ln(sigma / std_data) normal of mean {levels.mean} and deviation {levels.std}",
        },
    }  # fmt: skip


def run_restoration(name: str, recipe: RestorationRecipe, folder: Path) -> None:
    """Train, then export `<name>.safetensors` and its loss curve `<name>.losses.txt` to ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    crops, problem = Crops(training_pictures(), SIZE), make_problem(recipe.problem)
    network = Restorer(**arguments_of(recipe)).initialise(torch.Generator().manual_seed(recipe.seed))
    if recipe.start is not None:
        start, _ = checkpoints.load(folder / f"{recipe.start}.safetensors")
        network.load_state_dict({key: value.float() for key, value in start.state_dict().items()})
    network = network.train().to(memory_format=torch.channels_last)
    damage, noise, levels, precondition = DAMAGES[problem.kind], NOISES[recipe.noise], Levels(), Precondition(problem)

    def loss(generator: torch.Generator) -> torch.Tensor:
        z_0 = crops.sample(BATCH, generator)
        condition = damage.show(problem, z_0, damage.draw(BATCH, SIZE, generator))
        sigma = levels.draw(BATCH, precondition.std, generator)
        return denoising_loss(network, precondition, z_0, noise(generator, BATCH, SIZE, SIZE), sigma, condition)

    progress = run_training(name, network, loss, recipe.settings, recipe.data_seed, folder, every=100)
    export(name, {"model": network}, describe(recipe), progress, folder, last=200)
