"""Trainings of tasks: the same numbers however they are computed, and nothing lost however they are stopped."""

import contextlib
import errno
import os
import signal
import subprocess
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from aqueduct.core.training import recompute, resumable
from aqueduct.core.training.ema import Ema
from aqueduct.core.training.interrupts import Terminated
from aqueduct.core.training.loop import LoopSettings, train, train_task
from aqueduct.core.training.plateau import Plateau
from aqueduct.core.training.task import Task, count_rows, rows

SETTINGS = LoopSettings(steps=8, learning_rate=1e-2, warmup=2, weight_decay=0.1, save_every=4, accumulate=2)


class Stop(Exception):
    """What a host raises when its user presses stop."""


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.up, self.down = nn.Linear(4, 8), nn.Linear(8, 4)

    def forward(self, x: Tensor, *, scale: dict[str, Tensor]) -> Tensor:
        return x + scale["scale"] * self.down(nn.functional.silu(self.up(x)))


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks, self.scale = nn.ModuleList(Block() for _ in range(3)), nn.Parameter(torch.ones(4))
        self.runs = 0
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.linspace(-0.5, 0.6, parameter.numel()).view(parameter.shape))

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x, scale={"scale": self.scale})
        return x


def draw(generator: torch.Generator, number: int) -> dict[str, Tensor]:
    return {"x": torch.randn(6, 4, generator=generator), "number": torch.full((6,), number)}


def task(watch=lambda number: None) -> Task:
    """``watch(n)`` is called before the loss of batch ``n`` is."""
    made = Network()

    def loss(batch) -> Tensor:
        watch(int(batch["number"][0]))
        return (made(batch["x"]) - batch["x"].roll(1, 1)).square().mean()

    return Task({"model": made}, list(made.parameters()), draw, loss, {})


def run(made: Task, path: Path | None = None, settings=SETTINGS, seed: int = 0, report=lambda step, progress: None):
    """Everything that a training leaves."""
    ema, plateau = Ema(made.parameters, 0.9), Plateau(factor=0.5, patience=0, window=3, threshold=0.9)
    generator = torch.Generator().manual_seed(seed)
    progress = train_task(made, settings, generator, checkpoint=path, report=report, ema=ema, plateau=plateau)
    weights = [p.detach().clone() for p in made.parameters]
    return [progress.losses, weights, ema.average, plateau.state_dict(), generator.get_state()]


def assert_same(a, b) -> None:
    """To the bit, in lists and dicts too."""
    assert type(a) is type(b)
    if isinstance(a, Tensor):
        assert torch.equal(a, b)
    elif isinstance(a, list | dict):
        assert len(a) == len(b)
        for key in a if isinstance(a, dict) else range(len(a)):
            assert_same(a[key], b[key])
    else:
        assert a == b


def raising(error: BaseException, at: int):
    def watch(number: int, *_) -> None:
        if number == at:
            raise error

    return watch


# --- the same numbers -------------------------------------------------------------------------------------------------


def test_rows():
    batch = draw(torch.Generator(), 3)
    part = rows(batch, slice(2, 4))
    assert_same(part["x"], batch["x"][2:4])
    assert count_rows(part) == 2
    with pytest.raises(ValueError, match=r"rows first, and all as many; got \{'a': 3, 'b': None\}"):
        count_rows({"a": torch.zeros(3), "b": torch.tensor(1.0)})


def test_is_train():
    """With draw and loss put together again, bit for bit."""
    one, other = task(), task()
    losses = train(other.parameters, lambda generator: other.loss(draw(generator, 0)), SETTINGS, seeded()).losses
    assert train_task(one, SETTINGS, seeded()).losses == losses and len(losses) == 8
    assert_same(list(one.parameters), list(other.parameters))


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_batches_are_numbered_through():
    """Over the losses of a step and over a stop: an order of the data follows from the number."""
    numbers = []
    whole = task(numbers.append)
    train_task(whole, SETTINGS, seeded())
    assert numbers == list(range(16))


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_recomputed_training_is_the_same(precision):
    """Bit for bit, whatever the precision, since the same is computed twice."""
    kept, again = task(), task()
    settings = replace(SETTINGS, steps=3, precision=precision)
    assert_same(run(kept, settings=settings), run(again, settings=replace(settings, recompute=True)))
    assert all("forward" not in vars(module) for module in again.parts["model"].modules())


