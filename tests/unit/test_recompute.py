"""The networks of the pack compute their blocks again to the same gradients."""

import pytest
import torch
from torch import nn

from aqueduct.core.networks import LatteVideo, UNet, VideoUNet
from aqueduct.core.training.recompute import around, blocks, recomputing

LATTE = {
    "in_channels": 3, "out_channels": 3, "frames": 2, "height": 4, "width": 4, "patch": 2, "hidden": 8, "depth": 4,
    "heads": 2, "classes": 2,
}  # fmt: skip
UNET = {"channels": 8, "multipliers": (1, 2), "blocks": 1, "head_channels": 4, "groups": 4}
VIDEO = {
    "in_channels": 3, "out_channels": 3, "frames": 2, "channels": 16, "multipliers": [1, 2], "fold": 2, "groups": 4
}  # fmt: skip
T = torch.tensor([3.0, 500.0])
NETWORKS = {
    "LatteVideo": (lambda: LatteVideo(**LATTE), (2, 3, 2, 4, 4), {"y": torch.tensor([0, 1])}),
    "UNet": (lambda: UNet(3, 2, **UNET), (2, 3, 8, 8), {}),
    "VideoUNet": (lambda: VideoUNet(**VIDEO), (2, 3, 2, 8, 8), {}),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_are_the_same(name):
    make, shape, more = NETWORKS[name]
    generator, network = torch.Generator().manual_seed(0), make()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / max(1, parameter[0].numel()) ** 0.5)
    x, found, calls = torch.randn(shape, generator=generator), [], []
    for module in blocks(network)[0].modules():
        if not list(module.children()):
            module.register_forward_hook(lambda *_: calls.append(len(found)))
    for again in (False, True):
        network.zero_grad()
        with recomputing([network] if again else []):
            network(x, T, **more).square().mean().backward()
        found.append([p.grad.clone() if p.grad is not None else None for p in network.parameters()])
    assert calls.count(0) < calls.count(1) <= 2 * calls.count(0)  # less what comes after the last thing that is kept
    for kept, anew in zip(*found, strict=True):
        assert (kept is None) == (anew is None) and (kept is None or torch.equal(kept, anew))
    assert any(p is not None and p.abs().max() > 0 for p in found[0])


def test_blocks():
    """Entries of lists, opened until they are blocks; single layers are none."""
    network = LatteVideo(**LATTE)
    assert blocks(network) == list(network.blocks)
    inner = nn.ModuleList([nn.Sequential(nn.Linear(2, 2)), nn.TransformerEncoderLayer(4, 1, 4)])
    assert blocks(nn.ModuleDict({"a": nn.ModuleList([inner, nn.Linear(2, 2)])})) == [inner[1]]


def test_a_forward_that_was_replaced_before_is_there_afterwards():
    """As an adapter does it that wraps a layer; and one block in two networks is one block."""
    block = nn.TransformerEncoderLayer(4, 1, 4)
    own = block.forward = lambda x: x + 1
    with around([block, block], lambda forward: lambda x: 10 * forward(x)):
        assert block(1) == 20
    assert block.forward is own
