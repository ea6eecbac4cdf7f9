"""The sum over waves as it is written: the reference that every faster path is held against."""

import torch
from torch import Tensor

from .waves import Waves

CPU_BYTES, GPU_BYTES = 1 << 20, 1 << 26  # of the points x waves block; on the CPU it should stay in the cache


@torch.no_grad()
def direct(waves: Waves, points: Tensor, dtype: torch.dtype = torch.float64) -> Tensor:
    """``[N, 2] -> [N, channels]``: ``sum_j w_j cos(<z_j, x> + b_j)``, a block of points at a time, on their device.

    Phases are taken from the middle of the unit square, which halves them: in float32 the relative error is then about
    4e-6 near that square. It grows with the distance; float64 has 1e-9 even a million squares away.
    """
    centre = torch.full((2,), 0.5, dtype=torch.float64)
    on = {"device": points.device, "dtype": dtype}
    phases = (waves.phases + waves.frequencies @ centre).to(**on)
    frequencies, weights = waves.frequencies.T.to(**on).contiguous(), waves.weights.to(**on)
    offsets = (points.to(torch.float64) - centre.to(points.device)).to(dtype)
    result = torch.empty(len(points), waves.channels, **on)
    for start, rows in zip(*_blocks(offsets, len(waves)), strict=True):
        block = torch.addmm(phases, rows, frequencies).cos_()
        torch.mm(block, weights, out=result[start : start + len(rows)])
    return result


def _blocks(rows: Tensor, waves: int) -> tuple[range, tuple[Tensor, ...]]:
    budget = CPU_BYTES if rows.device.type == "cpu" else GPU_BYTES
    size = max(1, budget // (waves * rows.element_size()))
    return range(0, len(rows), size), rows.split(size) if len(rows) else ()
