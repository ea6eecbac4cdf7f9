"""The Triton kernels against the same field without them: in Triton's interpreter on the CPU, and on a GPU if any."""

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from aqueduct.core.noise import GaussianField

ROOT = Path(__file__).resolve().parents[2]
SIDE = 32
SCALE = 2 / (math.pi * SIDE)

INTERPRETED = f"""
import sys; sys.path.append({str(ROOT / "scripts")!r})
from _pack import load_pack
load_pack()
import torch
from aqueduct.core.noise import GaussianField, lattice, triton_direct, triton_gather
lattice.TABLE_BYTES = 0  # tables as the kernel reads them
for channels in (1, 4, 5):
    field = GaussianField(0, channels, {SCALE}, 500)
    points = torch.rand(301, 2, generator=torch.Generator().manual_seed(1))
    reference = field.reference(points)
    reader = field._lattice.reader
    def fused(table, columns, local, shares):
        return triton_gather.gather(table, columns, local.contiguous(), shares.contiguous(), reader.window)
    field._lattice.reader = fused
    for got in (field.evaluate(points), triton_direct.direct(field.waves, points)):
        assert got.shape == reference.shape and (got - reference).abs().max() < 1e-4, channels
print("same")
"""


def test_kernels_in_the_interpreter():
    pytest.importorskip("triton")
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    result = subprocess.run([sys.executable, "-c", INTERPRETED], capture_output=True, text=True, env=environment)
    assert result.returncode == 0 and result.stdout.endswith("same\n"), result.stderr


# --- on a GPU ---------------------------------------------------------------------------------------------------------

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("channels", [1, 4, 16])
@pytest.mark.parametrize("fused", [True, False])
def test_cuda_is_the_cpu(channels, fused):
    field = GaussianField(0, channels, SCALE)
    points = 3 * torch.rand(4, 500, 2, generator=torch.Generator().manual_seed(1)) - 1
    points[0, 0] = 100.0
    field._lattice.reader.fused_works = fused
    got = field.evaluate(points.cuda())
    assert got.is_cuda and (got.cpu() - field.evaluate(points)).abs().max() < 1e-4
    assert field._lattice.reader.fused_works == fused


@pytest.mark.gpu
@needs_cuda
def test_fused_sum_is_the_windowed_read():
    pytest.importorskip("triton")
    from aqueduct.core.noise import triton_direct

    field = GaussianField(0, 4, 2 / (math.pi * 128))
    points = torch.rand(1 << 16, 2, generator=torch.Generator().manual_seed(1)).cuda()
    assert (triton_direct.direct(field.waves, points) - field.evaluate(points)).abs().max() < 1e-3
