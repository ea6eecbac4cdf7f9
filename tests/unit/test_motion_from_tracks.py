"""Tracks to motion: both directions, visibility, pins, the carried picture, and what is refused."""

import math

import pytest
import torch

from aqueduct.core.motion import cycle_energy, inside, pixel_grid
from aqueduct.core.motion.densify import DENSIFIERS, motion_from_tracks
from aqueduct.core.motion.densify.carried import CarriedImage
from aqueduct.core.motion.tracks import Tracks

SIZE = (60, 90)


def tracks(positions, visible=None, size=SIZE) -> Tracks:
    positions = torch.as_tensor(positions, dtype=torch.float32)
    visible = torch.ones(positions.shape[:2]) if visible is None else torch.as_tensor(visible)
    return Tracks(positions, visible.bool(), size)


def line(frames: int, start=(20.0, 30.0), step=(4.0, -1.0)) -> torch.Tensor:
    return torch.tensor(start) + torch.arange(frames)[:, None, None] * torch.tensor(step)


def test_affine_tracks_give_the_affine_motion_of_every_frame_both_ways():
    """Points ride on a rotation about (40, 25) by 3 degrees a frame; the inverse map is the rotation back."""
    angle = math.radians(3)
    turn = torch.tensor([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    centre = torch.tensor([40.0, 25.0])
    places = [torch.tensor([[5.0, 5], [80, 10], [30, 50], [70, 55]])]
    for _ in range(3):
        places.append((places[-1] - centre) @ turn + centre)
    motion = motion_from_tracks(tracks(torch.stack(places)), "thin-plate")
    away = pixel_grid(*SIZE).permute(1, 2, 0) - centre
    for field, matrix in ((motion.forward, turn), (motion.backward, turn.T)):
        expected = (away @ matrix - away).permute(2, 0, 1).expand(3, -1, -1, -1)
        assert (field - expected).abs().max() < 1e-3
    assert motion.frames == 4 and motion.size == SIZE


@pytest.mark.parametrize("name, settings", [("gaussian", {"radius": 8}), ("nearest", {"radius": 6, "feather": 4})])
def test_an_object_moves_as_itself_in_both_directions(name, settings):
    """In frame i + 1 it has its vector where it landed, not where it was, and what it left is at rest."""
    motion = motion_from_tracks(tracks(line(3, step=(20.0, -5.0))), name, **settings)
    for step, (x, y) in enumerate([(20, 30), (40, 25)]):
        here, there = motion.forward[step, :, y, x], motion.backward[step, :, y - 5, x + 20]
        assert torch.allclose(here, torch.tensor([20.0, -5.0]), atol=0.05)
        assert torch.allclose(there, -here, atol=0.01)
        assert motion.forward[step, :, y - 5, x + 20].norm() < 1.5 and motion.backward[step, :, y, x].norm() < 1.5
    energy = cycle_energy(motion.backward, motion.forward)
    assert energy[0, 30, 20] > 100 * energy[0, 25, 40]


@pytest.mark.parametrize("name, settings", [("gaussian", {"radius": 8}), ("thin-plate", {})])
def test_smooth_motion_returns_exactly(name, settings):
    """Two tracks that bend the picture: there and back misses by under a tenth of a pixel within the frame."""
    paths = torch.cat([line(3, step=(3.0, -1.0)), line(3, start=(60.0, 20.0), step=(-2.0, 2.0)),
                       line(3, start=(40.0, 50.0), step=(0.0, 0.0))], dim=1)  # fmt: skip
    motion = motion_from_tracks(tracks(paths), name, **settings)
    for there, back in ((motion.forward, motion.backward), (motion.backward, motion.forward)):
        landed = inside(there + pixel_grid(*SIZE), *SIZE)
        assert landed.float().mean() > 0.8
        assert cycle_energy(there, back)[landed].quantile(0.99) < 0.01


def test_only_steps_seen_at_both_ends_count_and_none_means_rest():
    positions = torch.cat([line(4), line(4, start=(70.0, 40.0), step=(0.0, 3.0))], dim=1)
    visible = [[1, 1], [1, 0], [0, 1], [0, 1]]
    motion = motion_from_tracks(tracks(positions, visible), "thin-plate")
    assert (motion.forward[0] == torch.tensor([4.0, -1.0])[:, None, None]).all()
    assert (motion.forward[1] == 0).all() and (motion.backward[1] == 0).all()
    assert (motion.forward[2] == torch.tensor([0.0, 3.0])[:, None, None]).all()
    assert (motion.backward[2] == torch.tensor([0.0, -3.0])[:, None, None]).all()


def test_pins_hold_the_picture_on_both_grids():
    pinned = torch.zeros(SIZE)
    pinned[:, 45:], pinned[:, 30:45] = 1, 0.25
    moved = motion_from_tracks(tracks(line(3)), "thin-plate", pinned=pinned)
    for field, sign in ((moved.forward, 1), (moved.backward, -1)):
        assert (field[..., 45:] == 0).all()
        # From 34: what is free lands on the first pixels of what is held, and comes from there.
        assert torch.allclose(field[:, 0, :, 34:45], torch.tensor(sign * 3.0))
        assert (field[:, 1, :, :30] == -sign).all()


def test_static_tracks_pin_their_place():
    """A line of still points between a moving one and the right half keeps that half at rest."""
    still = torch.tensor([[45.0, y] for y in range(0, 60, 6)]).expand(3, -1, -1)
    motion = motion_from_tracks(tracks(torch.cat([line(3), still], dim=1)), "nearest", radius=200)
    assert (motion.forward[..., 46:] == 0).all() and (motion.forward[0, :, 30, 20] == torch.tensor([4.0, -1.0])).all()


def test_tracks_may_leave_the_image():
    leaving = tracks(line(5, start=(80.0, 30.0), step=(10.0, 0.0)))
    assert leaving.inside().sum() == 1
    for name in DENSIFIERS:
        image = torch.zeros(3, *SIZE) if name == "edge-aware" else None
        motion = motion_from_tracks(leaving, name, image=image)
        assert motion.forward[0, 0, 30, 80] == pytest.approx(10, abs=0.2), name


def test_the_picture_is_carried_along_with_the_motion():
    """A disc moves 5 pixels a frame over a plain ground: the edges that hold its motion move with it.

    Within 14 pixels of its centre it moves, in every frame, and 18 pixels away the ground rests, also the ground that
    it uncovers, which has the ground's colour.
    """
    centre = torch.tensor([25.0, 30.0])
    grid = pixel_grid(*SIZE).permute(1, 2, 0)
    image = ((grid - centre).norm(dim=-1) < 16).float()[None]
    path = tracks(line(8, start=(25.0, 30.0), step=(5.0, 0.0)))
    motion = motion_from_tracks(path, "edge-aware", image=image)
    for field, first, sign in ((motion.forward, 0, 5), (motion.backward, 1, -5)):
        for step in range(7):
            away = (grid - path.positions[step + first, 0]).norm(dim=-1)
            assert (sign * field[step, 0][away < 14]).min() > 0.9 * 25
            assert field[step, 0][away > 18].abs().max() < 0.02 * 5


def test_the_carried_picture_keeps_its_objects():
    """Oracle: the same scene drawn where it is by then. A square walks 4 pixels a frame over a resting gradient."""
    grid = pixel_grid(*SIZE)
    ground = (grid[0] / 300 + grid[1] / 200)[None]

    def scene(left: float) -> tuple[torch.Tensor, torch.Tensor]:
        square = (grid[0] >= left) & (grid[0] < left + 20) & (grid[1] >= 20) & (grid[1] < 40)
        return torch.where(square, 1.0, ground), square

    first, square = scene(10)
    carried = CarriedImage(first)
    for step in range(10):
        _, square = scene(10 + 4 * step)
        carried.follow(square * torch.tensor([4, 0.0])[:, None, None])
    expected, square = scene(50)
    wrong = (carried.shown - expected).abs()[0]
    assert wrong[square].max() < 1e-3
    assert wrong[~square].max() < 0.2  # uncovered ground takes its colour from nearby: not from the square, which is 1


def test_a_picture_carried_by_a_rotation_is_the_rotated_picture():
    """20 steps of 2 degrees about the centre of a smooth picture; away from what came in from outside."""
    grid = pixel_grid(*SIZE).permute(1, 2, 0)
    centre = torch.tensor([44.5, 29.5])

    def about(degrees: float) -> torch.Tensor:
        """Where every pixel gets to."""
        cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        return (grid - centre) @ torch.tensor([[cos, sin], [-sin, cos]]) + centre

    def picture(points: torch.Tensor) -> torch.Tensor:
        return 0.5 + 0.5 * torch.sin(points[..., 0] / 6) * torch.cos(points[..., 1] / 8)

    carried = CarriedImage(picture(grid)[None])
    for _ in range(20):
        carried.follow((about(2) - grid).permute(2, 0, 1))
    near = (grid - centre).norm(dim=-1) < 27
    assert (carried.shown[0] - picture(about(-40)))[near].abs().max() < 0.05


def test_ten_thousand_tracks_at_512():
    generator = torch.Generator().manual_seed(0)
    start = torch.rand(10_000, 2, generator=generator) * 511
    made = motion_from_tracks(tracks(torch.stack([start, start + 2, start + 4]), size=(512, 512)), "thin-plate")
    assert (made.forward - 2).abs().max() < 1e-3 and (made.backward + 2).abs().max() < 1e-3


def test_progress_is_told_and_can_stop():
    told = []
    motion_from_tracks(tracks(line(4)), "nearest", report=lambda done, total: told.append((done, total)))
    assert told == [(1, 3), (2, 3), (3, 3)]

    def stop(done, total):
        raise InterruptedError

    with pytest.raises(InterruptedError):
        motion_from_tracks(tracks(line(4)), "nearest", report=stop)


def test_any_function_can_densify():
    def everywhere(points, vectors, size, scale=1.0):
        return scale * vectors.mean(0)[:, None, None].expand(2, *size)

    motion = motion_from_tracks(tracks(line(2)), everywhere, scale=2.0)
    assert (motion.forward[0, 0] == 8).all() and (motion.backward[0, 1] == 2).all()
    with pytest.raises(ValueError, match="'everywhere' has no setting 'radius'; it has scale"):
        motion_from_tracks(tracks(line(2)), everywhere, radius=3)


@pytest.mark.parametrize(
    "made, name, arguments, message",
    [
        (line(1), "nearest", {}, "a single frame hold no motion"),
        (line(2), "spline", {}, "unknown densifier 'spline'; there are thin-plate, gaussian"),
        (line(2), "thin-plate", {"radius": 5}, "'thin-plate' has no setting 'radius'; it has smoothing, centres"),
        (line(2), "edge-aware", {}, "give the first frame as image"),
        (line(2), "edge-aware", {"image": torch.zeros(3, 90, 60)}, "image is 60 x 90 pixels, the tracks .* 90 x 60"),
        (line(2), "edge-aware", {"image": torch.zeros(*SIZE)}, r"image must be \[C, H, W\]"),
        (line(2), "nearest", {"pinned": torch.zeros(30, 45)}, "pin mask is 45 x 30 pixels"),
        (line(2), "nearest", {"pinned": torch.full(SIZE, 1.5)}, "in 0..1, got 1.5 to 1.5"),
    ],
)
def test_what_is_refused(made, name, arguments, message):
    with pytest.raises(ValueError, match=message):
        motion_from_tracks(tracks(made), name, **arguments)
