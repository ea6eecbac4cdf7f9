"""The workflows without a model, as they ship, in the real server, on real input; what comes out is measured."""

import json
import time

import numpy as np
import pytest
from PIL import Image

from aqueduct.scripts import _media, _shipped
from aqueduct.scripts._client import PromptError
from aqueduct.scripts._console import HouseError
from aqueduct.scripts._workflow import find_nodes, set_input

YELLOW, PUPIL = np.array([250, 245, 110]), np.array([30, 90, 250])


def frames_of(path) -> np.ndarray:
    """``[n, h, w, 3]`` of a video, 0..255."""
    import av

    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]).astype(float)


def run(server, prompt, folder) -> dict:
    """Run ``prompt``; the frames of every video it saved, by the title of the node."""
    outputs = server.run(prompt, timeout=900)["outputs"]
    videos = {}
    for node, reported in outputs.items():
        for entry in reported.get("images", ()):
            if entry["filename"].endswith(".webm"):
                path = server.download(entry, folder / entry["filename"])
                videos[prompt[node]["_meta"]["title"]] = frames_of(path)
    return videos


def share_of(colour, frame, x, y, radius=12) -> float:
    """Share of the square around the normalised point (x, y) that has about this colour."""
    height, width = frame.shape[:2]
    row, column = round(y * height - 0.5), round(x * width - 0.5)
    square = frame[max(row - radius, 0) : row + radius + 1, max(column - radius, 0) : column + radius + 1]
    return (np.abs(square - colour).max(-1) < 60).mean()


def test_a_drawing_moves_the_example_image(server, tmp_path):
    """The left ear's tip is dragged from (0.20, 0.10) to (0.10, 0.30); the pinned meadow rests."""
    videos = run(server, _shipped.prepare("draw_motion", server), tmp_path)
    clip, unseen = videos["Video"], videos["Never seen"]
    assert clip.shape == (25, 768, 768, 3) and unseen.shape == clip.shape
    assert share_of(YELLOW, clip[0], 0.20, 0.10) > 0.9 and share_of(YELLOW, clip[-1], 0.20, 0.10) < 0.1
    assert share_of(YELLOW, clip[0], 0.11, 0.29) == 0 and share_of(YELLOW, clip[-1], 0.11, 0.29) > 0.9
    meadow = slice(600, 630)
    assert np.abs(clip[-1, meadow] - clip[0, meadow]).mean() < 3  # lossy video
    assert unseen[0].max() < 20 and 0.001 < (unseen[-1] > 128).mean() < 0.1


def test_a_drawing_moves_a_photo(server, tmp_path):
    """Any photo of any size in its place: the same drawing, in shares of the picture, moves what lies there."""
    try:
        photo = _media.photo_path("china")
    except HouseError as missing:
        pytest.skip(str(missing))
    prompt = _shipped.prepare("draw_motion", server)
    _shipped.use_image(prompt, server.upload_image(photo))
    set_input(prompt, "AqueductTrackEditor", "frames", 9)
    clip = run(server, prompt, tmp_path)["Video"]
    with Image.open(photo) as image:
        still = np.asarray(image.convert("RGB"), dtype=float)
    assert clip.shape == (9, *still.shape)
    assert np.abs(clip[0] - still).mean() < 8
    row, column = round(0.30 * still.shape[0]), round(0.10 * still.shape[1])
    from_row, from_column = round(0.10 * still.shape[0]), round(0.20 * still.shape[1])
    moved = clip[-1, row - 6 : row + 7, column - 6 : column + 7]
    source = still[from_row - 6 : from_row + 7, from_column - 6 : from_column + 7]
    assert np.abs(moved.mean((0, 1)) - source.mean((0, 1))).max() < 12


def test_a_video_is_measured_masked_and_warped(server, tmp_path):
    """Six frames of a street: the next frame, warped back, is nearer to this one than it was."""
    try:
        prompt = _shipped.prepare("video_motion", server)
    except HouseError as missing:
        pytest.skip(str(missing))
    set_input(prompt, "First frames", "length", 6)
    (saver,) = find_nodes(prompt, "Next frame, warped")  # without the losses of a video file
    prompt[saver] |= {"class_type": "SaveImage"}
    prompt[saver]["inputs"] = {"images": prompt[saver]["inputs"]["images"], "filename_prefix": "warped"}
    videos = run(server, prompt, tmp_path)
    assert {name: clip.shape for name, clip in videos.items()} == dict.fromkeys(
        ("Flow", "Hidden next", "Energy"), (5, 272, 640, 3)
    )
    street, hidden = frames_of(_media.video_path("bikes"))[:6], videos["Hidden next"][..., 0] > 128
    saved = sorted((server.folder / "output").glob("warped_*.png"))
    warped = np.stack([np.asarray(Image.open(path), dtype=float) for path in saved])
    assert 0.005 < hidden.mean() < 0.3
    seen = ~hidden[..., None]
    before = np.abs(street[1:] - street[:-1])[seen.repeat(3, -1)].mean()
    after = np.abs(warped - street[:-1])[seen.repeat(3, -1)].mean()
    assert after < before / 2
    check_saved_motion(server, tmp_path)


