"""Tracks, cameras and composition as nodes."""

import json

import pytest
import torch

from aqueduct.core.motion import MotionField
from aqueduct.tests.comfy.graph import run, run_one

H, W = 60, 80


def drawing(*tracks, pins=()):
    return json.dumps({"version": 1, "tracks": list(tracks), "pins": list(pins)})


STRAIGHT = {"points": [[0.25, 0.5], [0.5, 0.5]]}  # x: 0.25 * 80 - 0.5 = 19.5 to 39.5, y: 29.5
PHOTO = torch.rand(1, H, W, 3, generator=torch.Generator().manual_seed(0))


def edited(*tracks, frames=6, pins=()):
    return run("AqueductTrackEditor", image=PHOTO, frames=frames, document=drawing(*tracks, pins=pins))


def test_the_editor_gives_pixels_of_the_image(comfy):
    tracks, text, pinned = edited(STRAIGHT, pins=[{"points": [[0.5, 0.9]], "radius": 0.1}])
    assert tracks["track_path"].shape == (6, 1, 2) and tracks["track_visibility"].all()
    torch.testing.assert_close(tracks["track_path"][:, 0, 0], torch.linspace(19.5, 39.5, 6))
    torch.testing.assert_close(tracks["track_path"][:, 0, 1], torch.full((6,), 29.5))
    assert json.loads(text)[0][-1] == {"x": 39.5, "y": 29.5}
    assert pinned.shape == (1, H, W) and pinned[0, 53, 39] == 1 and pinned[0, 10, 10] == 0


@pytest.mark.parametrize("source", ["tracks", "track_json"])
def test_tracks_and_their_text_make_the_same_motion(comfy, source):
    tracks, text, _ = edited(STRAIGHT)
    given = {"tracks": tracks} if source == "tracks" else {"track_json": text}
    motion = run_one("AqueductMotionFromTracks", image=PHOTO, radius=10.0, smoothing=0.0, **given)
    assert motion.frames == 6 and motion.size == (H, W)
    torch.testing.assert_close(
        motion.forward[0, :, 29:31, 19:21].mean((1, 2)), torch.tensor([4.0, 0.0]), atol=0.05, rtol=0
    )
    assert motion.forward[0, :, :5, 60:].abs().max() < 0.01
    assert motion.forward[4, 0, 29, 35] > 3.5  # the track has moved on, and its motion with it


def test_core_nodes_read_what_the_editor_writes(comfy):
    """WanMoveTracksFromCoords is not in every ComfyUI; WanTrackToVideo's parser is, and takes the same text."""
    from comfy_extras.nodes_wan import parse_json_tracks

    _, text, _ = edited(STRAIGHT, {"points": [[0.1, 0.1]]})
    parsed = parse_json_tracks(text)
    assert len(parsed) == 2 and parsed[0][-1] == {"x": 39.5, "y": 29.5}


@pytest.mark.parametrize("densifier", ["thin-plate", "gaussian", "nearest", "rigid", "edge-aware"])
def test_every_densifier_runs_from_its_widgets_alone(comfy, densifier):
    tracks, _, pinned = edited(STRAIGHT, {"points": [[0.9, 0.1]]}, pins=[{"points": [[0.9, 0.9]], "radius": 0.05}])
    motion = run_one("AqueductMotionFromTracks", image=PHOTO, tracks=tracks, pinned=pinned, densifier=densifier)
    assert motion.backward is not None
    assert motion.forward[:, 0, 29, 25].max() > 1
    assert motion.forward[..., 53, 71].abs().max() == 0


def test_frames_stretch_tracks_of_another_length(comfy):
    tracks, text, _ = edited(STRAIGHT, frames=6)
    longer = run_one("AqueductMotionFromTracks", image=PHOTO, tracks=tracks, frames=11)
    assert longer.frames == 11
    document = run_one("AqueductMotionFromTracks", track_json=drawing(STRAIGHT), frames=4, width=W, height=H)
    assert document.frames == 4 and document.size == (H, W)


def test_a_kjnodes_text_moves_where_it_says(comfy):
    text = "[{'x': 20, 'y': 30}, {'x': 24, 'y': 28}, {'x': 28, 'y': 26}]"
    motion = run_one("AqueductMotionFromTracks", track_json=text, width=W, height=H, radius=8.0, smoothing=0.0)
    torch.testing.assert_close(motion.forward[1, :, 28, 24], torch.tensor([4.0, -2.0]), atol=1e-3, rtol=0)


