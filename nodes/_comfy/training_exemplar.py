"""What the trainer of exemplar models needs of ComfyUI: pictures, a VAE, a global encoder, and an earlier stage."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ...core import checkpoints
from ...core.networks.exemplar_unet import ExemplarNetwork, ExemplarUNet, initialise, start_from
from ...core.training.exemplar_folder import ExemplarFolder
from ...core.training.exemplar_pairs import PhotoControl, PictureCrops, Triples
from .dataset import fingerprint, folder_path, weights_digest
from .exemplar_encode import class_tokens, latents
from .exemplar_model import DINOV2, ENCODER, NETWORK, OWN, READER_KEY, takes_exemplars
from .files import model_path
from .images import to_clip
from .loading import LATENT_FORMATS
from .progress import reporter
from .training_data import FORMATS
from .training_models import arguments_of, copied, described

SHIPPED_ENCODER = "exemplar_scenes.safetensors"
Sample = Callable[[torch.Generator], Triples]


def pictures_of(
    folder: str, images: Tensor | None, side: int, control: PhotoControl | Path, pairs: str, batch: int
) -> tuple[Sample, str]:
    """Where batches of triples come from, and what they are: a ``folder``, or ``images`` if there is none."""
    if bool(folder.strip()) == (images is not None):
        raise ValueError("give a folder of pictures or a batch of images, one of the two")
    if images is None:
        place = folder_path(folder)
        found = ExemplarFolder(place, side, control, place / pairs.strip() if pairs.strip() else None)
        found.settle(reporter())
        skipped = f", {len(found.skipped)} files skipped" if found.skipped else ""
        return lambda generator: found.sample(batch, generator), f"{len(found.partners)} pictures of {place}{skipped}"
    if pairs.strip() or isinstance(control, Path):
        raise ValueError("pairs and controls are files beside a folder of pictures, and images were given instead")
    crops = PictureCrops([(255 * one).round().byte() for one in to_clip(images).clone()], side)
    return lambda generator: crops.sample(batch, generator, control), f"crops of {len(images)} images"


def pixels_of(folder: str) -> str:
    """Another text whenever a file in a folder, or in its folders, is another; empty where there is none."""
    try:
        return fingerprint(folder_path(folder)) if folder.strip() else ""
    except FileNotFoundError:  # said when the node runs
        return ""


def content(images: Tensor | None) -> str:
    return "" if images is None else hashlib.sha256(images.cpu().contiguous().numpy().data).hexdigest()[:16]


def seen_through(vae, clip_vision) -> dict:
    """JSON: another where pictures come to other latents, or another [CLS]."""
    networks = {"vae": vae and vae.first_stage_model, "clip_vision": clip_vision and clip_vision.model}
    return {name: network and weights_digest(network) for name, network in networks.items()}


@dataclass(frozen=True, eq=False)
class Space:
    """Where the bridge goes: pixels, or the latents of ``vae``."""

    vae: object | None
    latent: dict

    @classmethod
    def of(cls, vae, side: int) -> "Space":
        """Raises ValueError for a side that the VAE does not take whole."""
        if vae is None or vae.spacial_compression_encode() == 1:
            return cls(None, {"format": "pixel", "channels": 3, "vae": "pixel_space"})
        stride, channels = vae.spacial_compression_encode(), vae.latent_channels
        if side % stride:
            raise ValueError(f"pictures of {side} pixels: this VAE takes multiples of {stride}")
        form = FORMATS.get((channels, stride), "raw")
        return cls(vae, {"format": form, "channels": channels, "vae": "the VAE that it was trained with"})

    def shape(self, batch: int, side: int) -> tuple[int, int, int, int]:
        cells = side if self.vae is None else side // self.vae.spacial_compression_encode()
        return batch, self.latent["channels"], cells, cells

    def enter(self, pictures: Tensor) -> Tensor:
        """-1..1 -> the network's latents, fit for autograd."""
        if self.vae is None:
            return pictures
        with torch.inference_mode():
            raw = latents(self.vae, (pictures + 1) / 2)
            own = LATENT_FORMATS[self.latent["format"]]().process_in(raw)
        return own.clone().to(pictures)

    def leave(self, own: Tensor) -> Tensor:
        """The network's latents -> pictures ``[n, 3, H, W]`` in 0..1."""
        if self.vae is None:
            return (own / 2 + 0.5).clamp(0, 1)
        raw = LATENT_FORMATS[self.latent["format"]]().process_out(own)
        if self.vae.latent_dim == 3:
            raw = raw[:, :, None]
        return to_clip(self.vae.decode(raw).flatten(0, -4)).clamp(0, 1)


