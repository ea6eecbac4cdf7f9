"""The rate that falls when the loss stands still: PyTorch's scheduler, shown means over windows."""

import pytest
import torch

from aqueduct.core.training.plateau import Plateau


def scales(plateau: Plateau, losses: list[float]) -> list[float]:
    """After each of ``losses``."""
    seen = []
    for n in range(1, len(losses) + 1):
        plateau.watch(losses[:n])
        seen.append(plateau.scale)
    return seen


def test_stays_while_the_loss_falls():
    assert scales(Plateau(patience=1, window=3), [0.99**n for n in range(60)]) == [1.0] * 60


def test_falls_by_the_factor_after_patience_runs_out():
    """The first window is the best; patience 2 forgives two more, the one after them lowers the rate. And again."""
    seen = scales(Plateau(factor=0.2, patience=2, window=5), [1.0] * 40)
    assert seen[:19] == [1.0] * 19
    assert seen[19:34] == pytest.approx([0.2] * 15)
    assert seen[34:] == pytest.approx([0.04] * 6)


def test_watches_means_not_single_losses():
    """Losses that swing by twenty times their trend: their means fall, so the rate stays; one by one they do not."""
    losses = [1.0 - 0.001 * n + (0.2 if n % 2 else -0.2) for n in range(200)]
    assert scales(Plateau(patience=0, window=10), losses)[-1] == 1.0
    assert scales(Plateau(patience=0, window=1), losses)[-1] < 1.0


def test_is_pytorchs_scheduler_on_the_means():
    losses = torch.rand(600, generator=torch.Generator().manual_seed(0)).double()
    optimiser = torch.optim.SGD([torch.zeros(())], lr=1.0)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(optimiser, factor=0.2, patience=3, min_lr=0.01)
    expected = []
    for mean in losses.view(-1, 20).mean(1):
        theirs.step(mean)
        expected.append(optimiser.param_groups[0]["lr"])
    ours = scales(Plateau(patience=3, window=20, lowest=0.01), losses.tolist())
    assert ours[19::20] == expected and len(set(expected)) > 2 and min(expected) == 0.01


@pytest.mark.parametrize("at", [7, 20, 33, 47])
def test_goes_on_exactly(tmp_path, at):
    """From a file that holds no code, in the middle of a window too."""
    losses = torch.rand(60, generator=torch.Generator().manual_seed(1)).tolist()
    whole, first, second = (Plateau(patience=1, window=5) for _ in range(3))
    expected = scales(whole, losses)
    scales(first, losses[:at])
    torch.save(first.state_dict(), tmp_path / "state.pt")
    second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert second.scale == expected[at - 1]
    for n in range(at + 1, 61):
        second.watch(losses[:n])
        assert second.scale == expected[n - 1]


def test_says_what_makes_no_sense():
    with pytest.raises(ValueError, match="window is a number of steps, at least 1; got 0"):
        Plateau(window=0)
    with pytest.raises(ValueError, match="factor lies between 0 and 1, got 1.0"):
        Plateau(factor=1.0)
