"""What a long clip still shows of its first frame, followed from frame to frame."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from ..motion.carry import BORDER
from ..motion.cycle import ALPHA1, ALPHA2, cycle_mask
from ..motion.field import MotionField
from ..motion.sampling import pixel_grid
from ..noise.corners import read
from ..noise.maps import composed_maps

FEATHER = 2  # pixels over which what is known of the first frame gives way to what was generated


def first_frame_maps(
    motion: MotionField, alpha1: float = ALPHA1, alpha2: float = ALPHA2
) -> Iterator[tuple[Tensor, Tensor]]:
    """For each frame t: where its pixels were in frame 0, ``[2, H, W]``, and bool ``[H, W]``: they were seen there.

    What `core.motion.carry.steps_of` finds, tested by the same tests, but with the map to frame 0 composed (EMG eq. 5),
    which costs the same for every frame and remembers nothing of those before.
    """
    grid = pixel_grid(*motion.size, motion.device, motion.forward.dtype)
    onward = torch.zeros_like(grid)
    maps = composed_maps(motion, lambda step: step.checked(alpha1, alpha2, BORDER))
    for t, (points, known) in enumerate(maps):
        if t:
            onward = onward + read(motion.forward[t - 1], grid + onward)
            known = known & cycle_mask((points - grid)[None], onward[None], alpha1, alpha2 * t, BORDER)[0]
        yield points, known


def feathered(seen: Tensor, radius: int = FEATHER) -> Tensor:
    """bool ``[H, W]`` -> float: 0 where it is False, rising to 1 over ``radius`` pixels; the frame is no edge."""
    flags = seen[None, None].float()
    size = 2 * radius + 1
    share = F.avg_pool2d(flags, size, stride=1, padding=radius, count_include_pad=False)
    return (flags * (2 * share - 1).clamp(min=0))[0, 0]


def anchored(picture: Tensor, first: Tensor, points: Tensor, seen: Tensor) -> Tensor:
    """``picture [C, H, W]`` with the pixels of ``first`` where they are still ``seen``, at ``points``; a soft edge."""
    return torch.lerp(picture, read(first, points), feathered(seen).to(picture.dtype))