@dataclass(frozen=True, eq=False)
class Encoder:
    """The global encoder: ``network``, which goes into the file, or DINOv2 from outside. ``see``: -1..1 -> [CLS]."""

    features: int
    network: nn.Module | None
    part: dict | None
    see: Callable[[Tensor], Tensor]

    @property
    def source(self) -> str:
        return OWN if self.network is not None else DINOV2

    @classmethod
    def make(cls, clip_vision, model, device: torch.device) -> "Encoder":
        """A CLIP_VISION, else that of an earlier stage's ``model``, else the shipped model's. Raises ValueError."""
        reader = None if model is None else model.get_attachment(READER_KEY)
        if clip_vision is not None:
            return cls._outside(clip_vision)
        if reader is not None and reader.source == DINOV2:
            raise ValueError("this MODEL's first stage took its token from DINOv2: wire the same one to clip_vision")
        path = model_path(SHIPPED_ENCODER)
        part = checkpoints.read_config(path)["parts"][ENCODER]
        network = checkpoints.build({"parts": {ENCODER: part}}, ENCODER)
        shipped = checkpoints.load(path, ENCODER)[0].state_dict()
        theirs = shipped if reader is None or reader.encoder is None else reader.encoder.model.state_dict()
        checkpoints.load_strictly(network, {key: value.float() for key, value in theirs.items()}, "the encoder")
        network = network.requires_grad_(False).to(device)
        return cls(part["arguments"]["features"], network, part, network)

    @classmethod
    def _outside(cls, clip_vision) -> "Encoder":
        def see(pictures: Tensor) -> Tensor:
            with torch.inference_mode():
                tokens = class_tokens(clip_vision, list((pictures / 2 + 0.5).clamp(0, 1).split(1)))
            return tokens.clone().to(pictures.device)

        return cls(see(torch.zeros(1, 3, 32, 32)).shape[1], None, None, see)


def check_stage(model, stage: int, space: Space, encoder: Encoder) -> None:
    """ValueError unless the MODEL is one that this stage can go on from; None for a first stage from scratch."""
    if model is None:
        if stage == 1:
            return
        raise ValueError("the second stage goes on from the first: wire its MODEL")
    if not takes_exemplars(model):
        raise ValueError(
            f"exemplars are trained on MODELs that take them, this one is {described(model)}: wire the MODEL of this "
            f"node's first stage, or exemplar_scenes.safetensors (AqueductLoadBridgeModel)"
        )
    has = arguments_of(model)
    for name, theirs, ours, way_out in (
        ("latents", has["in_channels"], space.latent["channels"], "wire the VAE of its first stage"),
        ("[CLS]", has["features"], encoder.features, "wire the DINOv2 of its first stage"),
    ):
        if theirs != ours:
            raise ValueError(f"this MODEL's {name} have {theirs} channels, and here they have {ours}: {way_out}")


def networks(
    model, arguments: dict, stage: int, seed: int, device: torch.device
) -> tuple[ExemplarUNet, ExemplarNetwork | None]:
    """As the stage begins: drawn, or the MODEL's; the exemplar network is the MODEL's, or the denoiser's siamese."""
    if model is None:
        denoiser = initialise(ExemplarUNet(**arguments), torch.Generator().manual_seed(seed))
    else:
        denoiser = copied(model, torch.device("cpu"))
    if stage == 1:
        return denoiser.to(device), None
    network, before = ExemplarNetwork(**arguments), model.get_attachment(READER_KEY).network
    if before is None:
        start_from(network, denoiser, torch.Generator().manual_seed(seed))
    else:
        theirs = {key: value.float() for key, value in before.model.state_dict().items()}
        checkpoints.load_strictly(network, theirs, f"the MODEL's part {NETWORK!r}")
    return denoiser.to(device), network.to(device)
