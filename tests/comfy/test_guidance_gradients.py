"""Gradients through real hosts while they sample: right by finite differences, and nothing left behind."""

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from aqueduct.tests.comfy.graph import sample_stock
from aqueduct.tests.comfy.guided_hosts import clip_latent, sampling, state_of
from aqueduct.tests.comfy.hosts import HOSTS, Host, normal

CHECKED = ["wan-i2v", "ltxv", "sd15", "svd"]  # DiTs that edit in place, U-Nets with frames in the batch axis


def gradient(guider, x: Tensor, level: Tensor, options: dict, checkpointed: bool = False) -> tuple[Tensor, Tensor]:
    """``(h(x), J^T v)`` for a fixed v."""
    from aqueduct.nodes._comfy.gradients import gradients_through

    with gradients_through(guider, checkpointed) as usable, torch.enable_grad():
        entering = x.detach().clone().requires_grad_(True)
        predicted = guider(entering, level.clone(), usable(options), 0)
        pulled = torch.autograd.grad(predicted, entering, normal(*x.shape, seed=9))[0]
    return predicted.detach(), pulled


@pytest.fixture(scope="module", params=CHECKED)
def host(request, comfy) -> Host:
    """With weights five times as large: else what blocks add hardly matters, nor does what their gradients miss."""
    host = HOSTS[request.param]()
    with torch.inference_mode():
        for weight in host.model.model.diffusion_model.parameters():
            if weight.abs().max() < 0.5:  # but for those of norms
                weight.mul_(5)
    return host


@pytest.mark.parametrize("checkpointed", [False, True])
def test_finite_differences(host, checkpointed):
    """``v . (h(x + d u) - h(x - d u)) / 2 d = u . J^T v`` along a fixed direction u."""

    def both(guider, x, level, options):
        _, pulled = gradient(guider, x, level, options, checkpointed)
        u, v, d = normal(*x.shape, seed=8), normal(*x.shape, seed=9), 0.005
        rise = guider(x + d * u, level, options, 0).double() - guider(x - d * u, level, options, 0).double()
        return (v * rise).sum() / (2 * d), (u * pulled).sum()

    expected, found = sampling(host, both)
    torch.testing.assert_close(found.double(), expected, rtol=5e-3, atol=0)


def test_checkpointed_blocks_run_twice_and_give_the_same_gradient(host):
    from aqueduct.core.recomputation import entries as blocks

    layers = [
        layer
        for block in blocks(host.model.model.diffusion_model)
        for layer in block.modules()
        if isinstance(layer, torch.nn.Linear | torch.nn.Conv2d)
    ]

    def counted(checkpointed):
        calls = []
        hooks = [layer.register_forward_hook(lambda layer, *_: calls.append(layer)) for layer in layers]
        try:
            return *sampling(host, lambda *call: gradient(*call, checkpointed)), len(calls)
        finally:
            for hook in hooks:
                hook.remove()

    plain, again = counted(False), counted(True)
    assert 1.5 * plain[2] < again[2] <= 2 * plain[2]  # the second run stops at the last thing that was to be kept
    torch.testing.assert_close(again[0], plain[0], rtol=0, atol=0)
    assert (again[1] - plain[1]).norm() < 1e-6 * plain[1].norm()


def test_checkpointed_blocks_beside_a_control(comfy):
    """A U-Net adds a ControlNet's part, in place, to features that are also what a block was given."""
    from comfy.patcher_extension import WrappersMP

    def controlled(executor, x, timesteps, context, y=None, control=None, options=None, **others):
        control = {"output": [torch.full((1, 1, 1, 1), 0.5) for _ in range(2)]}
        return executor(x, timesteps, context, y, control, options, **others)

    host = HOSTS["sd15"]()
    model = host.model.clone()
    model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "control", controlled)
    without = sampling(host, gradient)
    plain, again = (sampling(host, lambda *call, way=way: gradient(*call, way), model) for way in (False, True))
    assert (plain[1] - without[1]).norm() > 1e-4 * without[1].norm()
    torch.testing.assert_close(again[0], plain[0], rtol=0, atol=0)
    assert (again[1] - plain[1]).norm() < 1e-6 * plain[1].norm()


@pytest.mark.parametrize("checkpointed", [False, True])
def test_everything_is_restored(host, checkpointed):
    latent = clip_latent(host)
    before = sample_stock(host.model, latent, host.positive, host.negative)
    state = state_of(host.model)
    predictions = sampling(host, lambda *call: (call[0](*call[1:], 0), gradient(*call, checkpointed)[0]))
    torch.testing.assert_close(predictions[0], predictions[1])  # kernels with a gradient round in their own way
    assert state_of(host.model) == state
    torch.testing.assert_close(sample_stock(host.model, latent, host.positive, host.negative), before, rtol=0, atol=0)


def test_what_runs_with_the_model_must_be_loaded_whole_too(host, monkeypatch):
    """As newer versions have it: an adapter's or a ControlNet's offloaded weights pass through the same buffer."""
    import comfy.model_management as mm

    monkeypatch.setattr(mm, "in_training", False, raising=False)
    partly = torch.nn.Linear(1, 1)
    partly.model_lowvram = True

    def call(guider, *given):
        monkeypatch.setattr(guider, "loaded_models", [*guider.loaded_models, SimpleNamespace(model=partly)])
        try:
            return gradient(guider, *given)
        finally:
            monkeypatch.undo()

    with pytest.raises(ValueError, match=r"did not fit into memory whole \(Linear\).*use mode x0"):
        sampling(host, call)


def test_an_interrupt_within_leaves_nothing_behind(host):
    from comfy.model_management import InterruptProcessingException

    latent = clip_latent(host)
    before = sample_stock(host.model, latent, host.positive, host.negative)
    state = state_of(host.model)

    def stop(guider, x, level, options):
        from aqueduct.nodes._comfy.gradients import gradients_through

        with gradients_through(guider, checkpointed=True):
            raise InterruptProcessingException

    with pytest.raises(InterruptProcessingException):
        sampling(host, stop)
    assert state_of(host.model) == state
    torch.testing.assert_close(sample_stock(host.model, latent, host.positive, host.negative), before, rtol=0, atol=0)


def test_no_weight_is_copied(host):
    """What stands in for a weight lies on the weight's own storage."""

    def pointers(guider, *_):
        from aqueduct.nodes._comfy.gradients import gradients_through

        def weights():
            return {name: p.data_ptr() for name, p in guider.inner_model.named_parameters()}

        before = weights()
        with gradients_through(guider):
            assert not any(p.is_inference() or p.requires_grad for p in guider.inner_model.parameters())
            return before, weights()

    before, within = sampling(host, pointers)
    assert before == within
