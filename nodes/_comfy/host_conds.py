"""What a core MODEL is told of each clip that it is trained on: its caption, and for image-to-video its first frame.

The first frame reaches a MODEL in training as core's own nodes bring it there when it is sampled.
"""

from collections.abc import Callable

import comfy.model_base
import node_helpers
import torch

from ...core.data.dataset import LatentDataset
from .dataset import Dataset

Conditioning = list
Told = Callable[[int], Conditioning]  # of the clip of that number
SVD_MOTION = {"motion_bucket_id": 127, "fps": 6, "augmentation_level": 0.0}  # as SVD_img2vid_Conditioning begins


def told_of(model: torch.nn.Module, data: Dataset, conditioning: Conditioning | None, vae, clip_vision) -> Told:
    """``conditioning``: for all clips, where the data bring none of their own.

    Raises ValueError for what is missing, with the input to wire.
    """
    captions = _captions(data, conditioning)
    if isinstance(model, comfy.model_base.SVD_img2vid):
        return _svd(data.latents, captions, clip_vision)
    if isinstance(model, comfy.model_base.WAN21) and model.image_to_video:
        return _wan(data.latents, _needed(captions), vae, clip_vision)
    return _needed(captions)


def _captions(data: Dataset, conditioning: Conditioning | None) -> Told | None:
    if data.conditioning is not None:
        return lambda i: data.conditioning[i]
    return None if conditioning is None else lambda i: conditioning


def _needed(captions: Told | None) -> Told:
    if captions is None:
        raise ValueError(
            "nothing tells the MODEL what the clips show: wire clip to AqueductVideoDataset, with a .txt beside each "
            "file, or one text for all to conditioning (CLIPTextEncode)"
        )
    return captions


def _svd(clips: LatentDataset, captions: Told | None, clip_vision) -> Told:
    if clip_vision is None and captions is None:
        raise ValueError("Stable Video Diffusion sees the first frame through CLIP, too: wire clip_vision")
    seen = None if clip_vision is None else [_seen(clip_vision, clips, i).image_embeds for i in range(len(clips))]

    def told(i: int) -> Conditioning:
        first = {"concat_latent_image": clips.tensor(i, "latent")[:, :1].movedim(1, 0)}
        if seen is not None:
            return [[seen[i].unsqueeze(0), {**SVD_MOTION, **first}]]
        return [[embedded, {**SVD_MOTION, **values, **first}] for embedded, values in captions(i)]

    return told


def _wan(clips: LatentDataset, captions: Told, vae, clip_vision) -> Told:
    """Wan's picture comes with a grey clip behind it, through the VAE: no other latents say the same."""
    from comfy_extras.nodes_wan import WanImageToVideo

    if vae is None:
        raise ValueError("an image-to-video Wan sees the first frame through its VAE, a grey clip behind it: wire vae")

    def values(i: int) -> dict:
        frames = clips.index.clips[i].shapes["latent"][1]
        first = _first(clips, i)
        seen = None if clip_vision is None else _seen(clip_vision, clips, i)
        height, width = first.shape[1:3]
        empty = [[torch.zeros(1, 1), {}]]
        made = WanImageToVideo.execute(empty, empty, vae, width, height, 4 * (frames - 1) + 1, 1, first, seen)
        return made.result[0][0][1]

    first_frames = [values(i) for i in range(len(clips))]
    return lambda i: node_helpers.conditioning_set_values(captions(i), first_frames[i])


def _first(clips: LatentDataset, i: int) -> torch.Tensor:
    """IMAGE of a clip's first frame."""
    return clips.tensor(i, "first").movedim(0, -1)[None].float() / 255


def _seen(clip_vision, clips: LatentDataset, i: int):
    return clip_vision.encode_image(_first(clips, i))
