"""What a difference along the motion costs, and the change of the predictions that it asks for.

With ``r = A later - earlier`` the differences along the motion (A: the warp, m: what counts), n values in all, the step
of a frame is ``2 lambda`` times the gradient of a length of r:

    squares           |r|_2,              the root of ``e = sum m r^2``:    A^T m r / |r|_2        Warped Diffusion
    absolute values   |r|_1 / sqrt(n),    with ``e = sum m |r|``:           A^T m sign(r) / sqrt(n)        EMG

Both lengths are the same where all differences are alike, and the gradient of either is no longer than A is large: so
strength means the same to both, and the step does not grow with the frame. The earlier frame is held: each frame
follows the one before, and the first, which may be a given image, stays (EMG eq. 13 generates them in that order).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .equivariance import residual
from .references import Pairs


@dataclass(frozen=True)
class Wanted:
    """What guidance wants of n frames.

    ``errors [n]``; ``change [n, C, H, W]``, to be subtracted from the predictions, were they free, and otherwise pulled
    back through the network; ``reach [n]``: the inner product of the change with the step that undoes the error. A step
    s in the state changes the predictions, as far as they are linear, by ``J s``; ``s = J^T change`` does so by
    ``|s|^2`` in the same measure. So ``reach / |s|^2`` of it is the most that does not overshoot.
    """

    errors: Tensor
    change: Tensor
    reach: Tensor


@dataclass(frozen=True)
class Penalty:
    """``wanted(pairs, clip, part, strength, bounded)`` for the later frames of ``pairs``, those of ``part``; the clip
    ``[F, C, H, W]`` holds predictions. ``mean``: what the error per compared value is called."""

    mean: str
    wanted: Callable[[Pairs, Tensor, slice, float, bool], Wanted]


def squares(pairs: Pairs, clip: Tensor, part: slice, strength: float, bounded: bool) -> Wanted:
    """``(lambda / sqrt(e)) grad e``, none where the error is zero (Warped Diffusion Algorithm 1).

    With ``r = sqrt(e)`` that is ``2 lambda grad r``, and ``r / |grad r|^2`` times ``grad r`` takes the linearised r to
    zero (Polyak's step length), so the reach is ``2 lambda r``.
    """
    errors, gradient = pairs.error_and_gradient(clip, part)
    scale = torch.where(errors > 0, strength * errors.rsqrt(), torch.zeros_like(errors))
    return Wanted(errors, per_frame(scale, gradient) * gradient, 2 * strength * errors.sqrt())


def absolute_values(pairs: Pairs, clip: Tensor, part: slice, strength: float, bounded: bool) -> Wanted:
    """``tau A^T m sign(r)`` with ``tau = 2 lambda / sqrt(n)``: every difference moves by the same, however small.

    Bounded: ``A^T m clip(r, -tau, tau) / max(A^T m, 1)``. No difference is taken past zero, so that the small ones
    come to rest (the step of ``|r|``'s proximal map), and a pixel that several others read takes the mean of what they
    ask for, not the sum. Since A's rows sum to 1, ``A^T m A <= diag(A^T m)``: with the step measured in that diagonal,
    the Huber loss of r (width tau) never rises. As the change cannot overshoot by itself, its reach is its own square.

    Source: EMG eq. 10, whose normalisation tau replaces: the paper trains with it and gives no step for sampling.
    """
    difference, weight, taps = residual(*pairs.frames_of(clip), pairs.flow, pairs.mask)
    errors = pairs.summed((weight * difference.abs()).flatten(1).sum(1), part)
    values = pairs.summed(clip.shape[1] * weight.flatten(1).sum(1), part)
    tau = (2 * strength * values.clamp(min=1).rsqrt())[[frame - part.start for frame in pairs.later], None, None, None]
    asked = difference.clamp(-tau, tau) if bounded else tau * difference.sign()
    change = pairs.summed(taps.adjoint(weight * asked), part)
    if bounded:
        change = change / pairs.summed(taps.adjoint(weight), part).clamp(min=1)
    return Wanted(errors, change, change.square().flatten(1).sum(1))


def per_frame(scale: Tensor, like: Tensor) -> Tensor:
    return scale.to(like)[:, None, None, None]


SQUARED = Penalty("mean square", squares)
ABSOLUTE = Penalty("mean absolute difference", absolute_values)
