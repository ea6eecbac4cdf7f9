"""Absolute values as what guidance takes off: the step's length, its bound, and that it lowers what it is there for."""

import math

import pytest
import torch

from aqueduct.core.guidance import (
    ABSOLUTE,
    SQUARED,
    Guidance,
    GuidedDenoiser,
    euler_schedule,
    full,
    guided_prediction,
    previous_and_first_frame,
    previous_frame,
    x0,
)
from aqueduct.core.motion import MotionField, warp
from aqueduct.core.training.geometric import geometric_consistency, in_frame
from aqueduct.tests.unit.shift_worlds import Anchored, PlaceNet, ShiftWorld, levels, pointwise

SIGMA = torch.tensor(0.7, dtype=torch.float64)
H, W = 9, 11


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def motion_of(frames=4, spread=2.0):
    return MotionField(spread * normal(frames - 1, 2, H, W, seed=9))


def identity(z, t, part=None):
    return z


def stays(flow):
    x, y = torch.arange(W) + flow[:, 0], torch.arange(H)[:, None] + flow[:, 1]
    return ((x >= 0) & (x <= W - 1) & (y >= 0) & (y <= H - 1))[:, None]


def differences(clip, flow):
    """Of two frames, by the motion part's own warp: zero where the motion leaves the frame."""
    return (warp(clip[1:], flow) - clip[:-1]) * stays(flow)


def huber(r, tau):
    return torch.where(r.abs() <= tau, r.square() / 2, tau * r.abs() - tau**2 / 2).sum()


# --- the step ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(9, 11), (30, 40)])
def test_strength_means_the_same_length_as_for_squares(size):
    """2 lambda for every size, where all differences are above the step and pixels read pixels."""
    world = ShiftWorld(frames=3, height=size[0], width=size[1])
    clip = normal(3, 3, *size) + 100 * torch.arange(3)[:, None, None, None]
    for penalty in (SQUARED, ABSOLUTE):
        for bounded in (False, True):
            guidance = Guidance(previous_frame(world.motion()), 0.3, x0, bounded, penalty)
            steps = guided_prediction(identity, clip, SIGMA, guidance).correction
            assert steps.flatten(1).norm(dim=1).tolist() == pytest.approx([0, 0.6, 0.6])


def test_unbounded_it_is_the_slope_of_the_sum_by_finite_differences():
    motion, clip, strength = motion_of(2), normal(2, 3, H, W), 0.8
    guidance = Guidance(previous_frame(motion), strength, x0, penalty=ABSOLUTE)
    found = guided_prediction(identity, clip, SIGMA, guidance)
    tau = 2 * strength / math.sqrt(3 * int(stays(motion.forward).sum()))
    assert found.errors.tolist() == pytest.approx([0, float(differences(clip, motion.forward).abs().sum())])
    for place in [(0, 4, 5), (1, 0, 0), (2, 8, 10), (1, 3, 7)]:
        ends = []
        for sign in (1, -1):
            moved = clip.clone()
            moved[(1, *place)] += sign * 1e-6
            ends.append(float(differences(moved, motion.forward).abs().sum()))
        slope = (ends[0] - ends[1]) / 2e-6
        assert found.correction[(1, *place)].item() == pytest.approx(tau * slope, abs=1e-7)


@pytest.mark.parametrize("strength", [0.5, 10.0, 1e6])
def test_bounded_every_difference_shrinks_by_as_much_and_none_changes_sign(strength):
    """For whole pixels and a free prediction: soft thresholding, and in the end nothing is left."""
    world = ShiftWorld(frames=2, height=H, width=W)
    clip = world.noise() + normal(2, 3, H, W, seed=3)
    guidance = Guidance(previous_frame(world.motion()), strength, x0, True, ABSOLUTE)
    moved = clip - guided_prediction(identity, clip, SIGMA, guidance).correction
    flow = world.motion().forward
    before, after = differences(clip, flow), differences(moved, flow)
    tau = 2 * strength / math.sqrt(3 * int(stays(flow).sum()))
    torch.testing.assert_close(after, before.sign() * (before.abs() - tau).clamp(min=0), rtol=0, atol=1e-6)
    assert torch.equal(moved[0], clip[0])


FLOWS = {
    "anywhere": 2 * normal(1, 2, H, W, seed=9),
    "all to one place": torch.stack([5.3 - torch.arange(W).expand(H, W), 4.6 - torch.arange(H)[:, None].expand(H, W)])
    .double()[None],
    "a zoom out": -0.4 * torch.stack([torch.arange(W).expand(H, W) - 5.0, torch.arange(H)[:, None].expand(H, W) - 4.0])
    .double()[None],
}  # fmt: skip


@pytest.mark.parametrize("strength", [0.3, 5.0, 1e3])
@pytest.mark.parametrize("flow", FLOWS)
def test_a_bounded_step_never_raises_the_loss(flow, strength):
    """However many pixels read the same one. Huber's loss with the step's width, which is |r| beyond it."""
    flow = FLOWS[flow]
    clip = normal(2, 3, H, W)
    clip[1] += 2
    guidance = Guidance(previous_frame(MotionField(flow)), strength, x0, True, ABSOLUTE)
    tau = 2 * strength / math.sqrt(3 * int(stays(flow).sum()))
    losses = [huber(differences(clip, flow), tau).item()]
    for _ in range(5):
        clip = clip - guided_prediction(identity, clip, SIGMA, guidance).correction
        losses.append(huber(differences(clip, flow), tau).item())
    assert losses[1] < losses[0]
    assert all(after <= (1 + 1e-12) * before for before, after in zip(losses, losses[1:], strict=False))


