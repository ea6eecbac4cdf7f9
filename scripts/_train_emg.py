"""Recipes of the image animation model: a small image-to-video bridge, and motion adapters on it.

The backbone learns to animate a picture, anyhow; half of what it starts from is the repeated picture, the other half
that picture carried along the motion, as FrameBridge's coarse priors. Then it is frozen, and adapters learn to make it
follow a motion: one on the exact motion of the worlds, which ships, and those of EMG's Table 3, on estimated motion.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from torch import Tensor

from aqueduct.core import checkpoints
from aqueduct.core.bridges.process import bridge_gmax
from aqueduct.core.motion.estimators import DisEstimator
from aqueduct.core.networks.layout import InputLayout
from aqueduct.core.networks.video_bridge import VideoBridge
from aqueduct.core.networks.video_unet import VideoMotionAdapter, VideoUNet, start_from
from aqueduct.core.training.geometric import MASKS, adjacent, from_first, geometric_consistency, total_loss
from aqueduct.core.training.loop import LoopSettings
from aqueduct.core.training.motion_clips import MotionClips, PhotoWorlds, estimated_clip, world_clip
from aqueduct.core.training.objectives import draw_bridge, uniform_weight, z0_loss
from aqueduct.scripts._media import read_clip
from aqueduct.scripts._train_restoration import training_pictures
from aqueduct.scripts._train_run import export, run_training

SIZES = {
    "in_channels": 6, "out_channels": 3, "frames": 16, "channels": 48, "multipliers": [1, 2], "fold": 4
}  # fmt: skip
BATCH = 4
WORLDS, REAL, ESTIMATED = 1400, 100, 500
LAMBDA_GEO = 0.1


@dataclass(frozen=True)
class EmgRecipe:
    """One run. ``start`` None: the backbone. ``adapter``: the run an adapter goes on from, None for a new one.

    ``mask``: of an adapter's geometric consistency loss, in `MASKS`. ``carried``: share of clips whose prior is the
    picture carried along the motion instead of the repeated picture.
    """

    about: str
    pool: str
    settings: LoopSettings
    start: str | None = None
    adapter: str | None = None
    mask: str | None = None
    carried: float = 0.0
    reference_anchored: bool = False
    seed: int = 0
    data_seed: int = 31


_ABLATION = LoopSettings(steps=700, learning_rate=1e-3, warmup=50)
EMG_RECIPES = {
    "emg_backbone": EmgRecipe(
        "image-to-video bridge at 64 x 64, 16 frames", "exact", LoopSettings(steps=2200, learning_rate=2e-3),
        carried=0.5,
    ),
    "emg_adapter": EmgRecipe(
        "motion adapter, Eulerian with the bidirectional mask, on exact motion", "exact",
        LoopSettings(steps=1600, learning_rate=1e-3, warmup=50), "emg_backbone", mask="bidirectional",
    ),
    "emg_adapter_on": EmgRecipe(
        "the same trained on, mostly from carried pictures: the one that ships", "exact",
        LoopSettings(steps=1100, learning_rate=8e-4, warmup=20), "emg_backbone", "emg_adapter", "bidirectional",
        carried=0.7, data_seed=33,
    ),
    **{
        f"emg_{name}": EmgRecipe(
            about, pool, _ABLATION, "emg_backbone", mask=mask, reference_anchored=anchored, data_seed=32
        )
        for name, about, pool, mask, anchored in (
            ("lagrangian", "Table 3: Lagrangian", "lagrangian", "none", True),
            ("eulerian", "Table 3: Eulerian, no mask", "eulerian", "none", False),
            ("forward_only", "Table 3: Eulerian, forward-only mask", "eulerian", "forward-only", False),
            ("bgc", "Table 3: Eulerian, bidirectional mask", "eulerian", "bidirectional", False),
        )
    },
}  # fmt: skip


def exact_pool() -> MotionClips:
    """Worlds of photographs with their exact motion, and pieces of Big Buck Bunny with estimated motion."""
    generator = torch.Generator().manual_seed(71)
    worlds, estimate = PhotoWorlds(small_pictures()), DisEstimator(threads=1)
    clips = [world_clip(worlds.draw(generator)) for _ in range(WORLDS)]
    return MotionClips.joined([*clips, *(estimated_clip(video, estimate) for video in film_pieces(REAL))])


def estimated_pool(reference_anchored: bool) -> MotionClips:
    """The same clips for both: motion as DIS sees it, frame to frame or from the first frame."""
    generator = torch.Generator().manual_seed(72)
    worlds = PhotoWorlds(small_pictures())
    estimate = DisEstimator(threads=1)
    clips = [worlds.draw(generator).clip() for _ in range(ESTIMATED)]
    return MotionClips.joined([estimated_clip(video, estimate, reference_anchored) for video in clips])


POOLS: dict[str, Callable[[], MotionClips]] = {
    "exact": exact_pool,
    "eulerian": lambda: estimated_pool(False),
    "lagrangian": lambda: estimated_pool(True),
}


def small_pictures(held_out: bool = False) -> list[Tensor]:
    """Those a 64-pixel window sees much of: shorter side below 200 pixels. Held out: without sisters in training."""
    pictures = training_pictures(held_out, unrelated=True)
    return [picture for picture in pictures if min(picture.shape[1:]) <= 200]


def film_pieces(count: int) -> list[Tensor]:
    """``[16, 3, 64, 64]`` in 0..1 from Big Buck Bunny: random places and times."""
    generator = torch.Generator().manual_seed(73)
    film = read_clip("bigbuckbunny", range(132), width=160)
    pieces = []
    for _ in range(count):
        below = [int(torch.randint(n, (), generator=generator)) for n in (132 - 16, film.shape[2] - 64, 160 - 64)]
        start, top, left = below
        pieces.append(film[start : start + 16, :, top : top + 64, left : left + 64])
    return pieces


def pool(name: str, folder: Path) -> MotionClips:
    """Made once and kept beside the runs; read through the page cache, so that two runs share it."""
    path = folder / f"emg_{name}.pool.pt"
    if not path.exists():
        clips = POOLS[name]()
        beside = path.with_suffix(".part")
        torch.save({field.name: getattr(clips, field.name) for field in fields(clips)}, beside)
        beside.rename(path)
    return MotionClips(**torch.load(path, weights_only=True, mmap=True))


def video_bridge() -> VideoBridge:
    return VideoBridge.from_config(bridge_config())


def bridge_config() -> dict:
    process = bridge_gmax()
    return {
        "bridge": {"kind": process.kind, "constants": dict(process.constants)},
        "parameterisation": "prior_residual",
        "precondition": "unit_noise",
        "layout": vars(InputLayout(concat_prior=True)),
        "image_condition": "first frame of the prior",
    }


def describe(recipe: EmgRecipe) -> dict:
    """The configuration that goes into the file's metadata."""
    architecture = "VideoUNet" if recipe.start is None else "VideoMotionAdapter"
    return {
        "about": recipe.about,
        "class_names": [],
        "latent": {"format": "pixel", "channels": 3, "vae": "pixel_space"},
        "parts": {"model" if recipe.start is None else "adapter": {"architecture": architecture, "arguments": SIZES}},
        "training": {
            "data": data_of(recipe.pool),
            "pool": recipe.pool, "seed": recipe.seed, "data_seed": recipe.data_seed, "start": recipe.start,
            "adapter": recipe.adapter, "carried_priors": recipe.carried,
            "batch": BATCH, "steps": recipe.settings.steps, "mask": recipe.mask,
            "lambda_geo": LAMBDA_GEO if recipe.mask else 0,
            "optimiser": f"AdamW, peak rate {recipe.settings.learning_rate}, cosine to zero, no EMA, bfloat16",
            "loss": "mean squared error in z_0, uniform weight; adapters: and EMG eq. 10",
        },
        **bridge_config(),
    }  # fmt: skip


