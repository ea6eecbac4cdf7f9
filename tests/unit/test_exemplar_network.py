"""The denoiser's siamese, and both as a whole: what is dropped, sizes beside the paper's, files, layers of a host."""

import pytest
import torch

from aqueduct.core import checkpoints
from aqueduct.core.networks.exemplar_unet import ExemplarNetwork, ExemplarUNet, Style, initialise, remember, start_from
from aqueduct.core.networks.style_encoder import StyleEncoder
from aqueduct.tests.unit.exemplar_models import SITES, SIZES, denoiser, draw, network, randomised, style

# --- the siamese ------------------------------------------------------------------------------------------------------


def site_inputs(model: ExemplarUNet, z: torch.Tensor, t: float, styles) -> list[torch.Tensor]:
    """What reaches each site of the denoiser (its attention's norm sees it first)."""
    seen: list[torch.Tensor] = []
    hooks = [s.attention.norm.register_forward_pre_hook(lambda _, given: seen.append(given[0])) for s in model.sites]
    model(z, torch.full((len(z),), t), styles)
    for hook in hooks:
        hook.remove()
    return seen


@pytest.mark.parametrize("sites", SITES)
def test_a_new_siamese_sees_what_the_denoiser_would_at_time_zero(sites):
    """Same weights, its own attention still the identity, and ``t_ref = 0``: the denoiser's features, bit for bit."""
    model, z = denoiser(sites=sites), draw(2, 3, 8, 8)
    siamese = start_from(ExemplarNetwork(**SIZES, sites=sites), model, torch.Generator().manual_seed(0))
    shown = style(model, sites=sites)
    token_alone = [Style(shown.token), Style(memories=shown.memories, weight=0.0)]  # memories so that the norms run
    found = siamese.features(z, shown.token)
    at_zero, later = (site_inputs(model, z, t, token_alone) for t in (0.0, 1.0))
    assert len(found) == len(at_zero) == len(model.sites)
    assert all(torch.equal(a, b) for a, b in zip(found, at_zero, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(found, later, strict=True))


@pytest.mark.parametrize("sites", SITES)
def test_what_is_dropped_is_what_no_feature_depends_on(sites):
    """Every layer left moves some feature, and the layers left out of the denoiser would not have."""
    siamese, model = network(sites=sites).requires_grad_(True), denoiser(sites=sites)
    tokens = draw(1, 2, 6)  # of one token, queries and keys would not matter
    features = siamese.features(draw(1, 3, 8, 8), tokens)
    sum((f * draw(*f.shape, seed=n)).sum() for n, f in enumerate(features)).backward()
    assert [name for name, p in siamese.named_parameters() if p.grad is None or not p.grad.any()] == []

    shown = Style(tokens, style(model, sites=sites).memories)
    arriving = site_inputs(model.requires_grad_(True), draw(1, 3, 8, 8), 0.0, [shown])
    sum((f * draw(*f.shape, seed=n)).sum() for n, f in enumerate(arriving)).backward()
    needed = {name: p.shape for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    own = {name: p.shape for name, p in siamese.named_parameters()}
    needed, own = ({k: v for k, v in keys.items() if ".attention." not in k} for keys in (needed, own))
    assert own == needed


@pytest.mark.parametrize("sites", [(0, 1), (0,)], ids=["more of them", "on another level"])
def test_only_the_siamese_of_a_denoiser_starts_from_it(sites):
    with pytest.raises(ValueError, match=r"not this denoiser's siamese, which has no such \['.*sites"):
        start_from(ExemplarNetwork(**SIZES, sites=sites), denoiser(sites=(1,)), torch.Generator().manual_seed(0))


def test_what_starts_from_a_denoiser_has_its_weights_and_repeats():
    model = denoiser()
    siamese, again = (start_from(ExemplarNetwork(**SIZES), model, torch.Generator().manual_seed(4)) for _ in range(2))
    theirs = model.state_dict()
    for key, value in siamese.state_dict().items():
        assert torch.equal(value, again.state_dict()[key])
        assert ".attention." in key or torch.equal(value, theirs[key])
    drawn = siamese.sites[0].attention
    assert drawn.qkv.weight.std() > 0.1 and not drawn.proj_out.weight.any()


def test_initialised_network_repeats():
    start, again = (initialise(ExemplarUNet(**SIZES), torch.Generator().manual_seed(3)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(start.parameters(), again.parameters(), strict=True))
    assert start.linear.weight.std() > 0.1 and start.sites[0].cross.v.weight.std() > 0.1


def test_times_of_the_siamese_are_zero():
    """Cosines of zero and sines of zero, for every exemplar."""
    siamese, seen = network(), []
    siamese.unet.time_embed.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    siamese.features(draw(2, 3, 8, 8), draw(1, 1, 6))
    assert seen[0].tolist() == 2 * [[1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0]]


# --- sizes ------------------------------------------------------------------------------------------------------------

PAPER = {"channels": 128, "multipliers": (1, 4, 8), "device": "meta"}  # EBDM Table 5; latents of 3 channels


def count(module: torch.nn.Module) -> float:
    """Millions of parameters."""
    return sum(parameter.numel() for parameter in module.parameters()) / 1e6


def convolution(channels: int, out: int, side: int = 3) -> int:
    return channels * out * side**2 + out


def vqgan(level_widths: tuple[int, ...] = (128, 256, 512), codes: int = 8192) -> tuple[float, float]:
    """Millions in BBDM's VQGAN f4 and in its encoder alone, by the formula of its layers (Esser et al. 2021)."""
    first, last = level_widths[0], level_widths[-1]

    def block(channels: int, out: int) -> int:
        shortcut = 0 if channels == out else convolution(channels, out, 1)
        return 2 * channels + convolution(channels, out) + 2 * out + convolution(out, out) + shortcut

    def levels(widths: tuple[int, ...], blocks: int) -> int:
        """Each level's blocks; between levels a convolution that halves or doubles the size."""
        total, before = 0, widths[0]
        for n, width in enumerate(widths):
            total += block(before, width) + (blocks - 1) * block(width, width)
            total += convolution(width, width) if n < len(widths) - 1 else 0
            before = width
        return total

    middle = 2 * block(last, last) + 2 * last + 4 * convolution(last, last, 1)
    encoder = convolution(3, first) + levels(level_widths, 2) + middle + 2 * last + convolution(last, 3)
    decoder = convolution(3, last) + middle + levels(level_widths[::-1], 3) + 2 * first + convolution(first, 3)
    return (encoder + decoder + 2 * convolution(3, 3, 1) + 3 * codes) / 1e6, encoder / 1e6


def dinov2(width: int = 768, depth: int = 12, patch: int = 14, patches: int = 37**2) -> float:
    """Millions in DINOv2's ViT-B/14 (Oquab et al. 2023; positions of 518 pixels)."""
    linears = sum(i * o + o for i, o in ((width, 3 * width), (width, width), (width, 4 * width), (4 * width, width)))
    layer = 2 * 2 * width + linears + 2 * width  # two norms, two layer scales
    tokens = 2 * width + (patches + 1) * width  # [CLS] and the mask's; positions
    return (convolution(3, width, patch) + tokens + depth * layer + 2 * width) / 1e6


def test_frozen_parts_have_the_papers_sizes():
    """The formulas are right: to all the digits of the paper's Table 5."""
    whole, encoder = vqgan()
    assert (round(whole, 2), round(encoder, 2), round(dinov2(), 2)) == (55.32, 22.34, 86.58)
    assert round(437.81 - 382.49, 2) == 55.32 and round(404.82 - 382.48, 2) == 22.34


def test_sizes_beside_the_papers():
    """Within 2 % of EBDM's Table 5, but for the exemplar network, of which more is dropped here."""
    model, siamese = ExemplarUNet(3, 3, **PAPER), ExemplarNetwork(3, 3, **PAPER)
    vae, vae_encoder = vqgan()
    assert round(count(model), 2) == 383.41 and round(count(siamese), 2) == 370.20
    ours = {
        "denoiser": (count(model), 382.49),
        "denoiser and VQGAN": (count(model) + vae, 437.81),
        "total": (count(model) + vae + count(siamese) + vae_encoder + dinov2(), 929.21),
        "trained": (count(model) + count(siamese), 764.97),
    }
    assert [name for name, (found, paper) in ours.items() if abs(found / paper - 1) > 0.02] == []


def test_what_is_dropped_makes_the_difference():
    """With the layers after the last site the siamese has the paper's size: those of the denoiser, less its linear."""
    model, siamese = ExemplarUNet(3, 3, **PAPER), ExemplarNetwork(3, 3, **PAPER)
    kept = dict(siamese.named_parameters())
    dropped = [
        parameter.numel()
        for name, parameter in model.named_parameters()
        if name not in kept and not name.startswith("linear.") and (".attention." not in name or "sites.10." in name)
    ]
    whole = count(siamese) + sum(dropped) / 1e6
    assert whole == pytest.approx(count(model) - count(model.linear), rel=1e-9)
    assert whole == pytest.approx(382.48, rel=0.02)
    assert count(siamese) < 0.98 * 382.48


# --- files and hosts --------------------------------------------------------------------------------------------------


def test_files_hold_all_three(tmp_path):
    encoder = {"features": 5, "widths": [8, 8], "groups": 4, "size": 16}
    parts = {"model": denoiser(), "exemplar": network(), "encoder": randomised(StyleEncoder(**encoder))}
    config = {
        "parts": {
            "model": {"architecture": "ExemplarUNet", "arguments": SIZES},
            "exemplar": {"architecture": "ExemplarNetwork", "arguments": SIZES},
            "encoder": {"architecture": "StyleEncoder", "arguments": encoder},
        }
    }
    path = tmp_path / "ebdm.safetensors"
    checkpoints.save(parts, path, config, torch.float32)
    loaded = {part: checkpoints.load(path, part)[0] for part in parts}
    for part, module in parts.items():
        assert type(loaded[part]) is type(module)
        assert list(loaded[part].state_dict()) == list(module.state_dict())
        assert all(torch.equal(a, b) for a, b in zip(loaded[part].parameters(), module.parameters(), strict=True))

    def whole(model, exemplar, encoder) -> torch.Tensor:
        shown = remember(model, exemplar, draw(1, 3, 8, 8), encoder(draw(1, 3, 20, 24).tanh()))
        return model(draw(1, 3, 8, 8, seed=1), torch.tensor([500.0]), [shown])

    assert torch.equal(whole(**loaded), whole(**parts))


@pytest.mark.parametrize(
    ("kind", "sizes"),
    [(ExemplarUNet, SIZES), (ExemplarNetwork, SIZES), (ExemplarNetwork, {**SIZES, "sites": ()}), (StyleEncoder, {})],
)
def test_every_layer_comes_from_operations(kind, sizes):
    made = []

    class Operations:
        pass

    for name in ("Linear", "Conv1d", "Conv2d", "GroupNorm"):
        base = getattr(torch.nn, name)

        def __init__(self, *args, _base=base, **kwargs):
            _base.__init__(self, *args, **kwargs)
            made.append((kwargs["dtype"], kwargs["device"]))

        setattr(Operations, name, type(f"Host{name}", (base,), {"__init__": __init__}))
    built = kind(**sizes, operations=Operations, dtype=torch.bfloat16, device="meta")
    holders = [module for module in built.modules() if list(module.parameters(recurse=False))]
    assert len(holders) > 10 and all(type(module).__name__.startswith("Host") for module in holders)
    assert len(holders) <= len(made) and set(made) == {(torch.bfloat16, "meta")}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype):
    model, siamese, z, cls = denoiser(), network(), draw(1, 3, 8, 8), draw(1, 5)
    x, t, weight = draw(2, 3, 8, 12), torch.tensor([3.0, 700.0]), torch.rand(1, 1, 8, 12)
    wanted = model(x, t, [remember(model, siamese, z, cls).weighted(weight)])
    model, siamese = model.to(dtype), siamese.to(dtype)
    out = model(x.to(dtype), t, [remember(model, siamese, z.to(dtype), cls).weighted(weight)])
    assert out.dtype == dtype
    assert (out.float() - wanted).norm() < 0.1 * wanted.norm()