def test_where_many_read_one_pixel_their_wishes_are_averaged():
    """99 pixels of frame 0 read the middle of frame 1, which is 2 above them all: it goes down by 2, not by 198."""
    flow = torch.stack([5.0 - torch.arange(W).expand(H, W), 4.0 - torch.arange(H)[:, None].expand(H, W)]).double()
    clip = torch.zeros(2, 1, H, W, dtype=torch.float64)
    clip[1] = 2
    guidance = Guidance(previous_frame(MotionField(flow[None])), 1e6, x0, True, ABSOLUTE)
    moved = guided_prediction(identity, clip, SIGMA, guidance).correction[1, 0]
    assert moved[4, 5] == 2 and moved.count_nonzero() == 1


def test_several_references_add_up_and_chunks_change_nothing():
    net, pairs = PlaceNet(), previous_and_first_frame(motion_of())
    for bounded in (False, True):
        for mode in (full, x0):
            guidance = Guidance(pairs, 0.8, mode, bounded, ABSOLUTE)
            whole = guided_prediction(net, normal(4, 3, H, W), SIGMA, guidance)
            parts = guided_prediction(net, normal(4, 3, H, W), SIGMA, guidance, size=1)
            for name in ("prediction", "correction", "errors"):
                torch.testing.assert_close(getattr(parts, name), getattr(whole, name), rtol=0, atol=1e-12)
    near, far = pairs.errors(whole.prediction).shape, len(pairs)
    assert near == (far,)


def test_full_pulls_the_change_back_and_no_further_than_it_asks():
    """Against autograd of the network; a steep network is held to ``|d|^2 / |J^T d|^2`` of the step, frame by frame."""
    net, z, pairs = PlaceNet(), normal(4, 3, H, W, seed=1), previous_frame(motion_of())
    free = guided_prediction(net, z, SIGMA, Guidance(pairs, 0.8, x0, True, ABSOLUTE)).correction
    for steepness in (1.0, 3.0):
        entering = z.clone().requires_grad_()
        prediction = steepness * net(entering, SIGMA) + (1 - steepness) * net(z, SIGMA)  # the same values
        (pulled,) = torch.autograd.grad(prediction, entering, free)
        shares = (free.square().flatten(1).sum(1) / pulled.square().flatten(1).sum(1)).nan_to_num(1.0).clamp(max=1)

        def steep(u, t, part=None, steepness=steepness):
            return steepness * net(u, t) + (1 - steepness) * net(z, t)

        found = guided_prediction(steep, z, SIGMA, Guidance(pairs, 0.8, full, True, ABSOLUTE)).correction
        torch.testing.assert_close(found, shares[:, None, None, None] * pulled)
    assert (shares[1:] < 1).all()


# --- in a solver ------------------------------------------------------------------------------------------------------


def consistency(clip, motion):
    clip, forward = clip.transpose(0, 1)[None], motion.forward[None].double()
    return float(geometric_consistency(clip, forward, in_frame(forward, -forward)))


def euler(denoiser, z, sigmas):
    for sigma, after in zip(sigmas[:-1], sigmas[1:], strict=True):
        z = z + (after - sigma) * (z - denoiser(z, sigma)) / sigma
    return z


@pytest.mark.parametrize("mode", [x0, full])
@pytest.mark.parametrize("step, left", [((1, 0), 0.01), ((0.6, -0.3), 0.8)])
def test_it_lowers_the_loss_of_what_an_exact_denoiser_makes(mode, step, left):
    """The exact denoiser of Gaussian pixels whose mean sticks to the screen, under Euler: more strength, less loss.

    Between pixels reading blurs, and of white noise nothing blurred can be a shift: most of the loss has to stay.
    """
    world, sigmas = ShiftWorld(frames=4, height=H, width=W, step=step), levels(12)
    mean, start = 2 * normal(3, H, W, seed=4), sigmas[0] * normal(4, 3, H, W, seed=6)
    pairs = previous_frame(world.motion())
    found = []
    for strength in (0.0, 0.5, 2.0, 50.0):
        guidance = Guidance(pairs, strength, mode, True, ABSOLUTE)
        denoiser = GuidedDenoiser(Anchored(mean), guidance, euler_schedule(sigmas))
        found.append(consistency(euler(denoiser, start, sigmas), world.motion()))
    assert found[0] == consistency(euler(Anchored(mean), start, sigmas), world.motion())
    assert found == sorted(found, reverse=True) and found[-1] < left * found[0]


def test_it_comes_to_rest_where_the_loss_is_zero():
    world = ShiftWorld(frames=4, height=H, width=W)
    z = 0.7 * world.noise(dtype=torch.float32)
    for mode in (x0, full):
        for bounded in (False, True):
            guidance = Guidance(previous_frame(world.motion()), 5.0, mode, bounded, ABSOLUTE)
            found = guided_prediction(pointwise, z, SIGMA, guidance)
            assert found.errors.tolist() == [0.0] * 4 and not found.correction.any()


def test_nothing_to_compare_is_nothing_to_do():
    away = MotionField(torch.full((3, 2, H, W), 100.0, dtype=torch.float64))
    guidance = Guidance(previous_frame(away), 5.0, full, True, ABSOLUTE)
    found = guided_prediction(PlaceNet(), normal(4, 3, H, W), SIGMA, guidance)
    assert found.errors.tolist() == [0.0] * 4 and not found.correction.any()
    assert math.isnan(guidance.pairs.mean(found.errors, 3))
