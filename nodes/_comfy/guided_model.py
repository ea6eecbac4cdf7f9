"""Guidance of any MODEL or GUIDER along a motion, as a wrapper of its predictions.

Long clips are sampled window by window, each by a clone of the MODEL. What in a MODEL depends on the frames of the clip
says so by a method ``windowed(start, stop)``, which gives the same for frames start to stop - 1, counted as the motion
counts them: in frames of the video. `rewindowed` re-aims all wrappers of a MODEL that have it. `HostGuidance` does.
"""

import copy
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import comfy.model_management
import torch
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ...core.guidance import (
    SQUARED,
    Guidance,
    GuidanceSchedule,
    Guided,
    GuidedDenoiser,
    Pairs,
    Penalty,
    bridge_schedule,
    check_strength,
    euler_schedule,
    guided_steps,
)
from ...core.guidance.equivariance import check_finite
from ...core.motion import MotionField
from ...core.motion.chunks import is_out_of_memory
from ...core.noise.maps import latent_motion, latent_times
from .gradients import WAY_OUT, clone_for_gradients, gradients_through
from .guidance import GUIDANCE_MASK, MODES, HostMode, Reference, clip_pairs
from .images import mask_frames, motion_mask, same_shape
from .noise import Layout, compression_of, layout_of
from .progress import reporter
from .sampler import STATE_KEY
from .schema import blocked

WRAPPER_KEY = "aqueduct_equivariance"
RUN_KEY = "aqueduct_equivariance_run"  # in transformer_options, which each run has anew
# What torch says where a gradient cannot be: tensors of inference mode that nobody could reach, kernels without one.
NO_GRADIENT = ("Inference tensor", "autograd formula", "derivative for", "to backward through")


@dataclass(frozen=True, eq=False)
class HostGuidance:
    """What the inputs say. Its instances are PREDICT_NOISE wrappers.

    ``motion`` in both directions; ``window``: start, end and fraction of `guided_steps`; ``reference``: which frames
    of a motion are compared. Raises ValueError for what can be seen to be wrong before there is a LATENT.
    """

    motion: MotionField
    mask: Tensor | None
    strength: float
    window: tuple[float, float, float]
    mode: HostMode
    reference: Reference
    bounded: bool
    penalty: Penalty = SQUARED

    def __post_init__(self):
        check_strength(self.strength)
        check_finite(self.motion.forward)
        guided_steps(1, *self.window)
        if self.mask is not None:
            motion_mask(self.mask, self.motion.frames, GUIDANCE_MASK)

    def windowed(self, start: int, stop: int) -> "HostGuidance":
        """The same for frames ``start`` to ``stop - 1`` of the motion, as a clip of their own: at least two.

        With temporal compression c take 1 + a multiple of c. Raises ValueError for frames that are not there.
        """
        motion, mask = self.motion.sliced(start, stop), self.mask
        if mask is not None and len(mask_frames(mask)) > 1:
            mask = mask[start:stop]
        return replace(self, motion=motion, mask=mask)

    def pairs_for(self, x: Tensor) -> Pairs:
        """Pairs of the frames of ``x`` (`clip_of`). Raises ValueError when motion and LATENT do not fit."""
        layout = layout_of_state(x)
        check_shape(self.motion, layout)
        compression = compression_of(self.motion, layout)
        mask = self.mask
        if mask is not None and len(mask_frames(mask)) > 1:
            mask = mask[latent_times(self.motion.frames, compression)]
        pairs = clip_pairs(latent_motion(self.motion, compression), self.reference, mask)
        return pairs.resized(layout.height, layout.width).repeated(layout.clips).to(x.device)

    def schedule_for(self, options: dict) -> GuidanceSchedule:
        """From what the sampler has said of its steps in ``transformer_options``."""
        bridge = options.get(STATE_KEY)
        if bridge is None:
            return euler_schedule(options["sample_sigmas"], *self.window)
        return bridge_schedule(bridge["bridge"], bridge["times"], bridge["solver"], bridge["eta"], *self.window)

    def __call__(self, executor, x, timestep, model_options=None, seed=None):
        """Predictions as they come where nothing is to be guided, else such that the step ends where it should."""
        if not self.strength:
            return executor(x, timestep, model_options, seed)
        options = model_options["transformer_options"]
        run = options.get(RUN_KEY)
        if run is None or run.shape != x.shape:
            run = options[RUN_KEY] = Run(x.shape, self.pairs_for(x), self.schedule_for(options), self.penalty)
        step = run.schedule.step(timestep)
        if not run.schedule.guided[step]:
            return executor(x, timestep, model_options, seed)

        def predict(model_options: dict) -> Tensor:
            def denoiser(z: Tensor, t: Tensor) -> Tensor:
                return clip_of(executor(like_state(z, x), t, model_options, seed))

            guidance = Guidance(run.pairs, self.strength, self.mode.mode, self.bounded, self.penalty)
            guided = GuidedDenoiser(denoiser, guidance, run.schedule, run.note)
            return like_state(guided(clip_of(x), timestep), x)

        if not self.mode.backward:
            return predict(model_options)
        asked = self.mode.options(executor.class_obj.inner_model.diffusion_model, model_options)
        return run.differentiate(executor.class_obj, asked, predict)