def test_recomputing_runs_blocks_twice():
    counts = []
    for again in (False, True):
        made, calls = task(), []
        for block in made.parts["model"].blocks:
            block.up.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        train_task(made, LoopSettings(steps=2, recompute=again), seeded())
        counts.append(len(calls))
    assert counts == [6, 12]


def test_input_edited_behind_a_block_is_told():
    block = Block()
    x = torch.ones(2, 4, requires_grad=True)
    with recompute.recomputing([nn.ModuleList([block])]):
        y = x * 1
        result = block(y, scale={"scale": torch.ones(4)})
        y.zero_()
    with pytest.raises(RuntimeError, match="input was edited in place behind it"):
        result.sum().backward()


def test_recompute_needs_networks():
    with pytest.raises(ValueError, match="train a Task"):
        train(task().parameters, lambda generator: None, replace(SETTINGS, recompute=True), seeded())


@pytest.mark.parametrize("precision,within", [("bfloat16", 0.01), ("float16", 0.00125)])
def test_half_precision_is_near(precision, within):
    """A few steps of the type, which are eight times finer in float16; and no nearer, since layers compute in it."""
    settings = replace(SETTINGS, steps=1)
    made = task()
    full, half = run(task(), settings=settings)[0], run(made, settings=replace(settings, precision=precision))[0]
    assert full != half and half == pytest.approx(full, rel=within)
    assert all(p.dtype == p.grad.dtype == torch.float32 for p in made.parameters)


def test_unknown_precision():
    with pytest.raises(ValueError, match="no precision 'half'; known: float32, bfloat16, float16"):
        LoopSettings(steps=1, precision="half")


def test_nothing_to_train():
    made = task()
    made.parts["model"].requires_grad_(False)
    with pytest.raises(ValueError, match="none of the task's 13 parameters requires a gradient"):
        train_task(made, SETTINGS, seeded())


# --- stopped, and going on --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize(
    "error,watch,steps",
    [
        (Stop(), 5, 2),  # in the second batch of step 2: its generator has moved on already
        (KeyboardInterrupt(), 12, 6),
        (MemoryError(), 10, 5),
        (torch.OutOfMemoryError("CUDA out of memory"), 11, 5),
    ],
)
def test_stopped_within_a_step(tmp_path, error, watch, steps, precision):
    """The file is of the last whole step, between two regular ones; from there it goes on to the same bits."""
    settings, path = replace(SETTINGS, precision=precision), tmp_path / "run.pt"
    expected = run(task(), settings=settings)
    with pytest.raises(type(error)) as raised:
        run(task(raising(error, watch)), path, settings)
    assert raised.value is error
    assert resumable.read(path)["losses"] == expected[0][:steps]
    assert_same(run(task(), path, settings, seed=99), expected)


def test_stopped_by_the_report(tmp_path):
    expected, path = run(task()), tmp_path / "run.pt"
    with pytest.raises(Stop):
        run(task(), path, report=raising(Stop(), 4))
    assert resumable.read(path)["losses"] == expected[0][:5]
    assert_same(run(task(), path, seed=99), expected)


def test_stopped_in_the_middle_of_an_update(tmp_path, monkeypatch):
    """Half of the weights have moved: that is no step, and the last file stays."""
    path, made = tmp_path / "run.pt", task()
    real, calls = Ema.update, []

    def update(self):
        calls.append(1)
        if len(calls) == 7:
            raise KeyboardInterrupt
        real(self)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Ema, "update", update)
        run(made, path)
    assert len(resumable.read(path)["losses"]) == 4
    assert_same(run(task(), path), run(task()))


@pytest.mark.parametrize("number,error", [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)])
def test_signals_wait_for_the_end_of_the_step(tmp_path, number, error):
    before, path = signal.getsignal(number), tmp_path / "run.pt"
    with pytest.raises(error):
        run(task(lambda n: os.kill(os.getpid(), number) if n == 4 else None), path)
    assert len(resumable.read(path)["losses"]) == 3  # batches 4 and 5 are those of step 2, which ends
    assert signal.getsignal(number) is before
    assert_same(run(task(), path), run(task()))


