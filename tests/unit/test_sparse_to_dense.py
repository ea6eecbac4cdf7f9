"""Hints on pixels, vectors blended by shares, the small network that finds these, its training, and its use."""

import pytest
import torch
import torch.nn.functional as F

from aqueduct.core.motion.densify import learned, motion_from_tracks
from aqueduct.core.motion.densify.blend import blended
from aqueduct.core.motion.densify.hints import hint_map, resized_hints, scattered_hints
from aqueduct.core.motion.sampling import pixel_grid
from aqueduct.core.motion.tracks import Tracks
from aqueduct.core.networks import SparseToDense
from aqueduct.core.networks.sparse_to_dense import MOST
from aqueduct.core.training.loop import LoopSettings, train
from aqueduct.core.training.sparse_to_dense import (
    HintedScenes,
    Scenes,
    belonging_loss,
    draw_hints,
    endpoint_error,
    sparse_to_dense_loss,
)
from aqueduct.core.training.worlds import Blob, Layer, LayeredWorld, make_world

SMALL = {"channels": 8, "wide": 8, "looks": 4, "side": 64}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def told(batch: int, height: int, width: int, *hints) -> tuple[torch.Tensor, torch.Tensor]:
    """Hints ``(clip, row, column, x, y)``."""
    vectors, known = torch.zeros(batch, 2, height, width), torch.zeros(batch, 1, height, width, dtype=torch.bool)
    for clip, row, column, x, y in hints:
        vectors[clip, :, row, column], known[clip, 0, row, column] = torch.tensor([x, y]), True
    return vectors, known


def lively(seed: int = 1, **changes) -> SparseToDense:
    """A network as if it were trained: no layer is zero."""
    network = SparseToDense(**{**SMALL, **changes})
    for parameter in network.parameters():
        spread = 1.2 / parameter[0].numel() ** 0.5 if parameter.dim() > 1 else 0.3
        parameter.data = torch.randn(parameter.shape, generator=seeded(seed)) * spread
    return network.requires_grad_(False)


# --- hints ------------------------------------------------------------------------------------------------------------


def test_hints_lie_on_the_nearest_pixel():
    """Pixel centres are integers, so the image spans -0.5 to 3.5 by -0.5 to 2.5; what shares a pixel is averaged."""
    points = torch.tensor([[-0.5, 2.49], [1.4, 0.6], [0.6, 1.4], [3.49, -0.5], [3.5, 0.0], [0.0, 2.5], [-0.6, 1.0]])
    vectors = torch.stack([torch.arange(7.0), -torch.arange(7.0)], 1)
    hints, known = hint_map(points, vectors, (3, 4))
    assert known[0].nonzero().tolist() == [[0, 3], [1, 1], [2, 0]]
    assert hints[0].tolist() == [[0, 0, 0, 3], [0, 1.5, 0, 0], [0, 0, 0, 0]] and torch.equal(hints[1], -hints[0])
    back, read = scattered_hints(hints, known)
    assert back.tolist() == [[3, 0], [1, 1], [0, 2]] and read[:, 0].tolist() == [3, 1.5, 0]


def test_hints_stay_where_they_are_in_a_resized_picture():
    """By `Tracks.resized`, whose rule is that of images: 7 x 9 to 21 x 3 pixels, vectors with it."""
    hints, known = told(2, 7, 9, (0, 2, 8, 3.0, 2.0), (1, 0, 0, 6.0, 1.0), (1, 6, 4, -3.0, 0.0))
    resized, there = resized_hints(hints, known, (21, 3))
    for clip in (0, 1):
        points, vectors = scattered_hints(hints[clip], known[clip])
        ends = Tracks(torch.stack([points, points + vectors]), torch.ones(2, len(points), dtype=torch.bool), (7, 9))
        moved = ends.resized(21, 3).positions
        expected = hint_map(moved[0], moved[1] - moved[0], (21, 3))
        torch.testing.assert_close(resized[clip], expected[0])
        assert torch.equal(there[clip], expected[1])
    both = resized_hints(*told(1, 4, 4, (0, 0, 0, 4.0, 0.0), (0, 1, 1, 0.0, 4.0)), (2, 2))
    assert both[0][0, :, 0, 0].tolist() == [1.0, 1.0] and both[1].sum() == 1