def data_of(pool: str) -> str:
    """What is in a pool, and whose it is; an animation film is among the pictures, too."""
    worlds = WORLDS if pool == "exact" else ESTIMATED
    source = (
        f"{worlds} worlds cut from 9 of 10 pictures of comfyui-workflow-templates-media-image 0.3.160 (MIT), two "
        "photos of scikit-learn (CC BY 2.0) and 22 frames of Big Buck Bunny (CC BY 3.0)"
    )
    return f"{source}, {REAL} pieces of that film" if pool == "exact" else source


def build(recipe: EmgRecipe, folder: Path):
    """``(backbone, adapter or None)``; the backbone is frozen when there is an adapter."""
    generator = torch.Generator().manual_seed(recipe.seed)
    if recipe.start is None:
        return VideoUNet(**SIZES).initialise(generator), None
    backbone, _ = checkpoints.load(folder / f"{recipe.start}.safetensors")
    if recipe.adapter is None:
        return backbone.float(), start_from(VideoMotionAdapter(**SIZES), backbone, generator)
    adapter, _ = checkpoints.load(folder / f"{recipe.adapter}.safetensors", part="adapter")
    return backbone.float(), adapter.float().requires_grad_(True)


def make_loss(recipe: EmgRecipe, backbone, adapter, clips: MotionClips):
    """``loss(generator)`` of the recipe: a batch of clips, times and noise each step."""
    video, process = video_bridge(), bridge_gmax()

    def drawn(generator: torch.Generator):
        batch = clips[torch.randint(len(clips), (BATCH,), generator=generator)]
        z_0 = batch.pictures()
        t = torch.rand(BATCH, generator=generator, dtype=torch.float64).clamp(1e-3, 1 - 1e-6)
        return batch, z_0, z_0[:, :, 0], t, torch.randn(z_0.shape, generator=generator)

    def prior(batch: MotionClips, first: Tensor, generator: torch.Generator) -> Tensor:
        still = first[:, :, None].expand(-1, -1, batch.video.shape[2], -1, -1)
        if not recipe.carried:
            return still.contiguous()
        which = torch.rand(BATCH, generator=generator)[:, None, None, None, None] < recipe.carried
        return torch.where(which, batch.carry().stretched(first).transpose(1, 2), still)

    def backbone_loss(generator: torch.Generator) -> Tensor:
        batch, z_0, first, t, eps = drawn(generator)
        z_T = prior(batch, first, generator)
        network = autocast(lambda x, times, y: backbone(x, times))
        prediction = video.denoiser(network, z_T, first, None)(draw_bridge(process, z_0, z_T, t, eps), t)
        return z0_loss(prediction, z_0, uniform_weight(process, t))

    def adapter_loss(generator: torch.Generator) -> Tensor:
        batch, z_0, first, t, eps = drawn(generator)
        z_T, way = prior(batch, first, generator), batch.carry()
        network = autocast(lambda x, times, y: adapted(backbone, adapter, x, times, first, way))
        prediction = video.denoiser(network, z_T, first, None)(draw_bridge(process, z_0, z_T, t, eps), t)
        loss = z0_loss(prediction, z_0, uniform_weight(process, t))
        return total_loss(loss, geometric(recipe, prediction, batch), LAMBDA_GEO)

    return backbone_loss if adapter is None else adapter_loss


