"""The ways of restoring a clip that are compared, as data, and how an answer is judged."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from _warped_scenes import PROBLEMS, SIZE, Scene
from torch import Tensor

from aqueduct.core import checkpoints
from aqueduct.core.guidance import (
    REFERENCES,
    Guidance,
    Pairs,
    first_frame,
    full,
    guided_steps,
    previous_frame,
    sample_warped_diffusion,
    x0,
)  # fmt: skip
from aqueduct.core.metrics.consistency import self_warping_error
from aqueduct.core.metrics.restoration import laplacian_energy, psnr, ssim
from aqueduct.core.networks.restorer import Restorer
from aqueduct.core.noise import GaussianField, finest_length_scale, warp_noise
from aqueduct.core.restoration import Precondition, image_denoiser, karras_levels

STEPS = 20


@dataclass(frozen=True)
class Settings:
    """Of the guidance. ``outer``: the backward pass through the outermost level alone."""

    strength: float = 1.0
    bounded: bool = True
    mode: Callable = full
    outer: bool = False
    reference: str = "previous frame"
    start: float = 0.0
    end: float = 1.0
    share: float = 1.0


@dataclass(frozen=True)
class Way:
    """``model``: "white" or "gp". ``noise``: a strategy of `warp_noise`. ``guidance`` None: strength 0."""

    model: str
    noise: str
    guidance: Settings | None = None
    steps: int = STEPS


GUIDED = Settings()
WAYS = {
    "fixed": Way("white", "fixed"),
    "resample": Way("white", "resample"),
    "nearest": Way("white", "nearest"),
    "bilinear": Way("white", "bilinear"),
    "white warp": Way("white", "white"),
    "white warp + x0": Way("white", "white", replace(GUIDED, mode=x0)),
    "resample, GP": Way("gp", "resample"),
    "resample, GP + full": Way("gp", "resample", GUIDED),
    "GP warp": Way("gp", "gp"),
    "GP warp + full": Way("gp", "gp", GUIDED),
    "GP warp + full, lambda 0.5": Way("gp", "gp", replace(GUIDED, strength=0.5)),
    "GP warp + full, both": Way("gp", "gp", replace(GUIDED, reference="both")),
    "GP warp + outer": Way("gp", "gp", replace(GUIDED, outer=True)),
    "GP warp + x0": Way("gp", "gp", replace(GUIDED, mode=x0)),
    "GP warp + full, as printed": Way("gp", "gp", replace(GUIDED, bounded=False)),
}


@dataclass(frozen=True, eq=False)
class Models:
    """``networks[problem][noise]``, and what those of a problem share: preconditioning and the levels they know."""

    networks: dict[str, dict[str, Restorer]]
    preconditions: dict[str, Precondition]
    levels: dict[str, tuple[float, float]]


def load_models(folders: list[Path], problems=("superres", "inpaint")) -> Models:
    """``<problem>_gp`` and ``<problem>_white_on``, or ``warped_diffusion_<...>``: from the first folder with them."""
    networks, preconditions, levels = {}, {}, {}
    for short in problems:
        networks[short] = {}
        for noise, name in (("white", f"{short}_white_on"), ("gp", f"{short}_gp")):
            files = [folder / f"{start}{name}.safetensors" for folder in folders for start in ("warped_diffusion_", "")]
            found = [file for file in files if file.is_file()]
            if not found:
                where = ", ".join(str(folder) for folder in folders)
                raise FileNotFoundError(f"no {name}.safetensors in {where}: python3 scripts/train_small.py {name}")
            network, config = checkpoints.load(found[0])
            networks[short][noise] = network.to(memory_format=torch.channels_last)
            known = (config["precondition"]["std_data"], config["levels"]["minimum"], config["levels"]["maximum"])
            if short in levels and known != (preconditions[short].std, *levels[short]):
                raise ValueError(f"{found[0]} and its counterpart of white noise were not trained alike: {known}")
            preconditions[short] = Precondition(PROBLEMS[short], known[0])
            levels[short] = known[1:]
    return Models(networks, preconditions, levels)


def restore(models: Models, short: str, scene: Scene, way: Way) -> Tensor:
    """The clip ``[F, 3, H, W]``, within -1..1. The scene's seed is that of the noise."""
    if way.model == "gp":
        source = GaussianField(scene.seed, 3, finest_length_scale(SIZE, SIZE))
    else:
        source = torch.randn(3, SIZE, SIZE, generator=torch.Generator().manual_seed(scene.seed))
    return sampled(models, short, scene, way, warp_noise(source, scene.motion, way.noise, scene.seed))