def test_flow_of_other_packs_becomes_motion(comfy):
    field = torch.zeros(2, H, W, 2)
    field[..., 0] = 3
    for given in (list(field.numpy()), field, field.movedim(3, 1)):
        motion = run_one("AqueductMotionFromTracks", flow=given)
        assert motion.frames == 3 and motion.size == (H, W) and (motion.forward[:, 0] == 3).all()
        assert (motion.backward[:, 0, :, 3:] + 3).abs().max() < 1e-4 and not motion.backward_valid[..., :3].any()
    refuse("AqueductOpticalFlow", "AqueductMotionFromTracks", flow=object())


def test_ten_thousand_tracks(comfy):
    points = [[round(u / 100, 4), round(v / 100, 4)] for u in range(100) for v in range(100)]
    tracks, text, _ = edited(*({"points": [point, [point[0] + 0.05, point[1]]]} for point in points), frames=3)
    assert tracks["track_path"].shape == (3, 10_000, 2)
    motion = run_one("AqueductMotionFromTracks", image=PHOTO, tracks=tracks)
    torch.testing.assert_close(motion.forward[:, 0, 20:40, 20:60], torch.full((2, 20, 40), 2.0), atol=0.1, rtol=0)


def test_camera_pans_zooms_and_holds_its_centre(comfy):
    pan = run_one("AqueductCameraMotion", image=PHOTO, frames=5, pan_x=0.25, zoom=1.0, ease="linear")
    torch.testing.assert_close(pan.forward[:, 0], torch.full((4, H, W), -5.0))  # the picture goes left
    zoom = run_one("AqueductCameraMotion", width=W, height=H, frames=2, zoom=2.0, centre_x=0.25, centre_y=0.5)
    x, y = 0.25 * W - 0.5, 0.5 * H - 0.5
    assert zoom.size == (H, W)
    torch.testing.assert_close(zoom.forward[0, 0, :, 40], torch.full((H,), 40 - x))
    torch.testing.assert_close(zoom.forward[0, 1, 10], torch.full((W,), 10 - y))


def test_camera_keyframes_take_the_place_of_the_widgets(comfy):
    keys = json.dumps([{"time": 0}, {"time": 0.5, "pan_y": 0.1}, {"time": 1}])
    motion = run_one("AqueductCameraMotion", image=PHOTO, frames=5, keyframes=keys)
    torch.testing.assert_close(motion.forward[:, 1, 0, 0], torch.tensor([-3.0, -3.0, 3.0, 3.0]))


def test_the_same_seed_shakes_the_same_way(comfy):
    first, again, other = (
        run_one("AqueductCameraMotion", image=PHOTO, frames=9, shake=3.0, seed=seed).forward for seed in (1, 1, 2)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)


def constant(x, y, frames=4):
    field = torch.tensor([x, y], dtype=torch.float32)[:, None, None].expand(frames - 1, 2, H, W).contiguous()
    return MotionField(field, -field)


