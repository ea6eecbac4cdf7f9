"""The guided step, for any denoiser, any sampler and any way of taking the gradient.

Algorithm 1 of Warped Diffusion corrects the state after the solver's step by ``(lambda / sqrt(e)) grad_z e``, where e
compares the predictions h(z). By the chain rule ``grad_z e = J^T grad_h e``: the second factor is a closed form, which
a *penalty* (`penalties`) scales to a step, and a *mode* says how J^T, the network's Jacobian transposed, is applied.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..bridges.denoiser import Denoiser
from ..motion.chunks import halving
from .penalties import SQUARED, Penalty, per_frame
from .references import Pairs
from .schedule import GuidanceSchedule

Pull = Callable[[Tensor], Tensor]
Mode = Callable[[Denoiser, Tensor, Tensor], tuple[Tensor, Pull]]
FrameDenoiser = Callable[[Tensor, Tensor, slice], Tensor]


def full(denoiser: Denoiser, z: Tensor, t: Tensor) -> tuple[Tensor, Pull]:
    """``h(z)`` and ``v -> J^T v`` by a backward pass through the network: the paper's gradient.

    Runs the denoiser outside inference mode with gradients on, on copies of ``z`` and ``t``, so both may come from
    inference mode. The caller sees to the rest: the denoiser must not switch gradients off, and its weights and
    conditioning must not be inference tensors (torch says "Inference tensors cannot be saved for backward": clone them
    under ``torch.inference_mode(False)``). Weights with ``requires_grad = False`` save half of the backward pass.

    Raises ValueError when the prediction has no gradient.
    """
    with torch.inference_mode(False), torch.enable_grad():
        entering = z.detach().clone().requires_grad_(True)
        prediction = denoiser(entering, t.clone())
    if not prediction.requires_grad:
        raise ValueError(
            "the denoiser's prediction has no gradient (no_grad or inference mode inside it?): use mode x0"
        )

    def pull(v: Tensor) -> Tensor:
        with torch.inference_mode(False):
            return torch.autograd.grad(prediction, entering, v.to(prediction.dtype))[0]

    return prediction.detach(), pull


def x0(denoiser: Denoiser, z: Tensor, t: Tensor) -> tuple[Tensor, Pull]:
    """``h(z)`` and ``v -> v``: straight through, the network's Jacobian taken for the identity. No backward pass."""
    with torch.no_grad():
        return denoiser(z, t), lambda v: v


def outer(detaching: Callable[[Denoiser], Denoiser]) -> Mode:
    """A mode that goes back through part of the network.

    ``detaching(denoiser)`` gives the same predictions by a forward pass that keeps a graph only for some of it, as the
    outermost level of a U-Net with everything deeper under ``no_grad``.
    """
    return lambda denoiser, z, t: full(detaching(denoiser), z, t)


@dataclass(frozen=True)
class Guidance:
    """What is compared (`references`), how strongly it pulls, through what, and what a difference costs.

    ``strength``: the paper's lambda, 1 there; 0 changes nothing at all.
    ``bounded``: never step further than where the error, seen as linear, is zero. The paper's step has a fixed length
    however small the error is, so that it ends in a jitter of that length; bounded, it comes to rest. Where a network
    couples frames the bound is approximate: each frame's step is measured against its own error alone.
    ``penalty``: of the differences; Warped Diffusion's squares, or absolute values, as EMG's consistency.

    Raises ValueError for a strength that is negative or not finite.
    """

    pairs: Pairs
    strength: float = 1.0
    mode: Mode = full
    bounded: bool = False
    penalty: Penalty = SQUARED

    def __post_init__(self):
        check_strength(self.strength)


@dataclass(frozen=True)
class Guided:
    """``prediction`` of the network, untouched; ``correction`` to subtract from the state; ``errors [F]`` before it.

    Without guidance the last two are None.
    """

    prediction: Tensor
    correction: Tensor | None = None
    errors: Tensor | None = None


def guided_prediction(
    denoiser: FrameDenoiser,
    z: Tensor,
    t: Tensor,
    guidance: Guidance,
    size: int | None = None,
    on_halve: Callable[[int], None] | None = None,
) -> Guided:
    """Predictions of all frames ``z [F, C, H, W]`` at one time, and what guidance takes from the state after the step.

    ``denoiser(z[part], t, part)`` is asked for ``size`` frames at a time, in order; later chunks are compared with the
    predictions of earlier ones, so the result does not depend on it. When memory runs out the chunk is halved and
    ``on_halve(size)`` told. None: all frames in one call, never halved, for networks that couple frames; there each
    frame's correction is the slope of all errors, each over its own root, in that frame.

    Raises ValueError when motion and clip differ in length or size.
    """
    guidance.pairs.check(z)
    prediction, correction = torch.empty_like(z), torch.zeros_like(z)
    errors = torch.zeros(len(z), dtype=torch.promote_types(z.dtype, torch.float32), device=z.device)

    def work(part: slice) -> None:
        pairs = guidance.pairs.within(part)
        mode = guidance.mode if pairs else x0
        prediction[part], pull = mode(lambda z_t, time: denoiser(z_t, time, part), z[part], t)
        if not pairs:
            return
        wanted = guidance.penalty.wanted(pairs, prediction, part, guidance.strength, guidance.bounded)
        step = pull(wanted.change)
        correction[part] = limited(step, wanted.reach) if guidance.bounded else step
        errors[part] = wanted.errors

    if size is None:
        work(slice(0, len(z)))
    else:
        halving(work, len(z), size, on_halve)
    return Guided(prediction, correction, errors)


@dataclass(frozen=True)
class GuidedDenoiser:
    """A denoiser that predicts what makes the solver's step end where guidance wants it: usable with every solver.

    The step from level i moves the state by ``schedule.weights[i]`` times the prediction, so correcting the prediction
    by ``correction / weight`` corrects the next state by ``correction``; under Euler steps this is Algorithm 1.
    ``denoiser(z, t)`` takes the clip ``z [F, C, H, W]``; a host's video latents are brought to that layout and back
    inside it. Forward and backward pass lie within one call, so what a host needs around both can enclose it.
    Strength 0, and steps that are not guided, return the denoiser's own tensor.
    """

    denoiser: Denoiser
    guidance: Guidance
    schedule: GuidanceSchedule
    on_guided: Callable[[Guided], None] | None = None

    def __call__(self, z: Tensor, t: Tensor) -> Tensor:
        step = self.schedule.step(t)
        if not (self.guidance.strength and self.schedule.guided[step]):
            return self.denoiser(z, t)
        guided = guided_prediction(lambda z_t, time, _: self.denoiser(z_t, time), z, t, self.guidance)
        if self.on_guided is not None:
            self.on_guided(guided)
        return guided.prediction - guided.correction / self.schedule.weights[step]


def check_strength(strength: float) -> None:
    """ValueError for one that is negative or not finite."""
    if not (math.isfinite(strength) and strength >= 0):
        raise ValueError(f"the strength of guidance is 0 (off) or more, got {strength}")


def limited(step: Tensor, reach: Tensor) -> Tensor:
    """At most ``reach / |step|^2`` of the step, frame by frame (`Wanted.reach`)."""
    length = step.to(reach).square().flatten(1).sum(1)
    share = (reach / length).nan_to_num(posinf=1.0).clamp(max=1)
    return per_frame(share, step) * step