@dataclass(eq=False)
class Run:
    """What guidance keeps during one run of a sampler."""

    shape: torch.Size
    pairs: Pairs
    schedule: GuidanceSchedule
    penalty: Penalty = SQUARED
    checkpointed: bool = False
    errors: list[float] = field(default_factory=list)

    def differentiate(self, guider, model_options: dict, predict: Callable[[dict], Tensor]) -> Tensor:
        """``predict(model_options)`` where gradients are possible; when memory runs out, for good with checkpoints."""
        try:
            with gradients_through(guider, self.checkpointed) as usable:
                return predict(usable(model_options))
        except Exception as error:
            if isinstance(error, RuntimeError) and any(sign in str(error) for sign in NO_GRADIENT):
                raise ValueError(f"no gradient goes through this MODEL: {WAY_OUT} ({error})") from error
            if not is_out_of_memory(error):
                raise
            if self.checkpointed:
                raise comfy.model_management.OOM_EXCEPTION(
                    f"memory ran out in the backward pass of guidance ({list(self.shape)}), with checkpointed blocks "
                    f"too: make the LATENT shorter or smaller, or use mode outer or x0 (a smaller share saves time, "
                    f"not memory)"
                ) from None
        # Outside the handler: there the exception's traceback still holds the tensors that did not fit.
        comfy.model_management.soft_empty_cache()
        logging.warning("Guidance along the motion: out of memory, from now on the network's blocks are computed twice")
        self.checkpointed = True
        return self.differentiate(guider, model_options, predict)

    def note(self, found: Guided) -> None:
        self.errors.append(self.pairs.mean(found.errors, found.prediction.shape[1]))

    def tell(self) -> None:
        """What the errors have come to."""
        if not self.errors:
            return
        if math.isnan(self.errors[-1]):
            logging.warning("Guidance along the motion: no pixel counts, after frame, cycle test and mask")
        else:
            logging.info(
                f"Guidance along the motion: {self.penalty.mean} {self.errors[0]:.3g} at its first step, "
                f"{self.errors[-1]:.3g} at its last"
            )


def telling(executor, model_wrap, sigmas, extra_args, *args, **kwargs):
    """A SAMPLER_SAMPLE wrapper: once the sampler is done, tell how its guidance went."""
    samples = executor(model_wrap, sigmas, extra_args, *args, **kwargs)
    run = extra_args["model_options"].get("transformer_options", {}).get(RUN_KEY)
    if run is not None:
        run.tell()
    return samples


def host_guidance(
    motion, strength, start_percent, end_percent, mode, share, reference: Reference, bounded=True, mask=None,
    penalty: Penalty = SQUARED,
) -> HostGuidance:  # fmt: skip
    """From the widgets of a guidance node (`guidance.shared_inputs`)."""
    window = (start_percent, end_percent, share)
    motion = motion.bidirectional(reporter())
    return HostGuidance(motion, mask, strength, window, MODES[mode], reference, bounded, penalty)