# --- blending ---------------------------------------------------------------------------------------------------------


def similarity(turn: complex, shift: complex, points: torch.Tensor) -> torch.Tensor:
    """``turn z + shift`` at ``points [2, ...]``."""
    moved = turn * torch.complex(points[0], points[1]) + shift
    return torch.stack([moved.real, moved.imag])


def test_a_similarity_is_reproduced_whatever_the_shares():
    points, size = torch.rand(5, 2, generator=seeded()) * 20, (12, 17)
    vectors = similarity(0.05 - 0.1j, 1 - 2j, points.T).T
    shares = torch.randn(5, *size, generator=seeded(1)).softmax(0)
    expected = similarity(0.05 - 0.1j, 1 - 2j, pixel_grid(*size))
    torch.testing.assert_close(blended(shares, points, vectors, 1e-3), expected, rtol=1e-4, atol=1e-4)
    halves = blended(shares / 2, points, vectors, 1e-3)
    torch.testing.assert_close(halves, expected / 2, rtol=1e-4, atol=1e-4)


def test_points_closer_than_the_ridge_only_shift():
    """Two points 2 apart that turn about (5, 5): their spread is 1, so a ridge of 1 damps the turn to half."""
    points = torch.tensor([[4.0, 5.0], [6.0, 5.0]])
    shares, vectors = torch.full((2, 11, 11), 0.5), similarity(0.2j, 0.2j * -(5 + 5j), points.T).T
    expected = similarity(0.1j, 0.1j * -(5 + 5j), pixel_grid(11, 11))
    torch.testing.assert_close(blended(shares, points, vectors, 1.0), expected)
    assert blended(shares, points, vectors, 1e4).abs().max() < 1e-6
    alone = blended(torch.ones(1, 3, 3), points[:1], vectors[:1], 1e-3)
    torch.testing.assert_close(alone, vectors[0, :, None, None].expand(2, 3, 3))


def test_what_has_no_share_rests():
    points, vectors = torch.rand(2, 2), torch.ones(2, 2)
    assert not blended(torch.zeros(2, 4, 5), points, vectors, 1.0).any()
    assert torch.equal(blended(torch.zeros(0, 4, 5), points[:0], vectors[:0], 1.0), torch.zeros(2, 4, 5))


# --- the network ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(64, 64), (37, 53), (1, 1), (3, 200)])
def test_an_untrained_network_shares_by_distance(size):
    """One hint among rest: 1 / (1 + e^(-1 + d^2 / 2r^2)) of its vector, r an eighth of the longer side."""
    height, width = size
    network = SparseToDense(**{**SMALL, "side": 200}).initialise(seeded())
    hints, known = told(2, height, width, (0, 0, 0, 5.0, -2.0))
    flow = network.flow(torch.rand(2, 3, *size, generator=seeded()), hints, known)
    squares = pixel_grid(height, width).square().sum(0)
    share = 1 / (1 + torch.exp(-1 + squares / (2 * (max(size) / 8) ** 2)))
    torch.testing.assert_close(flow[0], share * torch.tensor([5.0, -2.0])[:, None, None], rtol=1e-4, atol=1e-5)
    assert not flow[1].any()


@torch.no_grad()
def test_a_network_of_the_shipped_size():
    network = SparseToDense(side=300).initialise(seeded())
    assert sum(parameter.numel() for parameter in network.parameters()) < 300_000
    hints, known = told(1, 40, 300, (0, 20, 100, 5.0, -2.0), (0, 30, 250, 1.0, 3.0))
    network.rest.fill_(-6)  # 1 / 400 of what a hint is: it is met so well where it lies
    flow = network.flow(torch.rand(1, 3, 40, 300), hints, known)
    assert flow.shape == (1, 2, 40, 300)
    for (row, column), vector in (((20, 100), (5.0, -2.0)), ((30, 250), (1.0, 3.0))):
        torch.testing.assert_close(flow[0, :, row, column], torch.tensor(vector), rtol=0.01, atol=0.01)


