"""Recipes of exemplar-guided translation: a global encoder, EBDM's two stages, and what the benchmark compares it with.

All denoisers have the same size and see the same data: scenes of the procedural world with edges or masks as control,
and crops of photographs with edges.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from aqueduct.core import checkpoints
from aqueduct.core.bridges import brownian
from aqueduct.core.bridges.diffusion import CosineDiffusion
from aqueduct.core.controls import COCOSNET_CANNY, canny, mask_map
from aqueduct.core.networks.exemplar_unet import ExemplarNetwork, ExemplarUNet, Style, initialise, start_from
from aqueduct.core.networks.style_encoder import StyleEncoder
from aqueduct.core.training.ema import Ema
from aqueduct.core.training.exemplar import STAGES, drop_exemplar, ebdm, exemplar_loss, late_times
from aqueduct.core.training.exemplar_pairs import PictureCrops, Triples
from aqueduct.core.training.loop import LoopSettings
from aqueduct.core.training.restoration import Crops
from aqueduct.core.training.self_supervised import projector, view_loss
from aqueduct.core.training.texture_scenes import TextureScenes, random_families, random_layouts, render
from aqueduct.scripts._train_restoration import training_pictures
from aqueduct.scripts._train_run import export, run_training

SIZE, ENCODED, FEATURES = 32, 64, 128  # pixels of the bridge, pixels the encoder sees, numbers it gives
ENCODER = {"features": FEATURES, "widths": [16, 32, 64, 64], "size": ENCODED}
DENOISER = {
    "in_channels": 3, "out_channels": 3, "channels": 16, "multipliers": [2, 3, 3], "blocks": 1, "sites": [1, 2],
    "head_channels": 24, "groups": 8, "features": FEATURES, "context": 64, "expansion": 2,
}  # fmt: skip
POOLED = 12
# EBDM's objective but for a twentieth of its variance: a network this small passes noise on for more than half an hour
# before it learns to remove it. With little noise a bridge decides on the look near T, so half of the rows lie there.
OBJECTIVE = replace(ebdm(), bridge=brownian(variance=0.05), times=late_times)
Batch = Callable[[torch.Generator], Triples]
Encode = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class ExemplarRecipe:
    """One run. ``make(recipe, folder)`` gives parts, configuration, trained parameters and the loss of a step."""

    about: str
    make: Callable
    settings: LoopSettings
    start: str | None = None
    seed: int = 0
    data_seed: int = 61


def mixed(pictures: list[Tensor], edges: int, masks: int, crops: int) -> Batch:
    """So many scenes with edges, scenes with masks, and crops of photographs with edges in each batch.

    A quarter of the batches have the edges of CoCosNet's softer thresholds, so that users' own are not new to it.
    """
    scenes, photos = TextureScenes(SIZE), PictureCrops(pictures, SIZE)

    def batch(generator: torch.Generator) -> Triples:
        softer = float(torch.rand((), generator=generator)) < 0.25
        find = partial(canny, **COCOSNET_CANNY) if softer else canny
        drawn = [
            scenes.sample(edges, generator, lambda photo, labels: find(photo)),
            scenes.sample(masks, generator, lambda photo, labels: mask_map(labels)),
            photos.sample(crops, generator, find),
        ]
        return Triples(*(torch.cat([getattr(t, name) for t in drawn]) for name in ("control", "photo", "exemplar")))

    return batch


def pooled_token(pictures: Tensor) -> Tensor:
    """``[n, 12]``: mean and deviation over the picture of its colours and of their differences along x."""
    slopes = pictures.diff(dim=-1).abs()
    return torch.cat([s for x in (pictures, slopes) for s in (x.mean((2, 3)), x.std((2, 3)))], dim=1)


def make_encoder(recipe: ExemplarRecipe, folder: Path):
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        encoder, head = StyleEncoder(**ENCODER), projector(FEATURES)
    photos = Crops(training_pictures(), ENCODED)

    def loss(generator: torch.Generator) -> Tensor:
        scenes = render(random_layouts(64, generator), random_families(64, generator), ENCODED) * 2 - 1
        return view_loss(encoder, head, torch.cat([scenes, photos.sample(64, generator)]), generator)

    config = {"parts": {"encoder": {"architecture": "StyleEncoder", "arguments": ENCODER}}}
    return {"encoder": encoder}, config, [*encoder.parameters(), *head.parameters()], loss


def make_stage_1(recipe: ExemplarRecipe, folder: Path, encoder: Callable[[Path], Encode] | None, features: int):
    """Control to photograph; the exemplar is the photograph itself, by its token alone (EBDM section 4.2), or, without
    ``encoder``, by nothing. That is made from the folder of runs, and gives ``features`` numbers."""
    settings = DENOISER | {"features": features}
    denoiser = initialise(ExemplarUNet(**settings), torch.Generator().manual_seed(recipe.seed))
    of, batch = encoder and encoder(folder), mixed(training_pictures(), 12, 8, 12)
    parameters = STAGES[0].select(denoiser, None)
    if of is None:  # nothing of it is asked, so nothing of it can be trained
        aside = [denoiser.linear, *(site.cross for site in denoiser.sites)]
        parameters = [p for p in parameters if all(p is not q for module in aside for q in module.parameters())]

    def loss(generator: torch.Generator) -> Tensor:
        drawn = batch(generator)
        if of is None:
            return exemplar_loss(denoiser, drawn.control, drawn.photo, None, generator, OBJECTIVE)
        own = STAGES[0].exemplar(drawn.photo, drawn.exemplar)
        return STAGES[0].loss(denoiser, None, drawn.control, drawn.photo, own, of(own), generator, OBJECTIVE)

    parts = {"model": denoiser}
    return parts, bridge_config(recipe, {"model": ("ExemplarUNet", settings)}), parameters, loss


def make_stage_2(recipe: ExemplarRecipe, folder: Path):
    """Exemplar network and attention alone; the exemplar is another picture (EBDM section 4.2)."""
    denoiser, config = checkpoints.load(folder / f"{recipe.start}.safetensors")
    encoder, denoiser = load_encoder(folder), denoiser.float()
    settings = config["parts"]["model"]["arguments"]
    network = ExemplarNetwork(**settings)
    start_from(network, denoiser, torch.Generator().manual_seed(recipe.seed))
    parameters, batch = STAGES[1].select(denoiser, network), mixed(training_pictures(), 12, 8, 12)

    def loss(generator: torch.Generator) -> Tensor:
        drawn = batch(generator)
        other = STAGES[1].exemplar(drawn.photo, drawn.exemplar)
        cls = encoder(other)
        return STAGES[1].loss(denoiser, network, drawn.control, drawn.photo, other, cls, generator, OBJECTIVE)

    parts = {"model": denoiser, "exemplar": network, "encoder": encoder}
    described = {
        "model": ("ExemplarUNet", settings), "exemplar": ("ExemplarNetwork", settings),
        "encoder": ("StyleEncoder", ENCODER),
    }  # fmt: skip
    return parts, bridge_config(recipe, described), parameters, loss


def make_diffusion(recipe: ExemplarRecipe, folder: Path):
    """A conditional diffusion of the same size: from noise, the control on channels, the exemplar as a prompt."""
    settings = DENOISER | {"in_channels": 6}
    denoiser = initialise(ExemplarUNet(**settings), torch.Generator().manual_seed(recipe.seed))
    encoder, batch, process = load_encoder(folder), mixed(training_pictures(), 12, 8, 12), CosineDiffusion()

    def loss(generator: torch.Generator) -> Tensor:
        drawn = batch(generator)
        cls = encoder(drawn.photo)
        style = drop_exemplar(Style(denoiser.token(cls)), len(cls), STAGES[0].dropout, generator)
        t = torch.rand(len(drawn.photo), generator=generator, dtype=torch.float64)
        alpha, _, sigma = (x.float()[:, None, None, None] for x in process.coefficients(t))
        eps = torch.randn(drawn.photo.shape, generator=generator)
        entering = torch.cat([alpha * drawn.photo + sigma * eps, drawn.control], dim=1)
        velocity = denoiser(entering, 1000 * t.float(), [style])
        return (velocity - (alpha * eps - sigma * drawn.photo)).square().mean()

    config = bridge_config(recipe, {"model": ("ExemplarUNet", settings)})
    del config["bridge"], config["parameterisation"], config["sampling"]
    config["diffusion"] = {"kind": process.kind, "parameterisation": "v"}
    return {"model": denoiser}, config, STAGES[0].select(denoiser, None), loss


def load_encoder(folder: Path) -> StyleEncoder:
    encoder, _ = checkpoints.load(folder / "exemplar_encoder.safetensors", part="encoder")
    return encoder.float()


def bridge_config(recipe: ExemplarRecipe, parts: dict) -> dict:
    """The configuration that goes into the file's metadata, but for how it was trained."""
    return {
        "parts": {name: {"architecture": kind, "arguments": arguments} for name, (kind, arguments) in parts.items()},
        "latent": {"format": "pixel", "channels": 3, "vae": "pixel_space"},
        "class_names": [],
        "bridge": {"kind": OBJECTIVE.bridge.kind, "constants": dict(OBJECTIVE.bridge.constants)},
        "parameterisation": OBJECTIVE.parameterisation.name,
        "precondition": OBJECTIVE.precondition.name,
        "layout": {},
        "image_condition": "first frame of the prior",
        "sampling": {"solver": "bbdm", "spacing": "uniform"},
        "exemplar": {"features": FEATURES, "encoder": "part", "size": SIZE},
    }


