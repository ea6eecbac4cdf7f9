"""A core MODEL that has learnt Gaussian-process noise, as a LoRA."""

from pathlib import Path

from torch import Tensor

from ...core.noise import FullRank, GaussianField, finest_length_scale
from ...core.noise.spectra import truncated_normal
from .host_loss import Asked, NoiseOf, OwnLoss
from .host_training import SAMPLE_STEPS, Host, Rank, sampled, trained_beside
from .lora import lora_tensors, write_lora
from .noise import StillNoise
from .training import Common, Trained


def fields(length_scale: float, features: int, full_rank: bool) -> NoiseOf:
    """Noise as AqueductGPNoise without a motion makes it: a Gaussian field of its own for every frame."""
    waves = FullRank() if full_rank else features

    def one(channels: int, size: tuple[int, int], seed: int) -> Tensor:
        scale = (length_scale / size[1], length_scale / size[0]) if length_scale else finest_length_scale(*size)
        return GaussianField(seed, channels, scale, waves, spectrum=truncated_normal).grid(*size)

    return lambda seed, like: StillNoise(seed, one).generate_noise({"samples": like}).to(like)


def train_gp_noise(host: Host, noise: dict, lora: Rank, given: Common) -> Trained:
    """Warped Diffusion section 4.1: the MODEL's own objective, under noise that is not white: that of `fields`."""
    told = {"rank": lora.rank, "alpha": lora.alpha, "layers": lora.layers}
    config = {"kind": "gp noise", "host": host.name, "noise": noise, "lora": told,
              "training": {**given.told(), "data": host.data.about}}  # fmt: skip

    def body(asked: Asked) -> Trained:
        layers = lora.made(asked.model.diffusion_model, given.seed)

        def save(path: Path) -> None:
            write_lora(path, lora_tensors(layers, asked.model), config)

        loss = OwnLoss(asked, fields(**noise))
        sample = sampled(asked, host, lambda: loss.sample(0, SAMPLE_STEPS, given.seed))
        return trained_beside(asked, host, given, loss, {"lora": layers}, config, save, sample)

    return host.running(given, lambda clone: clone, body)