def test_features_split_what_distance_would_not():
    """A red and a blue half, one hint on each, far from the edge between them: by hand, redness is the one look.

    The faster hint seeks it, the slower avoids it: silu(1) = 0.73 and silu(0.5) = 0.31, so 60 of them less 30 is 14
    and -11. Of the picture, silu(1) and silu(-1) = -0.27, so the shares change at the edge, to less than 1 %.
    """
    network = SparseToDense(**{**SMALL, "looks": 1}).initialise(seeded()).requires_grad_(False)
    for parameter in (*network.looks.parameters(), *network.sought.parameters()):
        parameter.zero_()
    first, last = network.looks.first, network.looks.out
    for corner in range(4):  # unfolded channels are (colour, row, column)
        first.weight[corner, corner, 1, 1] = 1
        last.weight[corner, corner, 1, 1] = 1
    network.sought.maps.weight[0, -1, 1, 1] = 1  # the last map is the speed, and residual blocks let it pass
    network.sought.out.weight[0, 0], network.sought.out.bias[0] = 60, -30
    network.scales[0], network.rest[0] = 3, -100  # near and far alike, and no rest
    picture = torch.zeros(1, 3, 32, 32)
    picture[:, 0, :, :20], picture[:, 2, :, 20:] = 1, 1
    hints, known = told(1, 32, 32, (0, 16, 4, 2.0, 0.0), (0, 16, 24, 0.0, 1.0))
    points, vectors = scattered_hints(hints[0], known[0])
    shares = network(picture, [points], [vectors / 2])[0]
    assert shares[0, :, :20].min() > 0.99 and shares[1, :, 20:].min() > 0.99


def test_motion_is_as_long_as_the_hints():
    """Twice the hints, twice the motion; hints that all rest, and none, leave everything at rest."""
    network, picture = lively(), torch.rand(3, 3, 30, 46, generator=seeded())
    hints, known = told(3, 30, 46, (0, 4, 5, 3.0, 1.0), (0, 20, 40, 0.0, 0.0), (1, 9, 9, 0.0, 0.0))
    flow = network.flow(picture, hints, known)
    assert flow[0].abs().mean() > 0.05 and not flow[1:].any()
    torch.testing.assert_close(network.flow(picture, 2 * hints, known), 2 * flow, rtol=1e-4, atol=1e-5)


def test_the_picture_counts():
    network, hints = lively(), told(2, 32, 32, (0, 4, 5, 3.0, 1.0), (1, 4, 5, 3.0, 1.0))
    flow = network.flow(torch.rand(2, 3, 32, 32, generator=seeded()), *hints)
    assert (flow[0] - flow[1]).abs().max() > 1e-2


def test_odd_sizes_are_filled_up_at_the_far_edges():
    """As if the last row and column went on, without hints in what is added; distances are in shares of 48."""
    network = lively(side=200)
    hints, known = told(1, 30, 48, (0, 29, 44, 3.0, 1.0), (0, 0, 0, -1.0, 1.0))
    picture = torch.rand(1, 3, 30, 48, generator=seeded())
    rows = torch.arange(32).clamp(max=29)
    filled = network.flow(picture[:, :, rows], F.pad(hints, (0, 0, 0, 2)), F.pad(known, (0, 0, 0, 2)))
    torch.testing.assert_close(network.flow(picture, hints, known), filled[:, :, :30], rtol=1e-4, atol=1e-5)


def test_large_pictures_are_worked_on_small():
    """Twice the picture and the hints, twice the motion: exactly, for both are the same inside."""
    network = lively(side=48)
    picture = F.interpolate(torch.rand(1, 3, 6, 6, generator=seeded()), (96, 96), mode="bilinear")
    small = F.interpolate(picture, (48, 48), mode="bilinear", antialias=True)
    flow = network.flow(small, *told(1, 48, 48, (0, 20, 30, 3.0, -1.0)))
    large = network.flow(picture, *told(1, 96, 96, (0, 40, 60, 6.0, -2.0)))
    torch.testing.assert_close(large, F.interpolate(2 * flow, (96, 96), mode="bilinear"), rtol=1e-4, atol=1e-4)


