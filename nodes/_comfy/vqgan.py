"""A VQGAN of latent diffusion (VQ-f4 and others of its layout) as a VAE whose latents are continuous.

Encoding stops before the quantiser; decoding begins with it. So BBDM uses it: its bridge runs between latents that are
neither quantised nor scaled. Source: LDM section 3.1 (VQ-reg: the quantiser belongs to the decoder); BBDM's release.
"""

from collections.abc import Mapping

import comfy.ldm.modules.diffusionmodules.model as ldm
import comfy.model_management as mm
import comfy.model_patcher
import comfy.ops
import comfy.sd
import torch
from torch import Tensor, nn

from ...core.checkpoints import load_strictly
from ...core.tensor_file import Shapes, open_tensors, shapes_of
from .layers import with_weights

PARTS = ("encoder.", "quant_conv.", "quantize.", "post_quant_conv.", "decoder.")  # what else there is, training needed
PREFIXES = ("", "vqgan.", "first_stage_model.")  # alone, in BBDM's files, in LDM's
CODEBOOK = "quantize.embedding.weight"
RESOLUTION = 256  # any will do: levels with attention are named by it
CHUNK = 4096  # cells whose distances to all codes are held at once: 128 MiB for 8192 codes

# Peak of encoding and decoding, in numbers for each pixel: those that ComfyUI keeps for its own autoencoder of the same
# widths. Live tensors are 384 and 640, measured without attention; the search for codes holds 512 at the most.
NUMBERS_ENCODE, NUMBERS_DECODE = 1767, 2178


class Codebook(nn.Module):
    """``[n, width, h, w]`` -> the same, each cell replaced by the nearest code."""

    def __init__(self, codes: int, width: int):
        super().__init__()
        self.embedding = with_weights(comfy.ops.disable_weight_init).Embedding(codes, width)

    def forward(self, z: Tensor) -> Tensor:
        codes = self.embedding.weight
        cells = z.movedim(1, -1)
        chosen = [self._nearest(part, codes) for part in cells.flatten(0, -2).split(CHUNK)]
        quantised = codes[torch.cat(chosen)].view_as(cells).movedim(-1, 1)
        return quantised + (z - z.detach())  # the codes themselves; gradients pass as if nothing had been replaced

    @staticmethod
    def _nearest(cells: Tensor, codes: Tensor) -> Tensor:
        """By differences, not by products: codes lie close together, and a code is nearest to itself exactly."""
        distances = torch.cdist(cells.float(), codes.float(), compute_mode="donot_use_mm_for_euclid_dist")
        return distances.argmin(dim=1)


class Vqgan(nn.Module):
    """Sizes are those of the tensors; key names those of the releases."""

    def __init__(self, shapes: Shapes):
        super().__init__()
        sizes = layout(shapes)
        codes, width = shapes[CODEBOOK]
        conv = comfy.ops.disable_weight_init.Conv2d
        self.encoder, self.decoder = ldm.Encoder(**sizes), ldm.Decoder(**sizes)
        self.quantize = Codebook(codes, width)
        self.quant_conv = conv(sizes["z_channels"], width, 1)
        self.post_quant_conv = conv(width, sizes["z_channels"], 1)

    def encode(self, pixels: Tensor) -> Tensor:
        return self.quant_conv(self.encoder(pixels))

    def decode(self, latents: Tensor) -> Tensor:
        return self.decoder(self.post_quant_conv(self.quantize(latents)))


class VqganVAE(comfy.sd.VAE):
    """ComfyUI's VAE around a `Vqgan` with these ``tensors``. Raises ValueError where some are missing or do not fit."""

    def __init__(self, tensors: dict[str, Tensor], name: str):
        # What a VAE consists of differs from version to version of ComfyUI: the simplest one of this version is made,
        # and its model and numbers replaced.
        super().__init__(sd={"pixel_space_vae": torch.tensor(1.0)})
        try:
            network = Vqgan(shapes_of(tensors))
        except KeyError as missing:
            raise ValueError(f"{name} holds a VQGAN without the tensor {missing}: it is not whole") from missing
        load_strictly(network, tensors, name)
        self.downscale_ratio = self.upscale_ratio = 2 ** (network.encoder.num_resolutions - 1)
        self.latent_channels = network.quantize.embedding.weight.shape[1]
        self.memory_used_encode, self.memory_used_decode = self._memory_encode, self._memory_decode
        self.working_dtypes = [torch.float32]  # in half precision other codes are nearest
        self.vae_dtype = mm.vae_dtype(self.device, self.working_dtypes)
        self.disable_offload = True
        self.first_stage_model = network.eval().requires_grad_(False).to(self.vae_dtype)
        self.patcher = comfy.model_patcher.ModelPatcher(
            self.first_stage_model, load_device=self.device, offload_device=mm.vae_offload_device()
        )
        self.size = None
        self.model_size()

    def _memory_encode(self, shape, dtype) -> int:
        return NUMBERS_ENCODE * shape[2] * shape[3] * mm.dtype_size(dtype)

    def _memory_decode(self, shape, dtype) -> int:
        return NUMBERS_DECODE * shape[2] * shape[3] * self.upscale_ratio**2 * mm.dtype_size(dtype)


def layout(shapes: Shapes) -> dict:
    """Arguments of LDM's encoder and decoder, as the shapes of their tensors tell. Raises KeyError for what lacks."""
    ch, pixels = shapes["encoder.conv_in.weight"][:2]
    levels = range(_count(shapes, "encoder.down."))
    first = [f"encoder.down.{level}.block.0.conv1.weight" for level in levels]
    return {
        "ch": ch,
        "ch_mult": [shapes[key][0] // ch for key in first],
        "num_res_blocks": _count(shapes, "encoder.down.0.block."),
        "attn_resolutions": [RESOLUTION >> level for level in levels if _count(shapes, f"encoder.down.{level}.attn.")],
        "resolution": RESOLUTION,
        "in_channels": pixels,
        "out_ch": shapes["decoder.conv_out.weight"][0],
        "z_channels": shapes["decoder.conv_in.weight"][1],
        "double_z": False,
    }


def _count(shapes: Shapes, prefix: str) -> int:
    """How many numbers follow ``prefix`` in the names."""
    return len({key.removeprefix(prefix).split(".")[0] for key in shapes if key.startswith(prefix)})


def vqgan_names(shapes: Mapping) -> dict[str, str]:
    """Our name of each tensor of a VQGAN among ``shapes`` -> its name there. Empty if there is none."""
    for prefix in PREFIXES:
        if prefix + CODEBOOK in shapes:
            wanted = tuple(prefix + part for part in PARTS)
            return {key.removeprefix(prefix): key for key in shapes if key.startswith(wanted)}
    return {}


def vqgan_beside(path: str) -> dict[str, Tensor]:
    """The VQGAN that lies in a bridge's file beside the bridge, not among its averaged weights. Empty if none does."""
    file = open_tensors(path, sections=("model", "state_dict"))
    names = vqgan_names(file.shapes)
    tensors = file.read(names.values())
    return {ours: tensors[theirs] for ours, theirs in names.items()}