def test_a_signal_during_the_last_save_is_not_lost(tmp_path, monkeypatch):
    real, path = resumable.write, tmp_path / "run.pt"

    def write(state, path) -> None:
        if len(state["losses"]) == SETTINGS.steps:
            os.kill(os.getpid(), signal.SIGINT)
        real(state, path)

    monkeypatch.setattr(resumable, "write", write)
    with pytest.raises(KeyboardInterrupt):
        run(task(), path)
    assert len(resumable.read(path)["losses"]) == SETTINGS.steps


def test_signals_that_come_again_do_not_wait(tmp_path, monkeypatch):
    """Two at once are one, as from a terminal and a launcher; a third, later, means now."""
    clock, path = iter([0.0, 0.1, 5.0]), tmp_path / "run.pt"
    monkeypatch.setattr("aqueduct.core.training.interrupts.time.time", lambda: next(clock))

    def watch(n: int) -> None:
        if n == 6:
            for _ in range(3):
                os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run(task(watch), path)
    assert len(resumable.read(path)["losses"]) == 3


def test_trains_outside_the_main_thread():
    found = []
    thread = threading.Thread(target=lambda: found.append(run(task())))
    thread.start()
    thread.join()
    assert_same(found[0], run(task()))


def test_stopped_before_the_first_step_leaves_nothing(tmp_path):
    with pytest.raises(Stop):
        run(task(raising(Stop(), 1)), tmp_path / "run.pt")
    assert not list(tmp_path.iterdir())


def test_loss_that_is_not_finite_leaves_the_file(tmp_path):
    path, poisoned = tmp_path / "run.pt", []

    def watch(number: int) -> None:
        if number == 13:
            poisoned.append(1)

    made = task(watch)
    bad = replace(made, loss=lambda batch: made.loss(batch) * (float("inf") if poisoned else 1))
    with pytest.raises(FloatingPointError, match="loss became inf at step 6"):
        run(bad, path)
    assert len(resumable.read(path)["losses"]) == 4
    assert_same(run(task(), path), run(task()))


def test_gradient_that_is_not_finite_leaves_the_file(tmp_path):
    """Of a finite loss, in the very step that would be saved."""
    path, made = tmp_path / "run.pt", task()

    def loss(batch) -> Tensor:
        root = (0 * made.parts["model"].scale).abs().sqrt().sum()  # 0, with a slope of 0 times infinity
        return made.loss(batch) + (root if batch["number"][0] == 15 else 0)

    with pytest.raises(FloatingPointError, match="gradient became nan at step 7"):
        run(replace(made, loss=loss), path)
    assert_same(run(task(), path), run(task()))


def test_gradients_that_no_scale_makes_finite_stop():
    """float16 leaves steps out while the scale of its loss falls; where that is not the reason, it is as in float32."""
    made = task()

    def loss(batch) -> Tensor:
        return made.loss(batch) + (0 * made.parts["model"].scale).abs().sqrt().sum()

    with pytest.raises(FloatingPointError, match="gradient became nan at step 17"):  # 65536 halved as often
        run(replace(made, loss=loss), settings=replace(SETTINGS, steps=30, precision="float16"))


# --- files ------------------------------------------------------------------------------------------------------------


def test_goes_on_from_files_written_before(tmp_path):
    """The layout of version 0.5.0, written out; its moments and generator in the middle of a run."""
    expected, made, path = run_plainly(task(), 8), task(), tmp_path / "run.pt"
    optimiser = torch.optim.AdamW(made.parameters, lr=1e-2, weight_decay=0.1, fused=True)
    generator, losses = seeded(), run_plainly(made, 3, optimiser)
    for _ in range(6):
        draw(generator, 0)
    state = {
        "parameters": [p.detach() for p in made.parameters], "optimiser": optimiser.state_dict(),
        "generator": generator.get_state(), "losses": losses, "seconds": 1.5,
    }  # fmt: skip
    torch.save(state, path)
    other = task()
    assert train_task(other, SETTINGS, seeded(), checkpoint=path).losses == expected