@pytest.mark.parametrize("operation, frames, first", [
    ("camera over motion", 4, [3, 1]), ("sum", 4, [3, 1]), ("then", 7, [2, 0]), ("loop", 7, [2, 0]),
    ("there and back", 13, [2, 0]), ("slow down", 7, [1, 0]), ("reverse", 4, [-2, 0]), ("mask", 4, [2, 0]),
])  # fmt: skip
def test_compositions_of_constant_motion(comfy, operation, frames, first):
    mask = torch.ones(1, H, W)
    mask[:, :, W // 2 :] = 0
    amount = 0.0 if operation == "mask" else 2.0
    motion = run_one(
        "AqueductComposeMotion", motion=constant(2, 0), other=None if operation == "mask" else constant(1, 1),
        mask=mask, operation=operation, amount=amount,
    )  # fmt: skip
    assert motion.frames == frames
    torch.testing.assert_close(motion.forward[0, :, 30, 20], torch.tensor(first).float(), atol=1e-4, rtol=0)
    if operation == "mask":
        assert motion.forward[..., W // 2 :].abs().max() == 0
    if operation == "then":
        torch.testing.assert_close(motion.forward[-1, :, 30, 20], torch.tensor([1.0, 1.0]))
    if operation == "there and back":
        torch.testing.assert_close(motion.between(0, 12)[:, 30, 20], torch.zeros(2), atol=1e-4, rtol=0)


def refuse(message, node, **inputs):
    with pytest.raises((ValueError, TypeError), match=message):
        run(node, **inputs)


def test_bad_tracks_say_what_is_wrong(comfy):
    tracks, text, _ = edited(STRAIGHT)
    refuse("got none", "AqueductMotionFromTracks", image=PHOTO)
    refuse("got tracks and track_json", "AqueductMotionFromTracks", image=PHOTO, tracks=tracks, track_json=text)
    refuse("line 1", "AqueductMotionFromTracks", image=PHOTO, track_json="[{")
    refuse("single frame|two frames", "AqueductMotionFromTracks", image=PHOTO, track_json='[{"x": 1, "y": 2}]')
    refuse("image", "AqueductMotionFromTracks", tracks=tracks, densifier="edge-aware")
    refuse("pin mask is 5 x 4", "AqueductMotionFromTracks", image=PHOTO, tracks=tracks, pinned=torch.zeros(1, 4, 5))
    broken = {"track_path": torch.full((4, 1, 2), float("nan")), "track_visibility": torch.ones(4, 1)}
    refuse("track 0.*frame 0|finite", "AqueductMotionFromTracks", image=PHOTO, tracks=broken)
    empty = {"track_path": torch.zeros(4, 0, 2), "track_visibility": torch.ones(4, 0)}
    refuse("track", "AqueductMotionFromTracks", image=PHOTO, tracks=empty)


def test_tracks_outside_the_image_are_allowed(comfy):
    tracks, _, _ = edited({"points": [[-0.5, 0.5], [1.5, 0.5]]})
    motion = run_one("AqueductMotionFromTracks", image=PHOTO, tracks=tracks, radius=30.0)
    assert motion.forward.isfinite().all() and motion.forward[2, 0].max() > 10


def test_bad_drawings_cameras_and_compositions_say_what_is_wrong(comfy):
    refuse("version", "AqueductTrackEditor", image=PHOTO, document='{"version": 99, "tracks": []}')
    refuse("JSON|line", "AqueductTrackEditor", image=PHOTO, document="{nope")
    refuse("keyframe 1", "AqueductCameraMotion", keyframes='[{"time": 0, "tilt": 1}]')
    refuse("line 1", "AqueductCameraMotion", keyframes="[{]")
    refuse("in order", "AqueductCameraMotion", keyframes='[{"time": 1}, {"time": 0}]')
    refuse("cycles", "AqueductCameraMotion", frames=5, shake=2.0, shake_cycles=40.0)
    refuse("the only one", "AqueductCameraMotion", keyframes='[{"time": 1, "zoom": 1.3}]')
    refuse("needs other", "AqueductComposeMotion", motion=constant(1, 0), operation="sum")
    refuse("needs mask", "AqueductComposeMotion", motion=constant(1, 0), operation="mask")
    refuse("4 frames, .* 6", "AqueductComposeMotion", motion=constant(1, 0), other=constant(1, 0, 6), operation="sum")
    refuse("80 x 60", "AqueductComposeMotion", motion=constant(1, 0), other=constant(1, 0).resized(9, 9))
    refuse("1, 2, 3", "AqueductComposeMotion", motion=constant(1, 0), operation="loop", amount=1.5)


def test_one_mask_pins_a_clip(comfy):
    tracks, _, _ = edited(STRAIGHT)
    refuse("got 2", "AqueductMotionFromTracks", image=PHOTO, tracks=tracks, pinned=torch.zeros(2, H, W))


def test_bad_text_is_refused_before_the_run(comfy):
    from aqueduct.tests.comfy.graph import node_class

    check = node_class("AqueductMotionFromTracks").validate_inputs
    assert check("") is True and check(None) is True and check(drawing(STRAIGHT)) is True
    assert check("[{'x': 1, 'y': 2}, {'x': 3, 'y': 2}]") is True
    assert "line 1" in check("[{]") and "version" in check('{"version": 7}')


def test_the_editor_refuses_a_bad_drawing_before_the_run(comfy):
    from aqueduct.tests.comfy.graph import node_class

    assert node_class("AqueductTrackEditor").validate_inputs(drawing(STRAIGHT)) is True
    assert "99" in node_class("AqueductTrackEditor").validate_inputs('{"version": 99}')
    assert "keyframe" in node_class("AqueductCameraMotion").validate_inputs('[{"time": 2}]')


@pytest.mark.parametrize(
    "node, name",
    [("AqueductTrackEditor", "document"), ("AqueductCameraMotion", "keyframes"), ("AqueductLoadMotion", "file")],
)
def test_a_text_that_another_node_hands_in_is_not_judged_before_the_run(comfy, node, name):
    """ComfyUI validates a wired widget with None in place of what is still to come."""
    from aqueduct.tests.comfy.graph import node_class

    assert node_class(node).validate_inputs(**{name: None}) is True
