"""Warped Diffusion's sampler: a clip from an image denoiser, all frames in lockstep.

Algorithm 1 makes frame after frame and stores each trajectory's predictions. But frame j at noise level sigma asks
only for frame j - 1's prediction at the same sigma. So all frames may advance together, step by step: the same
algorithm, in full batches and with nothing stored.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..motion.chunks import halving
from .guided import FrameDenoiser, Guidance, Guided, guided_prediction
from .schedule import check_descending, guided_steps


def sample_warped_diffusion(
    denoiser: FrameDenoiser,
    start: Tensor,
    sigmas: Sequence[float] | Tensor,
    guidance: Guidance,
    guided: Sequence[bool] | None = None,
    size: int | None = None,
    callback: Callable[[dict], None] | None = None,
    on_halve: Callable[[int], None] | None = None,
) -> Tensor:
    """From noise that follows the motion to a clip ``[F, C, H, W]``: Euler steps in sigma, each then guided.

        z <- h(z) + (sigma'/sigma) (z - h(z)) - (lambda / sqrt(e)) grad_z e

    Args:
        denoiser: ``(z [n, C, H, W], sigma, frames) -> z0_hat``, an image model on the frames named by the slice (so
            that each finds its own conditioning); sigma a float64 scalar tensor. `guided.full` says what it must allow.
        start: ``sigmas[0] * noise``, noise of unit variance that was warped along the motion; any noise will run.
        sigmas: descending, last 0. The paper takes 50 steps.
        guided: which steps are guided (`guided_steps`); None: all. Strength 0 leaves plain Euler sampling, bit for bit.
        size: frames at a time; halved for good when memory runs out, which ``on_halve(size)`` is told.
        callback: called after each step's evaluation with ``i, t, t_next, x, denoised, errors`` (errors ``[F]``, None
            on steps that are not guided); may raise to stop.

    Source: Warped Diffusion Algorithm 1 and eq. 7. As printed eq. 7 has ``- dt (sigma'/sigma)(h - u)``, which leads
    away from h; eqs. 4 and 5 give the opposite sign, used here. Raises ValueError when motion and clip differ in
    length or size, for sigmas that do not descend, or another number of ``guided`` than of steps.
    """
    levels = torch.as_tensor(sigmas).cpu().double()
    check_descending(levels.tolist())
    guided = guided_steps(len(levels) - 1) if guided is None else guided
    if len(guided) != len(levels) - 1:
        raise ValueError(f"{len(levels)} sigmas make {len(levels) - 1} steps, got {len(guided)} in guided")
    guidance.pairs.check(start)
    size = size or len(start)

    def shrink(smaller: int) -> None:
        nonlocal size
        size = smaller
        if on_halve is not None:
            on_halve(smaller)

    z = start
    for i, (sigma, after) in enumerate(zip(levels[:-1], levels[1:], strict=True)):
        if guidance.strength and guided[i]:
            step = guided_prediction(denoiser, z, sigma, guidance, size, shrink)
        else:
            step = Guided(_prediction(denoiser, z, sigma, size, shrink))
        if callback is not None:
            at = {"i": i, "t": sigma, "t_next": after, "x": z}
            callback({**at, "denoised": step.prediction, "errors": step.errors})
        z = step.prediction + float(after / sigma) * (z - step.prediction)
        if step.correction is not None:
            z = z - step.correction
    return z


def _prediction(
    denoiser: FrameDenoiser, z: Tensor, sigma: Tensor, size: int, on_halve: Callable[[int], None]
) -> Tensor:
    with torch.no_grad():
        return torch.cat(halving(lambda part: denoiser(z[part], sigma, part), len(z), size, on_halve))
