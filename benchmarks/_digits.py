"""Sampling and measuring the small digit models, for `framebridge.py`."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from aqueduct.core import checkpoints
from aqueduct.core.bridges import guided, sample_bridge, times
from aqueduct.core.bridges.diffusion import CosineDiffusion, sample_diffusion
from aqueduct.core.metrics.frechet import frechet_distance
from aqueduct.core.metrics.identity import nearest_digit, similarity_to_input
from aqueduct.core.metrics.tracking import centroid_error, shown_direction
from aqueduct.core.metrics.video_classifier import VideoClassifier, all_features
from aqueduct.core.networks.neural_prior import make_prior
from aqueduct.core.networks.video_bridge import VideoBridge
from aqueduct.core.training.digits import DigitClips, MovingDigits


@dataclass(frozen=True)
class Model:
    """A trained run: network, its description, its neural prior or None."""

    network: torch.nn.Module
    video: VideoBridge
    prior: torch.nn.Module | None

    @property
    def is_diffusion(self) -> bool:
        return isinstance(self.video.bridge, CosineDiffusion)


def load_model(folder: Path, name: str) -> Model:
    path = folder / f"{name}.safetensors"
    network, config = checkpoints.load(path)
    process = CosineDiffusion() if config["bridge"]["kind"] == CosineDiffusion().kind else None
    prior = checkpoints.load(path, part="prior")[0].float() if "prior" in config["parts"] else None
    return Model(network.float(), VideoBridge.from_config(config, process), prior)


@torch.no_grad()
def generate(model: Model, clips: DigitClips, solver: str, steps: int, seed: int, guidance: float = 1.0) -> Tensor:
    """Clips from the first frames and directions of ``clips``; ``solver`` of the bridge, or "ddim", "ancestral"."""
    parts = []
    for i in range(0, len(clips.direction), 64):
        part = slice(i, i + 64)
        generator = torch.Generator().manual_seed(seed + i)
        parts.append(_generate(model, clips.video[part], clips.direction[part], solver, steps, generator, guidance))
    return torch.cat(parts)


def _generate(model: Model, video: Tensor, direction: Tensor, solver: str, steps: int, generator, guidance: float):
    first = video[:, :, 0]
    z_T = make_prior(model.prior, first, direction, video.shape[2])
    noise = torch.randn(z_T.shape, generator=generator)
    null = torch.full_like(direction, model.network.classes)
    denoiser = model.video.denoiser(model.network, z_T, first, direction, noise)
    if guidance != 1.0:
        denoiser = guided(denoiser, model.video.denoiser(model.network, z_T, first, null, noise), guidance)

    def draw(t, t_next):
        return torch.randn(z_T.shape, generator=generator)

    process = model.video.bridge
    if model.is_diffusion:
        uniform = torch.arange(steps, -1, -1, dtype=torch.float64) / steps
        return sample_diffusion(denoiser, noise, uniform, process, {"ddim": 0.0, "ancestral": 1.0}[solver], draw)
    spacing = "half_log_snr" if solver.startswith("dbim") else "uniform"
    return sample_bridge(denoiser, z_T, times(process, steps, spacing), process, solver, None, draw)


def measure(video: Tensor, clips: DigitClips, world: MovingDigits, labels: Tensor, classifier: VideoClassifier) -> dict:
    """Every measure of one set of clips; see the table's notes for what each is. Standard errors over clips."""
    right = (shown_direction(video, clips, world) == clips.direction).float()
    distance = centroid_error(video, clips.video)
    found = nearest_digit(video, world)[:, 1:]
    same_scan = (found == clips.digit[:, None]).float()
    same_label = (labels[found] == labels[clips.digit][:, None]).float().mean(1)
    first = (video[:, :, 0] - clips.video[:, :, 0]).square().flatten(1).mean(1)
    return {
        "direction": _mean(right),
        "centroid_px": _mean(distance),
        "identity_label": _mean(same_label),
        "identity_scan": _mean(same_scan.mean(1)),
        "first_frame_psnr": _mean(10 * torch.log10(4 / first.clamp_min(1e-10))),
        "first_frame_ssim": _mean(_ssim(video[:, :, 0], clips.video[:, :, 0])),
        "similarity": _mean(similarity_to_input(video, clips.video[:, :, 0])),
        "mse": _mean((video - clips.video).square().flatten(1).mean(1)),
        "fvd": round(frechet_distance(all_features(classifier, video), all_features(classifier, clips.video)), 4),
    }


def _mean(values: Tensor) -> list[float]:
    return [round(values.mean().item(), 4), round((values.std() / len(values) ** 0.5).item(), 4)]


def _ssim(first: Tensor, second: Tensor) -> Tensor:
    from kornia.metrics import ssim

    return ssim((first + 1) / 2, (second + 1) / 2, window_size=7).flatten(1).mean(1)
