"""Windows of a long clip, each sampled by a copy of the GUIDER that is aimed at the window's frames.

What the GUIDER, its MODEL, its CONDITIONING and the NOISE know of the clip as a whole, a motion or the picture it
starts from, is replaced by what it is for the window. The original ones are left as they are.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import comfy.utils
import torch
from torch import Tensor

from ...core.animation import Window
from ...core.motion import MotionField
from .adapters import reattached
from .guided_model import on_model, rewindowed
from .images import to_clip, to_image
from .model import IMAGE_KEY
from .noise import MotionNoise

Encode = Callable[[Tensor], Tensor]  # pictures [n, C, H, W] -> latents, in the layout of the MODEL
SEEDS = 2**64
GREY = 0.5  # of the frames that image-to-video models are not shown


def carried(window: Window, encode: Encode) -> dict:
    return {"samples": encode(window.prior)}


def repeated(window: Window, encode: Encode) -> dict:
    return {"samples": encode(window.first.expand_as(window.prior))}


def start_kept(window: Window, encode: Encode) -> dict:
    samples = encode(window.prior)
    mask = torch.ones_like(samples[:, :1])
    mask.narrow(2 if mask.dim() == 5 and len(mask) == 1 else 0, 0, 1).zero_()
    return {"samples": samples, "noise_mask": mask}


# name in the menu -> the LATENT that the sampling of a window starts from
STRUCTURES = {"carried": carried, "repeated": repeated, "carried, start kept": start_kept}


@dataclass(frozen=True, eq=False)
class WindowSampler:
    """``generate`` of `core.animation.eulerian_chain`: what SamplerCustomAdvanced does, window by window.

    ``structure``: one of `STRUCTURES`. ``report(done, total)`` counts the steps of all windows.
    """

    guider: Any
    sampler: Any
    sigmas: Tensor
    noise: Any
    vae: Any
    structure: Callable[[Window, Encode], dict]
    report: Callable[[int, int], None]

    def __call__(self, window: Window) -> Tensor:
        latent = self.structure(window, self.encode)
        noise, seed = windowed_noise(self.noise, window)
        steps = len(self.sigmas) - 1

        def told(step: int, *_) -> None:
            self.report(window.index * steps + step + 1, window.count * steps)

        samples = aimed(self.guider, window, self.encode).sample(
            noise.generate_noise(latent), latent["samples"], self.sampler, self.sigmas, latent.get("noise_mask"), told,
            not comfy.utils.PROGRESS_BAR_ENABLED, seed,
        )  # fmt: skip
        return self.decode(samples)

    def encode(self, pictures: Tensor) -> Tensor:
        return self.vae.encode(to_image(pictures))

    def decode(self, samples: Tensor) -> Tensor:
        images = self.vae.decode(samples)
        return to_clip(images.flatten(0, 1) if images.dim() == 5 else images)


def check_vae(vae, window: int, height: int, width: int) -> None:
    """ValueError, saying what would fit, unless the VAE gives back as many frames of the same size."""
    step = vae.spacial_compression_encode()
    if height % step or width % step:
        raise ValueError(
            f"the image is {width} x {height} pixels, this VAE takes multiples of {step}: scale image and motion to "
            f"{max(width // step, 1) * step} x {max(height // step, 1) * step} (ImageScale, AqueductResizeMotion)"
        )
    video = vae.latent_dim == 3 and not getattr(vae, "not_video", False)
    group = vae.temporal_compression_decode() if video else 1
    if group and (window - 1) % group:
        below = (window - 1) // group * group + 1
        raise ValueError(
            f"a window of {window} frames is not 1 + a multiple of {group}, as this video VAE needs: take "
            f"{below if below > 1 else below + group} or {below + group}"
        )


def aimed(guider, window: Window, encode: Encode):
    """A copy of the GUIDER for one window: guidance, adapters and conditioning see its frames and where they start."""
    model = rewindowed(guider.model_patcher, window.start, window.stop)
    model = reattached(model, window.start, window.stop, to_image(window.first[None]))
    own = on_model(guider, model)
    own.original_conds = aimed_conds(guider.original_conds, window, encode)
    return own


def aimed_conds(conds: dict[str, list[dict]], window: Window, encode: Encode) -> dict[str, list[dict]]:
    """Copies of a guider's conditioning with the window's start frame where they held the clip's.

    ``concat_latent_image``: a still of SVD, or the start and grey of Wan with its ``concat_mask``, as core's own nodes
    make them; zeros (the negative of SVD) and what an inpainting model is shown stay. So does all else, also what CLIP
    vision has seen of the first frame: it says who is in the picture, not where.
    """

    @cache
    def still(augmentation: float = 0.0) -> Tensor:
        """``augmentation``: the deviation of noise on the picture that SVD was told of, drawn anew for each window."""
        noise = torch.randn(window.first.shape, generator=torch.Generator().manual_seed(window.index))
        return encode((window.first + augmentation * noise.to(window.first))[None])

    @cache
    def film() -> Tensor:
        unknown = torch.full_like(window.prior[1:], GREY)
        return encode(torch.cat([window.first[None], unknown]))

    def of(cond: dict) -> dict:
        own = {**cond, IMAGE_KEY: still()} if IMAGE_KEY in cond else {**cond}
        shown, mask = cond.get("concat_latent_image"), cond.get("concat_mask")
        if shown is None or not bool(shown.any()) or (shown.dim() == 4 and mask is not None):
            return own
        if shown.dim() == 4 or shown.shape[2] == 1:
            return own | {"concat_latent_image": still(cond.get("augmentation_level", 0.0))}
        return own | {"concat_latent_image": film()} | _start_mask(mask, film())

    return {name: [of(cond) for cond in group] for name, group in conds.items()}


def _start_mask(mask: Tensor | None, film: Tensor) -> dict:
    """``concat_mask``: 0 where the start frame is known. Raises ValueError for a mask that says more than that."""
    if mask is None:
        return {}
    if mask.dim() != 5 or mask.shape[1] != 1 or not bool(mask[:, :, 1:].all()):
        raise ValueError(
            f"the CONDITIONING holds more than a start image (concat_mask {list(mask.shape)}), and a window has no "
            f"more: make it with WanImageToVideo and one start_image"
        )
    own = mask.new_ones(1, 1, *film.shape[2:])
    own[:, :, :1] = 0
    return {"concat_mask": own}


def windowed_noise(noise, window: Window) -> tuple[Any, int]:
    """The window's NOISE, and the seed of its sampler: one more than in the window before.

    NOISE that follows the motion goes on along it; any other is drawn from the window's seed.
    """
    seed = (noise.seed + window.index) % SEEDS
    if isinstance(noise, MotionNoise):
        return noise.windowed(window.start, window.stop), seed
    own = copy.copy(noise)
    object.__setattr__(own, "seed", seed)  # also of a frozen dataclass; the copy is nobody else's yet
    return own, seed


def check_noise(noise, motion: MotionField) -> None:
    if isinstance(noise, MotionNoise) and noise.motion.frames != motion.frames:
        raise ValueError(
            f"the noise follows a motion of {noise.motion.frames} frames, the clip has {motion.frames}: wire the "
            f"motion of the whole clip to both"
        )
