"""MotionField against closed forms, on frames that are not square."""

import importlib
import math

import pytest
import torch

from aqueduct.core.motion import MotionField, chunks, cycle_energy, cycle_mask, inside, invert, pixel_grid, sample, warp

H, W = 30, 46


def affine_step(matrix, shift, height=H, width=W, dtype=torch.float32):
    """The field p -> M (p - centre) + centre + shift - p."""
    centre = torch.tensor([(width - 1) / 2, (height - 1) / 2], dtype=dtype)[:, None, None]
    p = pixel_grid(height, width, dtype=dtype) - centre
    moved = torch.einsum("ij,jhw->ihw", torch.as_tensor(matrix, dtype=dtype), p)
    return moved + torch.tensor(shift, dtype=dtype)[:, None, None] - p


def rotation(angle):
    return [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]


def rotating(angle, frames, height=H, width=W):
    there = affine_step(rotation(angle), (0, 0), height, width)
    back = affine_step(rotation(-angle), (0, 0), height, width)
    return MotionField(there.expand(frames - 1, -1, -1, -1), back.expand(frames - 1, -1, -1, -1))


def constant(x, y, frames=2, height=H, width=W):
    field = torch.tensor([x, y], dtype=torch.float32)[:, None, None].expand(frames - 1, 2, height, width).contiguous()
    return MotionField(field, -field)


def picture(height=H, width=W):
    """Asymmetric in both axes and between them, so that any swap or flip shows."""
    y, x = torch.meshgrid(torch.arange(height).float(), torch.arange(width).float(), indexing="ij")
    return torch.stack([x / width, y / height, x * x / width**2 + 0.3 * y / height])[None]


def test_channel_zero_moves_along_the_columns():
    image = torch.zeros(1, 1, 5, 9)
    image[0, 0, 1, 6] = 1
    flow = torch.zeros(1, 2, 5, 9)
    flow[:, 0], flow[:, 1] = 4, -2
    found = warp(image, flow)[0, 0].nonzero()
    assert found.tolist() == [[3, 2]]  # row 3, column 2: the point (2, 3), and (2, 3) + (4, -2) = (6, 1)


def test_forward_aligns_the_next_frame_with_this_one():
    """A square at column 3 in frame 0 and column 7 in frame 1 moves by (+4, 0), and warping frame 1 brings it back."""
    frames = torch.zeros(2, 1, 6, 12)
    frames[0, 0, 2, 3] = frames[1, 0, 2, 7] = 1
    motion = constant(4, 0, 2, 6, 12)
    torch.testing.assert_close(warp(frames[1:], motion.forward), frames[:1])
    torch.testing.assert_close(warp(frames[:1], motion.backward), frames[1:])


def test_sampling_between_pixels_is_bilinear():
    image = picture()
    points = torch.tensor([[10.25, 3.5], [44.75, 28.125]]).T[None, :, :, None]
    x, y = points[0, 0, :, 0], points[0, 1, :, 0]
    got = sample(image, points)[0, :, :, 0]
    torch.testing.assert_close(got[0], x / W, atol=1e-5, rtol=0)
    torch.testing.assert_close(got[1], y / H, atol=1e-5, rtol=0)
    # bilinear x^2 overshoots by f (1 - f)
    torch.testing.assert_close(got[2], (x * x + x.frac() * (1 - x.frac())) / W**2 + 0.3 * y / H, atol=1e-5, rtol=0)


def test_the_border_holds_outside():
    image = picture()
    points = torch.tensor([[-5.0, 100.0], [-5.0, 100.0]])[None, :, :, None]
    got = sample(image, points)[0, :, :, 0]
    torch.testing.assert_close(got, torch.stack([image[0, :, 0, 0], image[0, :, -1, -1]], 1), atol=1e-6, rtol=0)


def test_inside_takes_the_border_and_nothing_beyond():
    x = torch.tensor([0, W - 1, W - 0.99, -0.01, 5, 5, 5, 5.0])
    y = torch.tensor([5, 5, 5, 5, 0, H - 1, H - 0.99, -0.01])
    got = inside(torch.stack([x, y])[:, None], H, W)
    assert got[0].tolist() == [True, True, False, False] * 2


@pytest.mark.parametrize("i, j", [(0, 4), (4, 0), (1, 3), (3, 1), (2, 2)])
def test_between_of_a_constant_field_is_its_multiple(i, j):
    motion = constant(1.5, -2.25, frames=5)
    expected = torch.tensor([1.5, -2.25])[:, None, None] * (j - i)
    torch.testing.assert_close(motion.between(i, j), expected.expand(2, H, W), atol=1e-5, rtol=0)


def test_validity_of_a_constant_field_is_what_stays_inside():
    motion = constant(3, -2, frames=4)
    _, valid = motion.between_valid(0, 3)
    rows, columns = torch.arange(H)[:, None], torch.arange(W)[None]
    assert torch.equal(valid, (columns + 9 <= W - 1) & (rows - 6 >= 0))


