"""Exemplar attention against EBDM eq. 6 written out in full, and what weights, parts and several exemplars mean."""

import pytest
import torch
import torch.nn.functional as F

from aqueduct.core.networks.exemplar_attention import ExemplarAttention, resized, shared

CHANNELS, HEADS, GROUPS = 12, 3, 4


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def trained(channels: int = CHANNELS, heads: int = HEADS) -> ExemplarAttention:
    """Weights that let every input show, the softmax far from even."""
    layer = ExemplarAttention(channels, heads, GROUPS)
    for n, parameter in enumerate(layer.parameters()):
        parameter.data = draw(*parameter.shape, seed=100 + n) * (1.5 * channels**-0.5 if parameter.dim() > 1 else 0.5)
    return layer.requires_grad_(False)


def eq6(layer, x, exemplar, *, names="qkv", half="picture", residual=1, width=None, together=False, part=None):
    """``F_in = [exemplar; picture]`` along the width, self-attention over all of it in float64, the residual, a half.

    Attention is over a set, so an exemplar of another size is laid out at the picture's height. What follows the star
    makes mistakes; ``part``, bool over the exemplar's pixels, leaves out the others.
    """
    n, c, h, w = x.shape
    exemplar = exemplar.double().expand(n, -1, -1, -1).reshape(n, c, h, -1)
    state = {name: value.double() for name, value in layer.state_dict().items()}

    def norm(f):
        return F.group_norm(f, GROUPS, state["norm.weight"], state["norm.bias"])

    f_in = torch.cat([exemplar, x.double()], dim=3)
    normed = norm(f_in) if together else torch.cat([norm(exemplar), norm(x.double())], dim=3)
    q, k, v = (F.conv2d(normed, state[f"{name}.weight"], state[f"{name}.bias"]).flatten(2) for name in names)
    seen = torch.ones(h, exemplar.shape[3], dtype=torch.bool) if part is None else part.reshape(h, -1)
    seen = torch.cat([seen, torch.ones(h, w, dtype=torch.bool)], dim=1).flatten()
    size = c // layer.heads
    attended = torch.empty_like(q)
    for head in range(layer.heads):
        rows = slice(head * size, (head + 1) * size)
        scores = torch.einsum("ndi,ndj->nij", q[:, rows], k[:, rows]) / (width or size) ** 0.5
        softmax = scores.masked_fill(~seen, -torch.inf).softmax(2)
        attended[:, rows] = torch.einsum("nij,ndj->ndi", softmax, v[:, rows])
    projected = F.conv2d(attended.view_as(f_in), state["proj.weight"], state["proj.bias"])
    out = residual * f_in + projected
    return out[..., -w:] if half == "picture" else out[..., :-w]


def error(ours: torch.Tensor, wanted: torch.Tensor) -> float:
    return ((ours - wanted).abs().max() / wanted.abs().max()).item()


# --- eq. 6 ------------------------------------------------------------------------------------------------------------

CASES = {
    "one head": ((12, 1), (2, 12, 4, 4), (2, 12, 4, 4)),
    "several heads": ((12, 3), (2, 12, 4, 4), (2, 12, 4, 4)),
    "not square": ((12, 2), (1, 12, 3, 5), (1, 12, 3, 5)),
    "taller exemplar": ((12, 3), (2, 12, 3, 4), (2, 12, 6, 2)),
    "larger exemplar": ((8, 2), (1, 8, 2, 3), (1, 8, 6, 7)),
    "one exemplar, three pictures": ((12, 3), (3, 12, 3, 4), (1, 12, 3, 4)),
}


@pytest.mark.parametrize("case", CASES)
def test_equals_eq_6(case):
    sizes, picture, exemplar = CASES[case]
    layer, x, shown = trained(*sizes), draw(*picture), draw(*exemplar, seed=1)
    assert error(layer(x, layer.remember(shown)), eq6(layer, x, shown)) < 1e-5


@pytest.mark.parametrize(
    "mistake",
    [
        {"names": "kqv"}, {"names": "qvk"}, {"names": "vkq"}, {"half": "exemplar"}, {"residual": 0},
        {"width": CHANNELS}, {"together": True}, {"part": torch.zeros(4, 4, dtype=torch.bool)},
    ],
    ids=["q and k", "k and v", "q and v", "wrong half", "no residual", "width of all heads", "one norm", "no exemplar"],
)  # fmt: skip
def test_the_comparison_sees_mistakes(mistake):
    layer, x, exemplar = trained(), draw(2, CHANNELS, 4, 4), 0.5 + 2 * draw(2, CHANNELS, 4, 4, seed=1)
    ours = layer(x, layer.remember(exemplar))
    assert error(ours, eq6(layer, x, exemplar)) < 1e-5
    assert error(ours, eq6(layer, x, exemplar, **mistake)) > 1e-2


