"""The example image: a held-out digit, at the size the shipped models take."""

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
