"""The global encoder by hand, how it scales pictures, and what of a picture does not matter to it."""

import pytest
import torch
import torch.nn.functional as F

from aqueduct.core.networks.style_encoder import StyleEncoder
from aqueduct.tests.unit.exemplar_models import draw, randomised

SIZES = {"features": 6, "widths": (8, 12, 8), "groups": 4, "size": 32}


def encoder(**sizes) -> StyleEncoder:
    return randomised(StyleEncoder(**{**SIZES, **sizes}))


def pictures(*shape: int, seed: int = 0) -> torch.Tensor:
    return draw(*shape, seed=seed).tanh()


def seen(network: StyleEncoder, x: torch.Tensor) -> torch.Tensor:
    """What the first convolution is shown."""
    found = []
    hook = network.stages[0].register_forward_pre_hook(lambda _, inputs: found.append(inputs[0]))
    network(x)
    hook.remove()
    return found[0]


def by_hand(network: StyleEncoder, x: torch.Tensor) -> torch.Tensor:
    """For pictures of the encoder's size."""
    state, levels = network.state_dict(), [x]
    for n in range(len(network.stages)):
        h = F.conv2d(levels[-1], state[f"stages.{n}.0.weight"], state[f"stages.{n}.0.bias"], stride=2, padding=1)
        h = F.group_norm(h, 4, state[f"stages.{n}.1.weight"], state[f"stages.{n}.1.bias"])
        h = F.conv2d(h * h.sigmoid(), state[f"stages.{n}.3.weight"], state[f"stages.{n}.3.bias"], padding=1)
        levels.append(h * h.sigmoid())
    pooled = []
    for level in (levels[0], levels[-2], levels[-1]):
        mean = level.mean((2, 3))
        pooled += [mean, (level - mean[:, :, None, None]).square().mean((2, 3)).sqrt()]
    h = torch.cat(pooled, dim=1) @ state["head.0.weight"].T + state["head.0.bias"]
    h = (h * h.sigmoid()) @ state["head.2.weight"].T + state["head.2.bias"]
    return h / h.square().mean(1, keepdim=True).sqrt()


def triangle(before: int, after: int) -> torch.Tensor:
    """``[after, before]``: each new pixel a mean of the old ones, weighted by a triangle two new pixels wide."""
    scale = before / after
    centres = (torch.arange(after) + 0.5) * scale - 0.5
    weights = (1 - (torch.arange(before) - centres[:, None]).abs() / max(scale, 1)).clamp_min(0)
    return weights / weights.sum(1, keepdim=True)


# --- what it computes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(32, 32), (32, 48), (40, 32)])
def test_equals_convolutions_and_statistics_by_hand(size):
    network, x = encoder(), pictures(2, 3, *size)
    torch.testing.assert_close(network(x), by_hand(network, x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("features", [1, 6, 128])
def test_gives_features_of_unit_mean_square(features):
    cls = encoder(features=features)(pictures(3, 3, 32, 40))
    assert cls.shape == (3, features)
    torch.testing.assert_close(cls.square().mean(1), torch.ones(3), rtol=1e-3, atol=0)


def test_default_has_the_documented_width():
    assert StyleEncoder().requires_grad_(False)(pictures(1, 3, 64, 64)).shape == (1, 128)


# --- size -------------------------------------------------------------------------------------------------------------


def test_a_picture_of_the_size_is_taken_as_it_is():
    x = pictures(1, 3, 32, 48)
    assert torch.equal(seen(encoder(), x), x)


@pytest.mark.parametrize(
    ("before", "after"), [((64, 64), (32, 32)), ((48, 80), (32, 53)), ((50, 33), (48, 32)), ((8, 16), (32, 64))]
)
def test_the_shorter_side_is_scaled_to_the_size(before, after):
    """Without aliasing on the way down, without a shift either way."""
    x = pictures(2, 3, *before)
    wanted = triangle(before[0], after[0]) @ x @ triangle(before[1], after[1]).T
    torch.testing.assert_close(seen(encoder(), x), wanted, rtol=1e-4, atol=1e-5)


def test_scaling_first_changes_nothing():
    network, x = encoder(), pictures(1, 3, 64, 96)
    scaled = triangle(64, 32) @ x @ triangle(96, 48).T
    torch.testing.assert_close(network(x), network(scaled), rtol=1e-4, atol=1e-5)


# --- what matters -----------------------------------------------------------------------------------------------------


def test_every_picture_counts_on_its_own():
    network, x = encoder(), pictures(3, 3, 40, 40)
    both = network(x)
    for n in range(3):
        torch.testing.assert_close(both[n : n + 1], network(x[n : n + 1]), rtol=1e-4, atol=1e-5)
    assert (both[0] - both[1]).abs().max() > 1e-2


def on_canvas(thing: torch.Tensor, *corners: tuple[int, int]) -> torch.Tensor:
    canvas = torch.full((1, 3, 160, 160), 0.2, dtype=thing.dtype)
    for y, x in corners:
        canvas[..., y : y + 16, x : x + 16] = thing
    return canvas


def test_the_place_of_a_thing_does_not_matter():
    """In whole strides of the deepest level, 8 pixels, and far from the border; its colours do."""
    network, thing = encoder(size=160).double(), pictures(3, 16, 16).double()
    here = network(on_canvas(thing, (64, 64)))
    for corner in ((72, 64), (72, 80), (80, 64)):
        torch.testing.assert_close(network(on_canvas(thing, corner)), here, rtol=1e-9, atol=1e-9)
    assert (network(on_canvas(thing.abs(), (64, 64))) - here).abs().max() > 1e-2


def test_every_weight_counts():
    network = encoder().requires_grad_(True)
    (network(pictures(2, 3, 32, 40)) * draw(2, 6, seed=3)).sum().backward()
    assert [name for name, parameter in network.named_parameters() if not parameter.grad.any()] == []


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("size", [(32, 32), (50, 40)])
def test_half_precision(dtype, size):
    x = pictures(2, 3, *size)
    out = encoder().to(dtype)(x.to(dtype))
    assert out.dtype == dtype
    torch.testing.assert_close(out.float(), encoder()(x), rtol=0.1, atol=0.1)
