"""The same motion at other moments: exact for what moves straight, and in order where things overlap."""

import pytest
import torch

from aqueduct.core.motion import MotionField, pixel_grid
from aqueduct.core.motion.neighbourhood import highest_nearby
from aqueduct.core.motion.retime import retimed

H, W = 40, 60


def constant(*vectors) -> MotionField:
    forward = torch.tensor(vectors, dtype=torch.float32)[:, :, None, None].expand(-1, -1, H, W).clone()
    return MotionField(forward, -forward)


SHEAR = torch.tensor([[0.10, -0.06], [0.08, -0.05]], dtype=torch.float64)
SLIDE = torch.tensor([1.5, -1.0], dtype=torch.float64)


def affine(steps: int) -> MotionField:
    """``forward(x) = SHEAR (x - c) + SLIDE`` in every step, and its exact inverse."""
    away = (pixel_grid(H, W).permute(1, 2, 0) - torch.tensor([30.0, 20.0])).double()
    forward = away @ SHEAR.T + SLIDE
    back = (away - SLIDE) @ torch.linalg.inv(torch.eye(2).double() + SHEAR).T - away
    fields = [field.permute(2, 0, 1).float().expand(steps, -1, -1, -1).clone() for field in (forward, back)]
    return MotionField(*fields)


def place(time: float, start: torch.Tensor) -> torch.Tensor:
    """Where a particle at ``start [2, n]`` (relative to c) in frame 0 is at ``time``: straight within each frame."""
    for _ in range(int(time)):
        start = start + SHEAR @ start + SLIDE[:, None]
    return start + (time % 1) * (SHEAR @ start + SLIDE[:, None])


def test_even_motion_at_other_speeds():
    motion = constant((4, 2), (4, 2))
    slow = retimed(motion, [0, 0.5, 1, 1.5, 2])
    assert slow.frames == 5
    assert torch.allclose(slow.forward[:, :, 20, 30], torch.tensor([2.0, 1.0]))
    assert torch.allclose(slow.backward[:, :, 20, 30], torch.tensor([-2.0, -1.0]))
    fast = retimed(motion, [0, 2])
    assert torch.allclose(fast.forward[0, :, 10, 20], torch.tensor([8.0, 4.0]))
    assert torch.allclose(retimed(motion, [2, 1.25, 0]).forward[:, :, 20, 30], torch.tensor([[-3.0, -1.5], [-5, -2.5]]))


def test_whole_moments_are_the_motion_itself():
    motion = affine(3)
    same = retimed(motion, [0, 1, 2, 3])
    assert torch.allclose(same.forward, motion.forward, atol=1e-5)
    assert torch.allclose(same.backward, motion.backward, atol=1e-5)
    still = retimed(motion, [1.5, 1.5])
    assert (still.forward == 0).all() and still.forward_valid.all()


@pytest.mark.parametrize("start, end", [(0.25, 0.75), (0.5, 2.25), (0, 2.5), (2.75, 1.25), (1.75, 1.5), (0.9, 1.1)])
def test_particles_that_move_straight_are_followed_exactly(start, end):
    """Oracle: particles of frame 0 on their straight pieces; read off the field where they are at ``start``."""
    made = retimed(affine(3), [start, end])
    origin = pixel_grid(H, W)[:, 12:29:4, 18:43:4].flatten(1).double() - torch.tensor([[30.0], [20.0]]).double()
    centre = torch.tensor([[30.0], [20.0]]).double()
    for field, valid, here, there in (
        (made.forward, made.forward_valid, start, end),
        (made.backward, made.backward_valid, end, start),
    ):
        at, to = (place(time, origin) + centre for time in (here, there))
        x, y = at.round().long()
        known = valid[0, y, x]
        assert known.float().mean() > 0.9
        # Affine within a pixel: the vector at the particle, from the vector at its pixel, by the map's own slope.
        slope = _slope(here, there)
        expected = (to - at) + slope @ (torch.stack([x, y]).double() - at)
        assert (field[0][:, y, x].double() - expected)[:, known].abs().max() < 0.02


def _slope(here: float, there: float) -> torch.Tensor:
    """Gradient of the displacement between two times."""
    eye = torch.eye(2).double()

    def since_start(time: float) -> torch.Tensor:
        return (eye + (time % 1) * SHEAR) @ torch.linalg.matrix_power(eye + SHEAR, int(time))

    return since_start(there) @ torch.linalg.inv(since_start(here)) - eye


def test_slowed_twice_and_sped_up_again_is_the_original():
    motion = affine(2)
    slow = retimed(motion, [0, 0.5, 1, 1.5, 2])
    again = retimed(slow, [0, 2, 4])
    inner = (slice(None), slice(None), slice(8, -8), slice(8, -8))
    assert (again.forward - motion.forward)[inner].abs().max() < 0.01
    assert (again.backward - motion.backward)[inner].abs().max() < 0.01


