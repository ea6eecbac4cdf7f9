"""The cycle test on the coarse grid of latents: made where the flow was estimated, then brought to their cells.

The thresholds are pixels^2 at the size of estimation. Of flow that is resized first, to cells of 8 pixels, alpha2 would
forgive 64 times as much, and what a thing of a few pixels a frame covers would never be found.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from .cycle import ALPHA1, ALPHA2
from .field import MotionField
from .retime import retimed


def trusted_cells(
    motion: MotionField, height: int, width: int, stride: int = 1, alpha1: float = ALPHA1, alpha2: float = ALPHA2
) -> Tensor:
    """bool ``[f-1, 2, height, width]``: which cells can be trusted, forward and backward, between frames that lie
    ``stride`` of those of ``motion`` apart (f of its 1 + a multiple).

    ``motion`` at the size of its estimation. A pixel is trusted where each step of its way passes the cycle test (EMG
    eq. 9) within the frame, and so does the whole way, with ``alpha2`` for every step. A cell is where more than half
    of its pixels are. Raises ValueError for a motion without backward fields.
    """
    steps = motion.checked(alpha1, alpha2)
    if stride > 1:
        steps = retimed(steps, range(0, motion.frames, stride)).checked(alpha1, stride * alpha2)
    trusted = torch.stack([steps.forward_valid, steps.backward_valid], 1)
    return F.interpolate(trusted.float(), (height, width), mode="area") > 0.5
