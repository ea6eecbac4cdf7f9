"""Algorithm 1 in lockstep against the paper's own order, and what guidance does to a sliding world."""

import math

import pytest
import torch
from torch.nn import functional as F

from aqueduct.core.guidance import (
    Guidance,
    equivariance_error,
    first_frame,
    full,
    guided_steps,
    previous_frame,
    sample_warped_diffusion,
    x0,
)
from aqueduct.core.motion import MotionField
from aqueduct.tests.unit.shift_worlds import DATA_STD, Anchored, PlaceNet, ShiftWorld, levels, pointwise


def frame_after_frame(denoiser, start, sigmas, forward, strength, gradient):
    """Warped Diffusion Algorithm 1 as printed (but for the sign of eq. 7): frames outside, noise levels inside.

    Keeps the network's outputs along the trajectory of the frame before. ``gradient(u, sigma, error)``: of the error.
    """
    clip, kept = [], {}
    for j, u in enumerate(start):
        before, kept = kept, {}
        for sigma, after in zip(sigmas[:-1], sigmas[1:], strict=True):
            h = denoiser(u[None], sigma, slice(j, j + 1))
            kept[float(sigma)] = h
            following = u + (after - sigma) / sigma * (u - h[0])
            if j:

                def error(prediction, j=j, reference=before[float(sigma)]):
                    return equivariance_error(prediction, reference, forward[j - 1 : j])

                slope, e = gradient(denoiser, u, sigma, j, error)
                following = following - strength / math.sqrt(e) * slope
            u = following
        clip.append(u)
    return torch.stack(clip)


def through_the_network(denoiser, u, sigma, j, error):
    u = u.clone().requires_grad_()
    e = error(denoiser(u[None], sigma, slice(j, j + 1)))
    return torch.autograd.grad(e.sum(), u)[0], e.item()


def straight_through(denoiser, u, sigma, j, error):
    h = denoiser(u[None], sigma, slice(j, j + 1)).requires_grad_()
    e = error(h)
    return torch.autograd.grad(e.sum(), h)[0][0], e.item()


class Conditioned(PlaceNet):
    """Sees a picture of its own for each frame, so that a frame that got another's would show."""

    def forward(self, z, t, part=None):
        own = torch.arange(part.start, part.stop, dtype=z.dtype)[:, None, None, None]
        return super().forward(z + torch.sin(own), t)


def wavy_motion(frames, height, width):
    generator = torch.Generator().manual_seed(2)
    coarse = torch.randn(frames - 1, 2, 3, 4, generator=generator, dtype=torch.float64)
    return MotionField(1.5 * F.interpolate(coarse, (height, width), mode="bicubic", align_corners=True))


# --- lockstep ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode, gradient", [(full, through_the_network), (x0, straight_through)])
def test_lockstep_is_the_frame_after_frame_loop(mode, gradient):
    net, motion, sigmas = Conditioned(), wavy_motion(5, 10, 12), levels(8)
    start = sigmas[0] * ShiftWorld(5, 3, 10, 12).noise()
    expected = frame_after_frame(net, start, sigmas, motion.forward, 0.3, gradient)
    for size in (None, 1, 2, 3):
        found = sample_warped_diffusion(net, start, sigmas, Guidance(previous_frame(motion), 0.3, mode), size=size)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
    unguided = sample_warped_diffusion(net, start, sigmas, Guidance(previous_frame(motion), 0.0))
    assert (unguided - expected).abs().max() > 0.01


def test_strength_zero_is_plain_euler_bit_for_bit():
    net, sigmas, world = PlaceNet(dtype=torch.float32), levels(6), ShiftWorld()
    start = float(sigmas[0]) * world.noise(dtype=torch.float32)
    z = start
    for sigma, after in zip(sigmas[:-1], sigmas[1:], strict=True):
        h = net(z, sigma)
        z = h + float(after / sigma) * (z - h)
    pairs = previous_frame(world.motion())
    without_gradient = torch.no_grad()(net)  # which `full` refuses: strength 0 must not even ask for it
    assert torch.equal(sample_warped_diffusion(without_gradient, start, sigmas, Guidance(pairs, 0.0)), z)
    assert torch.equal(sample_warped_diffusion(net, start, sigmas, Guidance(pairs), guided_steps(6, 0, 0)), z)
    assert not torch.equal(sample_warped_diffusion(net, start, sigmas, Guidance(pairs)), z)


