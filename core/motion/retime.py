"""The same motion at other moments: slower, faster, back, or at any sequence of them."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .field import MotionField
from .invert import invert
from .neighbourhood import highest_nearby
from .sampling import inside, pixel_grid, sample, sample_valid


def retimed(
    motion: MotionField, times: Sequence[float], report: Callable[[int, int], None] | None = None
) -> MotionField:
    """The motion of frames shown at ``times``, positions among the frames of ``motion``: 0 to F - 1, with fractions.

    Between two frames everything moves straight and evenly: what is at x in frame i is at ``x + a forward[i](x)`` at
    time i + a. From there to another moment it goes back to its frame by the inverse of that part (`invert`), along
    the adjacent fields, and on by a part of the last. So ``[0, 0.5, 1, ...]`` is half the speed, ``[0, 2, 4, ...]``
    twice it, and ``[..., 1, 0]`` goes back; equal neighbours rest.
    Where a step of part of a frame covers or uncovers something, the surface that the backward field says is in front
    decides. A vector is valid where a surface was found and all vectors on the way are, read within the frame. Without
    backward fields there is no order and no way back to an earlier frame. ``report(done, total)`` is called after each
    step.

    Raises ValueError for fewer than two times, for one that lies outside the clip, and for going back without
    backward fields.
    """
    times = [float(time) for time in times]
    if len(times) < 2:
        raise ValueError(f"motion needs two moments or more, got {len(times)}")
    outside = [time for time in times if not 0 <= time <= motion.frames - 1]
    if outside:
        raise ValueError(f"the motion has moments 0 to {motion.frames - 1} (its frames), got {outside[0]:g}")
    both_ways = motion.backward is not None
    fields: list[tuple[Tensor, ...]] = []
    for step, (start, end) in enumerate(zip(times, times[1:], strict=False)):
        there = _between(motion, start, end)
        fields.append(there + _between(motion, end, start) if both_ways else there)
        if report is not None:
            report(step + 1, len(times) - 1)
    forward, forward_valid, *back = (torch.cat(parts) for parts in zip(*fields, strict=True))
    backward, backward_valid = back if both_ways else (None, None)
    return MotionField(forward, backward, forward_valid, backward_valid)


def _between(motion: MotionField, start: float, end: float) -> tuple[Tensor, Tensor]:
    """``([1, 2, H, W], bool [1, H, W])``: from every pixel at time ``start`` to where it is at ``end``."""
    points = pixel_grid(*motion.size, motion.device, motion.forward.dtype)[None]
    grid, valid = points, torch.ones(1, *motion.size, dtype=torch.bool, device=motion.device)
    if start == end:
        return torch.zeros_like(grid), valid
    first, part = _split(start, motion.steps)
    last, rest = _split(end, motion.steps)
    if last < first and motion.backward is None:
        raise ValueError("this motion has forward fields only and cannot go back; .bidirectional() finds the others")
    if part:
        points, valid = _origin(motion, first, part)
    legs = [(motion.forward, motion.forward_valid, step, 1.0) for step in range(first, last)]
    legs += [(motion.backward, motion.backward_valid, step, 1.0) for step in range(first - 1, last - 1, -1)]
    legs += [(motion.forward, motion.forward_valid, last, rest)] if rest else []
    for field, known, step, share in legs:
        valid = valid & inside(points, *motion.size)
        if known is not None:
            valid &= sample_valid(known[step][None], points)
        points = points + share * sample(field[step][None], points)
    return points - grid, valid


def _split(time: float, steps: int) -> tuple[int, float]:
    """Frame and share of the step that follows it; the last frame has none."""
    frame = min(math.floor(time), steps)
    return frame, time - frame


def _origin(motion: MotionField, step: int, part: float) -> tuple[Tensor, Tensor]:
    """Where the pixels at time ``step + part`` were in frame ``step``: ``([1, 2, H, W], bool [1, H, W])``.

    Two things may land on a pixel. The search starts from rest and from the longest vector nearby, and of two answers
    takes the one that is still seen in the next frame: there the backward field leads back to it.
    """
    flow = motion.forward[step : step + 1]
    grid = pixel_grid(*motion.size, motion.device, flow.dtype)[None]
    length = flow.norm(dim=1, keepdim=True)
    longest = highest_nearby(length, flow, int((part * length.max()).ceil()))
    best = torch.full_like(length, torch.inf)
    origin, any_found = grid, torch.zeros_like(length, dtype=torch.bool)[:, 0]
    for start in (torch.zeros_like(flow), -part * longest):
        inverse, found = invert(part * flow, start=start)
        at = grid + inverse
        vector = sample(flow, at)
        hidden = torch.zeros_like(length)
        if motion.backward is not None:
            returned = vector + sample(motion.backward[step : step + 1], at + vector)
            hidden = returned.square().sum(1, keepdim=True)
        better = found[:, None] & (hidden < best)
        origin, best = torch.where(better, at, origin), torch.where(better, hidden, best)
        any_found |= found
    if motion.forward_valid is not None:
        any_found &= sample_valid(motion.forward_valid[step][None], origin)
    return origin, any_found
