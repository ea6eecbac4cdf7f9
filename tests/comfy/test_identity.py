"""What tells the MODELs of two graphs apart: everything that lies on them, and no more than that."""

import threading
from functools import partial

import pytest
import torch

from aqueduct.tests.comfy.hosts import HOSTS, normal


@pytest.fixture(scope="module")
def model(comfy):
    return HOSTS["sd15"]().model


def told(thing):
    from aqueduct.nodes._comfy.identity import Identity

    identity = Identity()
    found = identity.of(thing)
    assert not identity.unknown
    return found


def carried(model) -> dict:
    from aqueduct.nodes._comfy.identity import Identity

    identity = Identity()
    found = identity.carried(model)
    assert not identity.unknown
    return found


class Scale:
    def __init__(self, by: float):
        self.by = by

    def __call__(self, x):
        return self.by * x


def scaled(by: float):
    return lambda x: by * x


def shift(model, by: float):
    from comfy_extras.nodes_model_advanced import ModelSamplingSD3

    return ModelSamplingSD3().patch(model, shift=by)[0]


def free_u(model, b1: float):
    from comfy_extras.nodes_freelunch import FreeU

    return FreeU().patch(model, b1, 1.2, 0.9, 0.2)[0]


def rescaled(model, by: float):
    from comfy_extras.nodes_model_advanced import RescaleCFG

    return RescaleCFG().patch(model, by)[0]


def attention(model, by: float):
    patched = model.clone()
    patched.set_model_attn1_replace(Scale(by), "input", 1, 0)
    return patched


def wrapped(model, by: float):
    patched = model.clone()
    patched.add_wrapper_with_key("diffusion_model", "scaled", scaled(by))
    return patched


def lora(model, by: float):
    patched, key = model.clone(), "diffusion_model.time_embed.0.bias"
    patched.add_patches({key: (normal(*model.model.diffusion_model.time_embed[0].bias.shape, seed=3),)}, by)
    return patched


def beside(model, by: float):
    from comfy.model_patcher import ModelPatcher

    other, patched = torch.nn.Linear(2, 2), model.clone()
    torch.nn.init.constant_(other.weight, by)
    torch.nn.init.zeros_(other.bias)
    patched.set_additional_models("other", [ModelPatcher(other, model.load_device, model.offload_device)])
    return patched


@pytest.mark.parametrize("patch", [shift, free_u, rescaled, attention, wrapped, lora, beside])
def test_patches_are_the_same_where_their_numbers_are(model, patch):
    """Made anew each time, as by two runs of one graph."""
    one, again, other = (carried(patch(model, by)) for by in (1.5, 1.5, 2.5))
    assert one == again != other and carried(model) == {} != one


def test_order_of_patches_counts_and_what_cannot_act_does_not(model):
    both = carried(free_u(rescaled(model, 0.5), 1.5)), carried(rescaled(free_u(model, 1.5), 0.5))
    assert both[0] == both[1]
    twice = [carried(wrapped(wrapped(model, one), other)) for one, other in ((1.0, 2.0), (2.0, 1.0))]
    assert twice[0] != twice[1]
    assert carried(model.clone()) == {}


def test_a_sampled_model_is_still_the_same(model):
    from aqueduct.tests.comfy.graph import sample_stock

    patched, host = beside(free_u(shift(model, 2.0), 1.5), 1.0), HOSTS["sd15"]()
    before = carried(patched)
    sample_stock(patched, normal(1, 4, 8, 8), host.positive)
    assert carried(patched) == before


@pytest.mark.parametrize("make", [
    Scale, scaled, partial(partial, max), lambda x: Scale(x).__call__, lambda x: {3: x}, lambda x: torch.full((2,), x),
    lambda x: [x, torch.nn.ReLU()], lambda x: torch.tensor(x, dtype=torch.bfloat16), lambda x: {"a", x},
])  # fmt: skip
def test_things_are_what_they_hold(comfy, make):
    assert told(make(1.5)) == told(make(1.5)) != told(make(2.5))


def test_functions_are_what_they_do(comfy):
    """By their code: lambdas of one place have one name."""
    functions = lambda x: x + 1, lambda x: x + 2, lambda x: x - 1, lambda x, y=2: x + 1
    assert len({str(told(one)) for one in functions}) == 4
    assert told(lambda x: x in {"a", "b"}) == told(lambda x: x in {"b", "a"})


def test_circles_end(comfy):
    one = Scale(1.0)
    one.itself = [one]
    assert "what it lies in" in str(told(one))


def test_what_cannot_be_looked_into_is_noted(comfy):
    from aqueduct.nodes._comfy.identity import Identity

    identity = Identity()
    identity.of({"a": Scale(threading.Lock()), "b": iter([1])})
    deep = []
    for _ in range(100):
        deep = [deep]
    assert identity.unknown == ["_thread.lock", "builtins.list_iterator"]
    identity.of(deep)
    assert identity.unknown[2:] == ["builtins.list"]