_STAGE_1 = LoopSettings(steps=3600, learning_rate=1.5e-3, save_every=200)
EXEMPLAR_RECIPES = {
    "exemplar_encoder": ExemplarRecipe(
        "global encoder, two crops of a picture alike (VICReg)", make_encoder,
        LoopSettings(steps=1200, learning_rate=1e-3, save_every=200, weight_decay=1e-4), data_seed=60,
    ),
    "exemplar_global": ExemplarRecipe(
        "stage 1: bridge with the encoder's token",
        partial(make_stage_1, encoder=load_encoder, features=FEATURES), _STAGE_1,
    ),
    "exemplar_scenes": ExemplarRecipe(
        "stage 2: exemplar network and attention: the one that ships", make_stage_2,
        LoopSettings(steps=3200, learning_rate=1.5e-3, save_every=100), "exemplar_global", data_seed=62,
    ),
    "exemplar_baseline": ExemplarRecipe(
        "stage 1 without any exemplar", partial(make_stage_1, encoder=None, features=FEATURES), _STAGE_1
    ),
    "exemplar_pooled": ExemplarRecipe(
        "stage 1 with a pooled token",
        partial(make_stage_1, encoder=lambda folder: pooled_token, features=POOLED), _STAGE_1,
    ),
    "exemplar_diffusion": ExemplarRecipe(
        "conditional diffusion: control on channels, the encoder's token", make_diffusion, _STAGE_1
    ),
}  # fmt: skip


