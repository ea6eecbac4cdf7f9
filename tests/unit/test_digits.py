"""The world of moving digits: what it says is true of what it draws."""

import math

import pytest
import torch

pytest.importorskip("sklearn")
from aqueduct.core.training.digits import DIRECTIONS, MovingDigits, heading, load_glyphs  # noqa: E402


@pytest.fixture(scope="module")
def world() -> MovingDigits:
    return MovingDigits(load_glyphs(held_out=True)[0], size=32, frames=24)


@pytest.fixture(scope="module")
def clips(world):
    return world.sample(48, torch.Generator().manual_seed(5))


def test_shapes_and_range(world, clips):
    assert clips.video.shape == (48, 3, 24, 32, 32) and clips.video.dtype == torch.float32
    assert clips.centres.shape == (48, 24, 2)
    assert clips.video.min() == -1 and 0.5 < clips.video.max() <= 1
    assert torch.equal(clips.video[:, 0], clips.video[:, 1]) and torch.equal(clips.video[:, 0], clips.video[:, 2])
    assert 0 <= clips.direction.min() and clips.direction.max() < len(DIRECTIONS)
    assert clips.digit.max() < len(world.glyphs)


def test_same_generator_same_clips(world, clips):
    again = world.sample(48, torch.Generator().manual_seed(5))
    other = world.sample(48, torch.Generator().manual_seed(6))
    for field in ("video", "direction", "centres", "digit"):
        assert torch.equal(getattr(again, field), getattr(clips, field))
        assert not torch.equal(getattr(other, field), getattr(clips, field))
    drawn_again = world.clips(clips.digit, clips.direction, clips.centres[:, 0])
    assert torch.equal(drawn_again.video, clips.video)


def test_headings():
    """y points down, as in images."""
    named = {"right": (1, 0), "down": (0, 1), "left": (-1, 0), "up": (0, -1)}
    for index, name in enumerate(DIRECTIONS):
        x, y = (sum(named[word][axis] for word in name.split("-")) for axis in (0, 1))
        expected = torch.tensor([x, y], dtype=torch.float32) / math.hypot(x, y)
        torch.testing.assert_close(heading(torch.tensor(index)), expected, atol=1e-6, rtol=0)


def ink_centroid(video: torch.Tensor) -> torch.Tensor:
    """Intensity centroid (x, y) of every frame, ``[b, frames, 2]``."""
    ink = (video[:, 0].double() + 1) / 2
    axis = torch.arange(video.shape[-1], dtype=torch.float64)
    total = ink.sum((-1, -2))
    return torch.stack([(ink.sum(-2) * axis).sum(-1), (ink.sum(-1) * axis).sum(-1)], dim=-1) / total[..., None]


def own_offset(world: MovingDigits, digit: torch.Tensor) -> torch.Tensor:
    """Centroid of each glyph's ink relative to the centre of its box, in pixels (two fine pixels each)."""
    fine = world._fine[digit, 0].double()
    place = (torch.arange(fine.shape[-1], dtype=torch.float64) - (fine.shape[-1] - 1) / 2) / 2
    total = fine.sum((-1, -2))
    return torch.stack([(fine.sum(-2) * place).sum(-1), (fine.sum(-1) * place).sum(-1)], dim=-1) / total[:, None]


def test_centres_are_where_the_ink_is(world, clips):
    """The centroid of the drawing lies at the centre plus the glyph's own offset.

    Tolerance 0.4 px in one frame: scans touch the edge of their box, which is drawn half a pixel wide, so that a row of
    ink some 6 px from the centre counts up to half more or less with the phase (0.5 x 6 / 12 rows = 0.25).
    """
    error = ink_centroid(clips.video) - clips.centres - own_offset(world, clips.digit)[:, None]
    assert error.abs().max() < 0.4
    assert error.square().mean().sqrt() < 0.12


def test_centres_are_unbiased():
    """Averaged over sixteen phases of a pixel the centroid is the centre, to 0.01 px."""
    world = MovingDigits(load_glyphs(held_out=True)[0][:20], frames=1)
    digit = torch.arange(20).repeat_interleave(16)
    start = torch.tensor([14.0, 17.0]) + (torch.arange(16).repeat(20) / 16)[:, None]
    clips = world.clips(digit, torch.zeros_like(digit), start)
    error = ink_centroid(clips.video)[:, 0] - start - own_offset(world, digit)
    assert error.view(20, 16, 2).mean(1).abs().max() < 0.01