def test_pictures_do_not_meet_in_a_batch():
    """Each as if alone, though they have unlike numbers of hints; the order of hints is theirs on the pixels."""
    network, picture = lively(), torch.rand(3, 3, 24, 32, generator=seeded())
    hints, known = told(3, 24, 32, (0, 4, 5, 3.0, 1.0), (0, 20, 30, 0.0, 0.0), (2, 9, 9, 1.0, -2.0))
    flow = network.flow(picture, hints, known)
    for n in range(3):
        alone = network.flow(picture[n : n + 1], hints[n : n + 1], known[n : n + 1])
        torch.testing.assert_close(flow[n : n + 1], alone, rtol=1e-4, atol=1e-5)
    both = network.flow(picture[:1], *told(1, 24, 32, (0, 4, 5, 3.0, 1.0)))
    assert (both - flow[:1]).abs().max() > 1e-2  # a pin is heard


def test_many_hints_are_thinned():
    known = torch.rand(1, 1, 48, 48, generator=seeded()) < 0.2
    assert known.sum() > MOST
    hints = 2.0 * known.expand(1, 2, -1, -1)
    flow = SparseToDense(**SMALL).initialise(seeded()).flow(torch.rand(1, 3, 48, 48), hints, known)
    assert flow.shape == (1, 2, 48, 48) and (flow - 2).abs().max() < 0.7


@pytest.mark.parametrize(
    ("change", "wrong", "message"),
    [
        (lambda p, h, k: (p[:, :1], h, k), ValueError, r"picture must be \[1, 3, 8, 8\], got \[1, 1, 8, 8\]"),
        (lambda p, h, k: (p, h[..., :4], k), ValueError, r"hints must be \[1, 2, 8, 8\], got \[1, 2, 8, 4\]"),
        (lambda p, h, k: (p, h, k[0]), ValueError, r"known must be \[1, 1, 8, 8\]"),
        (lambda p, h, k: (p, h, k.float()), TypeError, "bool, got torch.float32"),
    ],
)
def test_wrong_input_is_named(change, wrong, message):
    with pytest.raises(wrong, match=message):
        SparseToDense(**SMALL).flow(*change(torch.rand(1, 3, 8, 8), *told(1, 8, 8)))


# --- training ---------------------------------------------------------------------------------------------------------


class Worlds:
    """Waves and blobs on a background."""

    def draw(self, generator):
        return make_world(int(torch.randint(1000, (), generator=generator)), 48, 48, 2, layers=2)


class Always:
    def __init__(self, world):
        self.world = world

    def draw(self, generator):
        return self.world


def test_hints_are_drawn_from_the_motion():
    flow, moving = torch.rand(2, 40, 40, generator=seeded()), torch.zeros(40, 40, dtype=torch.bool)
    moving[10:20, 5:30] = True
    inner = torch.zeros_like(moving)
    inner[12:18, 7:28] = True
    generator, counts, pinned = seeded(), [], 0
    for _ in range(300):
        hints, known = draw_hints(flow, moving, generator)
        assert torch.equal(hints, flow * known)
        assert (known[0] & inner).any() and not (known[0] & moving & ~inner).any()
        counts.append(int(known.sum()))
        pinned += int((known[0] & ~moving).sum())
    # a count is missing with odds of 8 (7/8)^300 < 1e-16; of about 1050 later tracks half are pinned, +- 16
    assert set(counts) == set(range(1, 9)) and 430 < pinned < 620
    again = draw_hints(flow, moving, seeded(3)), draw_hints(flow, moving, seeded(3))
    assert torch.equal(again[0][0], again[1][0])


def test_hints_where_all_moves_or_nothing_does():
    moves, rests = torch.ones(2, 12, 12), torch.zeros(2, 12, 12)
    for flow, moving in (
        (moves, torch.ones(12, 12) > 0),
        (rests, torch.zeros(12, 12) > 0),
        (moves, None),
        (rests, None),
    ):
        counts = {int(draw_hints(flow, moving, seeded(seed))[1].sum()) for seed in range(20)}
        assert min(counts) >= 1 and max(counts) > 1
    half = torch.zeros(2, 12, 12)
    half[0, :, 6:] = torch.linspace(3, 5, 6)
    for seed in range(20):  # not told what moves: what is fast
        assert (draw_hints(half, None, seeded(seed))[0][0] > 2.5).any()


