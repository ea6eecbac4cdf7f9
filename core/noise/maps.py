"""Where every pixel of a clip was in its first frame; the motion of latent frames; renewing noise under a mask."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from ..motion.carry import BORDER
from ..motion.cycle import ALPHA1, ALPHA2, cycle_mask
from ..motion.field import MotionField
from ..motion.retime import retimed
from ..motion.sampling import CERTAIN, inside, pixel_grid
from .corners import read


def composed_maps(
    motion: MotionField, checked: Callable[[MotionField], MotionField] | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """For each frame j: ``Phi_j [2, H, W]``, its pixels' points (x, y) in frame 0, and bool ``[H, W]``: known to be.

    ``Phi_j(x) = Phi_(j-1)(x + backward_j(x))`` (Warped Diffusion, section 3.3), one reading per frame, of the map's
    displacement, which also continues it beyond the border. `MotionField.between` follows every pixel along the fields
    instead and costs a reading for every pair of frames; the two differ by the curvature of the displacement, which
    is nothing for affine motion. Known: on the way all vectors were valid, and all points within the frame's area.
    ``checked``: what a step, a motion of two frames, has to pass besides (`MotionField.checked`), asked when its turn
    comes. Raises ValueError without backward fields.
    """
    if motion.backward is None:
        raise ValueError("this motion has forward fields only; .bidirectional() finds the backward ones")
    grid = pixel_grid(*motion.size, motion.device, motion.backward.dtype)
    moved, known = torch.zeros_like(grid), torch.ones(motion.size, dtype=torch.bool, device=motion.device)
    yield grid, known
    for step in range(motion.steps):
        one = motion.sliced(step, step + 2)
        one = one if checked is None else checked(one)
        before = grid + one.backward[0]
        moved = one.backward[0] + read(moved, before)
        known = inside(before, *motion.size, BORDER) & (read(known[None].to(grid.dtype), before)[0] > CERTAIN)
        if one.backward_valid is not None:
            known = known & one.backward_valid[0]
        yield grid + moved, known


def seen_maps(motion: MotionField, alpha1: float = ALPHA1, alpha2: float = ALPHA2) -> Iterator[tuple[Tensor, Tensor]]:
    """`composed_maps`, and bool ``[H, W]``: this place was seen in frame 0, as far as the cycle test can tell.

    The whole way back and forth has to pass it, because things are uncovered slowly, too; for each step to pass it
    give `MotionField.checked` motion. Costs two readings and one test per frame.
    """
    grid = pixel_grid(*motion.size, motion.device, motion.forward.dtype)
    onward = torch.zeros_like(grid)
    for frame, (points, known) in enumerate(composed_maps(motion)):
        if frame:
            onward = onward + read(motion.forward[frame - 1], grid + onward)
            known = known & cycle_mask((points - grid)[None], onward[None], alpha1, alpha2, BORDER)[0]
        yield points, known


def latent_times(frames: int, compression: int) -> list[int]:
    """The frames that stand for the latent ones: ``[0, c, 2 c, ...]``, the last of each group.

    The first latent frame holds frame 0, every further one ``compression`` frames more (Wan and Hunyuan: 4, LTX: 8).
    Raises ValueError when ``frames`` is not 1 + a multiple of ``compression``.
    """
    if compression < 1:
        raise ValueError(f"the temporal compression is a number of frames, 1 or more, got {compression}")
    if frames < 1 or (frames - 1) % compression:
        below = (max(frames, 1) - 1) // compression * compression + 1
        raise ValueError(
            f"{frames} frames are not 1 + a multiple of {compression}, as a latent with temporal compression "
            f"{compression} needs; use {below} or {below + compression}"
        )
    return list(range(0, frames, compression))


def latent_motion(
    motion: MotionField, compression: int, report: Callable[[int, int], None] | None = None
) -> MotionField:
    """The motion from latent frame to latent frame: the steps between their frames (`latent_times`), composed.

    In time only: `MotionField.resized` to the latent's height and width is the caller's. With compression 1 the motion
    itself. Raises ValueError for a number of frames that does not fit, or that makes one latent frame only.
    """
    times = latent_times(motion.frames, compression)
    return motion if compression == 1 else retimed(motion, times, report)


def renewed(noise: Tensor, fresh: Tensor, share: Tensor) -> Tensor:
    """``sqrt(1 - r) noise + sqrt(r) fresh``: variance and whiteness stay, correlation with ``noise`` is sqrt(1 - r).

    ``noise, fresh [F, C, H, W]``, independent and of one law; ``share`` r in 0..1, ``[H, W]`` or ``[1 or F, H, W]``.
    At 0 the noise stays bit for bit, at 1 it is ``fresh``. Raises ValueError for other shapes or values.
    """
    frames, _, height, width = noise.shape
    if fresh.shape != noise.shape:
        raise ValueError(f"fresh noise must have the shape of the noise, {list(noise.shape)}, got {list(fresh.shape)}")
    share = share[None] if share.dim() == 2 else share
    if share.dim() != 3 or share.shape[0] not in (1, frames) or share.shape[1:] != (height, width):
        raise ValueError(
            f"the mask must be [{height},{width}], or that for 1 or {frames} frames, got {list(share.shape)}"
        )
    if not bool(((share >= 0) & (share <= 1)).all()):  # also false for NaN
        raise ValueError(f"a share of renewal lies in 0..1, got {share.min().item():.4g} to {share.max().item():.4g}")
    share = share[:, None].to(noise)
    return (1 - share).sqrt() * noise + share.sqrt() * fresh
