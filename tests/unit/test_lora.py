"""LoRA and the prior's input against the weights they stand for."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from aqueduct.core.networks import LatteVideo
from aqueduct.core.networks.lora import Lora, chosen_layers
from aqueduct.core.networks.prior_input import PriorInput


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


LAYERS = {
    "linear": (lambda: nn.Linear(6, 5), (2, 3, 6)),
    "conv1d": (lambda: nn.Conv1d(4, 5, 3, padding=1), (2, 4, 7)),
    "conv2d": (lambda: nn.Conv2d(4, 6, 3, stride=2, padding=1, dilation=2), (2, 4, 9, 8)),
    "patches": (lambda: nn.Conv3d(4, 6, (1, 2, 2), stride=(1, 2, 2)), (2, 4, 3, 8, 6)),
}  # fmt: skip


@pytest.fixture(params=LAYERS)
def layer(request) -> tuple[nn.Module, torch.Tensor]:
    make, shape = LAYERS[request.param]
    torch.manual_seed(0)
    return make().double(), normal(*shape)


def lora_of(network: nn.Module, pattern: str = "", rank: int = 2, alpha: float = 3.0) -> Lora:
    return Lora(chosen_layers(network, pattern), rank, alpha, torch.Generator().manual_seed(1))


def lively(lora: Lora) -> Lora:
    for n, low in enumerate(lora.named().values()):
        low.up.data = normal(*low.up.shape, seed=n).float()
    return lora


def test_beside_a_layer_is_a_changed_weight(layer):
    """``W + (alpha / rank) B A``, whatever the layer's geometry."""
    layer, x = layer
    network = nn.Sequential(layer)
    lora = lively(lora_of(network)).double()
    with lora.added():
        beside = network(x)
    (low,) = lora.named().values()
    expected = (3.0 / 2) * torch.einsum("or,r...->o...", low.up, low.down)
    torch.testing.assert_close(low.merged(), expected)
    layer.weight.data += expected
    torch.testing.assert_close(network(x), beside)


def test_it_starts_as_the_network_and_leaves_no_trace(layer):
    layer, x = layer
    network, lora = nn.Sequential(layer), None
    lora = lora_of(network)
    plain = network(x)
    with lora.added():
        assert torch.equal(network(x), plain)
    with pytest.raises(RuntimeError, match="stop"), lively(lora).added():
        assert not torch.equal(network(x), plain)
        raise RuntimeError("stop")
    assert torch.equal(network(x), plain) and not layer._forward_hooks


def test_gradients_reach_what_is_trained_and_that_alone():
    network = nn.Sequential(nn.Linear(6, 6), nn.SiLU(), nn.Linear(6, 3)).requires_grad_(False)
    lora = lora_of(network)
    with lora.added():
        network(normal(4, 6).float()).square().sum().backward()
    assert all(p.grad is None for p in network.parameters())
    assert all(low.up.grad.abs().sum() > 0 for low in lora.named().values())
    assert len(list(lora.parameters())) == 4  # the network's own weights are no part of it


def test_half_precision_networks_train_float32_weights():
    network = nn.Sequential(nn.Linear(6, 4)).to(torch.bfloat16).requires_grad_(False)
    lora = lively(lora_of(network))
    with lora.added():
        out = network(normal(2, 6).to(torch.bfloat16))
    out.float().sum().backward()
    assert out.dtype == torch.bfloat16
    assert all(p.dtype == torch.float32 and p.grad is not None for p in lora.parameters())


def test_layers_are_chosen_by_name():
    network = LatteVideo(
        in_channels=3, out_channels=3, frames=2, height=8, width=8, patch=4, hidden=16, depth=2, heads=2, classes=0
    )
    found = set(chosen_layers(network, r"blocks.*(attn|mlp)"))
    assert found == {f"blocks.{n}.{name}" for n in (0, 1) for name in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")}
    assert "x_embedder.proj" in chosen_layers(network, "")


def test_a_name_that_no_layer_has_is_told_with_some_that_there_are():
    network = nn.Sequential(nn.Linear(4, 4), nn.SiLU(), nn.Linear(4, 4))
    with pytest.raises(ValueError, match="no layer's name holds 'attn'; of the 2 layers of Sequential some are 0, 2"):
        chosen_layers(network, "attn")
    with pytest.raises(ValueError, match="no regular expression"):
        chosen_layers(network, "attn(")


def test_a_rank_is_at_least_one():
    with pytest.raises(ValueError, match="at least 1, got 0"):
        lora_of(nn.Sequential(nn.Linear(8, 3)), rank=0)


# --- the prior's input ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["conv2d", "patches"])
def test_a_prior_input_is_further_channels(kind):
    """Of a convolution over ``cat([x, z_T], 1)`` whose weights for ``z_T`` are those."""
    make, shape = LAYERS[kind]
    layer, x, prior = make().double(), normal(*shape), normal(*shape, seed=1)
    seen = PriorInput(layer, 4).double()
    seen.weight.data = normal(*seen.weight.shape, seed=2)
    with seen.added(layer, lambda given: prior):
        found = layer(x)
    convolve = F.conv2d if kind == "conv2d" else F.conv3d
    both = torch.cat([layer.weight, seen.weight], 1)
    geometry = {"stride": layer.stride, "padding": layer.padding, "dilation": layer.dilation}
    torch.testing.assert_close(found, convolve(torch.cat([x, prior], 1), both, layer.bias, **geometry))


def test_a_prior_input_of_a_linear_layer_is_further_entries():
    layer, x, prior = nn.Linear(6, 5).double(), normal(2, 3, 6), normal(2, 3, 6, seed=1)
    seen = PriorInput(layer, 6).double()
    seen.weight.data = normal(5, 6, seed=2)
    with seen.added(layer, lambda given: prior):
        found = layer(x)
    both = torch.cat([layer.weight, seen.weight], 1)
    torch.testing.assert_close(found, F.linear(torch.cat([x, prior], -1), both, layer.bias))


def test_a_prior_input_starts_at_nothing_and_is_seen_once():
    layer, x = nn.Conv2d(4, 6, 3, padding=1), normal(1, 4, 5, 5).float()
    plain, seen = layer(x), PriorInput(layer, 4)
    with seen.added(layer, lambda given: x):
        assert torch.equal(layer(x), plain)
    torch.nn.init.ones_(seen.weight)
    with seen.added(layer, lambda given: x):
        assert not torch.equal(layer(x), plain)  # the network's input
        assert torch.equal(layer(x), plain)  # a reference picture through the same layer
    assert torch.equal(layer(x), plain) and not layer._forward_hooks
