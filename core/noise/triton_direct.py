"""The sum over waves as one Triton kernel: the check of the windowed read where a float64 sum would take minutes.

The points x waves block of cosines never reaches memory. Phases are float32 from the middle of the unit square, with
the accuracy that `direct.direct` has in that dtype.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from .waves import Waves

POINTS, WAVES, LEAST_LANES = 64, 64, 16  # a program's block; tl.dot takes no fewer columns than 16


def direct(waves: Waves, points: Tensor) -> Tensor:
    """float32 ``[N, 2] -> [N, channels]`` on a CUDA device."""
    count, channels = len(points), waves.channels
    phases = waves.phases + waves.frequencies @ torch.full((2,), 0.5, dtype=torch.float64)
    on = {"device": points.device, "dtype": torch.float32}
    offsets = (points.double() - 0.5).float().contiguous()
    frequencies, weights = waves.frequencies.to(**on).contiguous(), waves.weights.to(**on).contiguous()
    result = torch.empty(count, channels, **on)
    _direct[(triton.cdiv(count, POINTS),)](
        offsets, frequencies, phases.to(**on), weights, result, count, len(waves), channels,
        LANES=max(LEAST_LANES, triton.next_power_of_2(channels)), POINTS=POINTS, WAVES=WAVES,
    )  # fmt: skip
    return result


@triton.jit
def _direct(
    offsets, frequencies, phases, weights, result, count, waves, channels,
    LANES: tl.constexpr, POINTS: tl.constexpr, WAVES: tl.constexpr,
):  # fmt: skip
    point = tl.program_id(0) * POINTS + tl.arange(0, POINTS)
    lane = tl.arange(0, LANES)
    here = point < count
    x = tl.load(offsets + 2 * point, mask=here, other=0.0)[:, None]
    y = tl.load(offsets + 2 * point + 1, mask=here, other=0.0)[:, None]
    total = tl.zeros([POINTS, LANES], dtype=tl.float32)
    for start in range(0, waves, WAVES):
        wave = start + tl.arange(0, WAVES)
        there = wave < waves
        along_x = tl.load(frequencies + 2 * wave, mask=there, other=0.0)[None, :]
        along_y = tl.load(frequencies + 2 * wave + 1, mask=there, other=0.0)[None, :]
        cosines = tl.cos(x * along_x + y * along_y + tl.load(phases + wave, mask=there, other=0.0)[None, :])
        known = there[:, None] & (lane < channels)[None, :]
        weight = tl.load(weights + wave[:, None] * channels + lane[None, :], mask=known, other=0.0)
        total += tl.dot(cosines, weight, input_precision="ieee")  # TF32 would keep three digits
    written = here[:, None] & (lane < channels)[None, :]
    tl.store(result + point[:, None] * channels + lane[None, :], total, mask=written)
