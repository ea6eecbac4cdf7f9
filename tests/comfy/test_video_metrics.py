"""Video Metrics: what it measures in ComfyUI's process, what it refuses, and a run of it in the real server."""

import pytest
import torch

from aqueduct.core.motion import MotionField
from aqueduct.tests.comfy.graph import run
from aqueduct.tests.comfy.test_motion_nodes import constant, moving_clip
from aqueduct.tests.comfy.test_server_bridge import node

H, W, FRAMES = 40, 56, 4


def rows(table: str) -> dict[str, list[str]]:
    """Column -> its cells, the mean first."""
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    return {name: [line[n] for line in lines[2:]] for n, name in enumerate(lines[0])}


def test_a_clip_that_moves_along_keeps_its_identity(comfy):
    table, plot = run("AqueductVideoMetrics", images=moving_clip(3, -2), motion=constant(3, -2))
    found = rows(table)
    assert list(found)[1:] == [
        "identity to frame 0 (similarity)", "PSNR to frame 0 carried along (dB)", "warping error to the frame before",
        "sharpness (share of frame 0's)",
    ]  # fmt: skip
    assert found["frame"] == ["mean", "0", "1", "2", "3"]
    assert float(found["identity to frame 0 (similarity)"][0]) > 0.9
    errors = found["warping error to the frame before"]
    assert errors[1] == "" and float(errors[0]) < 1e-8
    assert plot.dim() == 4 and plot.shape[-1] == 3


def test_the_same_clip_along_another_motion_does_not(comfy):
    right, _ = run("AqueductVideoMetrics", images=moving_clip(3, -2), motion=constant(3, -2))
    wrong, _ = run("AqueductVideoMetrics", images=moving_clip(3, -2), motion=constant(-3, 2))
    for name, better in (("identity to frame 0 (similarity)", 1), ("warping error to the frame before", -1)):
        assert better * (float(rows(right)[name][0]) - float(rows(wrong)[name][0])) > 1e-3


def test_forward_motion_alone_is_turned_round(comfy):
    table, _ = run("AqueductVideoMetrics", images=moving_clip(3, 0), motion=MotionField(constant(3, 0).forward))
    assert float(rows(table)["warping error to the frame before"][0]) < 1e-8


def test_a_reference_adds_psnr_and_ssim(comfy):
    clip = moving_clip(3, -2)
    table, plot = run("AqueductVideoMetrics", images=clip + 0.1, reference=clip)
    columns = ["sharpness (share of frame 0's)", "PSNR to the reference (dB)", "SSIM to the reference"]
    assert list(rows(table))[1:] == columns
    assert float(rows(table)["PSNR to the reference (dB)"][0]) == pytest.approx(20, abs=1e-3)
    one, _ = run("AqueductVideoMetrics", images=clip, reference=clip[:1])
    assert rows(one)["PSNR to the reference (dB)"][1] == "inf"


@pytest.mark.parametrize("wired, told", [
    ({"motion": constant(1, 0, FRAMES + 1)}, "5 frames, the clip 4"),
    ({"motion": constant(1, 0, height=20)}, "56 x 20 pixels, the clip has 56 x 40"),
    ({"reference": torch.zeros(3, H, W, 3)}, "4 frames, the reference 3"),
    ({"reference": torch.zeros(4, H, 30, 3)}, "56 x 40 pixels, the reference 30 x 40"),
])  # fmt: skip
def test_what_does_not_fit_is_refused_naming_both_sides(comfy, wired, told):
    with pytest.raises(ValueError, match=told):
        run("AqueductVideoMetrics", images=moving_clip(3, -2), **wired)


def test_in_the_server(host_server):
    camera = {"zoom": 1.0, "roll": 0.0, "ease": "linear", "centre_x": 0.5, "centre_y": 0.5, "shake": 0.0,
              "shake_cycles": 4.0, "seed": 0, "keyframes": ""}  # fmt: skip
    prompt = {
        "picture": node("EmptyImage", width=64, height=48, batch_size=3, color=0x8040C0),
        "motion": node("AqueductCameraMotion", frames=3, width=64, height=48, pan_x=0.1, pan_y=0.0, **camera),
        "metrics": node("AqueductVideoMetrics", images=["picture", 0], reference=["picture", 0], motion=["motion", 0]),
        "plot": node("SaveImage", images=["metrics", 1], filename_prefix="metrics"),
        "text": node("PreviewAny", source=["metrics", 0]),
    }
    outputs = host_server.run(prompt)["outputs"]
    assert outputs["plot"]["images"]
    table = rows(outputs["text"]["text"][0])
    assert len(table) == 7 and table["frame"][-1] == "2"
    assert float(table["warping error to the frame before"][0]) < 1e-8
