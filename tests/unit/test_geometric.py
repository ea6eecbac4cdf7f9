"""EMG's geometric consistency: the loss and its gradient, what its masks leave out, and the flow it is trained with."""

import math

import pytest
import torch

from aqueduct.core.motion import warp
from aqueduct.core.motion.estimators import Needs
from aqueduct.core.training.geometric import (
    MASKS,
    adjacent,
    batched_motion,
    closed,
    from_first,
    geometric_consistency,
    in_frame,
    sequential_motion,
    slow,
    total_loss,
)
from aqueduct.core.training.worlds import make_world
from aqueduct.tests.unit.shift_worlds import ShiftWorld

B, C, F, H, W = 2, 3, 4, 6, 8


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def clips(seed=0):
    return random(B, C, F, H, W, seed=seed)


def flows(spread=1.5, seed=1):
    return spread * random(B, F - 1, 2, H, W, seed=seed)


def some(share=0.6, seed=2):
    return torch.rand(B, F - 1, H, W, generator=torch.Generator().manual_seed(seed)) < share


def constant(x, y):
    return torch.tensor([x, y], dtype=torch.float64)[:, None, None].expand(B, F - 1, 2, H, W).clone()


def footprint(forward, mask):
    """bool ``[b, f-1, h, w]``: which pixels of the later frames the pixels that count read, by looking at each."""
    read = torch.zeros_like(mask)
    for b, t, i, j in mask.nonzero().tolist():
        x = min(max(j + float(forward[b, t, 0, i, j]), 0), W - 1)
        y = min(max(i + float(forward[b, t, 1, i, j]), 0), H - 1)
        read[b, t, math.floor(y) : math.floor(y) + 2, math.floor(x) : math.floor(x) + 2] = True
    return read


# --- the loss ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shift", [(2.0, -1.0), (0.0, 0.0), (-1.25, 0.5)])
def test_a_ramp_that_does_not_move_along(shift):
    """Of a plane ``a x + b y + e t`` a shift by (u, v) misses ``a u + b v + e``, between pixels too."""
    a, b, e = random(3, C, seed=5)
    y, x = torch.meshgrid(torch.arange(H), torch.arange(W), indexing="ij")
    plane = a[:, None, None] * x + b[:, None, None] * y
    clip = torch.stack([plane + t * e[:, None, None] for t in range(F)], 1).expand(B, -1, -1, -1, -1)
    forward = constant(*shift)
    mask = in_frame(forward, -forward)
    assert mask.sum() == B * (F - 1) * (W - math.ceil(abs(shift[0]))) * (H - math.ceil(abs(shift[1])))
    expected = (a * shift[0] + b * shift[1] + e).abs().sum()
    torch.testing.assert_close(geometric_consistency(clip, forward, mask, epsilon=0.0), expected)


def test_a_clip_that_moves_along_has_none_and_the_opposite_direction_has():
    """Reading the earlier frame along the forward flow, as eq. 10 is printed, is the wrong way."""
    world = ShiftWorld()
    clip, motion = world.noise(dtype=torch.float32).transpose(0, 1)[None], world.motion()
    forward, mask = motion.forward[None], in_frame(motion.forward[None], motion.backward[None])
    assert geometric_consistency(clip, forward, mask) < 1e-5
    assert geometric_consistency(clip.flip(2), forward, mask) > 1


def test_the_mean_is_over_all_that_counts():
    """Pair by pair with the motion part's own warp; pixels weigh the same wherever they are."""
    clip, forward, mask = clips(), flows(), some()
    distances = [
        (warp(clip[b, :, t + 1][None], forward[b, t][None])[0] - clip[b, :, t]).abs().sum(0)[mask[b, t]]
        for b in range(B)
        for t in range(F - 1)
    ]
    counted = torch.cat(distances)
    torch.testing.assert_close(geometric_consistency(clip, forward, mask, epsilon=0.0), counted.mean())
    found = geometric_consistency(clip, forward, mask, epsilon=7.0)
    torch.testing.assert_close(found, counted.sum() / (len(counted) + 7))


