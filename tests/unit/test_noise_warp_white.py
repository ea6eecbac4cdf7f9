"""White noise along motion: exactly white by algebra, white by statistics, and as near to the motion as can be."""

import pytest
import torch
from scipy import linalg

from aqueduct.core.motion import MotionField, pixel_grid
from aqueduct.core.motion.estimators import DisEstimator, estimate_motion
from aqueduct.core.noise.warp import warp_noise
from aqueduct.core.noise.white import DEGREE, FLATNESS, Transport, root_series
from aqueduct.core.training.worlds import make_world
from aqueduct.tests.unit.affine_motions import (
    MOTIONS,
    affine_motion,
    affine_points,
    along,
    assert_white,
    turned,
    white_noise,
)

H, W = 9, 11


def everywhere(points):
    return torch.ones(points.shape[1:], dtype=torch.bool)


def matrices(transport, height, width):
    """``(A, B)`` of ``x' = A x + B z``: the noise made of one pixel each, carried."""
    one, nothing = (torch.eye(height * width).view(-1, height, width) * keep for keep in (1, 0))
    return (transport.carry(*pair).flatten(1).T.double() for pair in ((one, nothing), (nothing, one)))


def torn(seed):
    """Every pixel from anywhere, also from outside, and sources that many share."""
    return pixel_grid(H, W) * 0.7 + 4 * white_noise((2, H, W), seed)


# --- the law, by algebra ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*MOTIONS, "torn", "one point", "nowhere"])
def test_the_covariance_is_the_identity_whatever_the_motion(name):
    """``A A^T + B B^T = I``: no statistics, all that Gaussians have to say."""
    points = affine_points(*MOTIONS[name], H, W) if name in MOTIONS else torn(0)
    points = torch.full_like(points, 4.3) if name == "one point" else points
    valid = everywhere(points) if name != "nowhere" else ~everywhere(points)
    a, b = matrices(Transport(points, valid), H, W)
    torch.testing.assert_close(a @ a.T + b @ b.T, torch.eye(H * W, dtype=torch.float64), atol=2e-5, rtol=0)


def test_the_polynomial_keeps_its_promise_on_the_whole_spectrum():
    """Eigenvalues of the covariance are within 3e-6 of 1, for every motion: S has its own in [0, 1]."""
    at = torch.linspace(0, 1, 10_001, dtype=torch.float64)
    root = sum(c * torch.cos(k * torch.arccos(2 * at - 1)) for k, c in enumerate(root_series(FLATNESS, DEGREE)))
    assert (at * root**2 + (1 - at) ** (2 * FLATNESS) - 1).abs().max() < 3e-6


def test_the_spectrum_lies_between_0_and_1():
    """V, read off the parts: the gather of one-pixel noises."""
    for seed in range(5):
        v = (Transport(torn(seed), everywhere(torn(seed))).gather @ torch.eye(H * W)).double()
        values = torch.linalg.svdvals(v)
        assert values.max() < 1 + 1e-6


def test_it_is_the_nearest_white_noise_to_the_interpolated_one():
    """Against SciPy's polar factor of the bilinear matrix, rows scaled as documented; S is 0.49 and more here."""
    a, _ = matrices(Transport(affine_points([[1, 0], [0, 1]], (0.15, 0), H, W), everywhere(torn(0))), H, W)
    line = torch.eye(W, dtype=torch.float64) * 0.85 + torch.diag(torch.full((W - 1,), 0.15, dtype=torch.float64), 1)
    w = torch.kron(torch.eye(H, dtype=torch.float64), line)
    v = w / (w @ w.T).sum(1, keepdim=True).sqrt()
    nearest, _ = linalg.polar(v.numpy())
    torch.testing.assert_close(a, torch.from_numpy(nearest), atol=1e-4, rtol=0)


# --- what is exact ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", [2, 3])
def test_contraction_sums_and_renormalises(by):
    """``by^2`` sources in a pixel: their sum over ``by``; also those that no bilinear reading touches."""
    noise, size = white_noise((3, 12, 12), 1), 12 // by
    points = by * pixel_grid(12, 12) + (by - 1) / 2
    small = Transport(points, everywhere(points)).carry(noise, white_noise((3, 12, 12), 2))[:, :size, :size]
    sums = noise.unflatten(2, (size, by)).unflatten(1, (size, by)).sum((2, 4))
    torch.testing.assert_close(small, sums / by, atol=1e-5, rtol=0)


def test_contraction_along_one_axis_sums_along_that_axis():
    noise = white_noise((3, 12, 12), 1)
    points = pixel_grid(12, 12) * torch.tensor([3.0, 1.0])[:, None, None] + torch.tensor([1.0, 0.0])[:, None, None]
    small = Transport(points, everywhere(points)).carry(noise, white_noise((3, 12, 12), 2))[:, :, :4]
    torch.testing.assert_close(small, noise.unflatten(2, (4, 3)).sum(3) / 3**0.5, atol=1e-5, rtol=0)


def test_expansion_shares_the_value_out_and_adds_what_is_unknown():
    """Four pixels per source: their sum over 2 is the source, the rest N(0, I - 1/4) and independent of it."""
    channels, size = 2000, 6
    noise = white_noise((channels, size, size), 3)
    points = (pixel_grid(size, size) / 2).floor()
    big = Transport(points, everywhere(points)).carry(noise, white_noise((channels, size, size), 4))
    blocks = big.unflatten(2, (3, 2)).unflatten(1, (3, 2)).permute(0, 1, 3, 2, 4).flatten(3)
    source = noise[:, :3, :3]
    torch.testing.assert_close(blocks.sum(-1) / 2, source, atol=2e-5, rtol=0)
    rest = (blocks - source[..., None] / 2).reshape(-1, 4)
    sigma = 1 / len(rest) ** 0.5
    expected = torch.eye(4) - 0.25
    assert ((rest.T @ rest / len(rest)) - expected).abs().max() < 4 * sigma * 2**0.5  # 10 numbers: error under 7e-4
    assert (rest.T @ source.reshape(-1) / len(rest)).abs().max() < 4 * sigma
    values = big[0].flatten().sort().values
    assert values.diff().min() > 0  # no two pixels share a value


