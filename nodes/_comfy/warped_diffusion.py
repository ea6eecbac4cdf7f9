"""Our SAMPLER of Warped Diffusion: core's lockstep loop over the frames of a batch, behind ComfyUI's interface.

The loop needs its own way of calling the guider, a few frames at a time, and of correcting the state after the step;
so this is a `comfy.samplers.Sampler` of its own. Guider, noise scaling and noise masks are core's, untouched.
"""

import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import comfy.samplers
import torch
from comfy.patcher_extension import WrappersMP
from torch import Tensor
from tqdm.auto import tqdm

from ...core.guidance import Guidance, Pairs, euler_schedule, sample_warped_diffusion, x0
from ...core.guidance.guided import Mode
from .frame_conds import FrameDenoiser, couples_frames
from .gradients import usable
from .guided_model import WRAPPER_KEY, HostGuidance, Run

INSTEAD = "use AqueductEquivarianceGuidance with a stock sampler"


class WarpedDiffusionSampler(comfy.samplers.Sampler):
    """SIGMAS are noise levels, the LATENT's batch axis the frames, NOISE follows the motion (or not: it will run).

    ``frames_at_once``: 0 all; halved for good when memory runs out. ComfyUI has loaded the MODEL by then, and left free
    what all frames take forwards; a backward pass takes more, and finds its size by halving. Where not even one frame
    fits, the run starts again with the network's blocks computed twice.
    """

    def __init__(self, guidance: HostGuidance, frames_at_once: int = 0):
        self.guidance, self.frames_at_once = guidance, frames_at_once

    def sample(
        self, model_wrap, sigmas, extra_args, callback, noise, latent_image=None, denoise_mask=None, disable_pbar=False
    ):
        check_model(model_wrap)
        check_frames(noise)
        asked, sampling = self.guidance, model_wrap.inner_model.model_sampling
        this = Run(noise.shape, asked.pairs_for(noise), euler_schedule(sigmas, *asked.window), asked.penalty)
        guided = this.schedule.guided if asked.strength else (False,) * (len(sigmas) - 1)
        backward = asked.mode.backward and any(guided)

        def sampled(options: dict) -> Tensor:
            given = usable((noise, latent_image, denoise_mask)) if backward else (noise, latent_image, denoise_mask)
            denoiser = FrameDenoiser(model_wrap, sigmas, extra_args.get("seed"), options, *given, self.frames_at_once)
            start = sampling.noise_scaling(sigmas[0], *given[:2], self.max_denoise(model_wrap, sigmas))
            mode = asked.mode.mode if backward else within_mask(denoiser)
            guidance = Guidance(this.pairs, asked.strength, mode, asked.bounded, asked.penalty)
            frames = start.reshape(len(start), -1, *start.shape[-2:])
            with reporting(callback, start.shape, len(guided), disable_pbar) as report:
                clip = sample_warped_diffusion(
                    denoiser, frames, sigmas, guidance, guided, denoiser.size, report, denoiser.shrink
                )
            logging.info(summary(clip, this.pairs, guided, denoiser.size))
            return sampling.inverse_noise_scaling(sigmas[-1], clip.reshape(noise.shape))

        options = extra_args["model_options"]
        if not backward:
            return sampled(options)
        asked.mode.check(model_wrap.model_patcher)
        options = asked.mode.options(model_wrap.inner_model.diffusion_model, options)
        return this.differentiate(model_wrap, options, sampled)


@contextmanager
def reporting(
    callback: Callable | None, shape: torch.Size, steps: int, quiet: bool
) -> Iterator[Callable[[dict], None]]:
    """What core's loop tells after each step, passed on to ComfyUI's callback and the terminal."""
    with tqdm(total=steps, disable=quiet) as bar:

        def report(at: dict) -> None:
            bar.update()
            if callback is None:
                return
            with torch.no_grad():  # previewers have weights of inference mode, and a gradient of nobody's use
                callback(at["i"], at["denoised"].reshape(shape), at["x"].reshape(shape), steps)

        yield report


def check_frames(noise: Tensor) -> None:
    """Raises ValueError unless the batch holds the frames of a clip."""
    if noise.dim() == 5 and noise.shape[2] > 1:
        raise ValueError(
            f"this sampler makes a clip with an image model, frames in the batch axis [F,C,h,w]; got a LATENT of video "
            f"{list(noise.shape)}: {INSTEAD}"
        )
    if noise.dim() not in (4, 5):
        raise ValueError(f"expected a LATENT of frames [F,C,h,w], got {list(noise.shape)}")


def check_model(guider) -> None:
    """Raises ValueError for models that see frames together, or are guided already, which is for all frames at once."""
    if couples_frames(guider.conds):
        raise ValueError(f"this sampler makes a clip with an image model; this MODEL is one of video (SVD): {INSTEAD}")
    if any(own.strength for own in guider.model_patcher.get_wrappers(WrappersMP.PREDICT_NOISE, WRAPPER_KEY)):
        raise ValueError(
            "this MODEL is guided by AqueductEquivarianceGuidance, and this sampler does the same: take one of the two"
        )


def within_mask(denoiser: FrameDenoiser) -> Mode:
    """Mode x0, straight through the network alone.

    With a noise mask m the denoiser is ``m h(m z + ...) + ...``: of its Jacobian ``m J m`` only J is taken for the
    identity, so that what the mask keeps is kept.
    """

    def mode(denoise, z, t):
        prediction, pull = x0(denoise, z, t)
        m = denoiser.mask_used
        return prediction, pull if m is None else lambda v: pull(v) * m.square().reshape(len(m), -1, *m.shape[-2:])

    return mode


def summary(clip: Tensor, pairs: Pairs, guided: tuple[bool, ...], size: int) -> str:
    """What the run came to, in a line; the error is a mean square over pixels and channels, in latent units."""
    error = pairs.mean(pairs.errors(clip), clip.shape[1])
    if math.isnan(error):
        return "Warped Diffusion: nothing was guided: no pixel counts, after frame, cycle test and mask"
    steps, frames = f"{sum(guided)} of {len(guided)} steps guided", f"{size} frame{'s' * (size > 1)} at once"
    return f"Warped Diffusion: self-warping error {error:.3g} a pixel, {steps}, {frames}"