def test_the_exemplar_need_not_be_aligned():
    """Where its pixels lie does not matter; where the picture's do, only for where they come out."""
    layer, x, exemplar = trained(), draw(1, CHANNELS, 3, 5), draw(1, CHANNELS, 4, 4, seed=1)
    wanted = layer(x, layer.remember(exemplar))
    shuffled = exemplar.flatten(2)[..., torch.randperm(16, generator=torch.Generator().manual_seed(2))]
    torch.testing.assert_close(layer(x, layer.remember(shuffled.view(1, -1, 2, 8))), wanted)
    torch.testing.assert_close(layer(x.flip(3), layer.remember(exemplar)), wanted.flip(3))


# --- where it acts ----------------------------------------------------------------------------------------------------


def test_a_new_module_is_the_identity():
    layer, x = ExemplarAttention(CHANNELS, HEADS, GROUPS), draw(2, CHANNELS, 4, 4)
    assert torch.equal(layer(x, layer.remember(draw(2, CHANNELS, 4, 4, seed=1))), x)


def test_weight_zero_is_the_identity():
    layer, x = trained(), draw(2, CHANNELS, 4, 6)
    memory = layer.remember(draw(1, CHANNELS, 4, 4, seed=1))
    assert not torch.equal(layer(x, memory), x)
    for weight in (0.0, torch.tensor(0.0), torch.zeros(1, 1, 4, 6), torch.zeros(2, 1, 8, 12), torch.zeros(2, 1, 1, 1)):
        assert torch.equal(layer(x, memory, weight), x)


def test_a_map_acts_where_it_is_not_zero():
    layer, x = trained(), draw(2, CHANNELS, 4, 6)
    memory = layer.remember(draw(1, CHANNELS, 4, 4, seed=1))
    weight = torch.zeros(1, 1, 4, 6)
    weight[..., 1:3, 2:] = 1
    acts = weight.bool().expand_as(x)
    out = layer(x, memory, weight)
    assert torch.equal(out[~acts], x[~acts])
    assert torch.equal(out[acts], layer(x, memory)[acts])


def test_weights_are_linear():
    layer, x = trained(), draw(2, CHANNELS, 4, 6)
    memory = layer.remember(draw(1, CHANNELS, 4, 4, seed=1))
    whole = layer(x, memory) - x
    each = torch.tensor([0.25, -2.0]).view(2, 1, 1, 1)
    for weight in (0.3, torch.tensor(0.3), torch.rand(2, 1, 4, 6), each):
        torch.testing.assert_close(layer(x, memory, weight) - x, weight * whole, rtol=1e-4, atol=1e-5)


