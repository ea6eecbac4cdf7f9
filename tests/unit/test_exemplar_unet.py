"""The denoiser with exemplars: where its sites lie, what a site computes, what an exemplar may and may not change."""

import json
import math
from pathlib import Path

import pytest
import torch

from aqueduct.core.networks import UNet
from aqueduct.core.networks.exemplar_unet import CrossAttention, ExemplarUNet, FeedForward, Style, initialise, remember
from aqueduct.core.networks.unet import AttentionBlock, ResBlock
from aqueduct.tests.unit.exemplar_models import SITES, SIZES, UNET, denoiser, draw, network, randomised, style

DATA = Path(__file__).resolve().parents[1] / "data"
X, T = draw(2, 3, 8, 12), torch.tensor([3.0, 700.0])


# --- layout -----------------------------------------------------------------------------------------------------------


def adm_walk(sites: tuple[int, ...], blocks: int) -> list[tuple[str, int]]:
    """What a picture passes, and on which level: Dhariwal & Nichol's U-Net, told from their paper."""
    levels = len(SIZES["multipliers"])

    def at(level: int) -> list[tuple[str, int]]:
        return [("block", level), *([("site", level)] if level in sites else [])]

    walk = []
    for level in range(levels):
        walk += blocks * at(level)
        walk += [("resampling", level)] if level < levels - 1 else []
    bottom = levels - 1
    walk += [("block", bottom), ("attention", bottom), ("site", bottom), ("block", bottom)]
    for level in reversed(range(levels)):
        walk += (blocks + 1) * at(level)
        walk += [("resampling", level)] if level else []
    return walk