def autocast(network):
    """``network`` in bfloat16 where that is safe, its answer in float32."""

    def run(*arguments):
        with torch.autocast("cpu", torch.bfloat16):
            return network(*arguments).float()

    return run


def adapted(backbone, adapter, x: Tensor, times: Tensor, first: Tensor, way) -> Tensor:
    """The backbone's output under the adapter; ``first [b, 3, H, W]`` in -1..1."""
    entering = torch.nn.functional.pixel_unshuffle(x.transpose(1, 2).flatten(0, 1), backbone.fold)
    return backbone(x, times, control=adapter(entering, times, adapter.carried((first + 1) / 2, way)))


def geometric(recipe: EmgRecipe, prediction: Tensor, batch: MotionClips) -> Tensor:
    """EMG eq. 10 on predicted clips, in the recipe's form."""
    forward, backward, pairing = batch.forward, batch.backward, adjacent
    if recipe.reference_anchored:
        forward, backward, pairing = batch.onward[:, 1:], batch.back[:, 1:], from_first
    mask = MASKS[recipe.mask](forward.float(), backward.float())
    return geometric_consistency(prediction, forward.float(), mask, pairing=pairing)


def run_emg(name: str, recipe: EmgRecipe, folder: Path) -> None:
    """Train, then export `<name>.safetensors` and its loss curve `<name>.losses.txt` to ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    clips = pool(recipe.pool, folder)
    backbone, adapter = build(recipe, folder)
    trained = (backbone if adapter is None else adapter).train()

    loss = make_loss(recipe, backbone, adapter, clips)
    progress = run_training(name, trained, loss, recipe.settings, recipe.data_seed, folder, every=50)
    config = describe(recipe)
    export(name, {next(iter(config["parts"])): trained}, config, progress, folder, last=50)
