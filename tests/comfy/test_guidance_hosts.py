"""Equivariance guidance on hosts of every family, under stock samplers."""

from torch import Tensor

from aqueduct.tests.comfy.hosts import Host, normal


def clip_latent(host: Host, frames: int = 3) -> Tensor:
    """An (empty but not zero) LATENT of a short clip, in the host's own layout."""
    channels, size = host.latent.shape[1], host.latent.shape[-2:]
    if host.latent.dim() == 4:
        return normal(host.frames, channels, *size, seed=5)
    steps = (host.frames - 1) // host.compression + 1
    return normal(1, channels, steps, *size, seed=5)
