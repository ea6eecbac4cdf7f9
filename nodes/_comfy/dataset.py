"""AQUEDUCT_DATASET, and how a folder of clips becomes one: through ComfyUI's VAE and CLIP, kept on the disk."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import comfy.model_management as mm
import folder_paths
import torch
from PIL import Image
from torch import Tensor

from ...core.data.clips import Source, find, find_all, titles
from ...core.data.dataset import LatentDataset
from ...core.data.encoders import Pixels
from ...core.data.prepare import PrepareSettings, described, prepare
from .images import to_clip, to_image
from .progress import reporter

SAMPLED = 16  # values of each tensor that tell one VAE from another


@dataclass(frozen=True, eq=False)
class Dataset:
    """What the socket carries. ``conditioning``: a CONDITIONING for each clip, or None; ``about``: one line for people.

    The latents are raw, as the VAE gives them: what a MODEL wants is its `process_latent_in` of them.
    """

    latents: LatentDataset
    conditioning: list | None
    about: str


class VaeEncoder:
    """A VAE of ComfyUI as core's `Encoder`. ``step()`` is called before each clip and may raise to stop.

    A video VAE sees a clip whole, an image VAE its frames one by one.
    """

    def __init__(self, vae, step: Callable[[], None] = lambda: None):
        if vae.first_stage_model is None or vae.latent_dim not in (2, 3):
            raise ValueError(
                "this is no VAE for pictures or video: choose one in Load VAE, or leave vae out for pixels"
            )
        self.vae, self.step = vae, step
        self.video = vae.latent_dim == 3 and not vae.not_video
        self.multiple = vae.spacial_compression_encode()
        self.temporal = (vae.temporal_compression_decode() or 1) if self.video else 1

    def __call__(self, video: Tensor) -> Tensor:
        self.step()
        latents = [self.vae.encode(to_image((clip.movedim(0, 1) + 1) / 2)) for clip in video]
        if self.video:
            return torch.cat(latents)
        flat = [latent[:, :, 0] if latent.dim() == 5 else latent for latent in latents]
        return torch.stack(flat).movedim(1, 2)

    def shape(self, frames: int, height: int, width: int) -> tuple[int, int, int, int]:
        length = self.vae.downscale_ratio[0](frames) if self.video else frames
        return self.vae.latent_channels, length, height // self.multiple, width // self.multiple

    def describe(self) -> dict:
        return {"vae": type(self.vae.first_stage_model).__name__, "weights": weights_digest(self.vae.first_stage_model)}


class PixelEncoder(Pixels):
    """Pixel space, with ``step()``."""

    def __init__(self, step: Callable[[], None]):
        object.__setattr__(self, "step", step)

    def __call__(self, video: Tensor) -> Tensor:
        self.step()
        return video


def weights_digest(network: torch.nn.Module) -> str:
    """Another text for another network: names, shapes and a few values of all its tensors."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        some = tensor.flatten()[:: max(1, tensor.numel() // SAMPLED)][: SAMPLED + 1]
        digest.update(f"{name} {list(tensor.shape)} {tensor.dtype} {some.float().tolist()}".encode())
    return digest.hexdigest()[:16]


def prepared(folders: list[Path], images: Tensor | None, caption: str, vae, settings: PrepareSettings) -> LatentDataset:
    """The clips of ``folders`` and ``images``, from the cache if they were made before with all the same.

    ``caption``: of what has none of its own. Raises ValueError, which lists the reasons, if nothing can be used.
    """
    if not folders and images is None:
        raise ValueError("there is nothing to train on: give a folder of videos or pictures, or wire images")
    progress = _Progress()
    encode = PixelEncoder(progress.clip) if vae is None else VaeEncoder(vae, progress.clip)
    runs = max(settings.clips.lengths) > 1
    sources = find_all(folders, runs) if folders else []
    stamps = [[source.name, *_stamp(source), source.caption, source.label] for source in sources]
    digest = None if images is None else _digest_of(images)
    key = hashlib.sha256(json.dumps([described(settings, encode), stamps, digest, caption]).encode()).hexdigest()[:16]
    out = datasets_folder() / key
    before = _found(out)
    if before is not None:
        return before
    if images is not None:
        sources = [*sources, *find(_frames_folder(images, digest), runs)]
    captioned = [replace(one, caption=one.caption or caption or None) for one in sources]
    prepare(captioned, settings, encode, out, _interruptible, progress.shard)
    return LatentDataset.open(out)


def folder_path(text: str) -> Path:
    """As typed or, in quotes, pasted, or in ComfyUI's input folder. Raises FileNotFoundError that names both."""
    text = text.strip().strip("\"'")
    inside, typed = Path(folder_paths.get_input_directory()) / text, Path(text).expanduser()
    if typed.is_absolute() and typed.is_dir():
        return typed
    if inside.is_dir():
        return inside
    raise FileNotFoundError(
        f"there is no folder {text!r}: give its full path, or put it into {folder_paths.get_input_directory()}"
    )


