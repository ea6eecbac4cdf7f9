"""The guided step: its gradient, its size, what it leaves alone, and its place in any solver."""

import math

import pytest
import torch

from aqueduct.core.bridges import bridge_gmax, sample_bridge, step_weights, times
from aqueduct.core.guidance import (
    Guidance,
    GuidanceSchedule,
    GuidedDenoiser,
    equivariance_error,
    euler_schedule,
    full,
    guided_prediction,
    guided_steps,
    outer,
    previous_and_first_frame,
    previous_frame,
    sample_warped_diffusion,
    x0,
)
from aqueduct.core.motion import MotionField, warp
from aqueduct.tests.unit.shift_worlds import Anchored, PlaceNet, ShiftWorld, levels, pointwise

WORLD = ShiftWorld(frames=4, height=9, width=11)
SIGMA = torch.tensor(0.7, dtype=torch.float64)


def sub_pixel_motion(frames=4, height=9, width=11):
    flow = torch.randn(frames - 1, 2, height, width, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    return MotionField(2 * flow)


def state(seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(4, 3, 9, 11, generator=generator, dtype=torch.float64)


def error_of(denoiser, z, motion, frame):
    """e_j by the motion part's own warp and an explicit test of the frame, with the reference held constant."""
    predictions = denoiser(z, SIGMA)
    flow = motion.forward[frame - 1 : frame]
    height, width = flow.shape[-2:]
    x = torch.arange(width) + flow[:, 0]
    y = torch.arange(height)[:, None] + flow[:, 1]
    stays = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    difference = warp(predictions[frame : frame + 1], flow) - PlaceNet()(state(), SIGMA)[frame - 1 : frame]
    return float((difference.square() * stays).sum())


# --- the step ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("frame", [1, 3])
def test_full_mode_is_lambda_over_root_e_times_finite_differences(frame):
    """Warped Diffusion Algorithm 1. Central differences of the whole chain, network and warp, in float64."""
    net, motion, z = PlaceNet(), sub_pixel_motion(), state()
    found = guided_prediction(lambda u, t, _: net(u, t), z, SIGMA, Guidance(previous_frame(motion), strength=0.8))
    error = error_of(net, z, motion, frame)
    assert found.errors[frame].item() == pytest.approx(error, rel=1e-12)
    assert torch.equal(found.prediction, net(z, SIGMA))
    for place in [(0, 4, 5), (1, 0, 0), (2, 8, 10), (1, 3, 7)]:
        ends = []
        for sign in (1, -1):
            moved = z.clone()
            moved[(frame, *place)] += sign * 1e-5
            ends.append(error_of(net, moved, motion, frame))
        slope = (ends[0] - ends[1]) / 2e-5
        expected = 0.8 / math.sqrt(error) * slope
        assert found.correction[(frame, *place)].item() == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_full_mode_through_a_network_that_couples_frames():
    """A video model's frame 0 has no error of its own, but moves the others': sum_j (lambda/sqrt(e_j)) grad e_j."""
    net, motion, z = PlaceNet(), sub_pixel_motion(), state().requires_grad_()

    def video(u, t, part=None):
        return net(u, t) + 0.5 * torch.tanh(net(u, t)).flip(0)

    h = video(z, SIGMA)
    errors = equivariance_error(h[1:], h[:-1].detach(), motion.forward)
    (slope,) = torch.autograd.grad(2 * 0.8 * errors.sqrt().sum(), z)
    found = guided_prediction(video, z.detach(), SIGMA, Guidance(previous_frame(motion), 0.8))
    torch.testing.assert_close(found.correction, slope)
    assert found.correction[0].any()


def test_x0_mode_is_the_gradient_in_the_prediction():
    net, motion, z = PlaceNet(), sub_pixel_motion(), state()
    prediction = net(z, SIGMA).requires_grad_()
    error = (warp(prediction[2:3], motion.forward[1:2]) - prediction[1:2].detach())[0]
    p = torch.stack(torch.meshgrid(torch.arange(11.0), torch.arange(9.0), indexing="xy")) + motion.forward[1]
    stays = (p[0] >= 0) & (p[0] <= 10) & (p[1] >= 0) & (p[1] <= 8)
    (slope,) = torch.autograd.grad((error.square() * stays).sum().sqrt(), prediction)
    guidance = Guidance(previous_frame(motion), strength=0.8, mode=x0)
    found = guided_prediction(lambda u, t, _: net(u, t), z, SIGMA, guidance)
    torch.testing.assert_close(found.correction[2], 2 * 0.8 * slope[2])  # grad e / sqrt(e) = 2 grad sqrt(e)


def test_modes_agree_where_the_network_is_a_multiple_of_the_identity():
    """`pointwise` has the Jacobian k I, so full = k x0."""
    results = {}
    for mode in (full, x0):
        guidance = Guidance(previous_frame(sub_pixel_motion()), mode=mode)
        results[mode] = guided_prediction(pointwise, state(), SIGMA, guidance).correction
    k = pointwise(torch.ones(1), SIGMA).item()
    torch.testing.assert_close(results[full], k * results[x0])


def test_outer_mode_goes_back_through_what_is_left_attached():
    """With everything attached it is `full`; with only the skip path c_skip z, the gradient is c_skip times x0's."""
    net, pairs = PlaceNet(), previous_frame(sub_pixel_motion())

    def skip_only(denoiser):
        def partly(z, t):
            with torch.no_grad():
                rest = denoiser(z, t) - pointwise(z, t)
            return pointwise(z, t) + rest

        return partly

    def correction(mode):
        return guided_prediction(lambda u, t, _: net(u, t), state(), SIGMA, Guidance(pairs, mode=mode)).correction

    torch.testing.assert_close(correction(outer(lambda denoiser: denoiser)), correction(full))
    k = pointwise(torch.ones(1), SIGMA).item()
    torch.testing.assert_close(correction(outer(skip_only)), k * correction(x0))


def test_the_step_has_the_length_of_the_paper():
    """Whole-pixel motion takes pixels to pixels: |A^T r| = |r|, and the x0 step is 2 lambda long for every size."""
    for size in ((9, 11), (30, 40)):
        world = ShiftWorld(frames=3, height=size[0], width=size[1])
        clip = torch.randn(3, 3, *size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        guidance = Guidance(previous_frame(world.motion()), strength=0.3, mode=x0)
        steps = guided_prediction(pointwise, clip, SIGMA, guidance).correction
        assert steps.flatten(1).norm(dim=1).tolist() == pytest.approx([0, 0.6, 0.6])


def test_a_bounded_step_ends_where_the_error_is_zero():
    """For whole pixels and x0 the linearisation is exact: one bounded step of any strength removes all of the error."""
    world, clip = ShiftWorld(frames=2), ShiftWorld(frames=2).noise() + 0
    clip[1] += torch.randn(clip[1].shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    identity = lambda z, t, part: z  # noqa: E731
    before = world.moved(clip).item() * 3 * 13 * 16
    for strength, root in ((1e6, 0.0), (1.0, math.sqrt(before) - 2)):
        guidance = Guidance(previous_frame(world.motion()), strength, x0, bounded=True)
        found = guided_prediction(identity, clip, SIGMA, guidance)
        assert found.errors[1].item() == pytest.approx(before)
        left = guided_prediction(identity, clip - found.correction, SIGMA, guidance).errors[1].item()
        assert left == pytest.approx(root**2, rel=1e-9, abs=1e-18)


def test_what_the_mask_hides_is_not_moved():
    motion = ShiftWorld(frames=4, height=9, width=11, step=(1, 0)).motion()
    known = torch.ones(3, 9, 11, dtype=torch.bool)
    known[:, :, 4:7] = False
    pairs = previous_frame(MotionField(motion.forward, forward_valid=known))
    found = guided_prediction(pointwise, state(), SIGMA, Guidance(pairs, mode=x0)).correction
    moved = found.abs().sum((1, 2)) > 0  # [F, W]; hidden on frame i's columns 4..6 is column 5..7 of frame i + 1
    assert not moved[0].any()
    assert moved[1:].tolist() == [[False] + [True] * 4 + [False] * 3 + [True] * 3] * 3


def test_nothing_changes_for_a_denoiser_that_moves_along():
    """Exactly: no error, no correction, though the step is scaled by one over the error's root."""
    z = 0.7 * WORLD.noise(dtype=torch.float32)
    for mode in (full, x0):
        found = guided_prediction(pointwise, z, SIGMA, Guidance(previous_and_first_frame(WORLD.motion()), 5.0, mode))
        assert found.errors.tolist() == [0.0] * 4 and not found.correction.any()


def test_chunks_do_not_change_the_result():
    net, pairs = PlaceNet(), previous_and_first_frame(sub_pixel_motion())
    for mode in (full, x0):
        asked = []

        def denoiser(z, t, part, asked=asked):
            asked.append((part.start, part.stop))
            return net(z, t)

        whole = guided_prediction(denoiser, state(), SIGMA, Guidance(pairs, mode=mode))
        for size in (1, 2, 3):
            parts = guided_prediction(denoiser, state(), SIGMA, Guidance(pairs, mode=mode), size=size)
            for name in ("prediction", "correction", "errors"):
                torch.testing.assert_close(getattr(parts, name), getattr(whole, name), rtol=0, atol=1e-12)
        assert asked == [(0, 4), (0, 1), (1, 2), (2, 3), (3, 4), (0, 2), (2, 4), (0, 3), (3, 4)]


def test_inference_mode_around_everything():
    """As in a host that runs its nodes under it: only the network's weights are the caller's affair."""
    net, motion, z = PlaceNet(), sub_pixel_motion(), state()
    scaled = lambda u, t, _: net(u, t) * t  # noqa: E731  saves t itself for the backward pass
    expected = guided_prediction(scaled, z, SIGMA, Guidance(previous_frame(motion)))
    with torch.inference_mode():
        inside = MotionField(motion.forward.clone())
        sigma = SIGMA.clone()
        found = guided_prediction(scaled, z.clone(), sigma, Guidance(previous_frame(inside)))
        clip = sample_warped_diffusion(scaled, z.clone(), levels(3), Guidance(previous_frame(inside)))
    assert torch.equal(found.correction, expected.correction)
    assert clip.isfinite().all()


def test_weights_from_inference_mode_are_left_to_the_caller():
    """Torch refuses them by name; x0 needs no gradient and takes them; cloning them is the remedy that `full` names."""
    with torch.inference_mode():
        net = PlaceNet()
    pairs = previous_frame(sub_pixel_motion())
    with pytest.raises(RuntimeError, match="Inference tensors cannot be saved for backward"):
        guided_prediction(net, state(), SIGMA, Guidance(pairs))
    assert guided_prediction(net, state(), SIGMA, Guidance(pairs, mode=x0)).correction.any()
    for layer in net.layers:
        for name in ("weight", "bias"):
            setattr(layer, name, torch.nn.Parameter(getattr(layer, name).clone(), requires_grad=False))
    assert guided_prediction(net, state(), SIGMA, Guidance(pairs)).correction.any()


# --- in a solver ------------------------------------------------------------------------------------------------------


def euler(denoiser, z, sigmas):
    for sigma, after in zip(sigmas[:-1], sigmas[1:], strict=True):
        z = z + (after - sigma) * (z - denoiser(z, sigma)) / sigma
    return z


def test_a_wrapped_denoiser_in_an_euler_sampler_is_algorithm_1():
    net, sigmas, pairs = PlaceNet(), levels(8), previous_frame(sub_pixel_motion())
    start = sigmas[0] * state()
    for mode in (full, x0):
        guidance = Guidance(pairs, 0.3, mode)
        expected = sample_warped_diffusion(net, start, sigmas, guidance, guided_steps(8, 0.2, 0.8))
        found = euler(GuidedDenoiser(net, guidance, euler_schedule(sigmas, 0.2, 0.8)), start, sigmas)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


def test_a_wrapped_denoiser_in_a_bridge_sampler_corrects_the_next_state():
    """One step of the bridge's ODE from s to t, then to 0: its state moves by exactly the correction."""
    bridge, net = bridge_gmax(), PlaceNet()
    steps = times(bridge, 4)
    levels_, pairs = tuple(steps.tolist()), previous_frame(sub_pixel_motion())
    weights = tuple(step_weights(bridge, s, t, 1.0).data.item() for s, t in zip(steps[:-1], steps[1:], strict=True))
    schedule = GuidanceSchedule(levels_, (False, True, False, False), weights)
    seen, corrections = {}, []

    def run(denoiser):
        generator = torch.Generator().manual_seed(0)
        noise = lambda s, t: torch.randn(state().shape, generator=generator, dtype=torch.float64)  # noqa: E731
        states = []
        sample_bridge(denoiser, state(), steps, bridge, noise_sampler=noise, callback=lambda at: states.append(at["x"]))
        return states

    seen["plain"] = run(net)
    wrapped = GuidedDenoiser(net, Guidance(pairs), schedule, lambda guided: corrections.append(guided.correction))
    seen["guided"] = run(wrapped)
    assert len(corrections) == 1
    assert torch.equal(seen["guided"][1], seen["plain"][1])
    torch.testing.assert_close(seen["guided"][2], seen["plain"][2] - corrections[0])


def test_strength_zero_and_unguided_steps_return_the_very_tensor():
    answer = torch.randn(4, 3, 9, 11)
    pairs = previous_frame(WORLD.motion())
    off = GuidedDenoiser(lambda z, t: answer, Guidance(pairs, 0.0), euler_schedule(levels(10)))
    assert off(state(), SIGMA) is answer
    late = GuidedDenoiser(lambda z, t: answer, Guidance(pairs, mode=x0), euler_schedule(levels(10), start=0.5))
    assert late(state(), levels(10)[4]) is answer
    assert late(state(), levels(10)[5]) is not answer


def test_steps_are_found_by_their_levels():
    schedule = euler_schedule([8.0, 4.0, 2.0, 1.0, 0.0])
    assert schedule.weights == (0.5, 0.5, 0.5, 1.0)
    assert [schedule.step(t) for t in (9.0, 8.0, 5.0, 4.0, 3.9, 1.0, 0.5, 0.0)] == [0, 0, 0, 1, 1, 3, 3, 3]
    assert schedule.step(torch.full((4,), 2.0)) == 2
    single = levels(50).float()
    assert [euler_schedule(levels(50)).step(t) for t in single[:-1]] == list(range(50))


@pytest.mark.parametrize(
    "arguments, chosen",
    [
        ((10,), range(10)),
        ((10, 0.2, 0.5), [2, 3, 4]),
        ((10, 0.0, 1.0, 0.5), [1, 3, 5, 7, 9]),
        ((10, 0.0, 1.0, 0.3), [2, 5, 9]),
        ((10, 0.4, 0.8, 0.01), [7]),
        ((10, 0.0, 1.0, 0.0), []),
        ((10, 0.5, 0.5), []),
    ],
)
def test_guided_steps(arguments, chosen):
    assert [i for i, guided in enumerate(guided_steps(*arguments)) if guided] == list(chosen)


# --- what is refused --------------------------------------------------------------------------------------------------


def test_errors_name_both_numbers():
    guidance = Guidance(previous_frame(WORLD.motion()))
    with pytest.raises(ValueError, match="motion has 4 frames, the clip 6"):
        guided_prediction(pointwise, torch.zeros(6, 3, 9, 11), SIGMA, guidance)
    with pytest.raises(ValueError, match=r"11 x 9 pixels, the clip has 22 x 18: use .resized\(18, 22\)"):
        guided_prediction(pointwise, torch.zeros(4, 3, 18, 22), SIGMA, guidance)
    with pytest.raises(ValueError, match=r"\[F,C,H,W\], got \[1, 3, 4, 9, 11\]"):
        guided_prediction(pointwise, torch.zeros(1, 3, 4, 9, 11), SIGMA, guidance)


@pytest.mark.parametrize("strength", [-1.0, math.nan, math.inf])
def test_a_strength_that_is_none_is_refused(strength):
    with pytest.raises(ValueError, match=f"0 .*or more, got {strength}"):
        Guidance(previous_frame(WORLD.motion()), strength)


def test_a_denoiser_without_a_gradient_is_named():
    with pytest.raises(ValueError, match="no gradient.*mode x0"):
        guided_prediction(torch.no_grad()(PlaceNet()), state(), SIGMA, Guidance(previous_frame(WORLD.motion())))


def test_windows_and_levels_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="end is a share from 0 to 1, got 1.5"):
        guided_steps(10, 0, 1.5)
    with pytest.raises(ValueError, match="ends at 0.2, before it starts at 0.6"):
        guided_steps(10, 0.6, 0.2)
    with pytest.raises(ValueError, match="descend"):
        euler_schedule([1.0, 2.0, 0.0])
    with pytest.raises(ValueError, match="3 levels make 2 steps, got 1 guided and 2 weights"):
        GuidanceSchedule((2.0, 1.0, 0.0), (True,), (0.5, 1.0))
    with pytest.raises(ValueError, match="step 1 gives the prediction the weight 0"):
        GuidanceSchedule((2.0, 1.0, 0.0), (True, True), (0.5, 0.0))


def test_the_anchored_world_is_not_equivariant():
    """The counterpart of the exact one: what guidance is for."""
    mean = torch.randn(3, 9, 11, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = guided_prediction(Anchored(mean), WORLD.noise(), SIGMA, Guidance(previous_frame(WORLD.motion())))
    k = pointwise(torch.ones(1), SIGMA).item()
    expected = (1 - k) ** 2 * WORLD.moved(mean.expand(4, -1, -1, -1)) * 3 * 8 * 9
    torch.testing.assert_close(found.errors[1:], expected)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_a_step_is_found_in_the_precision_of_the_latent(dtype):
    """Samplers ask at ``sigma * x.new_ones(n)``, which rounds the level to the latent's precision."""
    ramp = torch.linspace(0, 1, 20, dtype=torch.float64)
    sigmas = torch.cat([(14.6 ** (1 / 7) + ramp * (0.03 ** (1 / 7) - 14.6 ** (1 / 7))) ** 7, ramp.new_zeros(1)])
    schedule = euler_schedule(sigmas.float())
    assert [schedule.step(sigma.float() * torch.ones(3, dtype=dtype)) for sigma in sigmas[:-1]] == list(range(20))
    between = ((sigmas[4] + sigmas[5]) / 2).to(dtype)
    assert schedule.step(between) == 4