def sampled(models: Models, short: str, scene: Scene, way: Way, noise: Tensor) -> Tensor:
    """As `restore`, from ``noise [F, 3, H, W]``."""
    lowest, highest = models.levels[short]
    sigmas = karras_levels(highest, lowest, way.steps)
    told = way.guidance or Settings(strength=0)
    mode = within(told.mode, missing(short, scene.condition))
    guidance = Guidance(REFERENCES[told.reference](scene.motion), told.strength, mode, told.bounded)
    network = models.networks[short][way.model]
    denoiser = image_denoiser(network, models.preconditions[short], scene.condition, outer=told.outer)
    guided = guided_steps(way.steps, told.start, told.end, told.share)
    return sample_warped_diffusion(denoiser, float(sigmas[0]) * noise, sigmas, guidance, guided).clamp(-1, 1)


def missing(short: str, condition: Tensor) -> Tensor:
    """``[F, 1, h, w]``, 1 where the answer is not known: guidance moves nothing else, as by the nodes' noise mask."""
    return condition[:, 3:] if short == "inpaint" else torch.ones_like(condition[:, :1])


def within(mode: Callable, hole: Tensor) -> Callable:
    """``mode`` with its corrections held inside ``hole``, for all frames in one call."""

    def masked(denoiser, z: Tensor, t: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        prediction, pull = mode(denoiser, z, t)
        return prediction, lambda v: pull(v) * hole

    return masked


@dataclass(frozen=True, eq=False)
class Judge:
    """Scores answers to a scene; the comparisons are made once."""

    scene: Scene
    previous: Pairs
    first: Pairs

    @classmethod
    def of(cls, scene: Scene) -> "Judge":
        return cls(scene, previous_frame(scene.true), first_frame(scene.true))

    def __call__(self, clip: Tensor) -> dict:
        """Errors are of values in 0..1; ``by_frame`` those to the first frame. PSNR is of the clip's mean error."""
        scene, halves = self.scene, clip / 2
        to_first = self_warping_error(halves, self.first)
        scores = restoration(clip, scene)
        return scores | {
            "to_previous": _mean(self_warping_error(halves, self.previous)),
            "to_first": _mean(to_first),
            "by_frame": to_first.tolist(),
        }


def restoration(clip: Tensor, scene: Scene) -> dict:
    """Mean PSNR (dB) and SSIM, sharpness, and RMS of what disagrees with the measurement (values in 0..1)."""
    off = (scene.known(clip) - scene.known(scene.truth)) / 2
    share = 1.0 if scene.missing is None else (1 - scene.missing).mean()
    scores = {
        "psnr": psnr(clip, scene.truth, 2).clamp(max=99).mean().item(),
        "ssim": ssim(clip, scene.truth, 2).mean().item(),
        "sharpness": (laplacian_energy(clip).sum() / laplacian_energy(scene.truth).sum()).sqrt().item(),
        "off_measurement": (off.square().mean() / share).sqrt().item(),
    }
    if scene.missing is not None:
        scores["psnr_holes"] = _mean(psnr(clip, scene.truth, 2, scene.missing).clamp(max=99))
    return scores


def processor_seconds(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def _mean(values: Tensor) -> float:
    """Of those that are there: a frame whose reference has left the view, or without a hole, has none."""
    return values.nanmean().item()
