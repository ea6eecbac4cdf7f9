"""Recomputed code has the gradient of the code, whatever it edits, and keeps nothing meanwhile."""

import gc
import weakref

import numpy
import pytest
import torch
from torch import Tensor

from aqueduct.core.recomputation import recomputed

X = torch.tensor([0.3, -1.2, 2.0], dtype=torch.float64)


def square_then_edit(x: Tensor) -> Tensor:
    """``x^2 + 3 x + sin x``, by ways that save x, or views of what was made of it, and edit them afterwards."""
    y = x.clone()
    square = y * y
    y *= 3
    z = x.clone()
    sine = z[:].sin()
    z[1:].zero_()
    return square.add_(y) + sine


SLOPE = 2 * X + 3 + X.cos()


def test_edits_after_saving():
    x = X.clone().requires_grad_(True)
    result = recomputed(lambda: square_then_edit(x))
    torch.testing.assert_close(result.detach(), X**2 + 3 * X + X.sin())
    torch.testing.assert_close(torch.autograd.grad(result.sum(), x)[0], SLOPE)


def test_the_backward_pass_can_run_twice_and_where_autograd_is_off():
    x = X.clone().requires_grad_(True)
    result = recomputed(lambda: square_then_edit(x)).sum()
    with torch.no_grad():
        for retain in (True, False):
            torch.testing.assert_close(torch.autograd.grad(result, x, retain_graph=retain)[0], SLOPE)


def test_one_after_the_other_and_one_within_the_other():
    x = X.clone().requires_grad_(True)
    y = recomputed(lambda: square_then_edit(recomputed(lambda: square_then_edit(x))))
    z = recomputed(lambda: square_then_edit(y))
    plain = square_then_edit_plainly(square_then_edit_plainly(square_then_edit_plainly(x)))
    torch.testing.assert_close(torch.autograd.grad(z.sum(), x)[0], torch.autograd.grad(plain.sum(), x)[0])


def square_then_edit_plainly(x: Tensor) -> Tensor:
    return x**2 + 3 * x + x.sin()


def test_what_is_edited_after_the_run_does_not_matter():
    """A sine saves its input, an exponential its output: the caller edits the latter."""
    x = X.clone().requires_grad_(True)
    result = recomputed(lambda: x.sin().exp())
    value = result.detach().clone()
    result += 1
    torch.testing.assert_close(torch.autograd.grad(result.sum(), x)[0], value * X.cos())


def test_activations_are_gone_between_the_runs():
    x, made = X.clone().requires_grad_(True), []

    def run():
        y = x.sin()
        made.append(weakref.ref(y))
        return y.exp().sin()

    result = recomputed(run)
    gc.collect()
    assert made[0]() is None
    torch.testing.assert_close(torch.autograd.grad(result.sum(), x)[0], X.sin().exp().cos() * X.sin().exp() * X.cos())
    assert len(made) == 2


def test_their_memory_is_free_between_the_runs():
    """Not the tensors alone: a tensor on an array's memory keeps the array alive, and so does whatever shares it."""
    x, made = X.clone().requires_grad_(True), []

    def run():
        array = numpy.full(3, 2.0)
        made.append(weakref.ref(array))
        return (x * torch.from_numpy(array)).sin()

    result = recomputed(run)
    gc.collect()
    assert made[0]() is None
    torch.testing.assert_close(torch.autograd.grad(result.sum(), x)[0], 2 * (2 * X).cos())


def test_only_what_was_edited_is_copied(monkeypatch):
    x, clones, clone = X.clone().requires_grad_(True), [], Tensor.clone
    monkeypatch.setattr(Tensor, "clone", lambda x: clones.append(x) or clone(x))

    def run():
        y = x.exp()
        z = y.cos()
        sine = z.sin()
        z.mul_(2)  # which saves nothing, but the sine has saved z
        return sine + z

    result = recomputed(run)
    assert not clones
    pulled = torch.autograd.grad(result.sum(), x)[0]
    y = X.exp()
    torch.testing.assert_close(pulled, (y.cos().cos() + 2) * -y.sin() * y)
    assert len(clones) == 1
    torch.testing.assert_close(clones[0], y.cos())


def test_no_gradient_within_the_second_run():
    x = X.clone().requires_grad_(True)
    entered = []

    def run():
        y = x.sin()
        if entered:
            torch.autograd.grad(y.sum(), x)
        entered.append(1)
        return y.exp()

    result = recomputed(run)
    with pytest.raises(RuntimeError, match="within the second run"):
        torch.autograd.grad(result.sum(), x)


def test_the_second_run_is_cast_as_the_first():
    """A backward pass lies outside of autocast, and often in another thread."""
    layer = torch.nn.Linear(4, 4)
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)

    def gradient(way) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            y = way(lambda: layer(torch.tanh(layer(x))))
            assert y.dtype == torch.bfloat16
        return torch.autograd.grad(y.float().square().sum(), x)[0]

    assert torch.equal(gradient(recomputed), gradient(lambda run: run()))
