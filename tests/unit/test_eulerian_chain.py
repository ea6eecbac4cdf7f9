"""The chain of windows, against closed forms: what is carried, what adds up, what is pulled back, what is kept."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from aqueduct.core.animation import eulerian_chain, window_starts
from aqueduct.core.animation.anchor import FEATHER, anchored, feathered, first_frame_maps
from aqueduct.core.animation.chain import faded
from aqueduct.core.motion import MotionField, advect, pixel_grid
from aqueduct.core.motion.carry import carry
from aqueduct.tests.unit.affine_motions import affine_motion, still, turned

ROOT = Path(__file__).resolve().parents[2]
H, W, FRAMES = 24, 32, 23
# (window, overlap): one window, none left over, a last one moved back, more than half of it common, three at a time
PLANS = [(23, 1), (8, 3), (2, 1), (9, 1), (16, 4), (10, 9), (12, 8)]


def picture(seed: int = 0) -> torch.Tensor:
    return torch.rand(3, H, W, generator=torch.Generator().manual_seed(seed))


def smooth_picture() -> torch.Tensor:
    """Whose second derivative, 0.06, bounds what interpolation may cost."""
    x, y = pixel_grid(H, W)
    return torch.stack([torch.sin(0.2 * x + 0.1 * y), torch.cos(0.15 * x - 0.2 * y)]) / 2


def sliding(x: int, y: int, frames: int = FRAMES) -> MotionField:
    field = torch.tensor([x, y], dtype=torch.float32)[:, None, None].expand(frames - 1, 2, H, W).contiguous()
    return MotionField(field, -field)


def warp_only(window):
    return window.prior


def drifting(by: float):
    return lambda window: window.prior + by


def collected(frames) -> tuple[torch.Tensor, torch.Tensor]:
    clip, seen = zip(*frames, strict=True)
    return torch.stack(clip), torch.stack(seen)


# --- windows ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("window, overlap", PLANS)
def test_windows_cover_the_clip_and_meet(window, overlap):
    starts = window_starts(FRAMES, window, overlap)
    assert starts[0] == 0 and starts[-1] + window == FRAMES
    assert all(1 <= b - a <= window - overlap for a, b in zip(starts, starts[1:], strict=False))
    seen = []
    count = eulerian_chain(picture(), still(FRAMES, H, W), lambda one: seen.append(one) or one.prior, window, overlap)
    assert len(list(count)) == FRAMES
    assert [(one.index, one.start, one.stop) for one in seen] == [(i, s, s + window) for i, s in enumerate(starts)]
    assert {one.count for one in seen} == {len(starts)}


@pytest.mark.parametrize(
    "frames, window, overlap, told",
    [
        (8, 9, 1, "window is 9 frames, the clip has 8.*shorter.*longer"),
        (8, 1, 1, "two frames or more, got 1"),
        (8, 4, 4, "overlap by 1 to 3 of them, got 4"),
        (8, 4, 0, "got 0"),
    ],
)
def test_plans_that_are_none(frames, window, overlap, told):
    with pytest.raises(ValueError, match=told):
        eulerian_chain(picture(), still(frames, H, W), warp_only, window, overlap)


def test_what_does_not_fit_is_told_at_once():
    with pytest.raises(ValueError, match=r"32 x 24 pixels, the first frame is \[3, 24, 30\].*resize the motion"):
        eulerian_chain(picture()[..., :30], still(9, H, W), warp_only, 4, 1)
    with pytest.raises(ValueError, match="bidirectional"):
        eulerian_chain(picture(), MotionField(torch.zeros(8, 2, H, W)), warp_only, 4, 1)
    short = eulerian_chain(picture(), still(9, H, W), lambda window: window.prior[1:], 4, 1)
    with pytest.raises(ValueError, match=r"\[4, 3, 24, 32\].*gave \[3, 3, 24, 32\]"):
        next(short)


# --- the warp alone ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("anchor", [True, False])
@pytest.mark.parametrize("window, overlap", PLANS)
def test_whole_pixels_are_the_picture_moved(window, overlap, anchor):
    first = picture()
    clip, seen = collected(eulerian_chain(first, sliding(1, -1), warp_only, window, overlap, anchor))
    for t in range(FRAMES):
        shown = torch.zeros(H, W, dtype=torch.bool)
        shown[: H - t, t:] = True
        assert torch.equal(seen[t], shown)
        torch.testing.assert_close(clip[t, :, : H - t, t:], first[:, t:, : W - t], atol=5e-5, rtol=0)


@pytest.mark.parametrize("matrix, shift", [(turned(0.03), (0, 0)), (turned(0.0, 0.98), (0.3, -0.2))])
def test_the_warp_alone_is_advection_of_the_whole(matrix, shift):
    """Where the first frame is seen by both, to within what reading between pixels may cost."""
    motion = affine_motion(matrix, shift, FRAMES, H, W)
    expected, unseen = advect(smooth_picture(), motion)
    clip, seen = collected(eulerian_chain(smooth_picture(), motion, warp_only, 8, 3))
    both = seen & ~unseen
    assert both[-1].float().mean() > 0.3 and (seen != ~unseen).float().mean() < 0.01
    apart = (clip - expected).abs().amax(1)
    assert (apart * both).max() < 0.03  # five windows, each of which reads between pixels
    middle = (pixel_grid(H, W) - torch.tensor([W - 1, H - 1])[:, None, None] / 2).norm(dim=0) < 8  # off the border
    from_first = torch.stack([feathered(one) == 1 for one in seen]) & both & middle
    assert from_first[-1].sum() > 100
    assert (apart * from_first).max() < 1e-4  # read once, as advection does


def test_anchoring_keeps_the_warp_sharp():
    """Half a pixel a frame: windows of seven frames re-read what they read, and blur; the first frame is read once."""
    first = picture()
    field = torch.tensor([0.5, 0.0])[:, None, None].expand(18, 2, H, W).contiguous()
    motion = MotionField(field, -field)
    sharp, blurred = (collected(eulerian_chain(first, motion, warp_only, 8, 1, anchor))[0] for anchor in (True, False))
    inner = slice(9 + FEATHER, None)
    torch.testing.assert_close(sharp[18, ..., inner], first[..., inner.start - 9 : -9], atol=1e-5, rtol=0)
    assert blurred[18, ..., inner].std() < 0.9 * first.std()


def test_the_first_frame_is_seen_where_the_carry_sees_it():
    """Against each pixel followed along the fields: a block uncovers the ground, slowly."""
    forward, backward = torch.zeros(2, 12, 2, H, W)
    for i in range(12):
        forward[i, 0, 8:16, 6 + i // 2 : 14 + i // 2] = 0.5
        backward[i, 0, 8:16, 6 + (i + 1) // 2 : 14 + (i + 1) // 2] = -0.5
    motion = MotionField(forward, backward)
    way = carry(motion)
    seen = torch.stack([seen for _, seen in first_frame_maps(motion)])
    assert (seen != way.seen[0]).float().mean() < 0.01
    assert not seen[-1, 9:15, 7:10].any() and seen[-1, :7].all()


# --- what adds up and what is pulled back -----------------------------------------------------------------------------


def test_drift_adds_up_without_an_anchor():
    """Windows 8 with overlap 2: their own frames are one step brighter each; the two common ones are in between."""
    first, by = picture(), 0.25
    clip, _ = collected(eulerian_chain(first, still(20, H, W), drifting(by), 8, 2, anchor=False))
    levels = [1] * 6 + [1 + 1 / 3, 1 + 2 / 3] + [2] * 4 + [2 + 1 / 3, 2 + 2 / 3] + [3] * 6
    expected = first + by * torch.tensor(levels)[:, None, None, None]
    torch.testing.assert_close(clip, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("window, overlap", PLANS)
def test_drift_is_pulled_back_where_the_first_frame_is_seen(window, overlap):
    first, by = picture(), 0.25
    clip, seen = collected(eulerian_chain(first, still(FRAMES, H, W), drifting(by), window, overlap))
    assert seen.all()
    torch.testing.assert_close(clip, (first + by).expand_as(clip), atol=1e-5, rtol=0)


def test_what_came_in_later_has_no_anchor():
    """Sliding by one pixel a frame, windows 9 with overlap 1: the columns that came in keep all of the drift."""
    by = 0.25
    clip, seen = collected(eulerian_chain(torch.zeros(3, H, W), sliding(1, 0, 17), drifting(by), 9, 1))
    last = clip[-1]
    assert seen[-1, :, 16:].all() and not seen[-1, :, :16].any()
    assert torch.allclose(last[..., 16 + FEATHER :], torch.tensor(by), atol=1e-5)
    assert torch.allclose(last[..., : 8 - FEATHER], torch.tensor(2 * by), atol=1e-5)  # came in within this window
    assert torch.allclose(last[..., 8 + FEATHER : 16], torch.tensor(2 * by), atol=1e-5)  # within the one before


def test_an_anchored_start_is_what_the_next_window_is_shown():
    shown = []
    chain = eulerian_chain(
        torch.zeros(1, H, W), still(15, H, W), lambda one: shown.append(one) or one.prior + 1, 8, 1, anchor=True
    )
    list(chain)
    assert [one.first.abs().max().item() for one in shown] == [0, 0]
    assert all(one.motion.frames == 8 and one.seen.all() for one in shown)


def test_the_prior_begins_with_the_windows_first_frame():
    """Also where the anchor's soft edge runs: a model is given both, and they are one picture."""
    shown = []
    list(eulerian_chain(picture(), sliding(1, 0, 17), lambda one: shown.append(one) or one.prior + 0.25, 9, 1))
    edge = feathered(shown[-1].seen[0])
    assert ((edge > 0) & (edge < 1)).any()
    assert all(torch.equal(one.prior[0], one.first) for one in shown)


