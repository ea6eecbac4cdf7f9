"""Prepared clips for the tiny hosts, and what is asked of a host in the middle of a training."""

from pathlib import Path

import torch
from torch import Tensor

from aqueduct.core.data.dataset import LatentDataset
from aqueduct.core.data.shards import Clip, write_dataset
from aqueduct.tests.comfy.guided_hosts import clip_latent
from aqueduct.tests.comfy.hosts import Host, normal

COMMON = {
    "steps": 4, "batch": 1, "learning_rate": 1e-3, "accumulate": 1, "precision": "float32", "recompute": False,
    "ema": 0.0, "save_every": 2, "sample_every": 0, "seed": 0, "filename_prefix": "tests/made", "resume": True,
}  # fmt: skip


def clips_like(host: Host, folder: Path, count: int = 2, **said) -> LatentDataset:
    """Clips in the host's latents that begin with a picture and then change in one way, which can be learnt."""
    state = clip_latent(host)
    shape = tuple(state.movedim(1, 0).shape if state.dim() == 4 else state[0].shape)
    return write_clips(folder, shape, count, **said)


def write_clips(
    folder: Path, shape: tuple[int, int, int, int], count: int = 2, first_size: int | None = None, **said
) -> LatentDataset:
    """``shape`` [c, f, h, w]; ``first_size``: pixels a side, 8 to a latent if not given."""
    channels, frames, height, width = shape
    turn = normal(channels, 1, height, width, seed=50)

    def samples():
        for n in range(count):
            start, time = normal(channels, 1, height, width, seed=n), torch.arange(frames)[None, :, None, None]
            size = (first_size or 8 * height, first_size or 8 * width)
            first = (normal(3, *size, seed=90 + n) * 50 + 128).clamp(0, 255).to(torch.uint8)
            clip = Clip(path=f"clip {n}.mp4", last=frames - 1, caption=f"clip {n}", **said)
            yield clip, {"latent": start + 0.7 * time * turn, "first": first}

    write_dataset(folder, samples(), {"classes": ["one", "two"]})
    return LatentDataset.open(folder)


def data_of(clips: LatentDataset, conditioning: list | None = None):
    from aqueduct.nodes._comfy.dataset import Dataset

    return Dataset(clips, conditioning, "clips of a test")


def host_of(host: Host, clips: LatentDataset, model=None, vae=None):
    """A `Host` that is told the same of every clip."""
    from aqueduct.nodes._comfy.host_training import Host as Trained

    return Trained(model or host.model, data_of(clips, [host.positive] * len(clips)), vae=vae)


def asking(host: Host, clips: LatentDataset, body, patched=lambda model: model, **common):
    """``body(asked)`` in the middle of a run of ``patched(the MODEL)``, in inference mode, as ComfyUI has it. What it
    is told of each clip are the host's own conditions."""
    from aqueduct.nodes._comfy.training import Common

    trained, given = host_of(host, clips), Common(**{**COMMON, **common})
    object.__setattr__(trained, "told", lambda: lambda i: host.positive)
    with torch.inference_mode():
        return trained.running(given, patched, body)


def lively(network: torch.nn.Module, size: float = 0.1) -> None:
    """Weights as after a training, where they begin at zero."""
    for number, weight in enumerate(network.parameters()):
        if not bool(weight.any()):
            weight.data = size * normal(*weight.shape, seed=number)


def close(one: Tensor, other: Tensor, share: float = 1e-6) -> bool:
    return bool((one - other).abs().max() <= share * other.abs().max())
