"""The training loop: resumes exactly, keeps its last good file, and learns."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from aqueduct.core.training import loop
from aqueduct.core.training.ema import Ema
from aqueduct.core.training.loop import LoopSettings, train
from aqueduct.core.training.plateau import Plateau

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


def run(
    made: nn.Module, settings=SETTINGS, checkpoint=None, stop_at: int | None = None, loss=None, seed: int = 0, **more
):
    def report(step: int, progress) -> None:
        if step == stop_at:
            raise Interrupted

    generator = torch.Generator().manual_seed(seed)
    return train(made.parameters(), loss or loss_of(made), settings, generator, checkpoint, report, **more)


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


# --- accumulation, average, plateau -----------------------------------------------------------------------------------


def test_plain_run_is_adamw_clipped_on_a_cosine():
    """Bit for bit, written out: neither average, plateau nor accumulation leaves a trace when it is not asked for."""
    made, plain = network(), network()
    losses = run(made).losses
    generator, loss = torch.Generator().manual_seed(0), loss_of(plain)
    optimiser = torch.optim.AdamW(plain.parameters(), lr=1e-2, weight_decay=0.1, fused=True)
    for step in range(6):
        optimiser.param_groups[0]["lr"] = 1e-2 * min(1.0, (step + 1) / 2) * 0.5 * (1 + math.cos(math.pi * step / 6))
        optimiser.zero_grad(set_to_none=True)
        value = loss(generator)
        value.backward()
        nn.utils.clip_grad_norm_(plain.parameters(), 1.0)
        optimiser.step()
        assert value.item() == losses[step]
    assert same(made, plain)


def test_accumulation_is_the_mean_of_the_losses():
    """Two batches of 4 in one step do what one batch of 8 does, whose loss is their mean: gradients and weights."""
    batches = torch.randn(12, 4, 4, generator=torch.Generator().manual_seed(5)).double()

    def trained(count: int, accumulate: int):
        made, stream = network().double(), iter(batches.view(-1, count, 4))

        def loss(generator):
            x = next(stream)
            return (made(x) - x.sum(1, keepdim=True)).square().mean()

        unclipped = replace(SETTINGS, accumulate=accumulate, clip_norm=1e9)
        return made, run(made, unclipped, loss=loss).losses

    (halves, losses), (whole, expected) = trained(4, 2), trained(8, 1)
    assert len(losses) == 6 and losses == pytest.approx(expected, rel=1e-9)
    for a, b in zip(halves.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-6, atol=1e-9)


class Jumpy(Plateau):
    """A plateau so impatient that six steps see it act."""

    def __init__(self):
        super().__init__(factor=0.5, patience=0, window=2, threshold=0.9)


ALL = replace(SETTINGS, accumulate=2, steps=9, save_every=3)


@pytest.mark.parametrize("stop_at", [3, 5, 8])
def test_resumes_exactly_with_all_of_it(tmp_path, stop_at):
    """Average, plateau (in the middle of a window, before and after a drop) and accumulation: bit for bit."""
    whole, first, second = network(), network(), network()
    averages = [Ema(made.parameters(), 0.9) for made in (whole, first, second)]
    plateaus = [Jumpy() for _ in range(3)]
    expected = run(whole, ALL, ema=averages[0], plateau=plateaus[0]).losses
    path = tmp_path / "run.pt"
    with pytest.raises(Interrupted):
        run(first, ALL, path, stop_at, ema=averages[1], plateau=plateaus[1])
    assert run(second, ALL, path, seed=99, ema=averages[2], plateau=plateaus[2]).losses == expected
    assert same(whole, second) and len(expected) == 9
    for a, b in zip(averages[0].average, averages[2].average, strict=True):
        assert torch.equal(a, b)
    assert plateaus[0].state_dict() == plateaus[2].state_dict() and plateaus[0].scale < 1
    assert averages[2].updates == 9


def test_average_follows_every_step():
    made = network()
    ema = Ema(made.parameters(), 0.5, lambda update: 1.0)
    start = [p.detach().clone() for p in made.parameters()]
    run(made, replace(SETTINGS, steps=1), ema=ema)
    for average, before, after in zip(ema.average, start, made.parameters(), strict=True):
        torch.testing.assert_close(average, (before + after.detach()) / 2)


def test_average_of_other_parameters():
    with pytest.raises(ValueError, match="average is of 4 parameters, which are not the 3 in training"):
        made = network()
        ema = Ema(made.parameters())
        made[0].weight.requires_grad_(False)
        run(made, ema=ema)


def test_file_and_run_must_agree(tmp_path):
    with_average, without = network(), network()
    run(with_average, checkpoint=tmp_path / "with.pt", ema=Ema(with_average.parameters()))
    run(without, checkpoint=tmp_path / "without.pt")
    with pytest.raises(ValueError, match="with ema, and this one has neither"):
        run(network(), checkpoint=tmp_path / "with.pt")
    with pytest.raises(ValueError, match="with neither ema nor plateau, and this one has plateau"):
        run(network(), checkpoint=tmp_path / "without.pt", plateau=Plateau())


def test_plateau_stands_in_for_the_cosine(monkeypatch):
    """Warm-up, then the peak times the plateau's scale, which falls after each window that is no better."""
    rates = []
    real = torch.optim.AdamW.step

    def step(self, *arguments):
        rates.append(self.param_groups[0]["lr"])
        return real(self, *arguments)

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    made = network()
    flat = made[0].weight
    run(made, replace(SETTINGS, steps=8), loss=lambda generator: 0 * flat.sum() + 1, plateau=Jumpy())
    assert rates == pytest.approx([0.005, 0.01, 0.01, 0.01, 0.005, 0.005, 0.0025, 0.0025])