def test_whole_pixels_shift_the_drawing_exactly(world):
    start = torch.tensor([[12.25, 14.5], [15.25, 12.5]])
    clips = world.clips(torch.tensor([3, 3]), torch.tensor([0, 0]), start)
    here, there = clips.video[:, :, 0]
    torch.testing.assert_close(there, here.roll((-2, 3), dims=(1, 2)), atol=1e-5, rtol=0)


def test_a_symmetric_glyph_lies_exactly_on_its_centre():
    """No offset of its own, no phase: on pixel centres and half-way between them the centroid is the centre."""
    world = MovingDigits(torch.ones(1, 8, 8), frames=1)
    for start in ([15.5, 10.0], [16.0, 12.5], [5.5, 25.5]):
        clip = world.clips(torch.tensor([0]), torch.tensor([0]), torch.tensor([start]))
        torch.testing.assert_close(ink_centroid(clip.video)[0, 0], torch.tensor(start).double(), atol=1e-5, rtol=0)


def test_digits_stay_inside_the_canvas(clips):
    """The box is 12 px: centres keep 5.5 px from the outermost pixels, and no ink is cut off by the border."""
    assert clips.centres.min() >= 5.5 and clips.centres.max() <= 31 - 5.5
    ink = ((clips.video[:, 0] + 1) / 2).sum((-1, -2))
    middle = ink.median(dim=1, keepdim=True).values
    assert ((ink - middle).abs() / middle).max() < 0.05


def test_walls_reflect(world):
    """Against a walk that turns at the walls step by step, each axis for itself."""
    generator = torch.Generator().manual_seed(11)
    direction = torch.arange(len(DIRECTIONS)).repeat(20)
    start = 5.5 + 20 * torch.rand(len(direction), 2, generator=generator)
    paths = world.paths(direction, start)
    low, high, bounces = 5.5, 25.5, 0
    for k in range(len(direction)):
        angle = direction[k].item() * math.pi / 4
        for axis, velocity in enumerate((1.5 * math.cos(angle), 1.5 * math.sin(angle))):
            place = start[k, axis].item()
            for frame in range(world.frames):
                assert paths[k, frame, axis].item() == pytest.approx(place, abs=1e-4)
                place += velocity
                if not low <= place <= high:
                    place = 2 * (low if place < low else high) - place
                    velocity, bounces = -velocity, bounces + 1
    assert bounces > 200


def test_direction_can_be_read_from_every_clip(world):
    """The first two pixels of travel meet no wall."""
    clips = world.sample(400, torch.Generator().manual_seed(2))
    step = clips.centres[:, 1] - clips.centres[:, 0]
    torch.testing.assert_close(step, 1.5 * heading(clips.direction), atol=1e-4, rtol=0)
    counts = torch.bincount(clips.direction, minlength=len(DIRECTIONS))
    assert counts.min() > 25 and counts.max() < 80  # 50 expected, standard deviation 6.6


def test_held_out_digits_are_apart_and_always_the_same():
    from sklearn.datasets import load_digits

    (held, held_labels), (rest, rest_labels) = load_glyphs(held_out=True), load_glyphs(held_out=False)
    assert len(held) == round(0.15 * 1797) == len(held_labels) and len(held) + len(rest) == 1797
    everything = torch.from_numpy(load_digits().images).float() / 16

    def rows(glyphs):
        return sorted(map(tuple, glyphs.flatten(1).tolist()))

    assert rows(torch.cat([held, rest])) == rows(everything)  # every scan once: in one share or in the other
    assert not set(rows(held)) & set(rows(rest))
    assert torch.equal(load_glyphs(held_out=True)[0], held)
    assert not torch.equal(load_glyphs(held_out=True, seed=1)[0], held)
    assert set(held_labels.tolist()) == set(rest_labels.tolist()) == set(range(10))
    assert held.min() == 0 and held.max() == 1
