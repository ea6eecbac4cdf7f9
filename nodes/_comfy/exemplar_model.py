"""Exemplars on the MODELs that were made for them: EBDM's exemplar network beside its denoiser.

What reads an exemplar comes with the MODEL's file and is attached to the MODEL. An exemplar sits on a clone as one
wrapper around the network; its side is computed once in a run of a sampler, and is the same at every step.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import comfy.model_patcher
import torch
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ...core import checkpoints
from ...core.networks.exemplar_unet import ExemplarUNet, Style, remember
from .exemplar import Exemplar, Settings
from .gradients import usable
from .hosted import HostedExemplarUNet
from .images import check_aspect, fitted_mask
from .loading import load_beside
from .runs import Span, bound, negatives, run_of, watch

NETWORK, ENCODER = "exemplar", "encoder"  # parts of a file
DINOV2, OWN = "dinov2", "part"  # where a file says the [CLS] is from
LARGEST = 4  # times the side of the pictures a MODEL was trained on
READER_KEY = "aqueduct_exemplar_reader"
WRAPPER_KEY = "aqueduct_exemplar"


@dataclass(frozen=True, eq=False)
class Reader:
    """What reads exemplars for one MODEL: exemplar network and global encoder, each None where the file has none.

    ``source``: where the [CLS] comes from, `DINOV2` or `OWN`. ``name``: of the file. ``size``: side of the pictures it
    was trained on, in pixels; 0 where the file does not say.
    """

    name: str
    source: str
    size: int
    network: comfy.model_patcher.ModelPatcher | None
    encoder: comfy.model_patcher.ModelPatcher | None

    def models(self) -> list[comfy.model_patcher.ModelPatcher]:
        return [self.network] if self.encoder is None else [self.network, self.encoder]

    def cls(self, exemplar: Exemplar, device: torch.device) -> Tensor:
        """``[n, features]``, float32: the exemplar's from DINOv2, or what the file's encoder says of its pictures."""
        if self.source == DINOV2:
            return exemplar.cls.to(device)
        return torch.cat([self.encoder.model(2 * shown.to(device) - 1) for shown in exemplar.shown()])


def takes_exemplars(model) -> bool:
    """Whether the MODEL was made for exemplars; others attend to them by themselves (`reference`)."""
    return isinstance(model.model.diffusion_model, HostedExemplarUNet)


def load_reader(path: str) -> Reader:
    checkpoint = checkpoints.open_checkpoint(path)
    parts = checkpoint.config["parts"]
    network, encoder = (load_beside(checkpoint, part) if part in parts else None for part in (NETWORK, ENCODER))
    told = {"encoder": OWN, "size": 0} | checkpoint.config.get("exemplar", {})
    return Reader(checkpoint.name, told["encoder"], told["size"], network, encoder)


@dataclass(frozen=True, eq=False)
class Applied:
    """An exemplar on a MODEL that takes it. Its instances are DIFFUSION_MODEL wrappers.

    ``latent``: the exemplar's, in the MODEL's own scale.
    """

    reader: Reader
    exemplar: Exemplar
    latent: Tensor
    settings: Settings
    span: Span

    def __call__(self, executor, *args, **kwargs):
        call = bound(executor, args, kwargs)
        options = call.arguments["transformer_options"]
        run = run_of(options, "an exemplar")
        if self.settings.strength and self.span.holds(run, options):
            x, control = call.arguments["x"], call.arguments["control"] or {}
            style = run.once(self, lambda: self.style(executor.class_obj, x))
            placed = self.placed(style, x, negatives(run, options))
            call.arguments["control"] = {**control, "styles": (*control.get("styles", ()), placed)}
        return executor(*call.args, **call.kwargs)

    def style(self, denoiser: ExemplarUNet, x: Tensor) -> Style:
        """The exemplar's side, in the type and on the device of ``x``; fit for autograd at whatever step it enters."""
        keep = None if self.exemplar.keep is None else self.exemplar.keep.to(x.device)
        cls = self.reader.cls(self.exemplar, x.device)
        return changed(remember(denoiser, self.reader.network.model, self.latent.to(x), cls, keep), usable)

    def placed(self, style: Style, x: Tensor, negative: list[bool]) -> Style:
        """For the rows of ``x [b, c, 1, h, w]``, the pictures of each branch of CFG: which it is for, and where."""
        branches = len(negative)
        pictures = len(x) // branches
        if len(self.exemplar) not in (1, pictures):
            raise ValueError(
                f"{len(self.exemplar)} exemplars for a LATENT of {pictures}: encode one exemplar for all of them, or "
                f"one for each picture of the LATENT (RepeatLatentBatch, ImageFromBatch)"
            )
        if len(self.exemplar) > 1:
            style = changed(style, lambda held: held.repeat(branches, *[1] * (held.dim() - 1)))
        weight = self.weight(x[:pictures, :, 0]).repeat(branches, 1, 1, 1)
        if self.settings.positive_only:
            positive = torch.tensor([not branch for branch in negative]).repeat_interleave(pictures)
            weight = weight * positive[:, None, None, None].to(weight)
        return style.weighted(weight)

    def weight(self, pictures: Tensor) -> Tensor:
        """``[pictures, 1, h or 1, w or 1]``: strength, where the mask is."""
        if self.settings.mask is None:
            return torch.full((len(pictures), 1, 1, 1), self.settings.strength, device=pictures.device)
        mask, cells = self.settings.mask, tuple(pictures.shape[-2:])
        check_aspect("mask", tuple(mask.shape[-2:]), cells, "make it the shape of the picture that is to come out")
        return self.settings.strength * fitted_mask(mask, pictures)


