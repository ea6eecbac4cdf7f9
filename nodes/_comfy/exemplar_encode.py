"""Pictures through a VAE and a CLIP_VISION: exemplars, and controls."""

import comfy.image_encoders.dino2
import torch
from torch import Tensor
from torch.nn import functional as F

from .exemplar import Exemplar, shown
from .images import mask_frames, same_shape, to_clip, to_image

MARKED = 0.5  # a pixel of a MASK counts from here on


def encoded(image: Tensor, vae, clip_vision=None, mask: Tensor | None = None) -> Exemplar:
    """IMAGE ``[n, H, W, 1 or 3]`` and a MASK of the part that counts -> `Exemplar`, cut to the VAE's stride around its
    middle. Raises ValueError for what cannot be an exemplar."""
    pictures = opaque(image, "exemplar")
    stride = vae.spacial_compression_encode()
    keep = None if mask is None else marked(mask, pictures)
    top, left, height, width = _whole_cells(pictures, stride)
    pictures = pictures[:, :, top : top + height, left : left + width].cpu()
    if keep is not None:
        keep = _not_empty(keep[:, top : top + height, left : left + width].cpu())
    cls = None if clip_vision is None else class_tokens(clip_vision, shown(pictures, keep))
    return Exemplar(pictures, latents(vae, pictures), cls, keep)


def opaque(image: Tensor, name: str) -> Tensor:
    """IMAGE -> ``[n, 3, H, W]``. Raises ValueError for one that can be seen through."""
    if image.shape[-1] == 4 and bool((image[..., 3] < 1).any()):
        raise ValueError(
            f"the {name} has an alpha channel and can be seen through: split it off (SplitImageWithAlpha), and, for an "
            f"exemplar, give its mask, inverted (InvertMask), as the mask of what counts, or else put the picture onto "
            f"a background (ImageCompositeMasked)"
        )
    return to_clip(image)


def latents(vae, pictures: Tensor) -> Tensor:
    """``[n, 3, H, W]`` in 0..1 -> ``[n, c, h, w]`` on the CPU, raw; video VAEs see clips of one frame."""
    if vae.latent_dim == 2:
        return vae.encode(to_image(pictures)).cpu()
    return torch.cat([vae.encode(to_image(one))[:, :, 0] for one in pictures.split(1)]).cpu()


def marked(mask: Tensor, pictures: Tensor) -> Tensor:
    """MASK ``[H, W]`` or ``[1 or n, H, W]`` of any size of the pictures' shape -> bool ``[n, H, W]`` of theirs."""
    frames, size = mask_frames(mask).float(), tuple(pictures.shape[-2:])
    _not_empty(frames >= MARKED)
    if len(frames) not in (1, len(pictures)):
        raise ValueError(f"there are {len(pictures)} exemplars and {len(frames)} masks: give one mask, or as many")
    if not same_shape(tuple(frames.shape[-2:]), size):
        raise ValueError(
            f"the mask is {frames.shape[2]} x {frames.shape[1]} pixels, the exemplar {size[1]} x {size[0]}, another "
            f"aspect ratio: the mask must be of the exemplar itself"
        )
    if tuple(frames.shape[1:]) != size:
        frames = F.interpolate(frames[:, None], size, mode="bilinear", antialias=True)[:, 0]
    return (frames >= MARKED).expand(len(pictures), -1, -1)


def _not_empty(keep: Tensor) -> Tensor:
    empty = torch.nonzero(~keep.flatten(1).any(1)).flatten().tolist()
    if empty:
        raise ValueError(
            f"the mask marks nothing of exemplar {empty[0] + 1}: 1 is the part to take the style from; leave the mask "
            f"out for the whole picture (LoadImage gives an empty MASK for a picture without alpha)"
        )
    return keep


def _whole_cells(pictures: Tensor, stride: int) -> tuple[int, int, int, int]:
    """Top, left, height and width of the middle of the pictures, in whole cells of the VAE."""
    height, width = (side // stride * stride for side in pictures.shape[-2:])
    if not height or not width:
        raise ValueError(
            f"the exemplar is {pictures.shape[3]} x {pictures.shape[2]} pixels; this VAE needs {stride} x {stride} "
            f"at least"
        )
    return (pictures.shape[2] - height) // 2, (pictures.shape[3] - width) // 2, height, width


def class_tokens(clip_vision, pictures: list[Tensor]) -> Tensor:
    """DINOv2's [CLS] ``[n, d]``, float32 on the CPU: the first token behind the last norm. Each picture is squeezed to
    the encoder's square, so that nothing of it is cut off. Raises ValueError for a CLIP_VISION that is no DINOv2."""
    if not isinstance(clip_vision.model, comfy.image_encoders.dino2.Dinov2Model):
        kind = "SigLIP" if getattr(clip_vision, "return_all_hidden_states", False) else "CLIP"
        raise ValueError(
            f"the global token of an exemplar is DINOv2's, this CLIP_VISION is a {kind} "
            f"({type(clip_vision.model).__name__}): load a DINOv2 file from models/clip_vision (CLIPVisionLoader), or "
            f"leave clip_vision out"
        )
    outputs = [clip_vision.encode_image(to_image(one), crop=False) for one in pictures]
    return torch.cat([one["last_hidden_state"][:, 0] for one in outputs]).float().cpu()