def test_what_comes_from_nowhere_is_fresh_and_the_rest_does_not_notice():
    noise, fresh = white_noise((2, 8, 8), 5), white_noise((2, 8, 8), 6)
    points, valid = pixel_grid(8, 8), everywhere(torch.empty(2, 8, 8))
    valid[:, :3] = False
    carried = Transport(points, valid).carry(noise, fresh)
    assert torch.equal(carried[:, :, :3], fresh[:, :, :3])
    assert torch.equal(carried[:, :, 3:], noise[:, :, 3:])


def test_after_a_whole_pixel_the_noise_is_itself_again():
    """Half a pixel a frame: every second frame is the first one moved, bit for bit; no error adds up."""
    noise = white_noise((2, 12, 20), 7)
    clip = warp_noise(noise, affine_motion([[1, 0], [0, 1]], (-0.5, 0), 9, 12, 20), "white")
    for frame in (2, 4, 8):
        moved = frame // 2
        assert torch.equal(clip[frame, :, :, moved:], noise[:, :, : 20 - moved])
    assert not torch.equal(clip[1], clip[0])


# --- the law, by statistics -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MOTIONS)
def test_every_frame_is_white(name):
    matrix, shift = MOTIONS[name]
    clip = warp_noise(white_noise((6, 64, 72), 10), affine_motion(matrix, shift, 4, 64, 72), "white", seed=11)
    for frame in clip:
        assert_white(frame)


@pytest.mark.parametrize("scale", [0.97, 1.03], ids=["growing", "shrinking"])
def test_thirty_frames_later_it_is_still_white_and_still_follows(scale):
    motion = affine_motion(turned(0.03, scale), (0.2, 0.1), 31, 48, 48)
    clip = warp_noise(white_noise((8, 48, 48), 12), motion, "white", seed=13)
    for frame in (10, 20, 30):
        assert_white(clip[frame])
    before, _ = along(clip, motion)
    assert before > 0.8
    late, _ = along(clip[-5:], motion.sliced(26, 31))
    assert late > before - 0.05


@pytest.fixture(scope="module")
def world():
    return make_world(3, 64, 80, 8)


@pytest.mark.parametrize("kind", ["true", "DIS"])
def test_layers_that_hide_each_other(world, kind):
    """Occlusion, disocclusion, content from outside; and flow that an estimator found, with its errors."""
    motion = world.motion() if kind == "true" else estimate_motion(world.clip(), DisEstimator(threads=1))
    clip = warp_noise(white_noise((8, 64, 80), 14), motion, "white", seed=15)
    for frame in clip[1:]:
        assert_white(frame)
    before, first = along(clip, motion)
    assert before > 0.75 and first > 0.85


# --- how near it stays ------------------------------------------------------------------------------------------------


def shared_out(scale, shift, size):
    """Mean correlation with the bilinear reading of noise that is independent inside every pixel, one axis.

    A pixel shows the interval of width ``scale`` around its point; it has the integral of white noise over that,
    divided by its root: sqrt(scale) at most.
    """
    pixel = torch.arange(size, dtype=torch.float64)
    points = scale * (pixel - (size - 1) / 2) + (size - 1) / 2 + shift
    inner = ((points > 1) & (points < size - 2)).nonzero()[:, 0]
    low, high = points[inner] - scale / 2, points[inner] + scale / 2
    area = (torch.minimum(high[:, None], pixel + 0.5) - torch.maximum(low[:, None], pixel - 0.5)).clamp_min(0)
    read = (1 - (points[inner, None] - pixel).abs()).clamp_min(0)
    return ((area * read).sum(1).mean() / (scale**0.5 * read.square().sum(1).mean().sqrt())).item()


@pytest.mark.parametrize("scale, shift", [(1, 0.5), (1, 0.25), (0.8, 0), (0.5, 0), (1.25, 0)])
def test_it_is_nearer_than_sharing_out_areas(scale, shift):
    """The integral noise of the literature, by its own law: 1/2 for half a pixel, here more than 3/4."""
    motion = affine_motion([[scale, 0], [0, scale]], (shift, shift), 2, 64, 64)
    clip = warp_noise(white_noise((8, 64, 64), 16), motion, "white", seed=17)
    assert along(clip, motion)[0] > 1.04 * shared_out(scale, shift, 64) ** 2


def test_what_appears_stays_with_what_it_appeared_on():
    """A pan brings new columns in; later frames move those too."""
    size, frames = 24, 7
    motion = affine_motion([[1, 0], [0, 1]], (2, 0), frames, size, size)
    clip = warp_noise(white_noise((2, size, size), 18), motion, "white", seed=19)
    for frame in range(1, frames - 1):
        assert torch.equal(clip[frame + 1, :, :, :-2], clip[frame, :, :, 2:])
    assert_white(clip[-1])


def test_unknown_vectors_are_not_followed():
    noise, motion = white_noise((2, 16, 16), 20), affine_motion([[1, 0], [0, 1]], (1, 0), 2, 16, 16)
    unknown = MotionField(motion.forward, motion.backward, backward_valid=torch.zeros(1, 16, 16, dtype=torch.bool))
    clip = warp_noise(noise, unknown, "white", seed=21)
    assert (clip[1, :, :, :-1] == noise[:, :, 1:]).sum() == 0
    assert_white(clip[1])