@pytest.mark.parametrize("front_moves", [True, False])
def test_between_frames_what_is_in_front_stays_in_front(front_moves):
    """A square of 16 pixels in front of a ground; either it or the ground slides 6 pixels to the right.

    At half time the square is 3 or 0 pixels further, and every pixel of it moves on as it does.
    """
    x, y = pixel_grid(H, W)
    square_step, ground_step = (6.0, 0.0) if front_moves else (0.0, 6.0)

    def field(left: float, sign: int) -> torch.Tensor:
        square = (x >= left) & (x < left + 16) & (y >= 12) & (y < 28)
        along = torch.where(square, square_step, ground_step) * sign
        return torch.stack([along, torch.zeros_like(along)])[None]

    motion = MotionField(field(20, 1), field(20 + square_step, -1))
    half = retimed(motion, [0.5, 1])
    inside = (slice(14, 26), slice(int(22 + square_step / 2), int(34 + square_step / 2)))
    assert (half.forward[0, 0][inside] - square_step / 2).abs().max() < 1e-3 and half.forward_valid[0][inside].all()
    assert (half.forward[0, 0, 5, 10:50] - ground_step / 2).abs().max() < 1e-3
    back = retimed(motion, [1, 0.5])
    landed = (slice(14, 26), slice(int(22 + square_step), int(34 + square_step)))
    assert (back.forward[0, 0][landed] + square_step / 2).abs().max() < 1e-3


def test_what_is_uncovered_between_frames_is_not_known():
    """The ground behind a square that moves 8 pixels away: at half time nothing of frame 0 is seen there."""
    x, y = pixel_grid(H, W)
    square = ((x >= 20) & (x < 36) & (y >= 12) & (y < 28)).float()
    landed = ((x >= 28) & (x < 44) & (y >= 12) & (y < 28)).float()
    motion = MotionField(torch.stack([8 * square, 0 * square])[None], torch.stack([-8 * landed, 0 * landed])[None])
    valid = retimed(motion, [0.5, 1]).forward_valid[0]
    assert not valid[14:26, 21:23].any() and valid[14:26, 25:39].all() and valid[:10].all()


def test_validity_travels():
    known = torch.ones(2, H, W, dtype=torch.bool)
    known[1, 20, 34] = False
    motion = MotionField(constant((4, 0), (4, 0)).forward, forward_valid=known)
    made = retimed(motion, [0, 0.5, 1.5, 2])
    assert made.backward is None
    assert made.forward_valid[0].all()
    assert not made.forward_valid[1, 20, 32] and not made.forward_valid[2, 20, 36] and made.forward_valid[1, 20, 36]
    assert made.forward_valid[1:, 5, 10:50].all()


def test_a_way_back_by_an_unknown_vector_is_not_known():
    """The pixel (34, 20) of frame 1 has no known motion: half a step on it is at x = 36, and from there nothing leads
    back."""
    known = torch.ones(2, H, W, dtype=torch.bool)
    known[1, 20, 34] = False
    motion = constant((4, 0), (4, 0))
    made = retimed(MotionField(motion.forward, motion.backward, known), [1, 1.5])
    assert not made.backward_valid[0, 20, 36] and made.backward_valid[0, 20, 34] and made.backward_valid[0, 21, 36]


def test_progress_is_told():
    told = []
    retimed(constant((1, 0)), [0, 0.5, 1], report=lambda done, total: told.append((done, total)))
    assert told == [(1, 2), (2, 2)]


@pytest.mark.parametrize(
    "times, message",
    [
        ([1], "two moments or more, got 1"),
        ([0, 2.5], r"moments 0 to 2 \(its frames\), got 2.5"),
        ([0, float("nan")], "got nan"),
    ],
)
def test_moments_outside_are_refused(times, message):
    with pytest.raises(ValueError, match=message):
        retimed(constant((1, 0), (1, 0)), times)


def test_going_back_needs_backward_fields():
    with pytest.raises(ValueError, match="forward fields only and cannot go back"):
        retimed(MotionField(constant((1, 0), (1, 0)).forward), [1.5, 0.5])


def test_highest_nearby_searches_a_square():
    """Oracle: a loop over every window."""
    generator = torch.Generator().manual_seed(0)
    score, values = torch.rand(1, 1, 9, 13, generator=generator), torch.rand(1, 2, 9, 13, generator=generator)
    made = highest_nearby(score, values, 2)
    for row in range(9):
        for column in range(13):
            rows, columns = slice(max(row - 2, 0), row + 3), slice(max(column - 2, 0), column + 3)
            window = score[0, 0, rows, columns]
            best = values[0][:, rows, columns].flatten(1)[:, window.argmax()]
            assert torch.equal(made[0, :, row, column], best)
