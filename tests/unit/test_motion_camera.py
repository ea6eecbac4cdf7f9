"""Camera motion: closed forms of each movement, its signs, and that both directions are inverse."""

import math

import pytest
import torch

from aqueduct.core.motion import pixel_grid, warp
from aqueduct.core.motion.camera import Keyframe, Shake, camera_maps, camera_motion

H, W = 40, 60


def points() -> torch.Tensor:
    return pixel_grid(H, W)


def full(field: torch.Tensor, *vector: float) -> torch.Tensor:
    return torch.tensor(vector, dtype=field.dtype)[:, None, None].expand_as(field)


# --- closed forms and signs -------------------------------------------------------------------------------------------


def test_a_pan_to_the_right_and_down_moves_the_content_left_and_up():
    """Half the width and a quarter of the height in five steps: 6 and 2 pixels a frame."""
    motion = camera_motion(6, H, W, [Keyframe(0), Keyframe(1, pan_x=0.5, pan_y=0.25)])
    for field, sign in ((motion.forward, -1), (motion.backward, 1)):
        assert torch.allclose(field, full(field, sign * 6, sign * 2), atol=1e-5)


def test_zoom_grows_by_the_same_factor_every_frame_about_its_point():
    """Fourfold in four steps, about (15, 30): each frame enlarges the last by sqrt(2); that point rests."""
    motion = camera_motion(5, H, W, [Keyframe(0), Keyframe(1, zoom=4)], centre=(15.5 / W, 30.5 / H))
    away = points() - torch.tensor([15.0, 30.0])[:, None, None]
    for step in range(4):
        assert torch.allclose(motion.forward[step], away * (2**0.5 - 1), atol=1e-4)
        assert torch.allclose(motion.backward[step], away * (0.5**0.5 - 1), atol=1e-4)


def test_a_clockwise_roll_turns_the_content_counterclockwise():
    """90 degrees in one step about the picture's middle: what was on the right is on top."""
    motion = camera_motion(2, H, W, [Keyframe(0), Keyframe(1, roll=90)])
    x, y = points() - torch.tensor([(W - 1) / 2, (H - 1) / 2])[:, None, None]
    assert torch.allclose(motion.forward[0], torch.stack([y - x, -x - y]), atol=1e-4)
    right = torch.tensor([20.0, 0.0])
    landed = camera_maps(2, H, W, [Keyframe(0), Keyframe(1, roll=90)])[1] @ torch.tensor([29.5 + 20, 19.5, 1]).double()
    assert torch.allclose(
        landed[:2].float() - torch.tensor([29.5, 19.5]), torch.stack([right[1], -right[0]]), atol=1e-5
    )


def test_pan_is_measured_in_the_picture_without_zoom():
    """Zoomed in twofold, a tenth of the picture's width is 2 x 6 pixels on the screen."""
    motion = camera_motion(2, H, W, [Keyframe(0, zoom=2), Keyframe(1, pan_x=0.1, zoom=2)])
    assert torch.allclose(motion.forward, full(motion.forward, -12, 0), atol=1e-4)


def test_picture_and_field_agree():
    """What the backward field warps out of frame 0 is the picture, analytically moved: brighter to the right."""
    motion = camera_motion(2, H, W, [Keyframe(0), Keyframe(1, pan_x=0.1, zoom=1.2, roll=7)])
    x, y = points()
    seen = warp((0.3 * x + 0.7 * y)[None, None], motion.backward)[0, 0]
    back = torch.linalg.inv(camera_maps(2, H, W, [Keyframe(0), Keyframe(1, pan_x=0.1, zoom=1.2, roll=7)])[1])
    source = (back @ torch.stack([x, y, torch.ones_like(x)]).flatten(1).double()).view(3, H, W)
    inside = (source[0] > 0) & (source[0] < W - 1) & (source[1] > 0) & (source[1] < H - 1)
    assert torch.allclose(seen[inside].double(), (0.3 * source[0] + 0.7 * source[1])[inside], atol=1e-3)
    assert inside.float().mean() > 0.5


# --- keyframes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "ease, bent",
    [
        ("linear", lambda s: s),
        ("in", lambda s: s**2),
        ("out", lambda s: 1 - (1 - s) ** 2),
        ("in-out", lambda s: s**2 * (3 - 2 * s)),
    ],
)
def test_each_segment_has_its_own_ease(ease, bent):
    """The first half goes right with this ease, the second, linear, comes back."""
    keys = [Keyframe(0, ease=ease), Keyframe(0.5, pan_x=1), Keyframe(1, pan_x=0)]
    x = -camera_maps(9, H, W, keys)[:, 0, 2] / W
    expected = [bent(k / 4) for k in range(5)] + [0.75, 0.5, 0.25, 0]
    assert torch.allclose(x, torch.tensor(expected).double())


