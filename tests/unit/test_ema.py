"""The average of the weights: closed forms, PyTorch's own average, the swap, and resuming."""

import pytest
import torch
from torch import nn

from aqueduct.core.training.ema import Ema, no_warmup, ramp


def parameter(*values: float, dtype=torch.float64) -> nn.Parameter:
    return nn.Parameter(torch.tensor(values, dtype=dtype))


def moved(p: nn.Parameter, values) -> None:
    with torch.no_grad():
        p.copy_(torch.as_tensor(values))


def test_constant_decay_is_a_geometric_sum():
    """``d^n w_0 + (1 - d) sum_k d^(n-k) w_k`` after weights w_1 .. w_n."""
    decay, steps = 0.9, 25
    path = torch.randn(steps + 1, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    p = parameter(*path[0])
    ema = Ema([p], decay, no_warmup)
    for values in path[1:]:
        moved(p, values)
        ema.update()
    weights = torch.tensor([decay**steps] + [(1 - decay) * decay ** (steps - k) for k in range(1, steps + 1)]).double()
    assert weights.sum().item() == pytest.approx(1.0)
    torch.testing.assert_close(ema.average[0], weights @ path, rtol=1e-6, atol=1e-7)


def test_equals_the_average_of_pytorch():
    torch.manual_seed(0)
    network = nn.Linear(3, 2)
    theirs = torch.optim.swa_utils.AveragedModel(network, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.8))
    theirs.update_parameters(network)  # its first call copies
    ours = Ema(network.parameters(), 0.8, no_warmup)
    optimiser = torch.optim.SGD(network.parameters(), lr=0.5)
    for _ in range(6):
        optimiser.zero_grad()
        network(torch.randn(4, 3)).square().sum().backward()
        optimiser.step()
        theirs.update_parameters(network)
        ours.update()
    for average, expected in zip(ours.average, theirs.module.parameters(), strict=True):
        torch.testing.assert_close(average, expected.detach())


def test_warmed_up_average_of_a_ramp():
    """With decay out of reach, ``d_k = (1 + k)/(10 + k)``: the weight of ``w_0`` is 9! n! / (n + 9)!."""
    p = parameter(1.0)
    ema = Ema([p], 0.9999, ramp)
    moved(p, [0.0])
    expected = 1.0
    for k in range(12):
        ema.update()
        expected *= (1 + k) / (10 + k)
        assert ema.average[0].item() == pytest.approx(expected, rel=1e-12)
    binomial = torch.exp(
        torch.lgamma(torch.tensor(10.0)) + torch.lgamma(torch.tensor(13.0)) - torch.lgamma(torch.tensor(22.0))
    )
    assert expected == pytest.approx(binomial.item(), rel=1e-4)


def test_decay_bounds_the_ramp():
    p = parameter(1.0)
    ema = Ema([p], 0.5, ramp)
    ema.updates = 100  # the ramp stands at 101/110 here
    moved(p, [0.0])
    ema.update()
    assert ema.average[0].item() == pytest.approx(0.5)


def test_swap_and_back():
    p = parameter(1.0, 2.0, dtype=torch.bfloat16)
    ema = Ema([p], 0.5, no_warmup)
    moved(p, [3.0, 4.0])
    ema.update()
    with ema.swapped():
        assert p.tolist() == [2.0, 3.0] and p.dtype == torch.bfloat16
    assert p.tolist() == [3.0, 4.0]
    with pytest.raises(RuntimeError, match="in the middle"), ema.swapped():
        raise RuntimeError("in the middle")
    assert p.tolist() == [3.0, 4.0] and ema.average[0].tolist() == [2.0, 3.0]


def test_average_is_finer_than_bfloat16():
    """Steps of 1e-3 of the way are lost in bfloat16, whose neighbours are 0.4 to 0.8 % apart."""
    p = parameter(1.0, dtype=torch.bfloat16)
    ema = Ema([p], 0.999, no_warmup)
    moved(p, [2.0])
    for _ in range(100):
        ema.update()
    assert ema.average[0].item() == pytest.approx(2 - 0.999**100, rel=1e-5)


def test_frozen_parameters_are_left_alone():
    still, live = parameter(1.0), parameter(1.0)
    still.requires_grad_(False)
    ema = Ema([still, live], 0.5, no_warmup)
    moved(live, [0.0])
    ema.update()
    with ema.swapped():
        assert still.item() == 1.0 and live.item() == 0.5


def test_goes_on_exactly():
    """Saved in the middle and loaded by a fresh one: the same bits as without the break."""
    path = torch.randn(10, 4, generator=torch.Generator().manual_seed(1))
    whole, first, second = (Ema([parameter(*path[0], dtype=torch.float32)], 0.99) for _ in range(3))
    for values in path[1:]:
        moved(whole.parameters[0], values)
        whole.update()
    for values in path[1:5]:
        moved(first.parameters[0], values)
        first.update()
    second.load_state_dict(first.state_dict())
    for values in path[5:]:
        moved(second.parameters[0], values)
        second.update()
    assert second.updates == whole.updates and torch.equal(second.average[0], whole.average[0])


@pytest.mark.parametrize("decay", [-0.1, 1.0, 1.5])
def test_decay_outside_its_range(decay):
    with pytest.raises(ValueError, match=r"decay lies in \[0, 1\)"):
        Ema([parameter(1.0)], decay)
