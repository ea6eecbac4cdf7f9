"""The control branch for SVD: the same states as diffusers' blocks, the same residuals as MOFA-Video's public code."""

import pytest
import torch
from torch import nn

from aqueduct.core.motion.carry import Carry
from aqueduct.core.networks.latte import sinusoidal
from aqueduct.core.networks.mofa import SvdAdapter, splatted
from aqueduct.core.networks.svd_branch import SvdBranch
from aqueduct.core.released_mofa import MOFA
from aqueduct.core.tensor_file import shapes_of
from aqueduct.tests.unit.svd_reference import (
    CLIPS,
    FRAMES,
    HEIGHT,
    TINY,
    WIDTH,
    drawn,
    inputs,
    probed,
    recorded,
    released_shapes,
)


def given(**changes) -> dict:
    """Arguments of a branch, with rows per clip where that will do."""
    own = inputs()
    arguments = {
        "entering": own["entering"].flatten(0, 1),
        "timesteps": own["timesteps"],
        "context": own["context"],
        "added": sinusoidal(own["added_ids"], 16).flatten(1),
        "frames": FRAMES,
    }
    return {**arguments, **changes}


def carry_of(onward: torch.Tensor) -> Carry:
    """What splatting needs of a `Carry`: ``onward [B, F-1, 2, H, W]``, frame 0 put before it."""
    onward = torch.cat([torch.zeros_like(onward[:, :1]), onward], dim=1)
    return Carry(onward, torch.ones_like(onward[:, :, 0], dtype=torch.bool), onward)


@pytest.fixture(scope="module")
def branch() -> SvdBranch:
    network = SvdBranch(**TINY).eval().requires_grad_(False)
    network.load_state_dict(drawn(shapes_of(network.state_dict())))
    return network


@pytest.fixture(scope="module")
def adapter() -> SvdAdapter:
    """Weights drawn by their released names, as for the recording; the names do not depend on the widths."""
    network = SvdAdapter(**TINY).eval().requires_grad_(False)
    names = MOFA.names(released_shapes())
    own = shapes_of(network.state_dict())
    state = drawn({names[key]: shape for key, shape in own.items()})
    network.load_state_dict({key: state[names[key]] for key in own})
    return network


# --- what others' code gives ------------------------------------------------------------------------------------------


def test_states_are_those_of_diffusers(branch):
    states = branch(**given())
    for found, expected in zip(probed(states), recorded("encoder"), strict=True):
        torch.testing.assert_close(torch.tensor(found), torch.tensor(expected), rtol=1e-5, atol=1e-5)


def test_residuals_are_those_of_the_public_flow_controlnet(adapter):
    """It adds 1e-7 to the weights of what lands, which shows where next to nothing does: hence the tolerance."""
    own = inputs()
    carried = adapter.carried(own["image"], carry_of(own["onward"]))
    residuals = adapter(carried=carried, **given())
    without = adapter(carried=None, **given())
    for found, still, expected in zip(probed(residuals), probed(without), recorded("adapter"), strict=True):
        torch.testing.assert_close(torch.tensor(found), torch.tensor(expected), rtol=0, atol=3e-4)
        assert (torch.tensor(still) - torch.tensor(expected)).abs().max() > 0.05


# --- shapes, rows, frames ---------------------------------------------------------------------------------------------