@pytest.mark.parametrize("sites", SITES)
def test_sites_lie_behind_the_blocks_of_their_levels(sites, blocks=2):
    model, passed = denoiser(sites=sites, blocks=blocks), []

    def name(module) -> str:
        if isinstance(module, ResBlock):
            return "block" if isinstance(module.resample, torch.nn.Identity) else "resampling"
        return "attention" if isinstance(module, AttentionBlock) else "site"

    for module in model.modules():
        if isinstance(module, (ResBlock, AttentionBlock, FeedForward)):
            module.register_forward_pre_hook(lambda m, inputs: passed.append((name(m), tuple(inputs[0].shape))))
    model(X, T)
    wanted = adm_walk(sites, blocks)
    assert [kind for kind, _ in passed] == [kind for kind, _ in wanted]
    assert len(model.sites) == len(sites) * (2 * blocks + 1) + 1
    for (kind, shape), (_, level) in zip(passed, wanted, strict=True):
        if kind == "site":
            assert shape == (2, 8 * SIZES["multipliers"][level], 8 // 2**level, 12 // 2**level)
    shapes = [feature.shape for feature in network(sites=sites, blocks=blocks).features(X, draw(1, 1, 6))]
    assert shapes == [shape for kind, shape in passed if kind == "site"]


def test_the_trunk_is_that_of_a_released_file():
    """BBDM's latent denoiser (LBBDM-f4): every name, shape and the order of both."""
    released = {}
    for line in (DATA / "bbdm_lbbdm_f4_denoise_fn.txt").read_text(encoding="ascii").splitlines():
        key, shape, _ = line.split("\t")
        numbers = shape.replace("(", "[").replace(",)", "]").replace(")", "]")
        released[key.removeprefix("denoise_fn.")] = tuple(json.loads(numbers))
    built = ExemplarUNet(3, 3, 128, (1, 4, 8), device="meta").unet.state_dict()
    assert len(released) == 248
    assert list(released.items()) == [(key, tuple(value.shape)) for key, value in built.items()]


def test_pixels_fold_into_channels():
    model = denoiser(fold=2)
    shown = [style(model, fold=2)]
    folded = X.view(2, 3, 4, 2, 6, 2).permute(0, 1, 3, 5, 2, 4).reshape(2, 12, 4, 6)[..., :4]
    inside = ExemplarUNet(**{**SIZES, "in_channels": 12, "out_channels": 8})
    inside.load_state_dict(model.state_dict())
    wanted = inside(folded, T, shown).view(2, 2, 2, 2, 4, 4).permute(0, 1, 4, 2, 5, 3).reshape(2, 2, 8, 8)
    assert model.step == 8 and inside.step == 4
    assert torch.equal(model(X[..., :8], T, shown), wanted)


# --- a site -----------------------------------------------------------------------------------------------------------


def test_cross_attention_by_hand():
    layer = randomised(CrossAttention(8, 6, 2, 4, operations=torch.nn))
    x, tokens = draw(2, 8, 3, 2), draw(1, 3, 6, seed=1)
    q = torch.einsum("oc,nchw->nohw", layer.q.weight[..., 0, 0], layer.norm(x)).flatten(2)
    k, v = (tokens[0] @ to.weight.T for to in (layer.k, layer.v))
    found = torch.zeros(2, 8, 6)
    for head in (slice(0, 4), slice(4, 8)):
        softmax = (torch.einsum("ndl,md->nlm", q[:, head], k[:, head]) / math.sqrt(4)).softmax(2)
        found[:, head] = torch.einsum("nlm,md->ndl", softmax, v[:, head])
    wanted = torch.einsum("oc,ncl->nol", layer.proj.weight[..., 0, 0], found) + layer.proj.bias[:, None]
    torch.testing.assert_close(layer(x, tokens), wanted.view_as(x), rtol=1e-4, atol=1e-5)


def test_feed_forward_by_hand():
    layer, x = randomised(FeedForward(8, 3, 4, operations=torch.nn)), draw(2, 8, 3, 2)
    entered = torch.einsum("oc,nchw->nohw", layer.enter.weight[..., 0, 0], layer.norm(x))
    value, gate = (entered + layer.enter.bias[:, None, None]).split(24, dim=1)
    gelu = gate * (1 + torch.erf(gate / math.sqrt(2))) / 2
    left = torch.einsum("oc,nchw->nohw", layer.leave.weight[..., 0, 0], value * gelu) + layer.leave.bias[:, None, None]
    torch.testing.assert_close(layer(x), x + left, rtol=1e-4, atol=1e-5)


def test_a_site_with_two_exemplars_by_hand():
    """Each is weighted by its own, and both look at the same picture."""
    model = denoiser()
    one, other = style(model).weighted(0.25), style(model, seed=5).weighted(torch.rand(1, 1, 4, 6))
    site, x = model.sites[0], draw(2, 16, 4, 6)
    after = x + sum(s.weight * (site.attention(x, s.memories[0]) - x) for s in (one, other))
    after = after + sum(s.weight * site.cross(after, s.token) for s in (one, other))
    torch.testing.assert_close(site.styled(x, [one, other], 0), site.feed(after), rtol=1e-4, atol=1e-4)


def test_with_one_token_every_pixel_gets_the_same():
    """A softmax of one is one: then queries and keys do nothing, and learn nothing."""
    layer = randomised(CrossAttention(8, 6, 2, 4, operations=torch.nn)).requires_grad_(True)
    out = layer(draw(2, 8, 3, 2), draw(1, 1, 6, seed=1))
    torch.testing.assert_close(out, out[:1, :, :1, :1].expand_as(out))
    out.square().sum().backward()
    idle = {name for name, parameter in layer.named_parameters() if not parameter.grad.any()}
    assert idle == {"norm.weight", "norm.bias", "q.weight", "k.weight"}


# --- what an exemplar may change --------------------------------------------------------------------------------------


@pytest.mark.parametrize("sites", SITES)
def test_without_what_sites_add_it_is_the_u_net(sites):
    """As at the start of a training, whatever the trunk and the exemplar."""
    model = initialise(ExemplarUNet(**SIZES, sites=sites), torch.Generator().manual_seed(0)).requires_grad_(False)
    assert not model(X, T).any()
    randomised(model.unet)
    plain = UNet(**UNET, head_channels=4, groups=4)
    plain.load_state_dict(model.unet.state_dict())
    for styles in ((), [style(model, sites=sites)]):
        assert torch.equal(model(X, T, styles), plain(X, T))
    assert not torch.equal(denoiser(sites=sites)(X, T), plain(X, T))


def test_new_attentions_leave_what_the_token_does():
    """At the start of stage 2 the exemplar network changes nothing."""
    model = denoiser()
    for site in model.sites:
        torch.nn.init.zeros_(site.attention.proj.weight)
        torch.nn.init.zeros_(site.attention.proj.bias)
    shown = style(model)
    assert torch.equal(model(X, T, [shown]), model(X, T, [Style(shown.token)]))
    assert not torch.equal(model(X, T, [shown]), model(X, T))


def test_token_and_memories_both_act_and_nothing_else_does():
    model = denoiser()
    shown = style(model)
    kinds = [(), [Style(shown.token)], [Style(memories=shown.memories)], [shown]]
    outs = [model(X, T, styles) for styles in kinds]
    for n, out in enumerate(outs):
        assert all((out - other).abs().mean() > 1e-2 for other in outs[:n])
    assert torch.equal(model(X, T, [Style()]), outs[0])


@pytest.mark.parametrize("weight", [0.0, torch.zeros(1, 1, 8, 12), torch.zeros(2, 1, 1, 1), torch.tensor(0.0)])
def test_weight_zero_is_no_exemplar(weight):
    model = denoiser()
    assert torch.equal(model(X, T, [style(model).weighted(weight)]), model(X, T))


def test_each_picture_has_its_own_weight_and_exemplar():
    model = denoiser()
    both = style(model, n=2).weighted(torch.tensor([0.0, 1.0]).view(2, 1, 1, 1))
    siamese = network()
    alone = remember(model, siamese, draw(2, 3, 8, 8, seed=10)[1:], draw(2, 5, seed=11)[1:])
    out = model(X, T, [both])
    torch.testing.assert_close(out[:1], model(X[:1], T[:1]), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(out[1:], model(X[1:], T[1:], [alone]), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model(X, T, [alone])[1:], out[1:], rtol=1e-4, atol=1e-5)


def test_order_of_exemplars_does_not_matter():
    model = denoiser()
    styles = [style(model).weighted(0.7), style(model, seed=5).weighted(torch.rand(1, 1, 8, 12))]
    torch.testing.assert_close(model(X, T, styles), model(X, T, styles[::-1]), rtol=1e-4, atol=1e-5)


def test_a_part_of_the_exemplar_reaches_every_attention():
    """Right half of it: half of every level's pixels, and the token of the whole."""
    model, siamese, z, cls = denoiser(sites=(0, 1)), network(sites=(0, 1)), draw(1, 3, 8, 8), draw(1, 5)
    keep = torch.zeros(1, 32, 32, dtype=torch.bool)
    keep[..., 16:] = True
    part, whole = remember(model, siamese, z, cls, keep), remember(model, siamese, z, cls)
    for memory, full in zip(part.memories, whole.memories, strict=True):
        side = math.isqrt(full.keys.shape[2])
        assert memory.keep.view(side, side).tolist() == side * [(side // 2) * [False] + (side // 2) * [True]]
        assert full.keep is None and torch.equal(memory.keys, full.keys)
    assert torch.equal(part.token, whole.token)


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 3, 8, 12), (1, 3, 12, 8), (1, 4, 8, 8), (3, 8, 8)])
def test_sizes_that_do_not_fit(shape):
    """In pixels as they are given, not as they are folded."""
    model, siamese = denoiser(fold=2), network(fold=2)
    for call in (lambda x: model(x, torch.zeros(1)), lambda x: siamese.features(x, draw(1, 1, 6))):
        with pytest.raises(ValueError, match=r"\[n, 3, h, w\] with h and w multiples of 8, got \["):
            call(torch.zeros(shape))


def test_exemplars_of_another_model():
    model = denoiser()
    with pytest.raises(ValueError, match=r"gives \[n, 5\] here, got \[2, 768\]"):
        model.token(torch.zeros(2, 768))
    with pytest.raises(ValueError, match="brings 1 memories to 7 sites"):
        model(X, T, [Style(memories=style(model).memories[:1])])


@pytest.mark.parametrize("level", [-1, 3])
def test_levels_there_are_not(level):
    for kind in (denoiser, network):
        with pytest.raises(ValueError, match=rf"levels \[{level}\], and there are levels 0 to 2"):
            kind(sites=(1, level))
