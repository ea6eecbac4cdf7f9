"""LatteVideo and the neural prior against an independent implementation, and what they refuse."""

import math

import pytest
import torch

from aqueduct.core.networks import LatteVideo, NeuralPrior
from aqueduct.core.networks.layout import InputLayout

SIZES = {"out_channels": 4, "frames": 3, "height": 4, "width": 6, "patch": 2, "hidden": 16, "depth": 4, "heads": 2}
CLASSES = 3


def make(**changes) -> LatteVideo:
    return LatteVideo(**{**SIZES, "in_channels": 5, "classes": CLASSES, **changes})


def randomised(network: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Every parameter random: at its initialisation the network is zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return network


def inputs(channels: int = 5, dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, channels, SIZES["frames"], SIZES["height"], SIZES["width"], generator=generator, dtype=dtype)
    return x, torch.tensor([0.5, 9.25]), torch.tensor([1, CLASSES])


# --- the forward pass, written once more from the Latte and DiT papers, one clip, frame and token at a time ----------


class PlainLatte:
    def __init__(self, state: dict, heads: int, patch: int):
        self.state, self.heads, self.patch = state, heads, patch

    def linear(self, name: str, v):
        return torch.einsum("...i,oi->...o", v, self.state[f"{name}.weight"]) + self.state[f"{name}.bias"]

    @staticmethod
    def silu(v):
        return v / (1 + torch.exp(-v))

    @staticmethod
    def gelu(v):
        return 0.5 * v * (1 + torch.tanh(math.sqrt(2 / math.pi) * (v + 0.044715 * v**3)))

    @staticmethod
    def normalised(v):
        centred = v - v.mean(-1, keepdim=True)
        return centred / torch.sqrt((centred**2).mean(-1, keepdim=True) + 1e-6)

    def attention(self, name: str, tokens):
        q, k, v = self.linear(f"{name}.qkv", tokens).split(tokens.shape[-1], dim=-1)
        size = tokens.shape[-1] // self.heads
        out = []
        for head in range(self.heads):
            part = slice(head * size, (head + 1) * size)
            weights = torch.exp(q[:, part] @ k[:, part].T / math.sqrt(size))
            out.append(weights / weights.sum(1, keepdim=True) @ v[:, part])
        return self.linear(f"{name}.proj", torch.cat(out, dim=1))

    def block(self, name: str, tokens, condition):
        modulation = self.linear(f"{name}.adaLN_modulation.1", self.silu(condition))
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = modulation.split(tokens.shape[-1])
        tokens = tokens + gate_a * self.attention(f"{name}.attn", self.normalised(tokens) * (1 + scale_a) + shift_a)
        inner = self.gelu(self.linear(f"{name}.mlp.fc1", self.normalised(tokens) * (1 + scale_m) + shift_m))
        return tokens + gate_m * self.linear(f"{name}.mlp.fc2", inner)

    def condition(self, t, y):
        out = self.state["y_embedder.embedding_table.weight"][y]
        if t is not None:
            angles = [t * 10000.0 ** (-k / 128) for k in range(128)]
            wave = torch.tensor([math.cos(a) for a in angles] + [math.sin(a) for a in angles], dtype=torch.float64)
            out = out + self.linear("t_embedder.mlp.2", self.silu(self.linear("t_embedder.mlp.0", wave)))
        return out

    def clip(self, x, t, y):
        """``x [c, f, h, w]``."""
        p, rows, columns = self.patch, x.shape[2] // self.patch, x.shape[3] // self.patch
        weight, bias = self.state["x_embedder.proj.weight"], self.state["x_embedder.proj.bias"]
        tokens = torch.stack([
            torch.stack([
                torch.einsum("cpq,ocpq->o", x[:, f, i * p : (i + 1) * p, j * p : (j + 1) * p], weight) + bias
                for i in range(rows) for j in range(columns)
            ]) for f in range(x.shape[1])
        ])  # fmt: skip
        tokens = tokens + self.state["pos_embed"][0]
        condition = self.condition(t, y)
        for k in range(sum(key.endswith("attn.qkv.bias") for key in self.state)):
            if k % 2 == 0:
                tokens = torch.stack([self.block(f"blocks.{k}", frame, condition) for frame in tokens])
            else:
                paths = [self.block(f"blocks.{k}", path, condition) for path in tokens.transpose(0, 1)]
                tokens = torch.stack(paths, dim=1)
            if k == 0:
                tokens = tokens + self.state["temp_embed"][0][:, None]
        shift, scale = self.linear("final_layer.adaLN_modulation.1", self.silu(condition)).split(tokens.shape[-1])
        flat = self.linear("final_layer.linear", self.normalised(tokens) * (1 + scale) + shift)
        channels = flat.shape[-1] // p**2
        out = torch.zeros(channels, *x.shape[1:], dtype=x.dtype)
        for i in range(rows):
            for j in range(columns):
                for a in range(p):
                    for b in range(p):
                        start = (a * p + b) * channels
                        out[:, :, i * p + a, j * p + b] = flat[:, i * columns + j, start : start + channels].T
        return out


def test_latte_agrees_with_a_plain_implementation():
    network = randomised(make(dtype=torch.float64))
    x, t, y = inputs()
    plain = PlainLatte(network.state_dict(), SIZES["heads"], SIZES["patch"])
    expected = torch.stack([plain.clip(x[k], t[k].item(), y[k]) for k in range(2)])
    assert expected.std() > 0.1
    torch.testing.assert_close(network(x, t, y), expected, rtol=1e-5, atol=1e-5)


def test_position_tables():
    """Sines before cosines; in the plane x fills the first half of the features, y the second (MAE, DiT)."""
    network = make()
    for row in range(2):
        for column in range(3):
            wave = [[value * 10000 ** (-k / 4) for k in range(4)] for value in (column, row)]
            expected = [f(angle) for angles in wave for f in (math.sin, math.cos) for angle in angles]
            torch.testing.assert_close(network.pos_embed[0, row * 3 + column], torch.tensor(expected))
    expected = [f(2 * 10000 ** (-k / 8)) for f in (math.sin, math.cos) for k in range(8)]
    torch.testing.assert_close(network.temp_embed[0, 2], torch.tensor(expected))


def test_initialised_network_is_zero_and_repeatable():
    x, t, y = inputs(dtype=torch.float32)
    network = make().initialise(torch.Generator().manual_seed(3))
    assert torch.count_nonzero(network(x, t, y)) == 0
    again = make().initialise(torch.Generator().manual_seed(3))
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), again.parameters(), strict=True))
    tokens = torch.randn(2, 6, 16)
    assert torch.equal(network.blocks[1](tokens, torch.randn(2, 16)), tokens)


