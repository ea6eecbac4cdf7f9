"""Measures against clips whose truth is known by construction."""

import pytest
import torch

from aqueduct.core.metrics.frechet import frechet_distance
from aqueduct.core.metrics.identity import nearest_digit, similarity_to_input
from aqueduct.core.metrics.tracking import centroid_error, centroids, shown_direction
from aqueduct.core.training.digits import DIRECTIONS, MovingDigits


@pytest.fixture(scope="module")
def world():
    """Glyphs drawn here (no data set): 6 random, clearly different figures."""
    generator = torch.Generator().manual_seed(3)
    glyphs = (torch.rand(6, 8, 8, generator=generator) > 0.6).float()
    return MovingDigits(glyphs)


@pytest.fixture
def clips(world):
    return world.sample(48, torch.Generator().manual_seed(5))


def test_centroid_of_a_square_is_its_middle_in_x_y_order():
    video = torch.full((1, 3, 1, 20, 30), -1.0)
    video[..., 4:7, 20:25] = 1.0
    assert centroids(video)[0, 0].tolist() == pytest.approx([22.0, 5.0], abs=1e-4)


def test_faint_ground_does_not_pull_the_centroid():
    video = torch.full((1, 3, 1, 20, 30), -0.9)
    video[..., 4:7, 20:25] = 1.0
    assert centroids(video)[0, 0].tolist() == pytest.approx([22.0, 5.0], abs=1e-4)


def test_an_empty_frame_counts_as_its_middle():
    assert centroids(torch.full((1, 3, 1, 11, 21), -1.0))[0, 0].tolist() == [10.0, 5.0]


def test_true_clips_show_their_direction(world, clips):
    assert (shown_direction(clips.video, clips, world) == clips.direction).all()


def test_another_direction_is_recognised_as_that_direction(world, clips):
    """The same digits and starts, moved a quarter turn on: a clip is read as what it shows, not as what was asked."""
    turned = (clips.direction + 2) % len(DIRECTIONS)
    shown = world.clips(clips.digit, turned, clips.centres[:, 0])
    distance = (shown.centres - clips.centres).norm(dim=-1).mean(1)
    read = shown_direction(shown.video, clips, world)
    far = distance > 1.0  # a bounce can bring two paths together
    assert far.sum() > 40
    assert (read[far] == turned[far]).all()


def test_a_shift_of_three_pixels_is_an_error_of_three_pixels(clips):
    shifted = torch.full_like(clips.video, -1.0)
    shifted[..., :-3] = clips.video[..., 3:]
    inside = clips.centres[:, :, 0].amin(1) > 9  # nothing is cut off at the left
    error = centroid_error(shifted, clips.video)
    assert inside.any()
    assert error[inside].tolist() == pytest.approx([3.0] * int(inside.sum()), abs=1e-3)


def test_identity_is_seen_wherever_the_digit_is(world, clips):
    assert (nearest_digit(clips.video, world) == clips.digit[:, None]).float().mean() > 0.98


def test_similarity_is_one_for_a_still_clip_and_lower_for_another_figure(world, clips):
    first = clips.video[:, :, 0]
    still = first[:, :, None].expand_as(clips.video)
    assert similarity_to_input(still, first).tolist() == pytest.approx([1.0] * len(first), abs=1e-5)
    other = world.clips((clips.digit + 1) % 6, clips.direction, clips.centres[:, 0])
    assert (similarity_to_input(other.video, first) < similarity_to_input(clips.video, first)).all()


def test_frechet_distance_of_gaussians_is_the_closed_form():
    """Diagonal Gaussians: |m1 - m2|^2 + sum (s1 - s2)^2; 200k samples, 3 % is over ten standard errors here."""
    generator = torch.Generator().manual_seed(0)
    one = torch.randn(200_000, 3, generator=generator) * torch.tensor([1.0, 2.0, 0.5])
    two = torch.randn(200_000, 3, generator=generator) * torch.tensor([2.0, 2.0, 1.5]) + torch.tensor([1.0, 0.0, -2.0])
    assert frechet_distance(one, two) == pytest.approx(5 + 1 + 1, rel=0.03)
    assert frechet_distance(one, one) == pytest.approx(0, abs=1e-6)


def test_frechet_distance_sees_correlation():
    """Equal marginals, opposite correlation 0.8: 2 (2 - (sqrt(1.8 * 0.2) * 2)) by the closed form of 2 x 2 matrices."""
    generator = torch.Generator().manual_seed(1)
    base = torch.randn(200_000, 2, generator=generator)
    mix = torch.tensor([[1.0, 0.0], [0.8, 0.6]])
    one, two = base @ mix.T, base @ (mix * torch.tensor([[1.0], [-1.0]])).T
    assert frechet_distance(one, two) == pytest.approx(4 - 4 * (1.8 * 0.2) ** 0.5, rel=0.03)
