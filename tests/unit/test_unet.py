"""The U-Net and the restorer: a released layout, hand-written blocks, and gradients that stop where they should."""

import json
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from aqueduct.core.networks import Restorer, UNet
from aqueduct.core.networks.unet import AttentionBlock, ResBlock

DATA = Path(__file__).resolve().parents[1] / "data"
SIZES = {"channels": 8, "multipliers": (1, 2), "blocks": 1, "head_channels": 4, "groups": 4}
NN = {"operations": torch.nn}


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def randomised(network: torch.nn.Module, seed: int = 1) -> torch.nn.Module:
    """Weights that keep values near one and let every input show."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        spread = parameter[0].numel() ** -0.5 if parameter.dim() > 1 else 0.5
        parameter.data = torch.randn(parameter.shape, generator=generator) * spread
    return network.eval().requires_grad_(False)


def unet(**sizes) -> UNet:
    return randomised(UNet(3, 2, **{**SIZES, **sizes}))


# --- layout -----------------------------------------------------------------------------------------------------------


def test_layout_is_that_of_a_released_file():
    """BBDM's latent denoiser (LBBDM-f4): every name, shape and the order of both."""
    lines = (DATA / "bbdm_lbbdm_f4_denoise_fn.txt").read_text(encoding="ascii").splitlines()
    released = {}
    for key, shape, _ in (line.split("\t") for line in lines):
        numbers = shape.replace("(", "[").replace(",)", "]").replace(")", "]")
        released[key.removeprefix("denoise_fn.")] = tuple(json.loads(numbers))
    built = UNet(3, 3, 128, (1, 4, 8), 2, (), 64, device="meta").state_dict()
    assert len(released) == 248
    assert list(released.items()) == [(key, tuple(value.shape)) for key, value in built.items()]


def test_attention_where_it_is_asked_for():
    def where(network: UNet) -> list[str]:
        return [name for name, module in network.named_modules() if isinstance(module, AttentionBlock)]

    assert where(unet()) == ["middle_block.1"]
    assert where(unet(attention=(1,))) == [
        "input_blocks.3.1", "middle_block.1", "output_blocks.0.1", "output_blocks.1.1",
    ]  # fmt: skip


# --- blocks -----------------------------------------------------------------------------------------------------------