def test_a_thin_object_is_hit_all_the_same():
    moving = torch.zeros(20, 20, dtype=torch.bool)
    moving[10] = True
    assert all(draw_hints(torch.ones(2, 20, 20), moving, seeded(seed))[1][0, 10].any() for seed in range(10))


def test_the_loss_is_the_distance_made_smooth():
    target = torch.zeros(1, 2, 1, 2)
    flow = torch.tensor([[3.0, 0.0], [4.0, 0.0]]).view(1, 2, 1, 2).requires_grad_()
    assert endpoint_error(flow, target).item() == pytest.approx(2.5)
    loss = sparse_to_dense_loss(flow, target, softness=0.1)
    assert loss.item() == pytest.approx(((25 + 0.01) ** 0.5 + 0.1) / 2 - 0.1, abs=1e-6)
    loss.backward()
    assert torch.isfinite(flow.grad).all() and not flow.grad[..., 1].any()


def test_belonging_is_cross_entropy():
    """Two hints on object 1, one on the ground: their shares add up; what rests has what is left."""
    known = torch.zeros(1, 1, 1, 4, dtype=torch.bool)
    known[..., :3] = True
    shares = torch.tensor([0.5, 0.2, 0.1])[:, None, None].expand(3, 1, 4)
    for layer, right in (([1, 1, 0, 0], (0.7, 0.7, 0.1, 0.1)), ([1, 1, 1, -1], (0.8, 0.8, 0.8, 0.2))):
        loss = belonging_loss([shares], torch.tensor(layer).view(1, 1, 4), known)
        assert loss.item() == pytest.approx(-torch.tensor(right).log().mean().item(), rel=1e-5)
    certain = torch.tensor([0.0, 0.0, 1.0])[:, None, None].expand(3, 1, 4)
    assert belonging_loss([certain], torch.tensor([1, 1, 0, 0]).view(1, 1, 4), known).isfinite()


def test_what_has_no_hint_goes_with_the_ground():
    """A ground and two discs, each with a velocity of its own."""
    waves = make_world(0, 40, 60, 2, layers=1).layers[0]
    disc = Blob(6.0, torch.zeros(4), torch.zeros(4))
    velocities = torch.tensor([[0.5, 0.25], [2.0, 1.0], [-3.0, 0.0]])
    places, outlines = ((30.0, 20.0), (15.0, 20.0), (45.0, 20.0)), (None, disc, disc)
    layers = [
        Layer(waves.texture, *given, 0.0, 1.0) for given in zip(outlines, places, velocities.tolist(), strict=True)
    ]
    world = LayeredWorld(tuple(layers), 40, 60, 2)
    x, y = torch.arange(60), torch.arange(40)[:, None]
    top = torch.zeros(40, 60, dtype=torch.int64)
    for index in (1, 2):
        top[(x - places[index][0]) ** 2 + (y - 20) ** 2 < 36] = index
    seen = set()
    for seed in range(40):
        scenes = HintedScenes.draw(Always(world), 1, seeded(seed))
        told = set(top[scenes.known[0, 0]].tolist())
        ground = velocities[0] if 0 in told else torch.zeros(2)
        means = torch.stack([velocities[index] if index in told else ground for index in range(3)])
        torch.testing.assert_close(scenes.flow[0], means[top].movedim(-1, 0), rtol=1e-3, atol=1e-3)
        assert torch.equal(scenes.hints, (velocities[top].movedim(-1, 0) * scenes.known[0])[None])
        assert set(top[scenes.objects[0]].tolist()) == told - {0}
        seen.add(tuple(sorted(told)))
    assert {(1,), (2,), (0, 1), (0, 1, 2)} <= seen