def folders_of(text: str) -> list[Path]:
    """One in each line. Raises FileNotFoundError, ValueError for one that is there twice."""
    found = [folder_path(line) for line in text.splitlines() if line.strip()]
    twice = [str(folder) for n, folder in enumerate(found) if folder.resolve() in [one.resolve() for one in found[:n]]]
    if twice:
        raise ValueError(f"{twice[0]} is named twice: its clips would count twice, so name it once")
    return found


def fingerprint(folder: Path) -> str:
    """Another text when any file in a folder or its subfolders has changed."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    said = [(str(file), stat.st_size, stat.st_mtime_ns) for file in files for stat in [file.stat()]]
    return hashlib.sha256(repr(said).encode()).hexdigest()


def datasets_folder() -> Path:
    return Path(folder_paths.get_output_directory()) / "aqueduct" / "datasets"


def conditioned(dataset: LatentDataset, clip) -> list | None:
    """CONDITIONING of each clip's caption, as CLIPTextEncode makes it; None without CLIP."""
    if clip is None:
        return None
    report, made = reporter(), {}
    captions = [one.caption or "" for one in dataset.index.clips]
    for caption in sorted(set(captions)):
        made[caption] = clip.encode_from_tokens_scheduled(clip.tokenize(caption))
        report(len(made), len(set(captions)))
    return [made[caption] for caption in captions]


def told(dataset: LatentDataset, folders: list[Path]) -> str:
    """What is in a data set and what is not, in lines; of several ``folders`` for each."""
    index = dataset.index
    shapes = Counter((clip.shapes["latent"], clip.shapes["first"]) for clip in index.clips)
    lines = [f"{len(index.clips)} clips of {len({clip.path for clip in index.clips})} files"]
    for (latent, first), count in sorted(shapes.items()):
        lines.append(f"  {count} of {first[2]} x {first[1]} pixels: latents {' x '.join(map(str, latent))}")
    for title, folder in zip(titles(folders), folders, strict=True) if len(folders) > 1 else ():
        own, left = ([one for one in some if one.path.startswith(f"{title}/")] for some in (index.clips, index.skipped))
        lines.append(
            f"  {title}: {len(own)} clips of {len({clip.path for clip in own})} files, {len(left)} skipped ({folder})"
        )
    with_caption = sum(clip.caption is not None for clip in index.clips)
    lines.append(f"{with_caption} have a caption")
    names = index.settings.get("classes") or []
    lines += [f"{len(names)} classes: {', '.join(names)}"] if names else []
    lines += [f"skipped {len(index.skipped)}:"] if index.skipped else ["nothing was skipped"]
    lines += [f"  {one.path}: {one.why}" for one in index.skipped]
    return "\n".join([*lines, f"kept in {dataset.folder}"])


class _Progress:
    """The bar of the running node, in clips."""

    def __init__(self):
        self.report, self.done, self.total = reporter(), 0, 1

    def shard(self, done: int, total: int) -> None:
        self.done, self.total = done, total
        self.report(done, max(1, total))

    def clip(self) -> None:
        self.report(min(self.done, self.total), self.total)
        self.done += 1


def _interruptible(function: Callable, items: Iterable, light: bool = False) -> Iterator:
    """core's `in_turn`, with ComfyUI's stop button."""
    for item in items:
        mm.throw_exception_if_processing_interrupted()
        yield function(item)


def _stamp(source: Source) -> tuple[int, int]:
    """Size, and the time of the latest change."""
    return source.bytes, max(Path(file).stat().st_mtime_ns for file in source.files)


def _digest_of(images: Tensor) -> str:
    return hashlib.sha256(f"{list(images.shape)}".encode() + _bytes(images).numpy().tobytes()).hexdigest()[:16]


def _bytes(images: Tensor) -> Tensor:
    """uint8 ``[f, h, w, 3]``"""
    return to_clip(images).clamp(0, 1).mul(255).round().to("cpu", torch.uint8).movedim(1, -1).contiguous()


def _frames_folder(images: Tensor, digest: str) -> Path:
    """The IMAGE batch as a run of numbered frames under ComfyUI's temporary folder: one path for all clips."""
    folder = Path(folder_paths.get_temp_directory()) / "aqueduct" / digest
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for number, frame in enumerate(_bytes(images)):
        Image.fromarray(frame.numpy()).save(folder / "images" / f"{number:06d}.png", compress_level=1)
    return folder


def _found(out: Path) -> LatentDataset | None:
    """What was made before, if it is whole."""
    try:
        return LatentDataset.open(out)
    except FileNotFoundError:
        return None
