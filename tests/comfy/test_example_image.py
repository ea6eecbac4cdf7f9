"""Image nodes: the example is a held-out digit, at the size the shipped models take; a clip as one picture."""

import pytest
import torch

from aqueduct.core.training.digits import MovingDigits, load_glyphs
from aqueduct.tests.comfy.graph import run_one


@pytest.mark.parametrize("label", range(10))
def test_aqueduct_example_image_is_a_held_out_scan_of_its_label(comfy, label):
    """Oracle: exactly one held-out scan, drawn at the middle by the world itself, gives these pixels."""
    image = run_one("AqueductExampleImage", name=f"digit {label}")
    assert image.shape == (1, 32, 32, 3) and image.dtype == torch.float32
    glyphs, labels = load_glyphs(held_out=True)
    count = len(glyphs)
    drawn = MovingDigits(glyphs).clips(
        torch.arange(count), torch.zeros(count, dtype=torch.long), torch.full((count, 2), 15.5)
    ).video[:, :, 0]  # fmt: skip
    distance = ((drawn + 1) / 2 - image[0].permute(2, 0, 1)).abs().amax((1, 2, 3))
    (same,) = (distance < 0.01).nonzero()[:, 0].tolist()
    assert labels[same] == label


def test_aqueduct_time_slice_keeps_channels_and_follows_its_widgets(comfy):
    clip = torch.rand(5, 6, 8, 4, generator=torch.Generator().manual_seed(0))
    rows = run_one("AqueductTimeSlice", images=clip)
    assert rows.shape == (1, 20, 8, 4) and torch.equal(rows[0, ::4], clip[:, 3])
    columns = run_one("AqueductTimeSlice", images=clip, position=1.0, along="y", thickness=1)
    assert columns.shape == (1, 6, 5, 4) and torch.equal(columns[0], clip[:, :, 7].movedim(0, 1))
