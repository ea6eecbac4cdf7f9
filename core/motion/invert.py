"""The other direction of a field, where only one is known."""

from collections.abc import Callable

import torch
from torch import Tensor

from .sampling import inside, pixel_grid, precise, sample

LOOK = 3  # rounds between looks at whether it has settled: on an accelerator each look waits for all that was queued
SETTLED = 1e-3  # pixels: far below what is tolerated, far above the rounding of coordinates


def invert(
    flow: Tensor,
    start: Tensor | None = None,
    steps: int = 30,
    tolerance: float = 0.05,
    report: Callable[[int, int], None] | None = None,
) -> tuple[Tensor, Tensor]:
    """``g`` with ``g(q) = -flow(q + g(q))`` for ``flow [N, 2, H, W]``, by fixed point, and where that holds.

    Returns ``(g [N, 2, H, W], valid bool [N, H, W])``. The iteration converges where the field changes by less than
    one pixel per pixel; where several pixels move onto q it finds the one nearest ``start`` (default: no motion). It
    takes at most ``steps`` rounds, and ends when one changes nothing any more.
    ``valid`` is False where ``|g + flow(q + g)|`` exceeds ``tolerance`` pixels (folds, tears, what nothing moved onto)
    or the source lies outside the frame. ``report(done, total)`` is called after each field.
    """
    flow = precise(flow)
    height, width = flow.shape[-2:]
    grid = pixel_grid(height, width, flow.device, flow.dtype)
    inverses, valid = [], []
    for index, one in enumerate(flow.split(1)):  # a frame at a time: the temporaries stay small
        inverse = torch.zeros_like(one) if start is None else start[index : index + 1].to(one)
        for done in range(1, steps + 1):
            before, inverse = inverse, -sample(one, grid + inverse)
            if done % LOOK == 0 and (inverse - before).abs().max() <= SETTLED:
                break
        residual = (inverse + sample(one, grid + inverse)).square().sum(1)
        inverses.append(inverse)
        valid.append((residual <= tolerance**2) & inside(grid + inverse, height, width))
        if report is not None:
            report(index + 1, len(flow))
    return torch.cat(inverses), torch.cat(valid)
