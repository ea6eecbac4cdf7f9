"""Carrying the first frame along the motion."""

from collections.abc import Callable

import torch
from torch import Tensor

from .carry import steps_of
from .cycle import ALPHA1, ALPHA2
from .field import MotionField
from .sampling import sample


def advect(
    frame: Tensor,
    motion: MotionField,
    alpha1: float = ALPHA1,
    alpha2: float = ALPHA2,
    report: Callable[[int, int], None] | None = None,
) -> tuple[Tensor, Tensor]:
    """The clip that ``frame [C, H, W]`` becomes along the Eulerian chain, and what of it the frame never showed.

    Each frame t follows its pixels back to frame 0 through the adjacent fields and reads ``frame`` once, so nothing
    is interpolated twice. Returns ``(clip [F, C, H, W], never_seen bool [F, H, W])``. A pixel was never seen when its
    path leaves the frame (half a pixel beyond the outermost centres) or meets an invalid vector, when a step fails the
    cycle test, or when the whole way back and forth does: motion slower than sqrt(alpha2) pixels a frame uncovers
    things too, and only the whole way shows it. Over t steps the way may miss by ``alpha2 t``, as independent errors of
    the steps add up; so motion of v pixels a frame is noticed after alpha2 / v^2 frames.
    Costs F^2 / 2 warps. ``report(done, total)`` is called after each frame.
    Raises ValueError when the sizes differ or the motion has no backward fields.
    """
    if frame.dim() != 3 or frame.shape[-2:] != motion.size:
        raise ValueError(
            f"the motion is for {motion.width} x {motion.height} pixels, the frame is {list(frame.shape)} [C,H,W]: "
            f"resize the motion (MotionField.resized, AqueductResizeMotion) or the frame"
        )
    motion = motion.to(frame.device)
    clip = frame.new_empty(motion.frames, *frame.shape)
    unseen = torch.empty(motion.frames, *motion.size, dtype=torch.bool, device=frame.device)
    source = frame[None].to(motion.forward.dtype)
    for t, (points, seen, _) in enumerate(steps_of(motion, alpha1, alpha2)):
        clip[t] = sample(source, points[None])[0].to(frame.dtype) if t else frame
        unseen[t] = ~seen
        if report is not None and t:
            report(t, motion.steps)
    return clip, unseen