def test_turned_scenes_move_as_they_look():
    """A square that moves right by 3, in all eight positions: its hint points where the square is going."""
    picture, layer = torch.zeros(1, 3, 16, 16, dtype=torch.uint8), torch.zeros(1, 16, 16, dtype=torch.uint8)
    layer[0, 6:10, 2:6], flow = 1, torch.zeros(1, 2, 16, 16).half()
    picture[0, :, 6:10, 2:6], picture[0, :, 6:10, 5:9] = 255, 128  # dimmer where it will be
    flow[0, 0] = 3.0 * layer[0]
    scenes, generator, seen = Scenes(picture, layer, flow, torch.zeros_like(flow)), seeded(), set()
    grid = pixel_grid(16, 16)
    for _ in range(60):
        one = scenes.hinted([0], generator, turned=True)
        bright, dim = (grid[:, one.picture[0, 0] == value].mean(1) for value in (1, torch.tensor(128) / 255))
        vector = one.flow[0][:, one.objects[0]].mean(1)
        assert vector.norm() == 3 and F.cosine_similarity(dim - bright, vector, dim=0) > 0.999
        seen.add(tuple(vector.tolist()))
    assert seen == {(3, 0), (-3, 0), (0, 3), (0, -3)}


def test_training_learns_by_heart():
    """Three scenes: every layer that the loss reaches moves."""
    scenes = HintedScenes.draw(Worlds(), 3, seeded(4))
    assert scenes.picture.shape == (3, 3, 48, 48) and scenes.flow.shape == scenes.hints.shape == (3, 2, 48, 48)
    torch.testing.assert_close(scenes.hints, scenes.flow * scenes.known)
    network = SparseToDense(**SMALL).initialise(seeded())

    def errors():
        return endpoint_error(network.flow(scenes.picture, scenes.hints, scenes.known), scenes.flow).mean()

    def loss(_):
        return sparse_to_dense_loss(network.flow(scenes.picture, scenes.hints, scenes.known), scenes.flow)

    before = errors().item()
    train(network.parameters(), loss, LoopSettings(steps=40, learning_rate=1e-2, warmup=5), seeded())
    assert errors().item() < 0.6 * before


# --- as a densifier ---------------------------------------------------------------------------------------------------


class Asked:
    """A flow network that moves what is bright by the first hint, and keeps what it was asked."""

    def __init__(self):
        self.calls = []

    def flow(self, picture, hints, known):
        self.calls.append((picture, hints, known))
        vector = hints[0][:, known[0, 0]][:, 0]
        return (picture[:, :1] > 0.5) * vector[None, :, None, None]


def test_tracks_ask_the_network_for_every_step():
    """A bright square and a track on it; the picture given is carried along."""
    image = torch.zeros(3, 20, 30)
    image[:, 5:11, 4:10] = 1
    positions = torch.tensor([[[6.0, 7.0]], [[8.0, 7.0]], [[10.0, 8.0]]])
    tracks, network = Tracks(positions, torch.ones(3, 1, dtype=torch.bool), (20, 30)), Asked()
    motion = motion_from_tracks(tracks, learned(network.flow), image=image)
    places = [known[0, 0].nonzero()[0].tolist() for _, _, known in network.calls]
    assert places == [[7, 6], [7, 8], [7, 8], [8, 10]]  # forward and back, at the places of each frame
    bright = torch.zeros(2, 20, 30, dtype=torch.bool)
    bright[0, 5:11, 4:10] = bright[1, 5:11, 6:12] = True
    for step, vector in enumerate(([2.0, 0.0], [2.0, 1.0])):
        expected = bright[step] * torch.tensor(vector)[:, None, None]
        torch.testing.assert_close(motion.forward[step], expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(motion.backward[0], bright[1] * torch.tensor([-2.0, 0.0])[:, None, None])


def test_points_outside_the_picture_ask_nothing():
    network, guide = Asked(), torch.ones(3, 8, 8)
    field = learned(network.flow)(torch.tensor([[9.0, 2.0], [3.0, -0.6]]), torch.ones(2, 2), (8, 8), guide=guide)
    assert field.shape == (2, 8, 8) and not field.any() and not network.calls


def test_a_network_needs_the_picture():
    tracks = Tracks(torch.zeros(2, 1, 2), torch.ones(2, 1, dtype=torch.bool), (8, 8))
    with pytest.raises(ValueError, match="follows a picture: give the first frame as image"):
        motion_from_tracks(tracks, learned(Asked().flow))
