"""The training loop: resumes exactly, keeps its last good file, and learns."""

import pytest
import torch
from torch import nn

from aqueduct.core.training import loop
from aqueduct.core.training.loop import LoopSettings, train

SETTINGS = LoopSettings(steps=6, learning_rate=1e-2, warmup=2, weight_decay=0.1, save_every=3)


class Interrupted(Exception):
    """What a user's Ctrl-C does to a run."""


def network() -> nn.Module:
    made = nn.Sequential(nn.Linear(4, 8), nn.SiLU(), nn.Linear(8, 1))
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(torch.linspace(-0.5, 0.5, parameter.numel()).view(parameter.shape))
    return made


def loss_of(made: nn.Module):
    def loss(generator: torch.Generator) -> torch.Tensor:
        x = torch.randn(16, 4, generator=generator)
        return (made(x) - x.sum(1, keepdim=True)).square().mean()

    return loss


def run(made: nn.Module, settings=SETTINGS, checkpoint=None, stop_at: int | None = None, loss=None, seed: int = 0):
    def report(step: int, progress) -> None:
        if step == stop_at:
            raise Interrupted

    generator = torch.Generator().manual_seed(seed)
    return train(made.parameters(), loss or loss_of(made), settings, generator, checkpoint, report)


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


@pytest.mark.parametrize("stop_at", [3, 4, 5])
def test_resumes_exactly(tmp_path, stop_at):
    """Bit for bit on the CPU, wherever after the save at step 3 the run was killed and whatever the new seed."""
    whole = network()
    expected = run(whole).losses
    first = network()
    with pytest.raises(Interrupted):
        run(first, checkpoint=tmp_path / "run.pt", stop_at=stop_at)
    second = network()
    progress = run(second, checkpoint=tmp_path / "run.pt", seed=99)
    assert progress.losses == expected and len(expected) == 6
    assert same(whole, second)


def test_finished_run_does_nothing_more(tmp_path):
    made, again = network(), network()
    expected = run(made, checkpoint=tmp_path / "run.pt")
    progress = run(again, checkpoint=tmp_path / "run.pt", loss=lambda generator: pytest.fail("trained again"))
    assert same(made, again) and progress.losses == expected.losses and progress.seconds > 0


def test_clock_goes_on(tmp_path, monkeypatch):
    now = iter(range(1000))
    monkeypatch.setattr(loop.time, "monotonic", lambda: float(next(now)))
    with pytest.raises(Interrupted):
        run(network(), checkpoint=tmp_path / "run.pt", stop_at=3)
    assert run(network(), checkpoint=tmp_path / "run.pt").seconds == 6


def test_loss_that_is_not_finite_keeps_the_last_file(tmp_path):
    made = network()
    good = loss_of(made)
    calls = []

    def loss(generator):
        calls.append(1)
        return good(generator) * (float("nan") if len(calls) > 4 else 1.0)

    with pytest.raises(FloatingPointError, match="became nan at step 4; lower the learning rate"):
        run(made, checkpoint=tmp_path / "run.pt", loss=loss)
    assert all(bool(torch.isfinite(p).all()) for p in made.parameters())
    second, whole = network(), network()
    assert run(second, checkpoint=tmp_path / "run.pt").losses == run(whole).losses
    assert same(second, whole)


def test_full_disk_keeps_the_last_file(tmp_path, monkeypatch):
    path = tmp_path / "run.pt"
    with pytest.raises(Interrupted):
        run(network(), checkpoint=path, stop_at=3)
    before = path.read_bytes()

    def disk_full(state, file):
        file.write_bytes(b"half a file")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as full, pytest.raises(OSError, match="No space left"):
        full.setattr(torch, "save", disk_full)
        run(network(), checkpoint=path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
    second, whole = network(), network()
    assert run(second, checkpoint=path).losses == run(whole).losses and same(second, whole)


def test_checkpoint_holds_no_code(tmp_path):
    run(network(), checkpoint=tmp_path / "run.pt")
    state = torch.load(tmp_path / "run.pt", weights_only=True)
    assert set(state) == {"parameters", "optimiser", "generator", "losses", "seconds"}


def test_losses_decrease():
    settings = LoopSettings(steps=150, learning_rate=3e-2, warmup=5)
    losses = run(network(), settings).losses
    assert sum(losses[-10:]) < 0.02 * sum(losses[:10])


def test_frozen_parameters_stay():
    made = network()
    made[0].weight.requires_grad_(False)
    run(made)
    assert torch.equal(made[0].weight, network()[0].weight)
    assert not torch.equal(made[2].weight, network()[2].weight)


def test_gradients_are_clipped():
    made = network()
    steep = loss_of(made)
    run(made, loss=lambda generator: 1000 * steep(generator))
    norm = torch.stack([p.grad.norm() for p in made.parameters()]).norm().item()
    assert norm == pytest.approx(SETTINGS.clip_norm, rel=1e-3)


def test_learning_rate():
    """Linear warm-up, then half a cosine to zero at the last step."""
    settings = LoopSettings(steps=100, learning_rate=2.0, warmup=10)
    assert settings.rate(0) == pytest.approx(0.2)
    assert settings.rate(50) == pytest.approx(1.0)
    assert settings.rate(100) == pytest.approx(0.0)
    assert all(settings.rate(k) > settings.rate(k + 1) for k in range(10, 100))
