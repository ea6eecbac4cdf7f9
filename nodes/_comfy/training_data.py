"""Prepared clips as the trainer nodes need them: what their latents are, which data they are, and how they look."""

import torch
from torch import Tensor

from ...core.data.dataset import LatentDataset
from ...core.plots.film_strips import film_strips
from .images import to_clip
from .loading import LATENT_FORMATS
from .places import fingerprint

SHOWN = 3  # clips in a sample
# (channels, pixels to a latent, a side) -> format, as a file's configuration calls it
FORMATS = {(3, 1): "pixel", (4, 8): "sd15", (3, 4): "vq-f4"}


def latent_of(clips: LatentDataset) -> dict:
    """The entry ``latent`` of a file's configuration: pixels, or latents of a VAE."""
    shapes = clips.index.clips[0].shapes
    channels, width = shapes["latent"][0], shapes["latent"][-1]
    form = FORMATS.get((channels, shapes["first"][-1] // width), "raw")
    vae = "pixel_space" if form == "pixel" else "the VAE that the training data were encoded with"
    return {"format": form, "channels": channels, "vae": vae}


def enter(latent: dict):
    """Latents as a VAE gives them -> as a network has them."""
    return LATENT_FORMATS[latent["format"]]().process_in


def one_size(clips: LatentDataset, what: str) -> tuple[int, ...]:
    """The one shape [c, f, h, w] of all clips. Raises ValueError for data of several."""
    if len(clips.buckets) > 1:
        told = ", ".join(f"{len(rows)} of {list(shape)}" for shape, rows in clips.buckets.items())
        raise ValueError(
            f"{what} has one size, and these clips have {len(clips.buckets)} ([channels, frames, height, width]): "
            f"{told}: turn buckets off in AqueductVideoDataset"
        )
    return next(iter(clips.buckets))


def class_names(clips: LatentDataset) -> list[str]:
    """Of the classes in their order; none where not every clip has one."""
    labels = [clip.label for clip in clips.index.clips]
    if None in labels:
        return []
    named = clips.index.settings.get("classes", [])
    return list(named) or [str(number) for number in range(max(labels) + 1)]


def identity(clips: LatentDataset) -> dict:
    """Which data these are: the folder, and another text whenever any of its files is another."""
    return {"folder": str(clips.folder.resolve()), "content": fingerprint(clips.folder)}


def pictures(latents: Tensor, latent: dict, vae) -> Tensor:
    """A clip ``[c, f, h, w]`` of raw latents -> ``[F, 3, H, W]`` in 0..1; of pixels without a ``vae``."""
    if latent["format"] == "pixel":
        return (latents.movedim(1, 0).float() / 2 + 0.5).clamp(0, 1)
    given = latents.movedim(1, 0) if vae.latent_dim == 2 else latents[None]
    return to_clip(vae.decode(given).flatten(0, -4)).clamp(0, 1)


def compared(clips: LatentDataset, made: list[Tensor], rows: list[int], latent: dict, vae, step: int) -> Tensor:
    """IMAGE: each clip of the data and below it what was ``made`` [c, f, h, w] in its place, raw latents, after
    ``step`` steps."""
    strips, names = [], []
    for row, own in zip(rows, made, strict=True):
        strips += [pictures(clips.tensor(row, "latent"), latent, vae), pictures(own.cpu(), latent, vae)]
        names += ["data", f"model, step {step}"]
    return film_strips(strips, names)


def shown(clips: LatentDataset) -> list[int]:
    """The clips whose like is made on the way: spread over the data."""
    count = min(SHOWN, len(clips))
    return torch.linspace(0, len(clips) - 1, count).round().long().tolist()
