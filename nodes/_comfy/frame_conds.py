"""A MODEL's predictions for some frames of a batch, each with the conditioning that it would have in the whole batch.

ComfyUI lays CONDITIONING against the batch along its first axis: repeated where there is less of it, cropped where
there is more (`comfy.utils.repeat_to_batch_size`). So frame i of the batch has entry ``i modulo count``, whatever is
conditioned on: prompts, channels of inpainting and restoration models, masks of prompts, hints of control nets.
Areas and strengths hold for all frames and stay.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import comfy.model_management as mm
import comfy.samplers
from torch import Tensor

Conds = dict[str, list[dict[str, Any]]]
MASK_FUNCTION = "denoise_mask_function"  # ComfyUI's key in model_options


class FrameDenoiser:
    """A guider, while it samples, as core's ``(z [n, C, h, w], sigma, frames) -> z0_hat`` on the frames of a slice.

    ``noise, latent_image, mask [F, C, ...]`` of the whole batch, as a sampler gets them: where the mask keeps the
    latent, KSamplerX0Inpaint of core mixes it in; ``mask_used`` is what it mixed by in the latest call. Frames may have
    an axis of time of one, ``[F, C, 1, h, w]``. ``size``: how many frames to ask for at once.
    """

    def __init__(
        self, guider, sigmas: Tensor, seed: int | None, model_options: dict, noise: Tensor, latent_image: Tensor,
        mask: Tensor | None, size: int,
    ):  # fmt: skip
        self.guider, self.seed, self.model_options = guider, seed, model_options
        self.inpaint = comfy.samplers.KSamplerX0Inpaint(guider, sigmas)
        self.noise, self.latent_image, self.mask, self.mask_used = noise, latent_image, mask, None
        if mask is not None:
            self.model_options = {**model_options, MASK_FUNCTION: self._noted(model_options)}
        self.sliced: dict[tuple[int, int], Conds] = {}
        self.size = min(size or len(noise), len(noise))

    def __call__(self, z: Tensor, sigma: Tensor, frames: slice) -> Tensor:
        mm.throw_exception_if_processing_interrupted()
        self.inpaint.noise, self.inpaint.latent_image = self.noise[frames], self.latent_image[frames]
        mask = None if self.mask is None else self.mask[frames]
        x, level = z.reshape(-1, *self.noise.shape[1:]), z.new_full((len(z),), float(sigma))
        with self._conditioned(frames):
            out = self.inpaint(x, level, mask, model_options=self.model_options, seed=self.seed)
        return out.reshape(z.shape)

    def shrink(self, size: int) -> None:
        """Fewer frames at once, from now on; the conditioning kept for larger parts makes room."""
        self.size = size
        self.sliced.clear()
        mm.soft_empty_cache()

    @contextmanager
    def _conditioned(self, frames: slice) -> Iterator[None]:
        whole = self.guider.conds
        if frames.stop - frames.start < len(self.noise):
            part = frames.start, frames.stop
            if part not in self.sliced:
                self.sliced[part] = conds_of_frames(whole, range(*part))
            self.guider.conds = self.sliced[part]
        try:
            yield
        finally:
            self.guider.conds = whole

    def _noted(self, model_options: dict):
        """The mask as model options change it from level to level (differential diffusion), noted on its way."""
        change = model_options.get(MASK_FUNCTION, lambda sigma, mask, extra_options: mask)

        def noted(sigma, mask, extra_options):
            self.mask_used = change(sigma, mask, extra_options=extra_options)
            return self.mask_used

        return noted


def conds_of_frames(conds: Conds, frames: range) -> Conds:
    """Copies of a guider's ``conds``, as they are while sampling, with the entries of ``frames`` alone."""
    controls: dict[int, Any] = {}  # the same copy for all prompts: core runs prompts together that share the object

    def control_of(net):
        if id(net) not in controls:
            controls[id(net)] = _control(net, frames)
        return controls[id(net)]

    def of(cond: dict) -> dict:
        own = {"model_conds": {name: _model_cond(value, frames) for name, value in cond["model_conds"].items()}}
        if "mask" in cond:
            own["mask"] = _entries(cond["mask"], frames)
        if "control" in cond:
            own["control"] = control_of(cond["control"])
        return {**cond, **own}

    return {name: [of(cond) for cond in group] for name, group in conds.items()}


def couples_frames(conds: Conds) -> bool:
    """True for models that take the batch for one video (SVD): a part of it is another question."""
    return any("num_video_frames" in cond["model_conds"] for group in conds.values() for cond in group)


def _entries(x: Tensor, frames: range) -> Tensor:
    return x[[frame % len(x) for frame in frames]] if _per_frame(x) else x


def _per_frame(x) -> bool:
    return isinstance(x, Tensor) and x.dim() > 0 and len(x) > 1


def _model_cond(value, frames: range):
    """CONDRegular and its like hold one tensor, CONDList several; what CONDConstant holds belongs to all frames."""
    held = getattr(value, "cond", None)
    if isinstance(held, list):
        return value._copy_with([_entries(x, frames) for x in held])
    return value._copy_with(_entries(held, frames)) if _per_frame(held) else value


def _control(net, frames: range):
    """A control net on the same weights, with the hints of ``frames`` and without those made ready for others."""
    if net is None or not any(_per_frame(hint) for link in _chain(net) for hint in _hints(link)):
        return net  # one hint for all frames, made ready once
    own = copy.copy(net)
    own.cond_hint_original = _entries(net.cond_hint_original, frames)
    own.extra_concat_orig = [_entries(x, frames) for x in net.extra_concat_orig]
    own.cond_hint = own.extra_concat = None
    own.previous_controlnet = _control(net.previous_controlnet, frames)
    return own


def _chain(net) -> Iterator[Any]:
    while net is not None:
        yield net
        net = net.previous_controlnet


def _hints(net) -> list:
    return [net.cond_hint_original, *net.extra_concat_orig]
