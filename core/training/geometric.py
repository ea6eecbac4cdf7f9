"""EMG's geometric consistency: what a clip's frames show of the same thing should be the same (section 4.2, eq. 10).

    L_geo = sum_x m(x) |z_(t+1)(x + f(x)) - z_t(x)|_1 / (sum_x m(x) + epsilon)        f: the flow from frame t to t + 1

f and its mask m live on frame t's grid, so it is the later frame that is read along f; as printed, eq. 10 reads the
earlier one there, which is the direction of the backward flow. The paper writes it for one pair of frames. Here both
sums run over all pairs of all clips: each pixel that counts weighs the same, however few of its pair do.

Clips are ``[b, c, f, h, w]``, flow ``[b, f-1, 2, h, w]`` in pixels (x, y) at the clips' size, masks ``[b, f-1, h, w]``.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from ..motion.cycle import ALPHA1, ALPHA2, cycle_mask
from ..motion.estimators.estimate import Estimator, check_clip, flow_between, reduced
from ..motion.sampling import inside, pixel_grid, precise, sample

EPSILON = 1e-6  # pixels; the paper names none
FAST = 2.0
# The number of frames -> (earlier, later) of every pair that is compared.
Pairing = Callable[[int], tuple[list[int], list[int]]]


def adjacent(frames: int) -> tuple[list[int], list[int]]:
    """Each frame and the next: the Eulerian form."""
    return list(range(frames - 1)), list(range(1, frames))


def from_first(frames: int) -> tuple[list[int], list[int]]:
    """The first frame and each later one, by direct displacements: the Lagrangian form."""
    return [0] * (frames - 1), list(range(1, frames))


def geometric_consistency(
    clip: Tensor, forward: Tensor, mask: Tensor, epsilon: float = EPSILON, pairing: Pairing = adjacent,
    counted: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """L_geo of ``clip [b, c, f, h, w]``, a scalar: the mean L1 distance, over channels, of the pixels that count.

    ``forward [b, f-1, 2, h, w]``: flow of each pair on its earlier frame's grid; with ``pairing = from_first`` the
    displacements from frame 0. ``mask [b, f-1, h, w]``, bool or weights, on the same grids: taken as it is, so it has
    to leave out what leaves the frame (`MASKS` do). All pairs are one batch. Differentiable in the clip, both frames of
    a pair, half precision in float32. What the mask leaves out adds nothing to the gradient: a value of the earlier
    frame gets some of its own pixel's term alone, one of the later frame of the terms that read it, up to a pixel away.

    ``counted [b]``, where the clips are part of a larger batch: the mean of its clips' `counts`, for each. The mean
    over equal parts of that batch is then what all of it gives at once.

    Source: EMG eq. 10. Raises ValueError for shapes that do not agree.
    """
    _check(clip, forward, mask)
    frames, size = clip.shape[2], clip.shape[-2:]
    dtype = torch.promote_types(clip.dtype, precise(forward).dtype)
    flow = forward.to(dtype).flatten(0, 1)
    earlier, later = (clip[:, :, chosen].movedim(2, 1).flatten(0, 1).to(dtype) for chosen in pairing(frames))
    read = sample(later, flow + pixel_grid(*size, flow.device, flow.dtype))
    weight = mask.flatten(0, 1).to(dtype)
    total = weight.sum() if counted is None else counted.to(weight).sum()
    return (weight * (read - earlier).abs().sum(1)).sum() / (total + epsilon)


def counts(mask: Tensor) -> Tensor:
    """float32 ``[b]``: how much of each clip's ``mask [b, f-1, h, w]`` counts, in pixels."""
    return mask.flatten(1).sum(1, dtype=torch.float32)


def total_loss(diffusion: Tensor, geometric: Tensor, weight: float) -> Tensor:
    """``L_diff + lambda_geo L_geo`` (EMG section 4.2), with ``weight`` for lambda_geo."""
    return diffusion + weight * geometric


# --- what counts: (forward, backward [b, f-1, 2, h, w]) -> bool [b, f-1, h, w] ----------------------------------------


def in_frame(forward: Tensor, backward: Tensor) -> Tensor:
    """All that stays in the frame, hidden or not."""
    forward, size = precise(forward), forward.shape[-2:]
    return inside(forward + pixel_grid(*size, forward.device, forward.dtype), *size)