def test_nothing_that_counts_is_no_loss_and_no_gradient():
    clip = clips().requires_grad_()
    loss = geometric_consistency(clip, flows(), some(0.0))
    loss.backward()
    assert loss == 0 and not clip.grad.any()


def test_two_frames_are_the_same_from_the_first_and_from_the_one_before():
    clip, forward, mask = clips()[:, :, :2], flows()[:, :1], some()[:, :1]
    found = [geometric_consistency(clip, forward, mask, pairing=pairing) for pairing in (adjacent, from_first)]
    assert torch.equal(*found)


def test_the_lagrangian_form_holds_every_frame_against_the_first():
    world = ShiftWorld(frames=4, step=(1, 0))
    clip = world.noise().transpose(0, 1)[None]
    forward = torch.arange(1, 4)[:, None] * torch.tensor([1.0, 0.0])
    forward = forward[None, :, :, None, None].expand(1, 3, 2, world.height, world.width)
    mask = in_frame(forward, -forward)
    assert geometric_consistency(clip, forward, mask, pairing=from_first) < 1e-12
    assert geometric_consistency(clip, forward, mask) > 1


# --- its gradient -----------------------------------------------------------------------------------------------------


def test_the_gradient_is_that_of_finite_differences_at_every_value():
    """Central differences are exact but for rounding: between its kinks the loss is linear."""
    forward, mask, step = flows(), some(), 1e-6
    clip = clips().requires_grad_()
    (found,) = torch.autograd.grad(geometric_consistency(clip, forward, mask), clip)
    clip = clip.detach()
    for place in range(0, clip.numel(), 7):
        ends = []
        for sign in (1, -1):
            moved = clip.clone()
            moved.view(-1)[place] += sign * step
            ends.append(geometric_consistency(moved, forward, mask))
        assert found.view(-1)[place].item() == pytest.approx(float(ends[0] - ends[1]) / (2 * step), abs=1e-8)


def test_the_mask_cuts_the_gradient():
    """Frame 0 has a gradient exactly where its own pixel counts; the last frame exactly where a pixel that counts reads
    it (bilinear reading reaches up to a pixel beyond where it lands); frames between, where one of the two is."""
    forward = flows()
    mask = some(0.5) & in_frame(forward, -forward)
    clip = clips().requires_grad_()
    (gradient,) = torch.autograd.grad(geometric_consistency(clip, forward, mask), clip)
    own = torch.cat([mask, torch.zeros_like(mask[:, :1])], 1)
    read = torch.cat([torch.zeros_like(mask[:, :1]), footprint(forward, mask)], 1)
    assert torch.equal((gradient != 0).any(1), own | read)
    assert 0.2 < (own | read).float().mean() < 0.95


def test_what_is_cut_off_may_be_anything():
    forward, mask, clip = flows(), some(0.3), clips()
    own = torch.cat([mask, torch.zeros_like(mask[:, :1])], 1)
    read = torch.cat([torch.zeros_like(mask[:, :1]), footprint(forward, mask)], 1)
    changed = torch.where((own | read)[:, None], clip, clip + 1e3 * random(*clip.shape, seed=8))
    assert torch.equal(geometric_consistency(changed, forward, mask), geometric_consistency(clip, forward, mask))


def test_the_total_loss_adds_its_share():
    z = torch.tensor(3.0, requires_grad=True)
    total = total_loss(z**2, 5 * z, 0.1)
    total.backward()
    assert (total.item(), z.grad.item()) == pytest.approx((10.5, 6.5))


# --- masks ------------------------------------------------------------------------------------------------------------


def test_a_pan_hides_nothing_but_what_leaves():
    forward = constant(2.0, -1.0)
    expected = torch.zeros(H, W, dtype=torch.bool)
    expected[1:, :-2] = True
    for mask in MASKS.values():
        assert torch.equal(mask(forward, -forward), expected.expand(B, F - 1, H, W))


def test_forward_only_takes_out_what_is_fast():
    """4 of 48 pixels move: their root mean square speed is v sqrt(1 / 12), less than v / 2. With 16, more."""
    for columns, counts in ((1, False), (4, True)):
        forward = constant(0.0, 0.0)
        forward[..., 0, 1:5, 2 : 2 + columns] = 1.0
        mask = slow(forward, -forward)
        assert bool(mask[..., 1:5, 2 : 2 + columns].all()) == counts == bool(mask.all())