def test_position_tables_are_not_trained():
    assert {name for name, p in make().named_parameters() if not p.requires_grad} == {"pos_embed", "temp_embed"}


def test_clips_of_a_batch_do_not_mix():
    network = randomised(make(dtype=torch.float64))
    x, t, y = inputs()
    torch.testing.assert_close(network(x, t, y)[1:], network(x[1:], t[1:], y[1:]), rtol=1e-9, atol=1e-9)


# --- the neural prior -------------------------------------------------------------------------------------------------


def test_neural_prior_is_latte_without_time():
    prior = randomised(NeuralPrior(**SIZES, in_channels=4, classes=CLASSES, dtype=torch.float64))
    assert not any("t_embedder" in key for key in prior.state_dict())
    timed = make(in_channels=4, dtype=torch.float64)
    still = {key: torch.zeros_like(value) for key, value in timed.state_dict().items() if key.startswith("t_embedder")}
    timed.load_state_dict({**prior.network.state_dict(), **still})
    first, y = inputs(channels=4)[0][:, :, 0], torch.tensor([0, 2])
    repeated = first[:, :, None].repeat(1, 1, SIZES["frames"], 1, 1)
    torch.testing.assert_close(prior(first, y), timed(repeated, torch.tensor([3.0, 700.0]), y))
    plain = PlainLatte(prior.network.state_dict(), SIZES["heads"], SIZES["patch"])
    torch.testing.assert_close(prior(first, y)[1], plain.clip(repeated[1], None, y[1]), rtol=1e-5, atol=1e-5)


def test_residual_prior_corrects_the_repeated_frame():
    prior = NeuralPrior(**SIZES, in_channels=4, classes=CLASSES, residual=True)
    prior.network.initialise(torch.Generator().manual_seed(0))
    first = torch.randn(1, 4, SIZES["height"], SIZES["width"])
    clip = prior(first, torch.tensor([0]))
    assert clip.shape[2] == prior.frames == SIZES["frames"]
    assert all(torch.equal(clip[:, :, f], first) for f in range(prior.frames))


