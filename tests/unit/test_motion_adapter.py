"""The motion adapter on its small backbone: what zero means, what is carried where, and what gradients reach."""

import pytest
import torch
import torch.nn.functional as F

from aqueduct.core import checkpoints
from aqueduct.core.motion import MotionField
from aqueduct.core.motion.carry import carry
from aqueduct.core.networks.motion_adapter import FirstFrameFeatures, MotionAdapter, Site
from aqueduct.core.networks.video_unet import VideoMotionAdapter, VideoUNet, start_from

SIZES = {
    "in_channels": 6, "out_channels": 3, "frames": 4, "channels": 32, "multipliers": [1, 2], "fold": 4
}  # fmt: skip


def motion(x: float, y: float, frames: int = 4, size=(16, 24)) -> MotionField:
    field = torch.tensor([float(x), float(y)])[None, :, None, None].expand(frames - 1, 2, *size)
    return MotionField(field, -field)


@pytest.fixture
def parts():
    generator = torch.Generator().manual_seed(0)
    backbone = VideoUNet(**SIZES).initialise(generator)
    torch.nn.init.normal_(backbone.out[-1].weight, std=0.1, generator=generator)
    adapter = start_from(VideoMotionAdapter(**SIZES), backbone, generator)
    x = torch.randn(2, 6, 4, 16, 24, generator=generator)
    return backbone, adapter, x, torch.tensor([100.0, 700.0]), torch.rand(2, 3, 16, 24, generator=generator)


def entering(x):
    return F.pixel_unshuffle(x.transpose(1, 2).flatten(0, 1), SIZES["fold"])


def test_a_new_adapter_changes_nothing(parts):
    backbone, adapter, x, t, picture = parts
    residuals = adapter(entering(x), t, adapter.carried(picture, carry(motion(2, 1))))
    assert all(bool((r == 0).all()) for r in residuals)
    assert torch.equal(backbone(x, t, control=residuals), backbone(x, t))


def test_residuals_have_the_shapes_of_their_sites(parts):
    backbone, adapter, x, t, picture = parts
    residuals = adapter(entering(x), t, adapter.carried(picture, carry(motion(2, 1))))
    wanted = [(8, site.channels, 16 // site.stride, 24 // site.stride) for site in backbone.sites]
    assert [tuple(r.shape) for r in residuals] == wanted
    assert adapter.sites == backbone.sites


def test_the_branch_is_the_backbones_encoder_when_nothing_is_carried(parts):
    backbone, adapter, x, t, _ = parts
    ours = adapter.branch(entering(x), t)
    for mine, its in zip(ours, backbone.encoder(entering(x), t), strict=True):
        assert torch.equal(mine, its)


def test_a_step_of_training_moves_the_projections_first(parts):
    """At the start gradients reach the projections alone; the backbone, frozen, gets none."""
    backbone, adapter, x, t, picture = parts
    backbone.requires_grad_(False)
    residuals = adapter(entering(x), t, adapter.carried(picture, carry(motion(2, 1))))
    backbone(x, t, control=residuals).square().mean().backward()
    assert all(p.weight.grad.abs().max() > 0 for p in adapter.projections)
    rest = [p for name, p in adapter.named_parameters() if not name.startswith("projections") and p.grad is not None]
    assert all(bool((p.grad == 0).all()) for p in rest)
    assert all(p.grad is None for p in backbone.parameters())


def test_features_travel_with_the_motion(parts):
    _, adapter, _, _, picture = parts
    full = adapter.carried(picture, carry(motion(2, 1)))[0].unflatten(0, (2, 4))
    assert torch.allclose(full[:, 3, :, 3:, 6:], full[:, 0, :, :-3, :-6], atol=1e-5)
    mask = full[:, 3, -1]
    assert bool((mask[:, :2] == 0).all()) and bool((mask[:, 3:, 6:] == 1).all())


def test_the_mask_comes_last_and_is_one_in_the_first_frame():
    features = FirstFrameFeatures([5, 8], [1, 4])
    found = features(torch.rand(1, 3, 16, 16))
    assert [tuple(f.shape) for f in found] == [(1, 5, 16, 16), (1, 8, 4, 4)]
    assert all(bool((f[:, -1] == 1).all()) for f in found)


def test_widths_and_strides_must_agree():
    with pytest.raises(ValueError, match=r"2 widths for strides \[1\]"):
        FirstFrameFeatures([5, 8], [1])


def test_a_branch_of_another_backbone_is_refused(parts):
    _, adapter, *_ = parts
    other = VideoUNet(**(SIZES | {"channels": 64}))
    with pytest.raises((ValueError, RuntimeError)):
        start_from(adapter, other, torch.Generator())


def test_states_and_sites_must_agree():
    adapter = MotionAdapter(torch.nn.Identity(), lambda *a, **k: [torch.zeros(1, 4, 2, 2)], [Site(4, 1), Site(4, 2)])
    with pytest.raises(ValueError, match="1 hidden states for 2 sites"):
        adapter(torch.zeros(1), torch.zeros(1), [])


def test_clips_do_not_see_each_other(parts):
    backbone, _, x, t, _ = parts
    assert torch.allclose(backbone(x, t)[1], backbone(x[1:], t[1:])[0], atol=1e-5)


def test_frames_see_each_other(parts):
    """Once trained: blocks over time start as identities."""
    backbone, _, x, t, _ = parts
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    changed = x.clone()
    changed[:, :, 3] += 1
    assert (backbone(changed, t) - backbone(x, t))[:, :, 0].abs().max() > 1e-4


def test_any_length_and_size_that_fits(parts):
    backbone, *_ = parts
    assert backbone(torch.zeros(1, 6, 7, 8, 32), torch.zeros(1)).shape == (1, 3, 7, 8, 32)
    with pytest.raises(ValueError, match=r"multiples of 8, got \[1, 6, 4, 12, 16\]"):
        backbone(torch.zeros(1, 6, 4, 12, 16), torch.zeros(1))


def test_files_hold_both(parts, tmp_path):
    backbone, adapter, *_ = parts
    config = {
        "parts": {
            "model": {"architecture": "VideoUNet", "arguments": SIZES},
            "adapter": {"architecture": "VideoMotionAdapter", "arguments": SIZES},
        }
    }
    checkpoints.save({"model": backbone, "adapter": adapter}, tmp_path / "both.safetensors", config, torch.float32)
    loaded, _ = checkpoints.load(tmp_path / "both.safetensors", part="adapter")
    for name, value in adapter.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[name])