def run_exemplar(name: str, recipe: ExemplarRecipe, folder: Path) -> None:
    """Train in bfloat16, then export `<name>.safetensors` with averaged weights, and its loss curve."""
    folder.mkdir(parents=True, exist_ok=True)
    parts, config, parameters, loss = recipe.make(recipe, folder)
    ema = Ema(parameters, decay=0.998)

    def cast(generator: torch.Generator) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return loss(generator)

    networks = torch.nn.ModuleList(parts.values())
    progress = run_training(name, networks, cast, recipe.settings, recipe.data_seed, folder, every=50, ema=ema)
    config |= {"about": f"EBDM on {SIZE} pixels: {recipe.about}", "training": training_of(recipe)}
    with ema.swapped():
        export(name, parts, config, progress, folder, last=100)


def training_of(recipe: ExemplarRecipe) -> dict:
    return {
        "data": "procedural scenes (edges, masks) and crops of photographs (edges), 32 pixels",
        "seed": recipe.seed, "data_seed": recipe.data_seed, "start": recipe.start, "steps": recipe.settings.steps,
        "optimiser": f"AdamW, peak rate {recipe.settings.learning_rate}, cosine to zero, EMA 0.998, bfloat16",
        "loss": (
            "EBDM eq. 7 with its weight 1/t, half of the times in the last twentieth; the encoder: VICReg; the "
            "diffusion: v, all times alike"
        ),
        "exemplar_dropout": STAGES[0].dropout,
    }  # fmt: skip