def check_saved_motion(server, tmp_path) -> None:
    """What *Save Motion* left can be read by *Load Motion*, the muted node of the graph."""
    (loader,) = [node for node in _shipped.load("video_motion")["nodes"] if node["type"] == "AqueductLoadMotion"]
    name = loader["widgets_values"][0]
    assert name in server.object_info()["AqueductLoadMotion"]["input"]["required"]["file"][1]["options"]
    prompt = {
        "1": {"class_type": "AqueductLoadMotion", "inputs": {"file": name}, "_meta": {"title": "load"}},
        "2": {"class_type": "AqueductMotionPreview", "inputs": {"motion": ["1", 0], "style": "arrows"}},
    }
    shown = server.run(prompt, timeout=120)["outputs"]["2"]["images"]
    assert len(shown) == 5
    prompt["1"]["inputs"]["file"] = "motion/nothing.safetensors"
    with pytest.raises(PromptError, match="nothing.safetensors.*input"):
        server.run(prompt, timeout=60)


def test_a_camera_looks_at_a_moving_drawing(server, tmp_path):
    """It comes 1.3 times closer: the eyes' area grows by 1.69. The ears go out and come home."""
    clip = run(server, _shipped.prepare("camera_motion", server), tmp_path)["Video"]
    assert clip.shape == (25, 768, 768, 3)
    eyes = [(np.abs(frame - PUPIL).max(-1) < 50).sum() for frame in (clip[0], clip[-1])]
    assert eyes[1] / eyes[0] == pytest.approx(1.69, rel=0.08)
    assert share_of(YELLOW, clip[0], 0.20, 0.10) > 0.9 > share_of(YELLOW, clip[12], 0.20, 0.10)


def test_raft_without_weights_says_what_to_get_in_the_real_server(server):
    try:
        prompt = _shipped.prepare("video_motion", server)
    except HouseError as missing:
        pytest.skip(str(missing))
    set_input(prompt, "First frames", "length", 2)
    set_input(prompt, "AqueductOpticalFlow", "estimator", "raft-large")
    with pytest.raises(PromptError, match=r"raft_large_\w+-\w+.pth.*https://download.pytorch.org.*optical_flow"):
        server.run(json.loads(json.dumps(prompt)), timeout=120)


def long_advection(frames: int) -> dict:
    """A grey picture under a camera: F^2 / 2 warps, minutes for 600 frames."""
    nodes = {
        "image": ("EmptyImage", {"width": 192, "height": 192, "batch_size": 1, "color": 0x808080}),
        "camera": ("AqueductCameraMotion", {
            "image": ["image", 0], "frames": frames, "width": 1, "height": 1, "pan_x": 0.1, "pan_y": 0.0, "zoom": 1.2,
            "roll": 0.0, "ease": "linear", "centre_x": 0.5, "centre_y": 0.5, "shake": 0.0, "shake_cycles": 1.0,
            "seed": frames, "keyframes": "",
        }),
        "advect": ("AqueductAdvect", {"image": ["image", 0], "motion": ["camera", 0], "alpha1": 0.01, "alpha2": 0.5}),
        "shown": ("PreviewImage", {"images": ["advect", 0]}),
    }  # fmt: skip
    return {
        name: {"class_type": kind, "inputs": inputs, "_meta": {"title": name}} for name, (kind, inputs) in nodes.items()
    }


def test_an_interrupted_advection_stops_and_leaves_the_server_usable(server):
    prompt_id = server.queue(long_advection(600))
    time.sleep(6)  # the camera takes a second or two; the advection would take minutes
    begun = time.monotonic()
    server.interrupt()
    with pytest.raises(PromptError, match="interrupted at node advect"):
        server.wait(prompt_id, timeout=120)
    assert time.monotonic() - begun < 60
    assert len(server.run(long_advection(3), timeout=120)["outputs"]["shown"]["images"]) == 3
