"""Train the small models that ship under `models/`, and the baselines they are compared with.

    python3 scripts/train_small.py framebridge_digits           # one run, resumed if it was interrupted
    python3 scripts/train_small.py --list

Every run is a recipe below: the same network, data and loss, and one thing that differs. Runs are written to
`--output` (default: the cache folder) and exported to safetensors when they end.
"""

import argparse
from dataclasses import dataclass, field, replace
from pathlib import Path

from _pack import ROOT, load_pack

load_pack()

import torch

from aqueduct.core import checkpoints
from aqueduct.core.bridges.diffusion import CosineDiffusion
from aqueduct.core.bridges.process import bridge_gmax
from aqueduct.core.networks.latte import LatteVideo
from aqueduct.core.networks.layout import InputLayout
from aqueduct.core.networks.neural_prior import NeuralPrior, make_prior
from aqueduct.core.networks.video_bridge import VideoBridge
from aqueduct.core.training.digits import DIRECTIONS, MovingDigits, load_glyphs
from aqueduct.core.training.loop import LoopSettings
from aqueduct.core.training.objectives import draw_bridge, drop_condition, uniform_weight, z0_loss
from aqueduct.scripts._train_densifier import DENSIFIER_RECIPES, run_densifier
from aqueduct.scripts._train_ebdm import EXEMPLAR_RECIPES, run_exemplar
from aqueduct.scripts._train_emg import EMG_RECIPES, run_emg
from aqueduct.scripts._train_join import JOIN_RECIPES, run_join
from aqueduct.scripts._train_restoration import RESTORATION_RECIPES, run_restoration
from aqueduct.scripts._train_run import export, run_training

SIZES = {"out_channels": 3, "frames": 8, "height": 32, "width": 32, "patch": 8, "hidden": 128, "depth": 6, "heads": 4}
CLASSES = len(DIRECTIONS)


@dataclass(frozen=True)
class Recipe:
    """One run. ``process`` None: the neural prior's regression. ``prior`` and ``start``: files of earlier runs."""

    about: str
    process: object | None = field(default_factory=bridge_gmax)
    parameterisation: str = "prior_residual"
    precondition: str = "unit_noise"
    layout: InputLayout = InputLayout(concat_prior=True)
    prior: str | None = None
    start: str | None = None
    seed: int = 0
    data_seed: int = 1
    batch: int = 32
    settings: LoopSettings = LoopSettings(steps=1750)


_TRAIN_ON = LoopSettings(steps=1750, learning_rate=8e-4, warmup=20)
_FINE_TUNE = LoopSettings(steps=1000, learning_rate=5e-4, warmup=20)
RECIPES = {
    "framebridge_digits": Recipe("(a) FrameBridge, replicated prior"),
    "framebridge_long_digits": Recipe(
        "(a) FrameBridge, replicated prior, trained on: the one that ships", start="framebridge_digits",
        settings=_TRAIN_ON, data_seed=11,
    ),
    "neural_prior_digits": Recipe("(b) the neural prior, eq. 8", process=None),
    "framebridge_np_digits": Recipe(
        "(b) FrameBridge-NP", prior="neural_prior_digits",
        layout=InputLayout(concat_prior=True, concat_first_frame=True),
    ),
    "framebridge_np_long_digits": Recipe(
        "(b) FrameBridge-NP, trained on: the one that ships", prior="neural_prior_digits",
        layout=InputLayout(concat_prior=True, concat_first_frame=True), start="framebridge_np_digits",
        settings=replace(_TRAIN_ON, steps=2400), data_seed=12,
    ),
    "diffusion_digits": Recipe(
        "(c) image-to-video diffusion, first frame on channels", process=CosineDiffusion(), precondition="raw"
    ),
    "class_diffusion_digits": Recipe(
        "(d) class-to-video diffusion, the start of the two below", process=CosineDiffusion(), precondition="raw",
        parameterisation="x0", layout=InputLayout(), settings=LoopSettings(steps=1000),
    ),
    "saf_digits": Recipe(
        "(d) FrameBridge from class diffusion, with SAF", precondition="aligned_cosine", parameterisation="x0",
        start="class_diffusion_digits", settings=_FINE_TUNE,
    ),
    "no_saf_digits": Recipe(
        "(d) FrameBridge from class diffusion, without SAF", precondition="raw", parameterisation="x0",
        start="class_diffusion_digits", settings=_FINE_TUNE,
    ),
}  # fmt: skip


def describe(recipe: Recipe) -> dict:
    """The configuration that goes into the file's metadata."""
    config = {
        "about": recipe.about,
        "class_names": list(DIRECTIONS),
        "latent": {"format": "pixel", "channels": 3, "vae": "pixel_space"},
        "training": {
            "data": "sklearn load_digits, 85 % of the scans (split seed 0), moving at 1.5 px a frame",
            "seed": recipe.seed, "data_seed": recipe.data_seed, "start": recipe.start, "batch": recipe.batch,
            "steps": recipe.settings.steps,
            "optimiser": f"AdamW, peak rate {recipe.settings.learning_rate}, cosine to zero, no EMA",
            "loss": "mean squared error in z_0, uniform weight", "class_dropout": 0.1,
        },
    }  # fmt: skip
    if recipe.process is None:
        return config | {"parts": {"prior": {"architecture": "NeuralPrior", "arguments": network_arguments(recipe)}}}
    constants = dict(getattr(recipe.process, "constants", ()))
    return config | {
        "parts": {"model": {"architecture": "LatteVideo", "arguments": network_arguments(recipe)}},
        "bridge": {"kind": recipe.process.kind, "constants": constants},
        "parameterisation": recipe.parameterisation,
        "precondition": recipe.precondition,
        "layout": vars(recipe.layout),
        "image_condition": "first frame of the prior",
    }


