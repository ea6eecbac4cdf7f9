"""Forward-backward consistency: where the flow there and back returns to the start (EMG 4.2, eqs. 8 and 9).

The test is that of UnFlow: ``E(x) = |f(x) + g(x + f(x))|^2`` against ``alpha1 (|f(x)|^2 + |g(x + f(x))|^2) + alpha2``,
with ``g`` read at the landing point. Squared lengths on both sides, all in pixels^2 at the field's own size.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from .chunks import frame_chunks
from .sampling import inside, pixel_grid, precise, sample

ALPHA1, ALPHA2 = 0.01, 0.5


def cycle_energy(fwd: Tensor, bwd: Tensor) -> Tensor:
    """``|f(x) + g(x + f(x))|^2`` in pixels^2: ``fwd, bwd [N, 2, H, W]`` -> ``[N, H, W]``.

    ``fwd[n]`` on the grid of the result, ``bwd[n]`` on the grid it points to. Swap the arguments for the other
    direction. Raises ValueError when the shapes differ.
    """
    energy = precise(fwd).new_empty(_checked(fwd, bwd))
    for part, flow, returned, _ in _legs(fwd, bwd):
        energy[part] = (flow + returned).square_().sum(1)
    return energy


def cycle_mask(fwd: Tensor, bwd: Tensor, alpha1: float = ALPHA1, alpha2: float = ALPHA2, margin: float = 0.0) -> Tensor:
    """bool ``[N, H, W]``, True where the motion is consistent: ``E < alpha1 (|f|^2 + |g|^2) + alpha2``, in frame.

    ``alpha1`` (no unit) forgives in proportion to the motion, ``alpha2`` (pixels^2) always. The paper's values are
    0.01 and 0.5. ``margin``: pixels beyond the outermost pixel centres that count as inside (`inside`).
    Raises ValueError for negative thresholds or shapes that differ.
    """
    if not (alpha1 >= 0 and alpha2 >= 0):
        raise ValueError(f"alpha1 and alpha2 must be at least 0, got {alpha1} and {alpha2}")
    mask = torch.empty(_checked(fwd, bwd), dtype=torch.bool, device=fwd.device)
    for part, flow, returned, landed in _legs(fwd, bwd, margin):
        energy = (flow + returned).square_().sum(1)
        bound = flow.square().sum(1).add_(returned.square_().sum(1)).mul_(alpha1).add_(alpha2)
        mask[part] = (energy < bound) & landed
    return mask


def _legs(fwd: Tensor, bwd: Tensor, margin: float = 0.0) -> Iterator[tuple[slice, Tensor, Tensor, Tensor]]:
    """Per chunk of frames: the flow there, the flow back from where it landed, and whether that is in the frame."""
    height, width = fwd.shape[-2:]
    fwd, bwd = precise(fwd), precise(bwd)
    grid = pixel_grid(height, width, fwd.device, fwd.dtype)
    for part in frame_chunks(len(fwd), fwd[0].numel() * fwd.element_size() * 6, fwd.device):
        points = fwd[part] + grid
        yield part, fwd[part], sample(bwd[part], points), inside(points, height, width, margin)


def _checked(fwd: Tensor, bwd: Tensor) -> tuple[int, int, int]:
    if fwd.dim() != 4 or fwd.shape[1] != 2 or fwd.shape != bwd.shape:
        raise ValueError(f"expected two fields [N,2,H,W] of one shape, got {list(fwd.shape)} and {list(bwd.shape)}")
    return fwd.shape[0], fwd.shape[2], fwd.shape[3]