def run_plainly(made: Task, steps: int, optimiser=None) -> list[float]:
    """The loop written out."""
    optimiser = optimiser or torch.optim.AdamW(made.parameters, lr=1e-2, weight_decay=0.1, fused=True)
    generator, losses = seeded(), []
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = SETTINGS.rate(step)
        optimiser.zero_grad(set_to_none=True)
        values = []
        for number in range(2):
            values.append(made.loss(draw(generator, number)))
            (values[-1] / 2).backward()
        nn.utils.clip_grad_norm_(made.parameters, 1.0)
        optimiser.step()
        losses.append(sum(value.item() for value in values) / 2)
    return losses


def test_scale_of_float16_goes_on(tmp_path):
    """A loss so large that the first scales overflow: steps are left out, and the file knows the scale found."""
    settings, path = replace(SETTINGS, precision="float16"), tmp_path / "run.pt"

    def steep(watch=lambda number: None) -> Task:
        made = task(watch)
        return replace(made, loss=lambda batch: 100 * made.loss(batch))

    expected = run(steep(), settings=settings)
    with pytest.raises(Stop):
        run(steep(raising(Stop(), 10)), path, settings)
    assert 1 < resumable.read(path)["scaler"]["scale"] < 65536
    assert_same(run(steep(), path, settings), expected)


def test_full_disk(tmp_path):
    """A real one, that something else fills up between the first file and the second."""
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", tmp_path], capture_output=True).returncode:
        pytest.skip("needs to mount a file system")

    def fill() -> None:
        with contextlib.suppress(OSError), open(tmp_path / "film.mp4", "wb", buffering=0) as film:
            while film.write(bytes(4096)):
                pass

    try:
        check_that_a_full_disk_leaves_the_old_file(tmp_path, fill)
    finally:
        subprocess.run(["umount", "--lazy", tmp_path], check=True)


def test_full_quota(tmp_path):
    """Writing fails in the middle of the file, as on a full disk, wherever the tests run."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        check_that_a_full_disk_leaves_the_old_file(
            tmp_path, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (8000, before[1]))
        )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)


def check_that_a_full_disk_leaves_the_old_file(folder: Path, fill) -> None:
    path = folder / "run.pt"

    def report(step: int, progress) -> None:
        if step == 5:
            fill()

    with pytest.raises(OSError, match=r"run.pt could not be written .*takes .* MB are free there.*Make room") as raised:
        run(task(), path, report=report)
    assert str(path) in str(raised.value) and not list(folder.glob("*.part"))
    assert len(resumable.read(path)["losses"]) == 4


def test_full_disk_does_not_hide_the_stop(tmp_path, monkeypatch):
    path, real = tmp_path / "run.pt", torch.save

    def save(state, file):
        real(state, file)
        if len(state["losses"]) == 5:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", save)
    with pytest.raises(Stop) as raised:
        run(task(), path, report=raising(Stop(), 4))
    assert "No space left on device" in str(raised.value.__cause__) and not list(tmp_path.glob("*.part"))
    assert len(resumable.read(path)["losses"]) == 4


@pytest.mark.parametrize("folder", ["missing", "file"])
def test_folder_that_cannot_be_written_to(tmp_path, folder):
    """Before the first step, not after hours."""
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(OSError, match="no checkpoint can be written to .*run.pt .*make the folder"):
        run(task(lambda number: pytest.fail("trained")), tmp_path / folder / "run.pt")


def test_damaged_file(tmp_path):
    path = tmp_path / "run.pt"
    run(task(), path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ValueError, match="run.pt cannot be read .*delete it to begin anew"):
        run(task(), path)


def test_file_of_something_else(tmp_path):
    torch.save({"losses": [], "parameters": []}, tmp_path / "run.pt")
    with pytest.raises(ValueError, match="no checkpoint of a training: it lacks generator, optimiser, seconds"):
        run(task(), tmp_path / "run.pt")


def test_file_of_another_network(tmp_path):
    run(task(), tmp_path / "run.pt")
    other = task()
    other.parts["model"].blocks.append(Block())
    with pytest.raises(
        ValueError, match=r"of 13 tensors, here are 17.*number 13 is none in the file and \(8, 4\) here"
    ):
        run(replace(other, parameters=list(other.parts["model"].parameters())), tmp_path / "run.pt")