# --- fading and edges -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("common", [0, 1, 2, 5])
def test_shares_of_both_windows_sum_to_one(common):
    ones, zeros = torch.ones(6, 1, 2, 2), torch.zeros(6, 1, 2, 2)
    later = faded(zeros[:common], ones)
    earlier = faded(ones[:common], zeros)
    torch.testing.assert_close(later + earlier, ones)
    expected = [(i + 1) / (common + 1) for i in range(common)] + [1.0] * (6 - common)
    torch.testing.assert_close(later[:, 0, 0, 0], torch.tensor(expected))


def test_the_edge_is_soft_inside_and_the_frame_is_none():
    seen = torch.ones(H, W, dtype=torch.bool)
    assert torch.equal(feathered(seen), torch.ones(H, W))
    seen[:, 16:] = False
    row = feathered(seen, 2)[3]
    torch.testing.assert_close(row[12:18], torch.tensor([1, 1, 0.6, 0.2, 0, 0]))
    still_there = pixel_grid(H, W)
    mixed = anchored(torch.zeros(1, H, W), torch.ones(1, H, W), still_there, seen)[0]
    assert torch.equal(mixed, feathered(seen))


# --- lazy, in order, and small ----------------------------------------------------------------------------------------


def test_frames_come_before_the_next_window_is_made():
    made, told = [], []
    chain = eulerian_chain(
        picture(), still(20, H, W), lambda one: made.append(one.index) or one.prior, 8, 2,
        report=lambda done, total: told.append((done, total)),
    )  # fmt: skip
    assert made == []
    for t, _ in enumerate(chain):
        assert made == list(range(1 + min(t // 6, 2))) and told == [(i + 1, 3) for i in made]


def test_a_report_may_interrupt():
    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(eulerian_chain(picture(), still(20, H, W), warp_only, 8, 2, report=stop))


def test_a_clip_of_100_frames_takes_the_memory_of_25():
    """Peak resident memory of a fresh process: first 25 frames, then 100, of the same motion."""
    code = f"import sys; sys.path[:0] = [{str(ROOT / 'scripts')!r}, {str(ROOT / 'benchmarks')!r}]\n"
    code += "from _pack import load_pack; load_pack()\nfrom aqueduct.tests.unit import test_eulerian_chain as own\n"
    pages = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "32768"}  # what is freed goes back, so that peaks mean something
    command = [sys.executable, "-c", code + "own.peaks()"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=pages)
    found = json.loads(done.stdout.splitlines()[-1])
    # The clip of 100 frames alone would be 29 MiB.
    assert 1 < found["25"] and found["100"] < 1.2 * found["25"], found


def peaks() -> None:
    from _motion_cost import resident_peak

    torch.set_num_threads(1)
    side = 160
    motions, first = [slow(side, frames) for frames in (25, 100)], torch.rand(3, side, side)
    stored = torch.rand(100, 3, side, side)  # written to, so that it has its pages
    for _ in eulerian_chain(first[:, :64, :64], slow(64, 8), warp_only, 4, 1):  # what torch takes once
        pass
    start, found = resident_peak(), {}
    for motion in motions:
        for t, (frame, _) in enumerate(eulerian_chain(first, motion, warp_only, 8, 2)):
            stored[t] = frame
        found[str(motion.frames)] = (resident_peak() - start) * 1024
    print(json.dumps(found))


def slow(side: int, frames: int) -> MotionField:
    return MotionField(torch.full((frames - 1, 2, side, side), 0.25), torch.full((frames - 1, 2, side, side), -0.25))