def test_maps_become_means_over_cells():
    x, weight = torch.zeros(1, 5, 2, 3), torch.rand(1, 1, 4, 9, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(resized(weight, x), weight.view(1, 1, 2, 2, 3, 3).mean((3, 5)))
    assert resized(0.7, x) == 0.7


def test_precision_is_the_pictures():
    """Memory and maps may be of a finer type than a network in half precision."""
    layer, x = trained(), draw(1, CHANNELS, 4, 4)
    memory = layer.remember(draw(1, CHANNELS, 4, 4, seed=1))
    for weight in (1.0, torch.tensor(1.0), torch.ones(1, 1, 4, 4), torch.ones(1, 1, 8, 8)):
        out = layer.to(torch.bfloat16)(x.bfloat16(), memory, weight)
        assert out.dtype == torch.bfloat16
        assert error(out.double(), eq6(trained(), x, draw(1, CHANNELS, 4, 4, seed=1))) < 0.05


# --- part of an exemplar ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [1, 3])
def test_a_part_is_as_if_the_rest_were_not_there(factor):
    """The norm is of the whole exemplar; own pixels all stay."""
    layer, x, exemplar = trained(), draw(2, CHANNELS, 4, 3), draw(2, CHANNELS, 4, 4, seed=1)
    part = torch.zeros(4, 4, dtype=torch.bool)
    part[1, 2], part[3] = True, True
    pixels = part.repeat_interleave(factor, 0).repeat_interleave(factor, 1)
    ours = layer(x, layer.remember(exemplar, pixels.expand(2, -1, -1)))
    assert error(ours, eq6(layer, x, exemplar, part=part)) < 1e-5
    assert error(ours, eq6(layer, x, exemplar)) > 1e-2


def test_each_exemplar_has_its_own_part():
    layer, x, exemplar = trained(), draw(2, CHANNELS, 4, 3), draw(2, CHANNELS, 4, 4, seed=1)
    parts = draw(2, 4, 4, seed=3) > 0
    ours = layer(x, layer.remember(exemplar, parts))
    for n in range(2):
        assert error(ours[n : n + 1], eq6(layer, x[n : n + 1], exemplar[n : n + 1], part=parts[n])) < 1e-5


def kept(pixels: torch.Tensor, height: int = 2, width: int = 2) -> list[bool]:
    return trained().remember(draw(1, CHANNELS, height, width), pixels[None]).keep[0].tolist()


def test_a_cell_counts_if_half_of_it_does():
    """In cells of 3 x 3: 9, 5, 4 and no pixels."""
    pixels = torch.zeros(6, 6, dtype=torch.bool)
    pixels[:3, :3] = True
    pixels[0, 3:] = pixels[1, 3:5] = pixels[3:5, :2] = True
    assert kept(pixels) == [True, True, False, False]


def test_the_best_cell_stays_where_none_has_half():
    pixels = torch.zeros(6, 6, dtype=torch.bool)
    pixels[4, 4:], pixels[0, 0] = True, True
    assert kept(pixels) == [False, False, False, True]


def test_never_nothing():
    assert kept(torch.zeros(6, 6, dtype=torch.bool)) == 4 * [True]  # all have as little
    assert kept(torch.ones(6, 6, dtype=torch.bool)) == 4 * [True]


# --- several exemplars ------------------------------------------------------------------------------------------------


def maps(*values: list[float]) -> list[torch.Tensor]:
    return [torch.tensor(value).view(1, 1, 1, -1) for value in values]


@pytest.mark.parametrize("weight", [0.4, maps([0.0, 0.3, 1.0])[0]])
def test_one_exemplar_keeps_its_weight(weight):
    assert shared([weight])[0] is weight


def test_none_share_nothing():
    assert list(shared([])) == []


def test_shares_by_hand():
    """Equal ones half each; disjoint ones their own; else in proportion; zeros stay zeros."""
    given = maps([0.8, 0.7, 0.0, 0.9, 0.0], [0.8, 0.0, 0.4, 0.3, 0.0])
    wanted = maps([0.4, 0.7, 0.0, 0.675, 0.0], [0.4, 0.0, 0.4, 0.225, 0.0])
    for ours, by_hand in zip(shared(given), wanted, strict=True):
        torch.testing.assert_close(ours, by_hand)


def test_three_numbers():
    """0.6 of the strongest in proportion 1 : 2 : 3."""
    found = [float(share) for share in shared([0.2, 0.4, 0.6])]
    assert found == pytest.approx([0.1, 0.2, 0.3])


def test_numbers_and_maps_together():
    number, weight = shared([0.5, *maps([0.0, 0.5, 1.0])])
    torch.testing.assert_close(number, maps([0.5, 0.25, 1 / 3])[0])
    torch.testing.assert_close(weight, maps([0.0, 0.25, 2 / 3])[0])


def test_together_they_are_as_strong_as_the_strongest():
    given = [torch.rand(2, 1, 5, 6, generator=torch.Generator().manual_seed(n)).sub(0.4).relu() for n in range(4)]
    stacked = torch.stack(given)
    assert (stacked.amax(0) == 0).any() and ((stacked > 0).sum(0) > 1).any()
    torch.testing.assert_close(sum(shared(given)), stacked.amax(0))
    for before, after in zip(given, shared(given), strict=True):
        assert bool((after <= before).all())


def test_order_does_not_matter():
    given = [draw(1, 1, 3, 4, seed=n).abs() for n in range(3)]
    for before, after in zip(shared(given)[::-1], shared(given[::-1]), strict=True):
        torch.testing.assert_close(before, after)


def test_an_attention_takes_what_is_shared():
    """Two equal exemplars, as numbers or as maps, are as one of them."""
    layer, x = trained(), draw(1, CHANNELS, 4, 4)
    memory = layer.remember(draw(1, CHANNELS, 4, 4, seed=1))
    wanted = layer(x, memory, 0.8) - x
    for weight in (0.8, torch.full((1, 1, 8, 8), 0.8)):
        found = sum(layer(x, memory, share) - x for share in shared([weight, weight]))
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6)