def guided_outputs(model, guider, guidance: Callable[[], HostGuidance]) -> tuple:
    """(MODEL, GUIDER), guided, for a node that takes either or both. Raises ValueError when there is none."""
    if model is None and guider is None:
        raise ValueError("nothing to guide: wire a MODEL or a GUIDER")
    made = guidance()
    return (
        blocked("no MODEL is wired to this guidance") if model is None else guided_model(model, made),
        blocked("no GUIDER is wired to this guidance") if guider is None else guided_guider(guider, made),
    )


def guided_model(model, guidance: HostGuidance):
    """A clone of the MODEL whose predictions are guided. Raises ValueError where the mode is not possible on it."""
    backward = guidance.strength and guidance.mode.backward
    clone = clone_for_gradients(model) if backward else model.clone()
    if guidance.strength:
        guidance.mode.check(clone)
    wrappers = clone.wrappers.pop(WrappersMP.PREDICT_NOISE, {})
    if WRAPPER_KEY in wrappers:
        raise ValueError("this MODEL is guided along a motion already; guide the original one, or compose the motions")
    # First is outermost: what the sampler gets is guided, in its own levels, whatever else wraps the predictions.
    clone.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, WRAPPER_KEY, guidance)
    clone.wrappers[WrappersMP.PREDICT_NOISE].update(wrappers)
    clone.add_wrapper_with_key(WrappersMP.SAMPLER_SAMPLE, WRAPPER_KEY, telling)
    return clone


def rewindowed(model, start: int, stop: int):
    """A clone of the MODEL, aimed at frames ``start`` to ``stop - 1`` of its motion; itself where nothing has one."""
    found = [
        (kind, key, place, wrapper.windowed(start, stop))
        for kind, keyed in model.wrappers.items()
        for key, wrappers in keyed.items()
        for place, wrapper in enumerate(wrappers)
        if hasattr(wrapper, "windowed")
    ]
    if not found:
        return model
    clone = model.clone()
    for kind, key, place, wrapper in found:
        clone.wrappers[kind][key][place] = wrapper
    return clone


def guided_guider(guider, guidance: HostGuidance):
    """A copy of the GUIDER, of whatever class, on a guided clone of its MODEL."""
    return on_model(guider, guided_model(guider.model_patcher, guidance))


def on_model(guider, model):
    """A copy of the GUIDER, of whatever class, on another MODEL."""
    own = copy.copy(guider)
    own.model_patcher = model
    if guider.model_options is guider.model_patcher.model_options:
        own.model_options = model.model_options
    own.original_conds = dict(guider.original_conds)
    return own


def check_shape(motion: MotionField, layout: Layout) -> None:
    """ValueError unless some whole-frame scale takes the motion's size to the LATENT's, each to within one cell."""
    if not same_shape(motion.size, (layout.height, layout.width)):
        raise ValueError(
            f"the motion is for frames of {motion.width} x {motion.height} pixels, the LATENT is {layout.width} x "
            f"{layout.height}, another aspect ratio: take the motion of the video's own frames, or change its shape "
            f"yourself (AqueductResizeMotion)"
        )


def layout_of_state(x: Tensor) -> Layout:
    """How a sampler's state lies; video of one frame is a batch of frames (image models with an axis of time)."""
    if x.dim() == 3:
        raise ValueError("a LATENT of several parts (audio and video) cannot follow one motion; separate them first")
    return layout_of({"samples": x[:, :, 0] if x.dim() == 5 and x.shape[2] == 1 else x})


def clip_of(x: Tensor) -> Tensor:
    """A host's ``[F, C, h, w]`` as it is; ``[B, C, T, h, w]`` clip after clip, ``[B T, C, h, w]``."""
    return x if x.dim() == 4 else x.movedim(2, 1).flatten(0, 1)


def like_state(clip: Tensor, x: Tensor) -> Tensor:
    """The inverse of `clip_of`, for a state like ``x``."""
    return clip if x.dim() == 4 else clip.unflatten(0, (x.shape[0], x.shape[2])).movedim(1, 2)