def test_attention_equals_a_softmax_by_hand():
    """Channels of ``qkv``: head by head, and in each query, key, value."""
    heads, width, side = 2, 4, 3
    block = randomised(AttentionBlock(heads * width, heads, groups=4, **NN))
    x = draw(2, heads * width, side, side)
    flat = F.group_norm(x, 4, block.norm.weight, block.norm.bias).flatten(2)
    qkv = torch.einsum("oc,ncl->nol", block.qkv.weight[:, :, 0], flat) + block.qkv.bias[:, None]
    attended = torch.zeros_like(flat)
    for n in range(2):
        for head in range(heads):
            start = 3 * width * head
            q, k, v = (qkv[n, start + width * part : start + width * (part + 1)] for part in range(3))
            for pixel in range(side**2):
                weights = (q[:, pixel] @ k / math.sqrt(width)).exp()
                attended[n, width * head : width * (head + 1), pixel] = v @ (weights / weights.sum())
    out = torch.einsum("oc,ncl->nol", block.proj_out.weight[:, :, 0], attended) + block.proj_out.bias[:, None]
    torch.testing.assert_close(block(x), x + out.view_as(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("channels", "out", "factor"), [(8, 8, 1), (8, 12, 1), (8, 8, 2), (8, 8, -2)])
def test_residual_block_by_hand(channels, out, factor):
    """Resampling lies between activation and convolution, time after the second norm as x (1 + scale) + shift."""
    block = randomised(ResBlock(channels, 6, out, factor, groups=4, **NN))
    x, emb = draw(2, channels, 4, 6), draw(2, 6, seed=2)
    state = block.state_dict()

    def norm(h, name):
        return F.silu(F.group_norm(h, 4, state[f"{name}.weight"], state[f"{name}.bias"]))

    def convolve(h, name):
        return F.conv2d(h, state[f"{name}.weight"], state[f"{name}.bias"], padding=1)

    def resample(h):
        n, c, height, width = h.shape
        if factor == 2:
            return h.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
        return h.view(n, c, height // 2, 2, width // 2, 2).mean((3, 5)) if factor == -2 else h

    h = convolve(resample(norm(x, "in_layers.0")), "in_layers.2")
    modulation = F.silu(emb) @ state["emb_layers.1.weight"].T + state["emb_layers.1.bias"]
    scale, shift = modulation[:, :out, None, None], modulation[:, out:, None, None]
    h = F.group_norm(h, 4, state["out_layers.0.weight"], state["out_layers.0.bias"]) * (1 + scale) + shift
    h = convolve(F.silu(h), "out_layers.3")
    skip = resample(x)
    if out != channels:
        skip = F.conv2d(skip, state["skip_connection.weight"], state["skip_connection.bias"])
    torch.testing.assert_close(block(x, emb), skip + h, rtol=1e-4, atol=1e-5)


# --- the whole network ------------------------------------------------------------------------------------------------


def test_times_enter_as_cosines_and_sines():
    network, seen = unet(), []
    network.time_embed.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    network(draw(2, 3, 4, 4), torch.tensor([0.3, 40.0]))
    for row, t in zip(seen[0], (0.3, 40.0), strict=True):
        frequencies = [10000 ** (-k / 4) for k in range(4)]
        wanted = [math.cos(t * f) for f in frequencies] + [math.sin(t * f) for f in frequencies]
        torch.testing.assert_close(row, torch.tensor(wanted), rtol=1e-4, atol=1e-4)


def test_time_and_every_picture_count_on_their_own():
    network, x = unet(), draw(2, 3, 8, 12)
    both = network(x, torch.tensor([0.1, 0.9]))
    for n, t in enumerate((0.1, 0.9)):
        torch.testing.assert_close(both[n : n + 1], network(x[n : n + 1], torch.tensor([t])), rtol=1e-4, atol=1e-5)
    assert (network(x, torch.tensor([0.9, 0.9])) - both)[0].abs().mean() > 1e-3


def time_features(network: UNet, t: torch.Tensor) -> torch.Tensor:
    """What the network makes of ``t`` for its blocks."""
    found = []
    hook = network.time_embed.register_forward_hook(lambda *call: found.append(call[-1]))
    network(torch.zeros(len(t), network.in_channels, 8, 8), t)
    hook.remove()
    return found[0]


def outer_by_hand(network: UNet, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """The same output; what enters the last level-0 stages from below was computed without a graph."""
    level = network.outermost  # stages of level 0 on either side: a convolution and the blocks, or blocks and one more
    arriving = []
    hook = network.output_blocks[-level].register_forward_pre_hook(lambda _, inputs: arriving.append(inputs[0]))
    with torch.no_grad():
        network(x, t)
        emb = time_features(network, t)
    hook.remove()
    skips, h = [], x
    for stage in network.input_blocks[:level]:
        h = stage(h, emb)
        skips.append(h)
    h = arriving[0][:, : -skips[-1].shape[1]]
    for stage in network.output_blocks[-level:]:
        h = stage(torch.cat([h, skips.pop()], dim=1), emb)
    return network.out(h)


@pytest.mark.parametrize("sizes", [{}, {"blocks": 2, "multipliers": (1, 2, 2), "attention": (1,)}])
def test_outer_stops_the_gradient_below_the_first_level(sizes):
    network, t, cotangent = unet(**sizes), torch.tensor([0.2, -0.6]), draw(2, 2, 8, 8, seed=4)

    def value_and_gradient(function):
        x = draw(2, 3, 8, 8).requires_grad_(True)
        out = function(x)
        return out.detach(), torch.autograd.grad((out * cotangent).sum(), x)[0]

    full = value_and_gradient(lambda x: network(x, t))
    outer = value_and_gradient(lambda x: network(x, t, outer=True))
    by_hand = value_and_gradient(lambda x: outer_by_hand(network, x, t))
    assert torch.equal(outer[0], full[0])
    torch.testing.assert_close(outer, by_hand, rtol=1e-4, atol=1e-5)
    assert (outer[1] - full[1]).norm() > 0.05 * full[1].norm()


def test_gradient_equals_finite_differences():
    network, t = unet().double(), torch.tensor([0.4])
    x, direction = draw(1, 3, 4, 4).double().requires_grad_(True), draw(1, 3, 4, 4, seed=7).double()
    (gradient,) = torch.autograd.grad(network(x, t).square().sum(), x)
    with torch.no_grad():
        ahead, behind = (network(x + step * direction, t).square().sum() for step in (1e-5, -1e-5))
    torch.testing.assert_close((gradient * direction).sum(), (ahead - behind) / 2e-5, rtol=1e-5, atol=1e-8)


def test_initialised_network_gives_zero_and_repeats():
    """Every residual branch ends in zeros, too, so that a training starts from the skips alone."""
    start = UNet(3, 2, **SIZES, attention=(1,)).initialise(torch.Generator().manual_seed(0))
    assert not start(draw(2, 3, 8, 8), torch.tensor([0.0, 3.0])).any()
    for module in start.modules():
        if isinstance(module, ResBlock):
            x = draw(1, module.in_layers[0].num_channels, 4, 4)
            torch.testing.assert_close(module(x, draw(1, 32)), module.skip_connection(module.resample(x)))
        elif isinstance(module, AttentionBlock):
            x = draw(1, module.norm.num_channels, 4, 4)
            torch.testing.assert_close(module(x), x)
    again = UNet(3, 2, **SIZES, attention=(1,)).initialise(torch.Generator().manual_seed(0))
    assert all(torch.equal(a, b) for a, b in zip(start.parameters(), again.parameters(), strict=True))


@pytest.mark.parametrize("shape", [(1, 3, 7, 8), (1, 3, 8, 7), (1, 4, 8, 8), (3, 8, 8)])
def test_sizes_that_do_not_fit(shape):
    with pytest.raises(ValueError, match=r"\[N, 3, H, W\] with H and W multiples of 2"):
        unet()(torch.zeros(shape), torch.zeros(1))


# --- restorer ---------------------------------------------------------------------------------------------------------


def test_restorer_folds_pixels_into_channels():
    """2 x 2 pixels become channels, channel by channel, noisy picture first; and back."""
    network = randomised(Restorer(4, **SIZES))
    x, condition, t = draw(2, 3, 8, 12), draw(2, 4, 8, 12, seed=3), torch.tensor([0.1, 0.5])
    both = torch.cat([x, condition], dim=1)
    folded = both.view(2, 7, 4, 2, 6, 2).permute(0, 1, 3, 5, 2, 4).reshape(2, 28, 4, 6)
    wanted = network.unet(folded, t).view(2, 3, 2, 2, 4, 6).permute(0, 1, 4, 2, 5, 3).reshape(2, 3, 8, 12)
    assert torch.equal(network(x, t, condition), wanted)
    assert torch.equal(network(x, t, condition, outer=True), wanted)
    assert (network(x, t, condition + 1) - wanted).abs().mean() > 1e-2


def test_restorer_refuses_sizes():
    network = randomised(Restorer(3, **SIZES))
    assert network.step == 4
    with pytest.raises(ValueError, match=r"multiples of 4, got 10 x 8"):
        network(torch.zeros(1, 3, 8, 10), torch.zeros(1), torch.zeros(1, 3, 8, 10))
    with pytest.raises(ValueError, match=r"condition \[1, 3, 8, 8\], got \[1, 3, 8, 4\]"):
        network(torch.zeros(1, 3, 8, 8), torch.zeros(1), torch.zeros(1, 3, 8, 4))


def test_restorer_starts_at_zero():
    start = Restorer(3, **SIZES).initialise(torch.Generator().manual_seed(0))
    assert not start(draw(1, 3, 8, 8), torch.zeros(1), draw(1, 3, 8, 8, seed=2)).any()