def test_between_of_changing_fields_follows_the_particle():
    """x' = 1.1 x about the centre, then a shift: the order matters, and validity does too."""
    grow, shift = affine_step([[1.1, 0], [0, 1.1]], (0, 0)), affine_step([[1, 0], [0, 1]], (2, 1))
    shrink = affine_step([[1 / 1.1, 0], [0, 1 / 1.1]], (0, 0))
    motion = MotionField(torch.stack([grow, shift]), torch.stack([shrink, -shift]))
    flow, valid = motion.between_valid(0, 2)
    torch.testing.assert_close(flow[:, valid], (grow + shift)[:, valid], atol=1e-4, rtol=0)
    back, valid = motion.between_valid(2, 0)
    expected = affine_step([[1 / 1.1, 0], [0, 1 / 1.1]], (-2 / 1.1, -1 / 1.1))
    torch.testing.assert_close(back[:, valid], expected[:, valid], atol=1e-4, rtol=0)
    assert 0.5 < valid.float().mean() < 1


@pytest.mark.parametrize("back", [False, True])
def test_thirty_frames_of_rotation_stay_on_the_circle(back):
    size, border, frames, angle = 320, 128, 31, math.radians(3)
    motion = rotating(angle, frames, size, size + 40)
    i, j = (frames - 1, 0) if back else (0, frames - 1)
    exact = affine_step(rotation((j - i) * angle), (0, 0), size, size + 40)
    error = (motion.between(i, j) - exact).square().sum(0).sqrt()[border:-border, border:-border]
    assert error.numel() > 6000 and error.max() < 0.05


def test_reversed_plays_backwards():
    fields = torch.randn(3, 2, H, W, generator=torch.Generator().manual_seed(0))
    valid = torch.rand(3, H, W, generator=torch.Generator().manual_seed(1)) > 0.2
    motion = MotionField(fields, fields * -0.9, valid, ~valid)
    other = motion.reversed()
    for i, j in ((0, 1), (2, 0), (1, 3)):
        for got, expected in zip(other.between_valid(i, j), motion.between_valid(3 - i, 3 - j), strict=True):
            assert torch.equal(got, expected)
    assert torch.equal(other.reversed().forward, motion.forward)


