"""From clips to motion: pairing, directions, sizes, chunks, errors; DIS on patterns that move by a known amount."""

import math
import sys

import pytest
import torch

from aqueduct.core.motion.cycle import cycle_mask
from aqueduct.core.motion.estimators import PRESETS, DisEstimator, Needs, estimate_motion
from aqueduct.core.motion.estimators.dis import SAFE_SIDE, _luma
from aqueduct.core.motion.estimators.estimate import estimation_size, pairs_at_once
from aqueduct.core.motion.sampling import warp

SHIFT = (2.3, -1.4)  # pixels a frame, x and y


def pattern(height, width, frames, shift=SHIFT, scale=1.0):
    """Waves of many directions that move by ``shift`` pixels a frame: [F, 3, H, W]; ``scale`` draws them larger."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    generator = torch.Generator().manual_seed(3)
    clip = torch.zeros(frames, 3, height, width, dtype=torch.float64)
    for _ in range(30):
        angle, length, phase, *weights = torch.rand(6, generator=generator, dtype=torch.float64).tolist()
        k = 2 * math.pi / (scale * (8 + 40 * length))
        kx, ky = k * math.cos(2 * math.pi * angle), k * math.sin(2 * math.pi * angle)
        for t in range(frames):
            wave = torch.sin(kx * (x - t * shift[0]) + ky * (y - t * shift[1]) + 6.28 * phase)
            clip[t] += torch.tensor(weights)[:, None, None] * wave
    return torch.sigmoid(clip / 2).float()


class PairReader:
    """An estimator whose flow is (brightness of first, brightness of second): it shows who was paired with whom."""

    name = "pair reader"

    def __init__(self, pairs=100, memory_for=None):
        self.needs = Needs(torch.device("cpu"), 2, pairs, lambda h, w: h * w)
        self.memory_for = memory_for
        self.batches = []

    def __call__(self, first, second):
        if self.memory_for is not None and len(first) > self.memory_for:
            raise torch.cuda.OutOfMemoryError("no room")
        self.batches.append(len(first))
        return torch.stack([first.mean(1), second.mean(1)], 1)


def numbered(frames, channels=3, height=4, width=6):
    return (torch.arange(frames) / 10)[:, None, None, None].expand(frames, channels, height, width).clone()


def median_error(flow, expected):
    return (flow - torch.tensor(expected)[:, None, None]).norm(dim=-3).median().item()


def test_forward_pairs_a_frame_with_the_next_and_backward_with_the_one_before():
    motion = estimate_motion(numbered(4), PairReader())
    assert torch.allclose(motion.forward[:, :, 1, 2], torch.tensor([[0.0, 0.1], [0.1, 0.2], [0.2, 0.3]]))
    assert torch.allclose(motion.backward[:, :, 1, 2], torch.tensor([[0.1, 0.0], [0.2, 0.1], [0.3, 0.2]]))


def test_both_directions_are_one_batch():
    estimator = PairReader()
    estimate_motion(numbered(5), estimator)
    assert estimator.batches == [8]


def test_out_of_memory_halves_the_batch_and_changes_nothing():
    estimator = PairReader(memory_for=3)
    motion = estimate_motion(numbered(6), estimator)
    assert estimator.batches == [2, 2, 2, 2, 2]
    assert torch.equal(motion.forward, estimate_motion(numbered(6), PairReader()).forward)


def test_out_of_memory_for_a_single_pair_is_raised():
    with pytest.raises(torch.cuda.OutOfMemoryError):
        estimate_motion(numbered(3), PairReader(memory_for=0))


def test_memory_limits_the_batch_on_an_accelerator_only(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (24_000, 0))
    needs = Needs(torch.device("cuda"), 2, 100, lambda h, w: 100 * h * w)
    assert pairs_at_once(needs, 4, 6) == 5  # half of what is free, 2,400 bytes each
    assert pairs_at_once(Needs(torch.device("cpu"), 2, 100, needs.pair_bytes), 4, 6) == 100


def test_progress_counts_pairs_and_may_stop_the_work():
    seen = []
    estimate_motion(numbered(4), PairReader(pairs=4), report=lambda *counts: seen.append(counts))
    assert seen == [(4, 6), (6, 6)]

    def stop(done, total):
        raise InterruptedError

    estimator = PairReader(pairs=2)
    with pytest.raises(InterruptedError):
        estimate_motion(numbered(4), estimator, report=stop)
    assert estimator.batches == [2]


@pytest.mark.parametrize(
    ("size", "max_side", "expected"),
    [
        ((272, 640), 512, (218, 512)),
        ((640, 272), 512, (512, 218)),
        ((272, 640), None, (272, 640)),
        ((100, 200), 512, (100, 200)),
        ((20, 4000), 400, (8, 400)),  # 2 pixels would be too few to work on
        ((5, 4000), 400, (5, 400)),
    ],
)
def test_the_estimation_size_caps_the_longest_side(size, max_side, expected):
    assert estimation_size(*size, max_side, smallest=8) == expected


@pytest.mark.parametrize(
    ("clip", "message"),
    [
        (numbered(1), "at least two frames, got 1"),
        (numbered(0), "at least two frames, got 0"),
        (numbered(3, channels=2), r"1, 3 or 4 channels, got torch.float32 \[3, 2, 4, 6\]"),
        (numbered(3)[0], "a clip is a float tensor"),
        ((numbered(3) * 255).to(torch.uint8), "a clip is a float tensor .* got torch.uint8"),
        (numbered(3) * 255, "images are in 0..1, but frame 1 has values from 25.5 to 25.5"),
        (numbered(3, height=1), "pair reader needs images of at least 2 pixels a side, got 6 x 1"),
    ],
)
def test_what_is_no_clip_is_refused_and_said(clip, message):
    with pytest.raises(ValueError, match=message):
        estimate_motion(clip, PairReader())


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_are_refused_with_their_frame(value):
    clip = numbered(4)
    clip[2, 1, 3, 0] = value
    with pytest.raises(ValueError, match="frame 2 holds values that are not finite"):
        estimate_motion(clip, PairReader())


def test_a_cap_below_what_the_estimator_needs_is_refused():
    with pytest.raises(ValueError, match="max_side must be at least 2"):
        estimate_motion(numbered(3), PairReader(), max_side=1)


def test_grey_is_repeated_and_alpha_ignored():
    grey = pattern(40, 56, 2).mean(1, keepdim=True)
    colour = grey.repeat(1, 3, 1, 1)
    transparent = torch.cat([colour, torch.rand(2, 1, 40, 56, generator=torch.Generator().manual_seed(0))], 1)
    expected = estimate_motion(colour, DisEstimator()).forward
    assert torch.equal(estimate_motion(grey, DisEstimator()).forward, expected)
    assert torch.equal(estimate_motion(transparent, DisEstimator()).forward, expected)


# Measured: up to 0.11, 0.08, 0.04 and 0.02 px.
@pytest.mark.parametrize(("preset", "bound"), [("ultrafast", 0.2), ("fast", 0.2), ("medium", 0.1), ("fine", 0.05)])
def test_dis_finds_a_translation_in_both_directions(preset, bound):
    motion = estimate_motion(pattern(96, 144, 3), DisEstimator(preset))
    assert median_error(motion.forward, SHIFT) < bound
    assert median_error(motion.backward, (-SHIFT[0], -SHIFT[1])) < bound


def test_vectors_found_at_a_reduced_size_are_in_pixels_of_the_clip():
    shift = (5.0, 3.0)
    clip = pattern(150, 310, 2, shift, scale=2.5)
    motion = estimate_motion(clip, DisEstimator(), max_side=160)
    assert motion.size == (150, 310)
    assert median_error(motion.forward, shift) < 0.15


def test_a_clip_in_half_precision_gives_motion_in_single():
    clip = pattern(48, 64, 2)
    half = estimate_motion(clip.half(), DisEstimator())
    assert half.forward.dtype == torch.float32
    assert median_error(half.forward, SHIFT) < 0.1


@pytest.mark.parametrize("preset", PRESETS)
def test_dis_is_identical_batched_and_looped_on_any_number_of_threads(preset):
    clip = pattern(60, 84, 5)
    batched = estimate_motion(clip, DisEstimator(preset, threads=3))
    looped = [estimate_motion(clip[i : i + 2], DisEstimator(preset, threads=1)) for i in range(4)]
    assert torch.equal(batched.forward, torch.cat([motion.forward for motion in looped]))
    assert torch.equal(batched.backward, torch.cat([motion.backward for motion in looped]))


def test_opencv_keeps_the_number_of_threads_it_had():
    cv2 = pytest.importorskip("cv2")
    before = cv2.getNumThreads()
    try:
        cv2.setNumThreads(2)
        estimate_motion(pattern(40, 40, 2), DisEstimator())
        assert cv2.getNumThreads() == 2
        broken = DisEstimator()
        broken._create = lambda: 1 / 0
        with pytest.raises(ZeroDivisionError):
            estimate_motion(pattern(40, 40, 2), broken)
        assert cv2.getNumThreads() == 2
    finally:
        cv2.setNumThreads(before)


@pytest.mark.parametrize("size", [(8, 8), (8, 11), (16, 100), (31, 200), (200, 9)])
def test_dis_works_on_images_that_opencv_alone_refuses_or_crashes_on(size):
    images = pattern(*size, 2, shift=(1.0, 0.0))
    assert min(_luma(images).shape[-2:]) >= SAFE_SIDE  # looked at first: below it the process may end
    assert torch.equal(_luma(images)[:, size[0] - 1, : size[1]], _luma(images)[:, -1, : size[1]])
    for preset in PRESETS:
        motion = estimate_motion(images, DisEstimator(preset))
        assert motion.size == size and motion.forward.abs().max() < 20


def test_dis_names_what_it_does_not_know():
    with pytest.raises(ValueError, match="unknown DIS preset 'slow'; the presets are ultrafast, fast, medium, fine"):
        DisEstimator("slow")
    with pytest.raises(ValueError, match="threads must be at least 1"):
        DisEstimator(threads=0)


def test_without_opencv_the_message_names_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(ImportError, match="DIS optical flow needs the Python package 'opencv-python-headless'"):
        DisEstimator()


def test_warping_real_video_lowers_its_error_threefold(sample_video):
    """Every tenth pair of the whole clip, each pixel that passes the cycle test; the shipped preset."""
    clip = sample_video("bikes", range(250), 320)
    earlier, later = clip[0:249:10], clip[1:250:10]
    estimator = DisEstimator()
    forward, backward = estimator(earlier, later), estimator(later, earlier)
    valid = cycle_mask(backward, forward)
    still = (later - earlier).abs().mean(1)[valid].mean()
    warped = (later - warp(earlier, backward)).abs().mean(1)[valid].mean()
    assert valid.float().mean() > 0.8
    assert still > 3 * warped