def network_arguments(recipe: Recipe) -> dict:
    if recipe.process is None:
        return SIZES | {"in_channels": 3, "classes": CLASSES, "residual": True}
    return SIZES | {"in_channels": recipe.layout.channels(3), "classes": CLASSES}


def build_network(recipe: Recipe, folder: Path) -> torch.nn.Module:
    generator = torch.Generator().manual_seed(recipe.seed)
    if recipe.process is None:
        prior = NeuralPrior(**network_arguments(recipe))
        prior.network.initialise(generator)
        return prior
    network = LatteVideo(**network_arguments(recipe)).initialise(generator)
    if recipe.start is not None:
        start, _ = checkpoints.load(folder / f"{recipe.start}.safetensors")
        _start_from(network, start)
    return network


def _start_from(network: LatteVideo, start: LatteVideo) -> None:
    """Copy a host's weights; input channels it did not have start at zero, so that it first ignores the prior."""
    state = start.state_dict()
    weight = torch.zeros_like(network.x_embedder.proj.weight)
    weight[:, : start.in_channels] = state["x_embedder.proj.weight"]
    network.load_state_dict(state | {"x_embedder.proj.weight": weight})


def make_loss(recipe: Recipe, network: torch.nn.Module, world: MovingDigits, folder: Path):
    """``loss(generator)`` of the recipe: a fresh batch of clips, times and noise each step."""
    video = None if recipe.process is None else VideoBridge.from_config(describe(recipe), recipe.process)
    prior = None
    if recipe.prior is not None:
        prior, _ = checkpoints.load(folder / f"{recipe.prior}.safetensors", part="prior")
        prior.float()

    def prior_loss(generator: torch.Generator) -> torch.Tensor:
        clips = world.sample(recipe.batch, generator)
        return z0_loss(network(clips.video[:, :, 0], clips.direction), clips.video, torch.ones(recipe.batch))

    def loss(generator: torch.Generator) -> torch.Tensor:
        clips = world.sample(recipe.batch, generator)
        z_0, first = clips.video, clips.video[:, :, 0]
        z_T = make_prior(prior, first, clips.direction, z_0.shape[2])
        t = torch.rand(recipe.batch, generator=generator, dtype=torch.float64).clamp(1e-3, 1 - 1e-6)
        z_t = draw_bridge(recipe.process, z_0, z_T, t, torch.randn(z_0.shape, generator=generator))
        y = drop_condition(clips.direction, CLASSES, 0.1, generator)
        prediction = video.denoiser(network, z_T, first, y)(z_t, t)
        return z0_loss(prediction, z_0, uniform_weight(recipe.process, t))

    return prior_loss if recipe.process is None else loss


def run(name: str, recipe: Recipe, folder: Path) -> None:
    """Train, then export `<name>.safetensors` and its loss curve `<name>.losses.txt` to ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    glyphs, _ = load_glyphs(held_out=False)
    world = MovingDigits(glyphs, size=SIZES["height"], frames=SIZES["frames"])
    network = build_network(recipe, folder).train()

    loss = make_loss(recipe, network, world, folder)
    progress = run_training(name, network, loss, recipe.settings, recipe.data_seed, folder, every=50)
    config = describe(recipe)
    parts = {"prior" if recipe.process is None else "model": network}
    if recipe.prior is not None:
        parts["prior"], prior_config = checkpoints.load(folder / f"{recipe.prior}.safetensors", part="prior")
        config["parts"]["prior"] = prior_config["parts"]["prior"]
    export(name, parts, config, progress, folder, last=50)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="runs, in order")
    parser.add_argument("--list", action="store_true", help="print the runs and stop")
    parser.add_argument("--output", type=Path, default=ROOT / "runs", help="folder of checkpoints (default: runs/)")
    parser.add_argument("--steps", type=int, help="shorten a run, for a trial")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default 1: two runs share two cores)")
    arguments = parser.parse_args()
    families = (
        (RECIPES, run), (RESTORATION_RECIPES, run_restoration), (EMG_RECIPES, run_emg),
        (DENSIFIER_RECIPES, run_densifier), (JOIN_RECIPES, run_join), (EXEMPLAR_RECIPES, run_exemplar),
    )  # fmt: skip
    if arguments.list or not arguments.names:
        for name, recipe in (pair for of, _ in families for pair in of.items()):
            print(f"{name:24s} {recipe.about} ({recipe.settings.steps} steps)")
        return
    unknown = [name for name in arguments.names if not any(name in of for of, _ in families)]
    if unknown:
        parser.error(f"there is no run {', '.join(unknown)}; --list shows them")
    torch.set_num_threads(arguments.threads)
    for name in arguments.names:
        recipe, runs = next((of[name], runs) for of, runs in families if name in of)
        if arguments.steps:
            recipe = replace(recipe, settings=replace(recipe.settings, steps=arguments.steps))
        runs(name, recipe, arguments.output)


if __name__ == "__main__":
    main()