def test_euler_steps_reach_the_law_of_the_data():
    """eq. 7 with the sign of eqs. 4 and 5. For independent Gaussian pixels the flow has z_0 = z_T s/sqrt(s^2 + T^2).

    The sign as printed leads away from the prediction and would end beyond every bound.
    """
    errors = []
    for steps in (50, 100, 200):
        sigmas = levels(steps)
        start = sigmas[0] * ShiftWorld().noise()
        found = sample_warped_diffusion(pointwise, start, sigmas, Guidance(previous_frame(ShiftWorld().motion()), 0.0))
        exact = start * DATA_STD / math.hypot(DATA_STD, float(sigmas[0]))
        errors.append(((found - exact).norm() / exact.norm()).item())
    assert errors[-1] < 0.02
    assert 0.8 < math.log2(errors[0] / errors[2]) / 2 < 1.2  # first order


def test_an_equivariant_denoiser_gives_a_clip_that_slides_whatever_the_strength():
    world, sigmas = ShiftWorld(), levels(10)
    start = float(sigmas[0]) * world.noise(dtype=torch.float32)
    pairs = previous_frame(world.motion())
    plain = sample_warped_diffusion(pointwise, start, sigmas, Guidance(pairs, 0.0))
    for mode in (full, x0):
        assert torch.equal(sample_warped_diffusion(pointwise, start, sigmas, Guidance(pairs, 3.0, mode)), plain)
    assert world.moved(plain).tolist() == [0.0] * 5


def test_memory_running_out_halves_the_chunk_for_good():
    net, sigmas, motion = PlaceNet(), levels(4), wavy_motion(5, 10, 12)
    start = sigmas[0] * ShiftWorld(5, 3, 10, 12).noise()
    asked, halved = [], []

    def small_machine(z, t, part):
        asked.append(len(z))
        if len(z) > 2:
            raise MemoryError("not enough memory")
        return net(z, t)

    guidance = Guidance(previous_frame(motion), 0.3)
    found = sample_warped_diffusion(small_machine, start, sigmas, guidance, on_halve=halved.append)
    torch.testing.assert_close(found, sample_warped_diffusion(net, start, sigmas, guidance), rtol=0, atol=1e-10)
    assert halved == [2] and asked == [5] + [2, 2, 1] * 4
    with pytest.raises(MemoryError):
        sample_warped_diffusion(lambda z, t, part: small_machine(torch.cat([z] * 3), t, part), start, sigmas, guidance)


def test_the_callback_sees_every_step_and_may_stop():
    world, sigmas, seen = ShiftWorld(), levels(5), []
    start = sigmas[0] * world.noise()
    guidance = Guidance(previous_frame(world.motion()), mode=x0)
    clip = sample_warped_diffusion(PlaceNet(), start, sigmas, guidance, guided_steps(5, 0.4), callback=seen.append)
    assert [at["i"] for at in seen] == list(range(5))
    assert [float(at["t"]) for at in seen] == sigmas[:-1].tolist()
    assert [at["errors"] is not None for at in seen] == [False, False, True, True, True]
    assert seen[-1]["errors"].shape == (6,) and seen[-1]["errors"][0] == 0 and seen[-1]["errors"][1] > 0
    assert torch.equal(seen[0]["x"], start) and seen[-1]["denoised"].shape == clip.shape

    def stop(at):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sample_warped_diffusion(PlaceNet(), start, sigmas, guidance, callback=stop)


def test_wrong_lengths_sizes_and_levels_are_refused_before_the_first_evaluation():
    def never(z, t, part):
        raise AssertionError("evaluated")

    guidance = Guidance(previous_frame(ShiftWorld().motion()))
    with pytest.raises(ValueError, match="motion has 6 frames, the clip 5"):
        sample_warped_diffusion(never, torch.zeros(5, 3, 14, 18), levels(3), guidance)
    with pytest.raises(ValueError, match="18 x 14 pixels, the clip has 16 x 16"):
        sample_warped_diffusion(never, torch.zeros(6, 3, 16, 16), levels(3), guidance)
    with pytest.raises(ValueError, match="descend"):
        sample_warped_diffusion(never, torch.zeros(6, 3, 14, 18), levels(3).flip(0), guidance)
    with pytest.raises(ValueError, match="4 sigmas make 3 steps, got 2"):
        sample_warped_diffusion(never, torch.zeros(6, 3, 14, 18), levels(3), guidance, [True, True])