def changed(style: Style, change: Callable[[Tensor], Tensor]) -> Style:
    """``change`` for each tensor of the exemplar's side."""
    memories = [
        replace(memory, **{name: change(held) for name, held in vars(memory).items() if held is not None})
        for memory in style.memories
    ]
    return replace(style, token=change(style.token), memories=memories)


def styled(model, exemplar: Exemplar, settings: Settings):
    """A clone of a MODEL that takes exemplars with this one on it, beside others that it has.

    Raises ValueError for settings of other hosts, and where exemplar and MODEL do not fit, with what would.
    """
    reader = model.get_attachment(READER_KEY)
    _check_settings(settings)
    _check_reader(reader, exemplar, model.model.diffusion_model.features)
    _check_latent(exemplar, model.model.diffusion_model)
    _check_size(exemplar, reader)
    latent = model.model.process_latent_in(exemplar.latent)
    applied = Applied(reader, exemplar, latent, settings, Span(settings.start, settings.end))
    clone = model.clone()
    watch(clone)
    clone.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, WRAPPER_KEY, applied)
    clone.set_additional_models(WRAPPER_KEY, reader.models())  # loaded and freed with the MODEL, by ComfyUI
    return clone


def _check_settings(settings: Settings) -> None:
    fixed = {
        "blocks": settings.blocks.strip(),
        "reference_percent": settings.reference_percent,
        "each_step": settings.each_step,
    }
    for (name, value), own in zip(fixed.items(), ("", 1.0, False), strict=True):
        if value != own:
            raise ValueError(
                f"{name} {value!r} is for MODELs that were not made for exemplars: this one's own network reads the "
                f"exemplar, clean and once, for every block it was trained with; set {name} back to {own!r}"
            )


def _check_reader(reader: Reader, exemplar: Exemplar, features: int) -> None:
    if reader.network is None:
        raise ValueError(
            f"{reader.name} holds no exemplar network (part {NETWORK!r}): it can be sampled without an exemplar, or "
            f"load the file that was saved after its second stage of training"
        )
    if reader.source == OWN and reader.encoder is None:
        raise ValueError(
            f"{reader.name} says that it brings its own encoder, and has no part {ENCODER!r}: it is broken"
        )
    if reader.source != DINOV2:
        return
    if exemplar.cls is None:
        raise ValueError(
            f"{reader.name} takes its global token from DINOv2: wire a CLIP_VISION with a DINOv2 file of width "
            f"{features} (models/clip_vision) to clip_vision of AqueductExemplarEncode"
        )
    if exemplar.cls.shape[1] != features:
        raise ValueError(
            f"{reader.name} takes a [CLS] of {features} numbers, this exemplar's has {exemplar.cls.shape[1]}: encode "
            f"it with the DINOv2 of that width (large has 1024, giant 1536; ComfyUI loads these two)"
        )


def _check_size(exemplar: Exemplar, reader: Reader) -> None:
    """Attention costs the square of the area: a photograph given to a small model would take hours."""
    height, width = exemplar.image.shape[-2:]
    if reader.size and height * width > (LARGEST * reader.size) ** 2:
        scale = reader.size / min(height, width)
        raise ValueError(
            f"the exemplar is {width} x {height} pixels, and {reader.name} was trained on pictures of {reader.size}: "
            f"attention would take very long. Scale it to about {round(width * scale)} x {round(height * scale)} "
            f"(ImageScale); up to {LARGEST} times that side is taken"
        )


def _check_latent(exemplar: Exemplar, network: HostedExemplarUNet) -> None:
    channels, *size = exemplar.latent.shape[1:]
    if channels != network.out_channels:
        raise ValueError(
            f"the exemplar's latent has {channels} channels, this MODEL's have {network.out_channels}: encode it with "
            f"the MODEL's own VAE"
        )
    if not network.takes(*size):
        height, width = exemplar.image.shape[-2:]
        pixels = network.step * height // size[0]
        whole = [max(1, round(side / pixels)) * pixels for side in (width, height)]
        raise ValueError(
            f"the exemplar is {width} x {height} pixels, {size[1]} x {size[0]} in the latent; this MODEL takes "
            f"multiples of {network.step} there: scale it to {whole[0]} x {whole[1]} (ImageScale)"
        )
