"""Carrying the first frame along the motion."""

from collections.abc import Callable

import torch
from torch import Tensor

from .cycle import ALPHA1, ALPHA2, cycle_mask
from .field import MotionField, Path
from .sampling import sample

BORDER = 0.5  # a border pixel is seen until its area ends, else still motion with a breath of noise loses the border


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
    motion = motion.to(frame.device).checked(alpha1, alpha2, BORDER)
    clip = frame.new_empty(motion.frames, *frame.shape)
    unseen = torch.zeros(motion.frames, *motion.size, dtype=torch.bool, device=frame.device)
    clip[0] = frame
    source, onward = frame[None].to(motion.forward.dtype), Path(motion, BORDER)
    for t in range(1, motion.frames):
        onward.follow(t - 1)
        back = Path(motion, BORDER)
        for step in range(t - 1, -1, -1):
            back.follow(step, back=True)
        returns = cycle_mask(back.displacement()[None], onward.displacement()[None], alpha1, alpha2 * t, BORDER)
        clip[t] = sample(source, back.points)[0].to(frame.dtype)
        unseen[t] = ~(back.valid & returns)[0]
        if report is not None:
            report(t, motion.steps)
    return clip, unseen
