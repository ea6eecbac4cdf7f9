"""The windowed read of a lattice tile as one Triton kernel, imported only where a CUDA device asks for it.

Nothing but values and results goes through memory: the window is computed in registers, each tap is one read of a
point's channels.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from .window import Window

BLOCK = 256  # points a program


def gather(table: Tensor, columns: int, local: Tensor, shares: Tensor, window: Window) -> Tensor:
    """float32 ``[N, channels]`` from ``table [nodes, channels]``, as `Lattice` reads it.

    ``local`` int32 ``[2, N]``: first lattice points (x, y); ``shares`` float32 ``[2, N]``: as `Window.taps` takes them.
    """
    count, channels = local.shape[1], table.shape[1]
    result = torch.empty(count, channels, dtype=torch.float32, device=local.device)
    polynomials = window.polynomials.to(shares).contiguous()
    _gather[(triton.cdiv(count, BLOCK),)](
        table, local, shares, polynomials, result, count, columns,
        CHANNELS=channels, WIDTH=window.width, TERMS=len(polynomials),
        LANES=triton.next_power_of_2(channels), BLOCK=BLOCK,
    )  # fmt: skip
    return result


@triton.jit
def _tap(polynomials, variable, tap: tl.constexpr, WIDTH: tl.constexpr, TERMS: tl.constexpr):
    value = variable * 0 + tl.load(polynomials + tap)
    for term in tl.static_range(1, TERMS):
        value = value * variable + tl.load(polynomials + term * WIDTH + tap)
    return value


@triton.jit
def _gather(
    table, local, shares, polynomials, result, count, columns,
    CHANNELS: tl.constexpr, WIDTH: tl.constexpr, TERMS: tl.constexpr, LANES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    point = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    here = point < count
    lane = tl.arange(0, LANES)
    start = tl.load(local + count + point, mask=here, other=0) * columns + tl.load(local + point, mask=here, other=0)
    along_x = 2 * tl.load(shares + point, mask=here, other=0.0) - 1
    along_y = 2 * tl.load(shares + count + point, mask=here, other=0.0) - 1
    both = here[:, None] & (lane < CHANNELS)[None, :]
    total = tl.zeros([BLOCK, LANES], dtype=tl.float32)
    for row in tl.static_range(WIDTH):
        line = tl.zeros([BLOCK, LANES], dtype=tl.float32)
        for column in tl.static_range(WIDTH):
            node = (start + row * columns + column)[:, None] * CHANNELS + lane[None, :]
            line += _tap(polynomials, along_x, column, WIDTH, TERMS)[:, None] * tl.load(
                table + node, mask=both, other=0
            )
        total += _tap(polynomials, along_y, row, WIDTH, TERMS)[:, None] * line
    tl.store(result + point[:, None] * CHANNELS + lane[None, :], total, mask=both)