def test_the_camera_rests_outside_its_keyframes():
    motion = camera_motion(11, H, W, [Keyframe(0.3, pan_x=0.2), Keyframe(0.6, pan_x=0.5)])
    moving = motion.forward.abs().amax((1, 2, 3)) > 1e-4
    assert moving.tolist() == [False] * 3 + [True] * 3 + [False] * 4


def test_only_change_moves():
    """A single keyframe, wherever the camera is, holds still."""
    motion = camera_motion(4, H, W, [Keyframe(0.5, pan_x=0.3, zoom=3, roll=40)])
    assert motion.forward.abs().max() < 1e-4


# --- composition ------------------------------------------------------------------------------------------------------


def test_steps_compose_to_the_whole_and_back():
    """Oracle: ``A_t`` itself, where the path stays in the frame; forward then backward returns."""
    keys = [Keyframe(0), Keyframe(0.4, pan_x=0.05, zoom=1.1, roll=5, ease="in-out"), Keyframe(1, pan_y=-0.1, roll=-5)]
    motion = camera_motion(12, H, W, keys, centre=(0.3, 0.6), shake=Shake(1.5, seed=3))
    maps = camera_maps(12, H, W, keys, (0.3, 0.6), Shake(1.5, seed=3))
    homogeneous = torch.cat([points(), torch.ones(1, H, W)]).flatten(1).double()
    for start, end in ((0, 11), (11, 0), (3, 8)):
        flow, valid = motion.between_valid(start, end)
        exact = (maps[end] @ torch.linalg.inv(maps[start]) @ homogeneous)[:2].view(2, H, W) - points()
        assert (flow - exact)[:, valid].abs().max() < 1e-3 and valid.float().mean() > 0.5


# --- shake ------------------------------------------------------------------------------------------------------------


def test_shake_is_bounded_seeded_and_the_same_at_every_size():
    still = [Keyframe(0)]
    paths = [camera_maps(61, h, w, still, shake=Shake(2.5, seed=s))[:, :2, 2] for h, w, s in ((H, W, 1), (9, 9, 1))]
    assert torch.allclose(paths[0], paths[1]) and 0.8 < paths[0].abs().max() <= 2.5
    other = camera_maps(61, H, W, still, shake=Shake(2.5, seed=2))[:, :2, 2]
    assert (paths[0] - other).abs().max() > 0.5
    motion = camera_motion(61, H, W, still, shake=Shake(2.5, seed=1))
    assert (motion.forward - motion.forward[..., :1, :1]).abs().max() < 1e-4


def test_shake_stays_within_its_band():
    """Oracle: the spectrum of a long clip, through a Hann window: nothing below half the frequency nor above it."""
    time = torch.arange(4096, dtype=torch.float64) / 4096 * 32  # 32 clips of 4 cycles
    path = Shake(1.0, frequency=4.0, seed=5).path(time)
    spectrum = torch.fft.rfft(path * torch.hann_window(4096, dtype=torch.float64)[:, None], dim=0).abs() ** 2
    cycles = torch.arange(len(spectrum)) / 32
    outside = (cycles < 2 - 0.1) | (cycles > 4 + 0.1)
    assert spectrum[outside].sum() < 1e-4 * spectrum.sum()
    assert path.std(dim=0).min() > 0.2


def test_a_shake_too_fast_for_the_clip_is_refused():
    with pytest.raises(ValueError, match="9 frames show at most 4 cycles, a shake of 5 cycles"):
        camera_motion(9, H, W, [Keyframe(0)], shake=Shake(1, frequency=5))
    camera_motion(9, H, W, [Keyframe(0)], shake=Shake(1, frequency=4))


# --- what is wrong ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: camera_motion(1, H, W, [Keyframe(0)]), "two frames or more, got 1"),
        (lambda: camera_motion(3, H, W, []), "needs a keyframe"),
        (lambda: camera_motion(3, H, W, [Keyframe(0.5), Keyframe(0.5)]), r"in order.*\[0.5, 0.5\]"),
        (lambda: Keyframe(1.5), "0..1, got 1.5"),
        (lambda: Keyframe(0, zoom=0), "zoom is a factor above 0"),
        (lambda: Keyframe(0, roll=math.nan), "must be finite"),
        (lambda: Keyframe(0, ease="bounce"), "unknown ease 'bounce'; there are linear, in, out, in-out"),
        (lambda: Shake(-1), "at least 0 pixels"),
        (lambda: Shake(1, frequency=0), "frequency above 0"),
    ],
)
def test_what_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