# --- what guidance does -----------------------------------------------------------------------------------------------

SLIDING = ShiftWorld(frames=6, channels=3, height=24, width=32)
VALUES = 3 * (24 - 1) * (32 - 2)


def sticking():
    """Data whose mean is a smooth picture fixed to the screen, of the size of its spread."""
    coarse = torch.randn(1, 3, 6, 8, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    return Anchored(DATA_STD * F.interpolate(coarse, (24, 32), mode="bicubic", align_corners=False)[0])


def sampled(denoiser, guidance, steps=50):
    sigmas = levels(steps)
    return sample_warped_diffusion(denoiser, sigmas[0] * SLIDING.noise(), sigmas, guidance)


def test_warped_noise_alone_leaves_what_sticks():
    """The plain Euler chain is affine, z = g z_T + (1 - g) mean: its self-warping error is (1 - g)^2 that of mean."""
    denoiser, sigmas = sticking(), levels(50)
    g = 1.0
    for sigma, after in zip(sigmas[:-1].tolist(), sigmas[1:].tolist(), strict=True):
        k = DATA_STD**2 / (DATA_STD**2 + sigma**2)
        g *= k + after / sigma * (1 - k)
    found = SLIDING.moved(sampled(denoiser, Guidance(previous_frame(SLIDING.motion()), 0.0)))
    torch.testing.assert_close(found, (1 - g) ** 2 * SLIDING.moved(denoiser.mean.expand(6, -1, -1, -1)))


@pytest.mark.parametrize("mode", [full, x0])
def test_guidance_lowers_the_self_warping_error(mode):
    """With the paper's 50 steps and lambda 1, as printed: measured 82 times for full, 40 for x0."""
    pairs = previous_frame(SLIDING.motion())
    without = SLIDING.moved(sampled(sticking(), Guidance(pairs, 0.0))).mean()
    guided = SLIDING.moved(sampled(sticking(), Guidance(pairs, 1.0, mode))).mean()
    assert guided < without / 20


@pytest.mark.parametrize("mode", [full, x0])
def test_steps_of_fixed_length_end_in_a_jitter_of_that_length_and_bounded_ones_do_not(mode):
    """Near zero error the last step overshoots by its own length: in x0 mode |r| goes to 2 lambda - |r|, whatever r is.

    So the mean square ends near (2 lambda)^2 / n, or worse than without guidance where that was less.
    """
    pairs, net = previous_frame(SLIDING.motion()), PlaceNet()
    fixed = SLIDING.moved(sampled(net, Guidance(pairs, 1.0, mode))).mean().item()
    bounded = SLIDING.moved(sampled(net, Guidance(pairs, 1.0, mode, bounded=True))).mean().item()
    assert 0.5 < fixed / (2.0**2 / VALUES) < 2
    assert bounded < 1e-4 * fixed


def test_guidance_keeps_the_spread_of_the_data():
    """An error of zero is easy for a grey clip: the guided one has the spread of the unguided one."""
    pairs, net = previous_frame(SLIDING.motion()), PlaceNet()
    without = sampled(net, Guidance(pairs, 0.0)).std().item()
    for mode in (full, x0):
        assert sampled(net, Guidance(pairs, 1.0, mode, bounded=True)).std().item() == pytest.approx(without, rel=0.05)


def test_the_first_frame_as_reference_stops_drift():
    """Against the previous frame errors add up along the clip; against the first they do not."""
    motion, denoiser = SLIDING.motion(), sticking()
    far = first_frame(motion)

    def to_first(clip):
        last = far.within(slice(5, 6))
        return equivariance_error(clip[5:], clip[:1], last.flow, last.mask).item()

    weak = 0.5
    near_guided = to_first(sampled(denoiser, Guidance(previous_frame(motion), weak, x0, bounded=True)))
    far_guided = to_first(sampled(denoiser, Guidance(far, weak, x0, bounded=True)))
    assert far_guided < 0.5 * near_guided