# --- layers from the host ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [LatteVideo, NeuralPrior])
def test_every_layer_comes_from_operations(kind):
    made = []

    class Operations:
        pass

    weighted = ("Linear", "Conv2d", "LayerNorm", "Embedding")
    for name in weighted:
        base = getattr(torch.nn, name)

        def __init__(self, *args, _base=base, **kwargs):
            _base.__init__(self, *args, **kwargs)
            made.append((type(self).__name__, kwargs["dtype"], kwargs["device"]))

        setattr(Operations, name, type(f"Host{name}", (base,), {"__init__": __init__}))
    network = kind(**SIZES, in_channels=4, classes=2, operations=Operations, dtype=torch.bfloat16, device="meta")
    layers = [m for m in network.modules() if isinstance(m, tuple(getattr(torch.nn, name) for name in weighted))]
    assert len(layers) == len(made) and all(type(layer).__name__.startswith("Host") for layer in layers)
    assert {dtype for _, dtype, _ in made} == {torch.bfloat16} and {device for *_, device in made} == {"meta"}
    held = {name.rsplit(".", 1)[0] for name, _ in network.named_parameters()} - {"network"}
    bare = {"pos_embed", "temp_embed", "network.pos_embed", "network.temp_embed"}
    assert held - bare <= {name for name, layer in network.named_modules() if layer in layers}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype):
    x, t, y = inputs(dtype=dtype)
    out = randomised(make(dtype=dtype))(x, t, y)
    assert out.dtype == dtype and bool(torch.isfinite(out).all())


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": torch.zeros(2, 4, 3, 4, 6)}, r"expects \[batch, 5, 3, 4, 6\].*got \[2, 4, 3, 4, 6\]"),
        ({"x": torch.zeros(2, 5, 2, 4, 6)}, "clip length and size are fixed"),
        ({"x": torch.zeros(5, 3, 4, 6)}, "expects"),
        ({"t": None}, "needs the time"),
        ({"y": None}, "needs the class"),
        ({"t": torch.zeros(1)}, r"`t` is one value per clip, \[2\], got \[1\]"),
        ({"y": torch.zeros(2, 1, dtype=torch.long)}, r"`y` is one value per clip"),
        ({"y": torch.tensor([0, 4])}, r"from 0 to 2 \(3 stands for no class\), got 4"),
        ({"y": torch.tensor([-1, 0])}, "got -1"),
        ({"y": torch.tensor([0.0, 1.0])}, "whole numbers"),
    ],
)
def test_latte_refuses(changes, message):
    x, t, y = inputs(dtype=torch.float32)
    given = {"x": x, "t": t, "y": y, **changes}
    with pytest.raises(ValueError, match=message):
        make()(**given)


def test_absent_conditions_are_refused():
    x, t, y = inputs(dtype=torch.float32)
    with pytest.raises(ValueError, match="takes no time"):
        make(time=False)(x, t, y)
    with pytest.raises(ValueError, match="takes no class"):
        make(classes=0)(x, t, y)
    assert make(classes=0, time=False)(x).shape == (2, 4, 3, 4, 6)
    with pytest.raises(ValueError, match=r"first frame \[batch, 4, height, width\], got \[1, 4, 3, 4, 6\]"):
        NeuralPrior(**SIZES, in_channels=4, classes=0)(torch.zeros(1, 4, 3, 4, 6))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"height": 5}, "multiples of the patch size 2, got 5 x 6"),
        ({"hidden": 18, "heads": 3}, "of 4, got 18"),
        ({"heads": 3}, r"multiple of the heads \(3\)"),
        ({"depth": 3}, "even, got 3"),
    ],
)
def test_impossible_sizes(changes, message):
    with pytest.raises(ValueError, match=message):
        make(**changes)


# --- how conditions reach the network --------------------------------------------------------------------------------


@pytest.mark.parametrize("prior", [False, True])
@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("prepend", [False, True])
def test_layout(prior, first, prepend):
    layout = InputLayout(concat_prior=prior, concat_first_frame=first, prepend_first_frame=prepend)
    z, z_T = torch.full((1, 2, 3, 4, 4), 1.0), torch.full((1, 2, 3, 4, 4), 2.0)
    joined = layout.join(z, z_T, torch.full((1, 2, 4, 4), 3.0))
    assert joined.shape[1:3] == (layout.channels(2), 3 + prepend)
    groups = [1.0] + [2.0] * prior + [3.0] * first
    expected = [[3.0] * prepend + [value] * 3 for value in groups for _ in range(2)]
    assert joined[0, :, :, 0, 0].tolist() == expected
    assert layout.crop(joined).shape[2] == 3
