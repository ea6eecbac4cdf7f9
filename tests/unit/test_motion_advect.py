"""Carrying a frame along, and what it never showed."""

import math

import pytest
import torch

from aqueduct.core.motion import MotionField, advect, inside, pixel_grid
from aqueduct.core.motion.chunks import chunk_size, frame_chunks, halving, is_out_of_memory

H, W = 24, 40


def constant(x, y, frames):
    field = torch.tensor([x, y], dtype=torch.float32)[:, None, None].expand(frames - 1, 2, H, W).contiguous()
    return MotionField(field, -field)


def moving_block(speed, frames, left=6, size=8):
    """A block over a still ground: forward and backward fields tear at its edges."""
    forward, backward = torch.zeros(2, frames - 1, 2, H, W)
    for i in range(frames - 1):
        for field, x, sign in ((forward, left + round(speed * i), 1), (backward, left + round(speed * (i + 1)), -1)):
            field[i, 0, 8:16, x : x + size] = sign * speed
    return MotionField(forward, backward)


def test_a_translated_picture_is_the_picture_translated():
    frame = torch.rand(3, H, W, generator=torch.Generator().manual_seed(0))
    clip, unseen = advect(frame, constant(2, -1, 5))
    for t in range(5):
        assert torch.equal(unseen[t], ~seen(2 * t, -t))
        torch.testing.assert_close(clip[t, :, : H - t, 2 * t :], frame[:, t:, : W - 2 * t], atol=1e-5, rtol=0)
    assert torch.equal(clip[0], frame)


def seen(x, y):
    grid = pixel_grid(H, W)
    from_x, from_y = grid[0] - x, grid[1] - y
    return (from_x >= 0) & (from_x <= W - 1) & (from_y >= 0) & (from_y <= H - 1)


def test_nothing_is_interpolated_twice():
    """Half a pixel a frame: after eight frames the picture is exact again, where repeated warping blurs it."""
    frame = torch.rand(1, H, W, generator=torch.Generator().manual_seed(1))
    clip, _ = advect(frame, constant(0.5, 0, 9))
    torch.testing.assert_close(clip[8, :, :, 4:], frame[:, :, :-4], atol=1e-5, rtol=0)
    assert clip[7, :, :, 4:].std() < 0.85 * frame.std()  # one interpolation, at the half pixel


def test_a_rotating_picture_keeps_its_detail():
    angle, frames, size = math.radians(4), 24, 96
    centre = (size - 1) / 2
    grid = pixel_grid(size, size) - centre

    def turned(by):
        c, s = math.cos(by), math.sin(by)
        return torch.stack([c * grid[0] - s * grid[1], s * grid[0] + c * grid[1]])

    def picture(at):
        return (torch.sin(at[0] / 5) * torch.cos(at[1] / 7) + at[0] / size)[None]

    step, back = turned(angle) - grid, turned(-angle) - grid
    motion = MotionField(step.expand(frames - 1, -1, -1, -1), back.expand(frames - 1, -1, -1, -1))
    clip, unseen = advect(picture(grid), motion)
    for t in (1, 12, 23):
        known = ~unseen[t] & inside(turned(-t * angle) + centre, size, size)
        assert known.float().mean() > 0.6
        error = (clip[t] - picture(turned(-t * angle))).abs()[0, known]
        assert error.max() < 0.015  # bilinear error of this picture: curvature / 8


@pytest.mark.parametrize("speed", [4, 1])
def test_what_a_block_uncovers_was_never_seen(speed):
    frames = 8 // speed + 1
    _, unseen = advect(torch.rand(1, H, W), moving_block(speed, frames))
    moved = 8
    assert unseen[-1, 9:15, 7 : 6 + moved - 1].all()  # the place it left, less a pixel of mixed vectors
    assert not unseen[-1, 9:15, 6 + moved + 1 : 6 + moved + 7].any()  # the block itself
    assert not unseen[-1, :7].any() and not unseen[-1, 17:].any()


def test_slow_motion_uncovers_too():
    """Half a pixel a frame: each step passes the cycle test (E = 0.25 < 0.5), the whole way does not."""
    forward, backward = torch.zeros(2, 12, 2, H, W)
    for i in range(12):
        forward[i, 0, 8:16, 6 + i // 2 : 14 + i // 2] = 0.5
        backward[i, 0, 8:16, 6 + (i + 1) // 2 : 14 + (i + 1) // 2] = -0.5
    motion = MotionField(forward, backward)
    assert motion.checked().backward_valid[:, 9:15, 8:12].all()
    _, unseen = advect(torch.rand(1, H, W), motion)
    assert unseen[-1, 9:15, 7:10].all() and not unseen[-1, :7].any()


def test_errors_of_many_steps_are_no_uncovering():
    """Forty steps whose way back misses by a random tenth of a pixel: together more than one step may miss by."""
    generator = torch.Generator().manual_seed(3)
    error = 0.1 * torch.randn(40, 2, 1, 1, generator=generator).expand(-1, -1, H, W)
    forward = torch.zeros(40, 2, H, W)
    _, unseen = advect(torch.rand(1, H, W, generator=generator), MotionField(forward, error.contiguous()))
    assert not unseen[:, 4:-4, 4:-4].any()


def test_a_breath_of_motion_keeps_the_border():
    field = 0.02 * torch.randn(6, 2, H, W, generator=torch.Generator().manual_seed(2))
    _, unseen = advect(torch.rand(1, H, W), MotionField(field, -field))
    assert not unseen.any()


def test_progress_is_told_and_may_interrupt():
    told = []
    advect(torch.rand(1, H, W), constant(1, 0, 4), report=lambda done, total: told.append((done, total)))
    assert told == [(1, 3), (2, 3), (3, 3)]

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        advect(torch.rand(1, H, W), constant(1, 0, 4), report=stop)


def test_a_frame_of_another_size_is_refused():
    with pytest.raises(ValueError, match="40 x 24.*resize the motion"):
        advect(torch.rand(3, 20, 40), constant(1, 0, 3))
    with pytest.raises(ValueError, match="bidirectional"):
        advect(torch.rand(3, H, W), MotionField(torch.zeros(2, 2, H, W)))


def test_halving_keeps_what_was_done_and_goes_on():
    tried, halved = [], []

    def work(part):
        tried.append((part.start, part.stop))
        if part.stop - part.start > 2 and part.start >= 4:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return list(range(part.start, part.stop))

    parts = halving(work, 9, 4, halved.append)
    assert sum(parts, []) == list(range(9)) and halved == [2]
    assert tried == [(0, 4), (4, 8), (4, 6), (6, 8), (8, 9)]


def test_halving_gives_up_on_one_item_and_on_other_errors():
    def full(part):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes")

    with pytest.raises(RuntimeError, match="allocate"):
        halving(full, 4, 4)
    calls = []

    def broken(part):
        calls.append(part)
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes"):
        halving(broken, 4, 4)
    assert len(calls) == 1
    for message in ("MPS backend out of memory (MPS allocated: 17.9 GB)", "CUDA error: out of memory"):
        assert is_out_of_memory(RuntimeError(message))  # what MPS and CUDA itself raise
    assert is_out_of_memory(MemoryError()) and not is_out_of_memory(ValueError("not enough memory"))


def test_the_cpu_takes_frames_one_by_one():
    assert frame_chunks(3, 10, "cpu") == [slice(0, 1), slice(1, 2), slice(2, 3)]
    assert chunk_size(1 << 28, torch.device("meta")) == 4