def test_bidirectional_finds_what_is_hidden_and_the_others_do_not():
    world = make_world(3, 60, 80, 4)
    hidden = world.occlusions()[0][None]
    motion = world.motion()
    kept = {name: mask(motion.forward[None], motion.backward[None]) for name, mask in MASKS.items()}
    missed = {name: float((mask & hidden).sum() / hidden.sum()) for name, mask in kept.items()}
    assert missed["bidirectional"] < 0.2 < missed["none"]
    assert (kept["bidirectional"] & ~hidden).sum() > 0.95 * (~hidden).sum()


def test_the_cycle_test_takes_its_thresholds():
    """There by 3 pixels and back by 2 misses by 1: squared 1 against alpha1 (9 + 4) + alpha2."""
    forward, backward = constant(3.0, 0.0), constant(-2.0, 0.0)
    assert not closed(forward, backward).any()
    for alphas in ((0.01, 0.9), (0.08, 0.0)):
        assert closed(forward, backward, *alphas)[..., :-3].all()
    assert not closed(forward, backward, 0.076, 0.0).any()


# --- the flow of training clips ---------------------------------------------------------------------------------------


class PairReader:
    """An estimator whose flow is (brightness of first, brightness of second): it shows who was paired with whom."""

    name = "pair reader"
    needs = Needs(torch.device("cpu"), 2, 100, lambda h, w: h * w)

    def __init__(self):
        self.batches = []

    def __call__(self, first, second):
        self.batches.append(len(first))
        return torch.stack([first.mean(1), second.mean(1)], 1)


NUMBERED = (torch.arange(6) / 10).view(2, 1, 3, 1, 1).expand(2, 3, 3, 4, 5)  # frames 0, 1, 2 and 3, 4, 5


@pytest.mark.parametrize("pairing, expected", [
    (adjacent, [[[0, 1], [1, 2]], [[3, 4], [4, 5]]]),
    (from_first, [[[0, 1], [0, 2]], [[3, 4], [3, 5]]]),
])  # fmt: skip
def test_all_pairs_of_all_clips_are_one_batch_and_no_pair_spans_two_clips(pairing, expected):
    estimator = PairReader()
    forward, backward = batched_motion(NUMBERED, estimator, pairing)
    expected = torch.tensor(expected)[..., None, None].expand(2, 2, 2, 4, 5) / 10
    torch.testing.assert_close(forward, expected)
    torch.testing.assert_close(backward, expected.flip(2))
    assert estimator.batches == [8]


@pytest.mark.parametrize("pairing", [adjacent, from_first])
def test_one_after_the_other_is_the_same(pairing):
    estimator = PairReader()
    found = sequential_motion(NUMBERED, estimator, pairing)
    assert estimator.batches == [1] * 8
    for one, other in zip(found, batched_motion(NUMBERED, PairReader(), pairing), strict=True):
        assert torch.equal(one, other)


# --- what is refused --------------------------------------------------------------------------------------------------


def test_errors_say_what_is_wrong():
    clip, forward, mask = clips(), flows(), some()
    with pytest.raises(ValueError, match=r"flow of clips \[2, 3, 4, 6, 8\] must be \[2, 3, 2, 6, 8\]"):
        geometric_consistency(clip, forward[:, :2], mask)
    with pytest.raises(ValueError, match=r"mask .* must be \[2, 3, 6, 8\], got \[2, 4, 6, 8\]"):
        geometric_consistency(clip, forward, torch.ones(2, 4, 6, 8))
    with pytest.raises(ValueError, match=r"two frames or more, got \[2, 3, 1, 6, 8\]"):
        geometric_consistency(clip[:, :, :1], forward, mask)
    with pytest.raises(ValueError, match=r"clips \[b,c,f,h,w\], got"):
        batched_motion(NUMBERED[0], PairReader())
    with pytest.raises(ValueError, match="0..1"):
        batched_motion(2 * NUMBERED - 1, PairReader())