def test_states_and_sites(adapter):
    states = adapter.branch(**given())
    for state, (channels, stride), site in zip(states, adapter.branch.states, adapter.sites, strict=True):
        assert state.shape == (CLIPS * FRAMES, channels, HEIGHT // stride, WIDTH // stride)
        assert (site.channels, site.stride) == (channels, 8 * stride)
    for k, features in enumerate(adapter.features(inputs()["image"])):
        assert features.shape[1:] == ([32, 32, 64, 64][k], HEIGHT // 2**k, WIDTH // 2**k)


def test_odd_sizes_round_up_alike(adapter):
    """A film of 72 x 88 pixels: latent 9 x 11."""
    features = adapter.features(torch.rand(1, 3, 72, 88))
    assert [f.shape[-2:] for f in features] == [(9, 11), (5, 6), (3, 3), (2, 2)]
    carried = [splatted(f, carry_of(torch.zeros(1, FRAMES - 1, 2, 72, 88))) for f in features]
    for f, c in zip(features, carried, strict=True):
        torch.testing.assert_close(c, f.repeat(FRAMES, 1, 1, 1))
    one = given(entering=torch.rand(FRAMES, 8, 9, 11), timesteps=torch.zeros(1))
    one.update({name: one[name][:1] for name in ("context", "added")})
    assert len(adapter(carried=carried, **one)) == 13


def test_rows_per_clip_or_per_frame(branch):
    states = branch(**given())
    rows = {name: given()[name].repeat_interleave(FRAMES, 0) for name in ("timesteps", "context", "added")}
    for name in rows:
        for one, other in zip(states, branch(**given(**{name: rows[name]})), strict=True):
            assert torch.equal(one, other)
    # Per frame they may differ; only the last frame's row is changed, and it matters.
    for name, value in rows.items():
        changed = torch.cat([value[:-1], value[-1:] + 1.0])
        assert not torch.allclose(branch(**given(**{name: changed}))[-1], states[-1], atol=1e-3)


def test_clips_are_strangers_and_frames_are_not(branch):
    both = branch(**given())
    alone = branch(**{name: value if name == "frames" else value[: len(value) // 2] for name, value in given().items()})
    for one, other in zip(alone, both, strict=True):
        torch.testing.assert_close(one, other[:FRAMES], rtol=1e-5, atol=1e-5)
    entering = given()["entering"].clone()
    entering[2] = -entering[2]
    after = branch(**given(entering=entering))
    assert all((one[:2] - other[:2]).abs().max() > 1e-3 for one, other in zip(after[1:], both[1:], strict=True))
    assert all(torch.allclose(a[FRAMES:], b[FRAMES:], atol=1e-5) for a, b in zip(after, both, strict=True))


def test_over_time_the_first_frame_speaks_for_its_clip(branch):
    """The context of time layers is the first frame's; a clip of one frame has no other."""
    transformer, width = branch.down_blocks[0].attentions[0], 32
    x, context = torch.rand(FRAMES, width, 2, 2), torch.rand(FRAMES, 1, 48)
    seen = []
    hook = transformer.temporal_transformer_blocks[0].register_forward_pre_hook(lambda _, args: seen.append(args[1]))
    transformer(x, context, FRAMES)
    hook.remove()
    assert torch.equal(seen[0], context[:1].expand(4, -1, -1))


def test_type_of_the_computation():
    states = SvdBranch(**TINY, dtype=torch.bfloat16)(**given(entering=given()["entering"].bfloat16()))
    assert all(state.dtype == torch.bfloat16 and state.isfinite().all() for state in states)


def test_gradients_reach_every_weight():
    network = SvdAdapter(**TINY)
    own = inputs()
    for projection in network.projections:
        nn.init.ones_(projection.weight)
    carried = network.carried(own["image"], carry_of(own["onward"]))
    sum(residual.square().mean() for residual in network(carried=carried, **given())).backward()
    # A context of equal rows or of one token would leave queries and keys out; this one has two.
    assert [name for name, weight in network.named_parameters() if weight.grad is None] == []
    assert [name for name, weight in network.named_parameters() if not weight.grad.any()] == []


# --- carried features -------------------------------------------------------------------------------------------------


def test_a_new_adapter_changes_nothing():
    network, own = SvdAdapter(**TINY), inputs()
    carried = network.carried(own["image"], carry_of(own["onward"]))
    residuals = network(carried=carried, **given())
    assert len(residuals) == 13 and all(torch.equal(r, torch.zeros_like(r)) for r in residuals)


def test_where_carried_features_are_added(branch):
    """To the first state, to what leaves each level but not to its skip, and to what enters the middle once more."""
    generator = torch.Generator().manual_seed(5)
    shapes = [(32, 16, 24), (32, 8, 12), (64, 4, 6), (64, 2, 3)]
    carried = [torch.rand(CLIPS * FRAMES, *shape, generator=generator) for shape in shapes]
    entered = []
    hooks = [
        module.register_forward_pre_hook(lambda _, args: entered.append(args[0]))
        for module in (*branch.down_blocks, branch.mid_block)
    ]
    plain = branch(**given())
    entered.clear()
    states = branch(**given(carried=carried))
    for hook in hooks:
        hook.remove()
    torch.testing.assert_close(states[0], plain[0] + carried[0])
    left = [states[0] - carried[0], states[3], states[6], states[9], states[11]]
    for block, (before, after) in enumerate(zip(left, entered, strict=True)):
        added = carried[block] if block < 4 else 2 * carried[3]
        torch.testing.assert_close(after - before, added, rtol=1e-4, atol=1e-4)


def test_splatting_by_whole_cells():
    """128 pixels are 16, 8, 4, 2 cells; frame 0 stays; what comes in is empty. One motion for all clips."""
    onward = torch.zeros(1, 1, 2, 256, 384)
    onward[:, :, 0] = 128
    features = [torch.rand(2, 3, 256 // stride, 384 // stride) + 1 for stride in (8, 16, 32, 64)]
    for f, stride in zip(features, (8, 16, 32, 64), strict=True):
        moved = splatted(f, carry_of(onward)).unflatten(0, (2, 2))
        cells = 128 // stride
        assert torch.equal(moved[:, 0], f) and not moved[:, 1, :, :, :cells].any()
        assert torch.equal(moved[:, 1, :, :, cells:], f[..., :-cells])


def test_splatting_reads_the_vectors_where_convolutions_are_centred():
    """A cell's vector is that of its first pixel, not a mean over the cell."""
    onward = torch.zeros(1, 1, 2, 64, 64)
    onward[:, :, 1, 8, 16] = 8
    features = torch.arange(1.0, 65.0).view(1, 1, 8, 8)
    moved = splatted(features, carry_of(onward))[1, 0]
    expected = features[0, 0].clone()
    expected[2, 2] = (expected[1, 2] + expected[2, 2]) / 2
    expected[1, 2] = 0
    assert torch.equal(moved, expected)


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"frames": 4}, "batch of 6 is no whole number of clips of 4 frames"),
        ({"frames": 0}, "clips of 0 frames"),
        ({"entering": torch.zeros(6, 4, 16, 24)}, r"expected \[b \* frames, 8, h, w\], got \[6, 4, 16, 24\]"),
        ({"context": torch.zeros(2, 1, 768)}, r"context must be 48 wide, got \[6, 1, 768\]"),
        ({"added": torch.zeros(6, 32)}, r"added must be 48 wide, got \[6, 32\]"),
        ({"timesteps": torch.zeros(3)}, r"timesteps must have 2 \(clips\) or 6 \(frames\) rows, got 3"),
        ({"carried": [torch.zeros(6, 32, 16, 24)]}, "on 4 scales, got 1"),
        ({"carried": [torch.zeros(2, 32, 16, 24)] * 4}, r"scale 0 must be \[6, 32, 16, 24\], got \[2, 32, 16, 24\]"),
    ],
)
def test_bad_input(branch, changes, told):
    with pytest.raises(ValueError, match=told):
        branch(**given(**changes))


def test_bad_levels():
    with pytest.raises(ValueError, match="per level, got 4, 3, 4"):
        SvdBranch(**{**TINY, "heads": (2, 4, 4)})