def slow(forward: Tensor, backward: Tensor, fast: float = FAST) -> Tensor:
    """In frame, and no faster than ``fast`` times the root mean square speed of its pair.

    Stands for the paper's "naive forward flow magnitude mask" (table 3), which it does not define: what is much faster
    than the rest is taken to cover it, or to be torn off it. Without a unit, and a pan hides nothing.
    """
    speed = precise(forward).square().sum(-3)
    return in_frame(forward, backward) & (speed <= fast**2 * speed.mean((-2, -1), keepdim=True))


def closed(forward: Tensor, backward: Tensor, alpha1: float = ALPHA1, alpha2: float = ALPHA2) -> Tensor:
    """In frame, and there and back ends where it began (eq. 9; `cycle_mask`): what is not hidden in the next frame."""
    mask = cycle_mask(forward.flatten(0, 1), backward.flatten(0, 1), alpha1, alpha2)
    return mask.unflatten(0, forward.shape[:2])


Mask = Callable[[Tensor, Tensor], Tensor]
MASKS: dict[str, Mask] = {"none": in_frame, "forward-only": slow, "bidirectional": closed}

# The same where the cycle test has been made before, at the size the flow was estimated at: the third is its result.
MASKS_OF_TESTED: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "none": lambda forward, backward, tested: in_frame(forward, backward),
    "forward-only": lambda forward, backward, tested: slow(forward, backward),
    "bidirectional": lambda forward, backward, tested: tested,
}


# --- the flow of training clips ---------------------------------------------------------------------------------------


def batched_motion(clips: Tensor, estimator: Estimator, pairing: Pairing = adjacent) -> tuple[Tensor, Tensor]:
    """(forward, backward), ``[b, f-1, 2, h, w]`` each, of ``clips [b, c, f, h, w]`` in 0..1: all pairs in one batch.

    ``b (f-1)`` pairs in both directions (EMG eqs. 11 and 12), cut into what fits. At the clips' own size. Raises
    ValueError as `estimate_motion`.
    """
    frames, first, second = _pairs(clips, estimator, pairing)
    return _directions(flow_between(frames, first, second, estimator), clips)


def sequential_motion(clips: Tensor, estimator: Estimator, pairing: Pairing = adjacent) -> tuple[Tensor, Tensor]:
    """`batched_motion`, one pair after the other: what it is measured against."""
    frames, first, second = _pairs(clips, estimator, pairing)
    parts = [flow_between(frames, *pair, estimator) for pair in zip(first.split(1), second.split(1), strict=True)]
    return _directions(torch.cat(parts), clips)


def _pairs(clips: Tensor, estimator: Estimator, pairing: Pairing) -> tuple[Tensor, Tensor, Tensor]:
    """RGB frames ``[b f, 3, h, w]`` of all clips, and which of them to look from, and at: forward pairs, then back."""
    if clips.dim() != 5:
        raise ValueError(f"expected clips [b,c,f,h,w], got {list(clips.shape)}")
    count, _, length, height, width = clips.shape
    for clip in clips:
        check_clip(clip.movedim(1, 0), estimator)
    starts = length * torch.arange(count)[:, None]
    earlier, later = ((starts + torch.tensor(chosen)).flatten() for chosen in pairing(length))
    frames = reduced(clips.movedim(2, 1).flatten(0, 1), height, width)
    return frames, torch.cat([earlier, later]), torch.cat([later, earlier])


def _directions(flow: Tensor, clips: Tensor) -> tuple[Tensor, Tensor]:
    forward, backward = flow.unflatten(0, (2, len(clips), -1))
    return forward, backward


def _check(clip: Tensor, forward: Tensor, mask: Tensor) -> None:
    if clip.dim() != 5 or clip.shape[2] < 2:
        raise ValueError(f"expected clips [b,c,f,h,w] of two frames or more, got {list(clip.shape)}")
    batch, _, frames, *size = clip.shape
    for name, found, wanted in (
        ("flow", forward, [batch, frames - 1, 2, *size]),
        ("mask", mask, [batch, frames - 1, *size]),
    ):
        if list(found.shape) != wanted:
            raise ValueError(f"the {name} of clips {list(clip.shape)} must be {wanted}, got {list(found.shape)}")
