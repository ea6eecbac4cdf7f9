"""Our SAMPLER of Warped Diffusion: core's lockstep loop over the frames of a batch, behind ComfyUI's interface.

The loop needs its own way of calling the guider, a few frames at a time, and of correcting the state after the step;
so this is a `comfy.samplers.Sampler` of its own. Guider, noise scaling and noise masks are core's, untouched.
"""

import logging
from collections.abc import Callable
from dataclasses import replace

import comfy.model_management as mm
import comfy.samplers
from torch import Tensor
from tqdm.auto import tqdm

from ...core.guidance import Guidance, compared, equivariance_error, guided_steps, sample_warped_diffusion, x0
from ...core.guidance.guided import Mode
from ...core.motion.chunks import is_out_of_memory
from .frame_conds import FrameDenoiser, couples_frames
from .gradients import check_differentiable, gradients_through


class WarpedDiffusionSampler(comfy.samplers.Sampler):
    """SIGMAS are noise levels, the LATENT's batch axis the frames, NOISE follows the motion (or not: it will run).

    ``guidance``: its pairs at the motion's own size. ``window``: start, end and share of `guided_steps`.
    ``frames_at_once``: 0 all; halved for good when memory runs out. ComfyUI has loaded the MODEL by then, and left free
    what all frames take forwards; a backward pass takes more, and finds its size by halving.
    """

    def __init__(self, guidance: Guidance, window: tuple[float, float, float], frames_at_once: int = 0):
        self.guidance, self.window, self.frames_at_once = guidance, window, frames_at_once

    def sample(
        self, model_wrap, sigmas, extra_args, callback, noise, latent_image=None, denoise_mask=None, disable_pbar=False
    ):
        check_frames(noise, model_wrap.conds)
        steps, size = len(sigmas) - 1, noise.shape[-2:]
        guided = guided_steps(steps, *self.window)
        guidance = replace(self.guidance, pairs=self.guidance.pairs.resized(*size).to(noise.device))
        sampling = model_wrap.inner_model.model_sampling

        def run(usable: Callable) -> Tensor:
            given = usable((extra_args, noise, latent_image, denoise_mask))
            denoiser = FrameDenoiser(model_wrap, sigmas, *given, self.frames_at_once)
            start = sampling.noise_scaling(sigmas[0], *given[1:3], self.max_denoise(model_wrap, sigmas))
            mode = within_mask(denoiser) if guidance.mode is x0 else guidance.mode
            with tqdm(total=steps, disable=disable_pbar) as bar:

                def report(at):
                    bar.update()
                    if callback is not None:
                        callback(at["i"], at["denoised"].reshape(noise.shape), at["x"].reshape(noise.shape), steps)

                clip = sample_warped_diffusion(
                    denoiser, start.reshape(len(noise), -1, *size), sigmas, replace(guidance, mode=mode), guided,
                    denoiser.size, report, denoiser.shrink,
                )  # fmt: skip
            logging.info(summary(clip, guidance, guided, denoiser.size))
            return sampling.inverse_noise_scaling(sigmas[-1], clip.reshape(noise.shape))

        if guidance.mode is x0 or not (guidance.strength and any(guided)):
            return run(lambda tree: tree)
        return with_gradients(model_wrap, run)


def with_gradients(guider, run: Callable[[Callable], Tensor]) -> Tensor:
    """``run(usable)`` within `gradients_through`.

    When memory runs out even for one frame it starts again with the network's blocks computed twice.
    """
    check_differentiable(guider.model_patcher)
    try:
        with gradients_through(guider) as usable:
            return run(usable)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
    logging.warning("Warped Diffusion: no memory for the gradient of one frame; again, computing the blocks twice")
    mm.soft_empty_cache()
    with gradients_through(guider, checkpointed=True) as usable:
        return run(usable)


def check_frames(noise: Tensor, conds: dict) -> None:
    """Raises ValueError unless the batch holds the frames of a clip and the model sees them one by one."""
    instead = "use AqueductEquivarianceGuidance with a stock sampler"
    if noise.dim() == 5 and noise.shape[2] > 1:
        raise ValueError(
            f"this sampler makes a clip with an image model, frames in the batch axis [F,C,h,w]; got a LATENT of video "
            f"{list(noise.shape)}: {instead}"
        )
    if noise.dim() not in (4, 5):
        raise ValueError(f"expected a LATENT of frames [F,C,h,w], got {list(noise.shape)}")
    if couples_frames(conds):
        raise ValueError(f"this sampler makes a clip with an image model; this MODEL is one of video (SVD): {instead}")


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


def summary(clip: Tensor, guidance: Guidance, guided: tuple[bool, ...], size: int) -> str:
    """What the run came to, in a line; the error is a mean square over pixels and channels, in latent units."""
    pairs = guidance.pairs
    later, earlier = clip[list(pairs.later)], clip[list(pairs.earlier)]
    error = equivariance_error(later, earlier, pairs.flow, pairs.mask).sum()
    values = clip.shape[1] * compared(pairs.flow, pairs.mask).sum()
    left = f"{error / values:.3g} a pixel" if values else "unknown (no pixel stays in the frame and passes the test)"
    count = sum(guided) if guidance.strength else 0
    return f"Warped Diffusion: self-warping error {left}, {count} of {len(guided)} steps guided, {size} frames at once"
