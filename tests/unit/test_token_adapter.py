"""The adapter for transformers: sizes, an exact start at nothing, and what its states depend on."""

import pytest
import torch

from aqueduct.core import checkpoints
from aqueduct.core.motion import MotionField
from aqueduct.core.motion.carry import carry
from aqueduct.core.networks.motion_adapter import Site
from aqueduct.core.networks.token_adapter import TokenMotionAdapter

ARGUMENTS = {"width": 12, "depth": 5, "blocks": [0, 3], "patch": 2, "stride": 4, "features": 8, "hidden": 8}
FRAMES, HEIGHT, WIDTH = 3, 8, 16


def adapter(seed: int = 0, **changes) -> TokenMotionAdapter:
    torch.manual_seed(seed)
    return TokenMotionAdapter(**ARGUMENTS | changes).requires_grad_(False)


def awake(seed: int = 0) -> TokenMotionAdapter:
    """One whose projections are not zero."""
    made = adapter(seed)
    for projection in made.projections:
        torch.nn.init.normal_(projection.weight)
    return made


def shifted(across: float = 4.0):
    flow = torch.tensor([across, 0.0])[:, None, None].expand(FRAMES - 1, 2, HEIGHT, WIDTH).clone()
    return carry(MotionField(flow, -flow))


def picture(seed: int = 1):
    return torch.rand(1, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(seed))


def residuals(made: TokenMotionAdapter, times=(500.0, 500.0), image=None, way=None):
    carried = made.carried(picture() if image is None else image, shifted() if way is None else way)
    twice = [features.repeat(2, 1, 1, 1) for features in carried]
    return made(torch.zeros(2, 4, FRAMES, 4, 8), torch.tensor(times), twice)


def test_a_new_one_gives_exact_zeros_of_the_tokens_shape():
    found = residuals(adapter())
    assert [tuple(one.shape) for one in found] == [(2 * FRAMES, 12, 2, 4)] * 2
    assert all(not one.any() for one in found)
    assert adapter().sites == (Site(12, 4),) * 2


def test_tokens_follow_the_motion():
    """Four pixels, one token, to the right a frame: what a token gives in frame 0, its right neighbour gives next.

    Except beside the side that things come in from: what is not wholly known there is not shown.
    """
    first = residuals(awake())[0][:FRAMES]
    for frame in range(1, FRAMES):
        moved = first[frame][..., frame + 1 :]
        torch.testing.assert_close(moved, first[0][..., 1 : moved.shape[-1] + 1], rtol=1e-5, atol=1e-5)
    assert not torch.allclose(first[1][..., 0], first[0][..., 0])


def test_sites_times_and_pictures_count():
    made = awake()
    one, other = residuals(made)
    assert not torch.allclose(one, other)
    early = residuals(made, times=(500.0, 20.0))[0]
    assert torch.equal(early[:FRAMES], one[:FRAMES]) and not torch.allclose(early[FRAMES:], one[FRAMES:])
    assert not torch.allclose(residuals(made, image=picture(2))[0], one)


def test_frames_may_have_levels_of_their_own():
    made, level = awake(), 500.0
    own = residuals(made, times=((0.0, level, level), (level, level, level)))[0]
    one = residuals(made)[0]
    assert torch.equal(own[1:], one[1:]) and not torch.allclose(own[0], one[0])


def test_a_file_keeps_it(tmp_path):
    made = awake()
    config = {"parts": {"adapter": {"architecture": "TokenMotionAdapter", "arguments": ARGUMENTS}}}
    checkpoints.save({"adapter": made}, tmp_path / "wan.safetensors", config, dtype=torch.float32)
    again, _ = checkpoints.load(tmp_path / "wan.safetensors", "adapter")
    assert all(torch.equal(a, b) for a, b in zip(residuals(made), residuals(again), strict=True))


@pytest.mark.parametrize("blocks", [[], [0, 0], [-1], [5]])
def test_blocks_must_be_there(blocks):
    with pytest.raises(ValueError, match="blocks are different numbers from 0 to 4"):
        adapter(blocks=blocks)