@pytest.mark.parametrize("height, width", [(H * 2, W * 2), (H // 2, W // 2), (41, 29)])
def test_resizing_rescales_vectors_on_the_resized_grid(height, width):
    """An affine motion of the picture plane has a closed form at any size under the half-pixel rule."""
    motion = MotionField(affine_step([[1.05, 0.1], [-0.07, 0.97]], (1, -2))[None])
    sx, sy = width / W, height / H
    matrix = [[1.05, 0.1 * sx / sy], [-0.07 * sy / sx, 0.97]]
    expected = affine_step(matrix, (sx, -2 * sy), height, width)
    got = motion.resized(height, width)
    assert got.size == (height, width)
    edge = 3  # the border is held there, not continued
    torch.testing.assert_close(
        got.forward[0, :, edge:-edge, edge:-edge], expected[:, edge:-edge, edge:-edge], atol=0.02, rtol=0
    )


def test_resizing_keeps_only_vectors_made_of_valid_ones():
    valid = torch.ones(1, 8, 8, dtype=torch.bool)
    valid[0, 2, 3] = False
    motion = MotionField(torch.zeros(1, 2, 8, 8), forward_valid=valid)
    half = motion.resized(4, 4).forward_valid
    assert not half[0, 1, 1] and half[0, 3, 3]
    double = motion.resized(16, 16).forward_valid
    assert not double[0, 4:6, 6:8].any() and double[0, 8:, :].all()


def test_invalid_vectors_invalidate_the_paths_through_them():
    motion = constant(2, 0, frames=3)
    valid = torch.ones(2, H, W, dtype=torch.bool)
    valid[1, 10, 20] = False
    ok = MotionField(motion.forward, motion.backward, valid).between_valid(0, 2)[1]
    lost = (~ok).nonzero().tolist()
    assert [10, 18] in lost  # the pixel that stands on it after one step
    assert all(column >= W - 4 or [row, column] == [10, 18] for row, column in lost)


def test_inverse_of_a_rotation_and_of_a_fold():
    angle = 0.1
    inverse, valid = invert(affine_step(rotation(angle), (0, 0))[None])
    expected = affine_step(rotation(-angle), (0, 0))
    inner = slice(8, -8)
    assert valid[0, inner, inner].all()
    torch.testing.assert_close(inverse[0, :, inner, inner], expected[:, inner, inner], atol=1e-3, rtol=0)
    tear = torch.zeros(1, 2, H, W)
    tear[:, 0, :, W // 2 :] = 8  # the right half jumps away: nothing lands on eight columns
    _, valid = invert(tear)
    assert not valid[0, :, W // 2 + 1 : W // 2 + 7].any() and valid[0, :, W // 2 + 9 :].all()


def test_an_inverse_that_has_settled_is_not_sought_further(monkeypatch):
    module = importlib.import_module("aqueduct.core.motion.invert")
    rounds = []
    monkeypatch.setattr(module, "sample", lambda *given: rounds.append(given) or sample(*given))
    flow = affine_step(rotation(0.01), (0, 0))[None]
    soon, _ = invert(flow, steps=1000)
    assert len(rounds) < 10
    monkeypatch.setattr(module, "SETTLED", -1)
    torch.testing.assert_close(soon, invert(flow)[0], atol=1e-4, rtol=0)
    assert len(rounds) > 30


def test_where_two_things_land_the_start_says_which():
    """A block moves by 8 onto still ground: both the block and the ground are an answer where it lands."""
    flow = torch.zeros(1, 2, H, W)
    flow[0, 0, 8:16, 10:18] = 8
    landed = (0, slice(None), slice(9, 15), slice(19, 25))
    on_ground, _ = invert(flow)
    on_block, valid = invert(flow, start=constant(-8, 0).forward)
    assert (on_ground[landed] == 0).all() and (on_block[landed][0] == -8).all()
    assert valid[0, 9:15, 19:25].all() and not valid[0, 9:15, 11:17].any()  # nothing moved to where it was


def test_bidirectional_finds_what_is_missing():
    motion = rotating(0.05, 3)
    found = MotionField(motion.forward).bidirectional()
    inner = (slice(None), slice(None), slice(6, -6), slice(6, -6))
    torch.testing.assert_close(found.backward[inner], motion.backward[inner], atol=1e-3, rtol=0)
    assert motion.bidirectional() is motion


def test_the_search_for_a_backward_tells_its_progress_and_may_be_stopped():
    told, motion = [], MotionField(constant(1, 0, frames=4).forward)
    motion.bidirectional(lambda done, total: told.append((done, total)))
    assert told == [(1, 3), (2, 3), (3, 3)]

    def stop(done, total):
        raise InterruptedError

    with pytest.raises(InterruptedError):
        motion.bidirectional(stop)


@pytest.mark.parametrize("alpha1", [0.0, 0.01, 0.2])
@pytest.mark.parametrize("alpha2", [0.0, 0.3, 0.5, 4.0])
def test_the_mask_of_constant_fields_at_every_threshold(alpha1, alpha2):
    generator = torch.Generator().manual_seed(5)
    rows, columns = torch.arange(H)[:, None], torch.arange(W)[None]
    decided = 0
    for _ in range(12):
        f = torch.randn(2, generator=generator, dtype=torch.float64) * 3
        g = -f + torch.randn(2, generator=generator, dtype=torch.float64) * 0.8
        energy = (f + g).square().sum().item()
        bound = alpha1 * (f.square().sum() + g.square().sum()).item() + alpha2
        fwd, bwd = (v[None, :, None, None].expand(1, 2, H, W) for v in (f, g))
        stays = (columns + f[0] >= 0) & (columns + f[0] <= W - 1) & (rows + f[1] >= 0) & (rows + f[1] <= H - 1)
        torch.testing.assert_close(cycle_energy(fwd, bwd), torch.full((1, H, W), energy, dtype=torch.float64))
        assert torch.equal(cycle_mask(fwd, bwd, alpha1, alpha2)[0], stays & (energy < bound))
        decided += energy < bound
    assert alpha1 == 0.2 or alpha2 not in (0.3, 0.5) or 0 < decided < 12  # both answers occur


def test_a_perfect_cycle_is_not_below_a_bound_of_zero():
    """Strict inequality: with both thresholds at 0 nothing is valid, not even motion that returns exactly."""
    motion = constant(2, 0)
    assert not cycle_mask(motion.forward, motion.backward, 0, 0).any()
    assert cycle_mask(motion.forward, motion.backward, 0, 1e-9)[0, :, : W - 2].all()


def test_a_backward_found_from_unknown_vectors_is_unknown():
    """The picture slides by (3, 0); of a block of frame 0 the motion is not known, hence not of where it lands."""
    known = torch.ones(1, H, W, dtype=torch.bool)
    known[0, 10:16, 20:28] = False
    found = MotionField(constant(3, 0).forward, forward_valid=known).bidirectional()
    expected = known.roll(3, -1)
    expected[..., :3] = False  # nothing of frame 0 moved there
    assert torch.equal(found.backward_valid, expected)
    assert known.sum() == H * W - 48  # the given one is left as it was


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_vectors_of_half_precision_do_not_move_the_grid(dtype):
    """At x = 1000 neither type can tell a pixel from the next half, or the next four: only vectors may be rounded."""
    image = torch.arange(1024.0)[None, None, None].expand(1, 1, 4, 1024)
    step = torch.zeros(1, 2, 4, 1024)
    step[:, 0] = 1.5  # exact in every type
    torch.testing.assert_close(warp(image, step.to(dtype)), warp(image, step))
    torch.testing.assert_close(cycle_energy(step.to(dtype), -step.to(dtype)), cycle_energy(step, -step))
    assert torch.equal(cycle_mask(step.to(dtype), -step.to(dtype)), cycle_mask(step, -step))
    torch.testing.assert_close(invert(step.to(dtype))[0], invert(step)[0])


@pytest.mark.parametrize("frames", [2, 3, 7, 9])
def test_one_batch_or_frame_by_frame_is_the_same(monkeypatch, frames):
    """``frames`` at once, as on an accelerator: by itself the CPU takes them one by one."""
    monkeypatch.setattr(chunks, "chunk_size", lambda bytes_per_item, device: frames)
    generator = torch.Generator().manual_seed(3)
    fwd = torch.randn(7, 2, H, W, generator=generator) * 2
    bwd = -fwd + torch.randn(7, 2, H, W, generator=generator) * 0.4
    for function in (cycle_energy, cycle_mask):
        looped = torch.cat([function(f[None], b[None]) for f, b in zip(fwd, bwd, strict=True)])
        assert torch.equal(function(fwd, bwd), looped)
    images = torch.rand(7, 3, H, W, generator=generator)
    assert torch.equal(warp(images, fwd), torch.cat([warp(x[None], f[None]) for x, f in zip(images, fwd, strict=True)]))


def test_the_energy_is_read_where_the_flow_lands():
    """Adding both fields at the same pixel, a common mistake, would find a perfect cycle here."""
    fwd = torch.zeros(1, 2, 4, 10)
    fwd[0, 0, :, 3] = 4
    bwd = torch.zeros(1, 2, 4, 10)
    bwd[0, 0, :, 3], bwd[0, 0, :, 7] = -4, -1
    energy = cycle_energy(fwd, bwd)[0]
    torch.testing.assert_close(energy[:, 3], torch.full((4,), 9.0))
    swapped = cycle_energy(bwd, fwd)[0]
    torch.testing.assert_close(swapped[:, 7], torch.full((4,), 1.0))


@pytest.mark.parametrize("make, message", [
    (lambda: MotionField(torch.zeros(0, 2, 4, 4)), "at least two frames"),
    (lambda: MotionField(torch.zeros(2, 3, 4, 4)), "F-1,2,H,W"),
    (lambda: MotionField(torch.zeros(2, 2, 4, 4), torch.zeros(2, 2, 4, 5)), "shape of forward"),
    (lambda: MotionField(torch.full((1, 2, 4, 4), float("nan"))), "not finite"),
    (lambda: MotionField(torch.zeros(1, 2, 4, 4, dtype=torch.int32)), "floating point"),
    (lambda: MotionField(torch.zeros(1, 2, 4, 4, dtype=torch.float16)), "32 or 64 bits, got torch.float16.*float"),
    (lambda: MotionField(torch.zeros(1, 2, 4, 4), torch.zeros(1, 2, 4, 4).double()), "float64, forward torch.float32"),
    (lambda: MotionField(torch.zeros(1, 2, 4, 4), torch.zeros(1, 2, 4, 4, device="meta")), "on meta, forward on cpu"),
    (lambda: MotionField(torch.zeros(1, 2, 4, 4), forward_valid=torch.ones(1, 4, 4)), "must be bool"),
    (lambda: MotionField(torch.zeros(1, 2, 4, 4)).reversed(), "bidirectional"),
    (lambda: MotionField(torch.zeros(2, 2, 4, 4)).between(0, 3), "frames 0 to 2"),
    (lambda: MotionField(torch.zeros(2, 2, 4, 4)).between(2, 0), "bidirectional"),
    (lambda: MotionField(torch.zeros(2, 2, 4, 4)).sliced(1, 2), "two or more"),
    (lambda: warp(torch.zeros(1, 3, 8, 6), torch.zeros(1, 2, 4, 4)), "6 x 8 pixels, the flow 4 x 4"),
    (lambda: warp(torch.zeros(2, 3, 4, 4), torch.zeros(1, 2, 4, 4)), "2 images for 1"),
    (lambda: cycle_mask(torch.zeros(1, 2, 4, 4), torch.zeros(1, 2, 4, 4), -1), "at least 0"),
    (lambda: cycle_energy(torch.zeros(1, 2, 4, 4), torch.zeros(2, 2, 4, 4)), "one shape"),
])  # fmt: skip
def test_what_cannot_be_says_so(make, message):
    with pytest.raises(ValueError, match=message):
        make()
