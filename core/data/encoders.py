"""What turns frames into latents: nothing at all in pixel space, or a VAE of diffusers from a folder on this disk."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from ..optional import need

Shape = tuple[int, int, int, int]


class Encoder(Protocol):
    """float32 ``[n, 3, f, h, w]`` in -1..1 -> raw latents ``[n, c, f', h', w']``, the same for the same clip.

    ``multiple``: h and w must be multiples of it. ``temporal``: frames are 1 plus a multiple of it. It is sent to other
    processes, so it holds its settings and loads weights when called.
    """

    multiple: int
    temporal: int

    def __call__(self, video: Tensor) -> Tensor: ...

    def shape(self, frames: int, height: int, width: int) -> Shape:
        """(c, f', h', w') of one clip."""

    def describe(self) -> dict:
        """JSON: what the latents depend on, and nothing of where it lies. ``mean, std`` of the latents, numbers or one
        for each channel, if they are known."""


@dataclass(frozen=True)
class Pixels:
    """Pixel space: the frames are the latents."""

    multiple = temporal = 1

    def __call__(self, video: Tensor) -> Tensor:
        return video

    def shape(self, frames: int, height: int, width: int) -> Shape:
        return 3, frames, height, width

    def describe(self) -> dict:
        return {"vae": "pixel_space"}


@dataclass(frozen=True)
class Family:
    """A class of VAE in diffusers: from its configuration, the pixels and the frames one latent stands for, and its
    latents' channels; ``frame_by_frame`` for one that knows pictures only."""

    spatial: Callable[[dict], int]
    temporal: Callable[[dict], int]
    channels: Callable[[dict], int]
    frame_by_frame: bool = False


def _levels(config: dict) -> int:
    return 2 ** (len(config["block_out_channels"]) - 1)


FAMILIES = {
    "AutoencoderKL": Family(_levels, lambda c: 1, lambda c: c["latent_channels"], frame_by_frame=True),
    "AutoencoderKLCogVideoX": Family(
        _levels, lambda c: int(c.get("temporal_compression_ratio", 4)), lambda c: c["latent_channels"]
    ),
    "AutoencoderKLWan": Family(
        lambda c: 2 ** len(c["temperal_downsample"]) * (c.get("patch_size") or 1),
        lambda c: 2 ** sum(c["temperal_downsample"]),
        lambda c: c["z_dim"],
    ),
    "AutoencoderKLLTXVideo": Family(
        lambda c: c["patch_size"] * 2 ** sum(c["spatio_temporal_scaling"]),
        lambda c: c["patch_size_t"] * 2 ** sum(c["spatio_temporal_scaling"]),
        lambda c: c["latent_channels"],
    ),
}


@dataclass(frozen=True)
class DiffusersVae:
    """A VAE that diffusers saved into ``folder`` (config.json and safetensors); nothing is downloaded.

    The latent of a clip is the mean of what the VAE gives, not a draw. ``precision``: float32, bfloat16 or float16, of
    its arithmetic. ``device``: as PyTorch calls it; empty for the accelerator if there is one.
    """

    folder: str
    precision: str = "float32"
    device: str = ""

    def __post_init__(self):
        if self.precision not in ("float32", "bfloat16", "float16"):
            raise ValueError(f"precision is float32, bfloat16 or float16, got {self.precision!r}")

    @cached_property
    def config(self) -> dict:
        """Raises FileNotFoundError if there is no VAE of diffusers, ValueError for one of another class."""
        path = Path(self.folder) / "config.json"
        if not path.is_file():
            raise FileNotFoundError(
                f"{path} does not exist: folder is where diffusers saved a VAE, with its config.json and .safetensors "
                f"(the folder vae of a whole model)"
            )
        config = json.loads(path.read_text(encoding="utf-8"))
        if config.get("_class_name") not in FAMILIES:
            raise ValueError(f"{path} is of class {config.get('_class_name')}; known are {', '.join(FAMILIES)}")
        return config

    @property
    def family(self) -> Family:
        return FAMILIES[self.config["_class_name"]]

    @property
    def multiple(self) -> int:
        return self.family.spatial(self.config)

    @property
    def temporal(self) -> int:
        return self.family.temporal(self.config)

    def shape(self, frames: int, height: int, width: int) -> Shape:
        cells = height // self.multiple, width // self.multiple
        return self.family.channels(self.config), (frames - 1) // self.temporal + 1, *cells

    def describe(self) -> dict:
        weights = {path.name: file_digest(path) for path in sorted(Path(self.folder).glob("*.safetensors"))}
        said = {"vae": self.config["_class_name"], "precision": self.precision, "weights": weights}
        return said | statistics(self.config, self.folder)

    @torch.no_grad()
    def __call__(self, video: Tensor) -> Tensor:
        vae = _loaded(self)
        pictures = video.movedim(2, 1).flatten(0, 1) if self.family.frame_by_frame else video
        latents = [
            vae.encode(part.to(vae.device, vae.dtype)).latent_dist.mode().float().cpu() for part in pictures.split(1)
        ]
        whole = torch.cat(latents)
        return whole.unflatten(0, (len(video), -1)).movedim(1, 2) if self.family.frame_by_frame else whole


def statistics(config: dict, folder: str) -> dict:
    """Mean and deviation that diffusers takes from latents, under those names: ``(raw - mean) / std``."""
    factor = config.get("scaling_factor") or 1.0
    mean, std = config.get("latents_mean"), config.get("latents_std")
    if mean is None:  # LTX keeps them with its weights
        mean, std = (_weight(folder, name) for name in ("latents_mean", "latents_std"))
    if mean is None:
        return {"mean": config.get("shift_factor") or 0.0, "std": 1 / factor}
    return {"mean": list(mean), "std": [value / factor for value in std]}


def file_digest(path: Path) -> str:
    """Of a large file: its size, and what stands at its start, in its middle and at its end."""
    size, piece = path.stat().st_size, 2**20
    digest = hashlib.sha256(str(size).encode())
    with open(path, "rb") as file:
        for start in (0, size // 2, max(0, size - piece)):
            file.seek(start)
            digest.update(file.read(piece))
    return digest.hexdigest()[:16]


def _weight(folder: str, name: str) -> list[float] | None:
    from safetensors import safe_open

    for path in sorted(Path(folder).glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            if name in file.keys():
                return file.get_tensor(name).float().tolist()
    return None


@lru_cache(1)  # a process prepares many shards with one VAE
def _loaded(vae: DiffusersVae):
    diffusers = need("diffusers", "Encoding with a VAE of diffusers")
    device = vae.device or ("cuda" if torch.cuda.is_available() else "cpu")
    kind = getattr(diffusers, vae.config["_class_name"])
    network = kind.from_pretrained(vae.folder, local_files_only=True, torch_dtype=getattr(torch, vae.precision))
    return network.to(device).eval().requires_grad_(False)
