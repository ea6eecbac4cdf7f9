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


@pytest.mark.parametrize("number", [1, 4])
def test_a_mask_map_is_of_the_scene_with_its_number(comfy, number):
    """Oracle: within a class's colour the scene has that class's two colours and what lies between, and no others."""
    scene = run_one("AqueductExampleImage", name=f"scene {number}")[0]
    classes = run_one("AqueductExampleImage", name=f"mask map {number}")[0]
    assert scene.shape == classes.shape == (64, 64, 3)
    colours = classes.reshape(-1, 3).unique(dim=0)
    assert len(colours) >= 5
    within, whole = [], scene.reshape(-1, 3).std(0).mean()
    for colour in colours:
        here = (classes == colour).all(-1)
        hidden = torch.nn.functional.max_pool2d(1 - here[None, None].float(), 3, 1, 1)[0, 0] > 0  # not at an outline
        within.append(scene[here & ~hidden].std(0).mean())
    assert torch.stack(within).nanmean() < 0.5 * whole


def test_scenes_differ_and_do_not_change(comfy):
    scenes = [run_one("AqueductExampleImage", name=f"scene {number}") for number in (1, 2, 3, 4)]
    assert all((a - b).abs().mean() > 0.05 for n, a in enumerate(scenes) for b in scenes[:n])
    assert torch.equal(scenes[0], run_one("AqueductExampleImage", name="scene 1"))
