"""What `test_processes.py` starts several times at once: small trainings, and what came of them as JSON.

torchrun processes_script.py together FOLDER    all that two processes must do as one
torchrun processes_script.py killed FOLDER RANK  one of them is killed in the middle
"""

import json
import os
import shutil
import signal
import sys
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
    from _pack import load_pack

    load_pack()

from aqueduct.core.networks.lora import Lora, chosen_layers  # noqa: E402
from aqueduct.core.training.ema import Ema  # noqa: E402
from aqueduct.core.training.jobs.low_rank import tree  # noqa: E402
from aqueduct.core.training.loop import LoopSettings, silent, train_task  # noqa: E402
from aqueduct.core.training.processes import Stopped, launched  # noqa: E402
from aqueduct.core.training.task import Task  # noqa: E402

SETTINGS = LoopSettings(steps=6, learning_rate=1e-2, warmup=2, weight_decay=0.1, save_every=4, accumulate=2)


class Block(nn.Module):
    """Of sizes that two does not divide."""

    def __init__(self):
        super().__init__()
        self.up, self.down = nn.Linear(5, 7), nn.Linear(7, 5)

    def forward(self, x):
        return x + self.down(nn.functional.silu(self.up(x)))


class Network(nn.Module):
    """With a part that no loss comes to, a frozen one, and one that the first row alone uses."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(Block() for _ in range(2))
        self.last, self.unused, self.frozen, self.rare = (nn.Linear(5, 5) for _ in range(4))
        generator = torch.Generator().manual_seed(7)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) / 2)
        self.frozen.requires_grad_(False)

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return self.last(self.frozen(x))


def task(rows: int = 4, rare: bool = False, steep: bool = False, watch=lambda number: None) -> Task:
    """The loss goes past the network's own forward pass too; with ``rare`` through what the first row alone uses.

    ``steep``: float16 overflows in the first row at first, and in no other.
    """
    network = Network()

    def draw(generator: torch.Generator, number: int) -> dict[str, torch.Tensor]:
        x, row = torch.randn(rows, 5, generator=generator), torch.arange(rows)
        return {"x": x, "row": row, "number": torch.full((rows,), number)}

    def loss(batch) -> torch.Tensor:
        watch(int(batch["number"][0]))
        x, first = batch["x"], batch["row"] == 0
        errors = (network(x) - network.last(x.sin())).square().mean(1)
        if steep:
            errors = errors * torch.where(first, 8.0, 0.01)
        if rare and first[0]:
            errors = torch.cat([errors[:1] + network.rare(x[:1]).square().mean(1), errors[1:]])
        return errors.mean()

    return Task({"model": network}, list(network.parameters()), draw, loss, {})


def low_rank() -> Task:
    """A LoRA learns beside the network, which is no part of it."""
    made = task()
    network = made.parts["model"].requires_grad_(False)
    lora = Lora(chosen_layers(network, "up|down|last"), 2, 2, torch.Generator().manual_seed(3))
    lora.add()
    part = tree({f"{name}.{key}": p for name, low in lora.named().items() for key, p in low.named_parameters()})
    return replace(made, parts={"lora": part}, parameters=list(part.parameters()), networks=[network, lora])


def run(made: Task, path: Path | None = None, settings: LoopSettings = SETTINGS, **more):
    """Losses, weights and average of a training with all of it."""
    ema = Ema(made.parameters, 0.9)
    progress = train_task(made, settings, torch.Generator().manual_seed(0), checkpoint=path, ema=ema, **more)
    return {
        "losses": progress.losses,
        "weights": [p.detach().flatten().tolist() for p in made.parameters],
        "average": [a.flatten().tolist() for a in ema.average],
    }


def listed(tensors) -> list[list[float]]:
    return [tensor.detach().flatten().tolist() for tensor in tensors]


def gradients(processes) -> dict:
    """Memories that the gradients lie in after a step; before each batch whether this process has any, and whether
    autocast would keep what it casts."""
    places, there, cached = [], [], []
    made = task(watch=lambda number: note())

    def note() -> None:
        there.append(made.parts["model"].blocks[0].up.weight.grad is not None)
        cached.append(torch.is_autocast_cache_enabled())

    def report(step: int, progress) -> None:
        places.append(len({p.grad.untyped_storage().data_ptr() for p in made.parameters if p.grad is not None}))

    told = report if processes.replicated else silent  # shares have other memories
    train_task(made, SETTINGS, torch.Generator().manual_seed(0), processes=processes, report=told)
    return {"places": places, "there": there, "cached": cached, "after": torch.is_autocast_cache_enabled()}


class Enough(Exception):
    """What a user's stop button does to a run."""


def stop_at(last: int):
    def report(step: int, progress) -> None:
        if step == last:
            raise Enough

    return report


def error_of(action) -> str:
    try:
        action()
    except (Enough, Stopped, ValueError, OSError) as error:
        return f"{type(error).__name__}: {error}"
    return "none"


def together(folder: Path, processes, name: str) -> dict:
    """What this process sees of all that two must do as one. ``alone.pt`` is of one process, in the middle."""
    resumed, stopped = folder / f"{name}_resumed.pt", folder / f"{name}_stopped.pt"
    if processes.main:
        shutil.copy(folder / "alone.pt", resumed)
    processes.agree(None)  # the others wait for it here
    half, again = replace(SETTINGS, precision="float16"), replace(SETTINGS, recompute=True)
    hidden = folder / ("alone.pt" if processes.main else "on_another_machine.pt")
    beside = replace(task(), parts={"other": nn.Linear(5, 5)})
    found = {
        "whole": run(task(), folder / f"{name}.pt", processes=processes),
        "resumed": run(task(), resumed, processes=processes),
        "recomputed": run(task(), processes=processes, settings=again),
        "low_rank": run(low_rank(), processes=processes, settings=again),
        "half": run(task(steep=True), folder / f"{name}_half.pt", processes=processes, settings=half),
        "stopped": error_of(lambda: run(task(), stopped, processes=processes, report=stop_at(2))),
        "gradients": gradients(processes),
        "odd": error_of(lambda: run(task(rows=3), processes=processes)),
        "hidden": error_of(lambda: run(task(), hidden, processes=processes)),
    }
    if processes.replicated:
        return found | {"beside": run(beside, processes=processes), "rare": run(task(rare=True), processes=processes)}
    return found | {"beside": error_of(lambda: run(beside, processes=processes))}


def killed(folder: Path, processes, rank: int) -> None:
    def watch(number: int) -> None:
        if processes.rank == rank and number == 10:
            os.kill(os.getpid(), signal.SIGKILL)

    run(task(watch=watch), folder / "run.pt", processes=processes)


def main(what: str, folder: Path, *more: str) -> None:
    torch.manual_seed(int(os.environ["RANK"]))  # nothing may hang on it
    if what == "killed":
        return killed(folder, launched(), int(more[0]))
    found = {}
    for name, sharded in (("replicated", "false"), ("sharded", "true")):
        os.environ |= {"ACCELERATE_USE_FSDP": sharded, "FSDP_VERSION": "2"}
        processes = launched()
        found[name] = together(folder, processes, name)
    (folder / f"{processes.rank}.json").write_text(json.dumps(found))
    processes.close()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])
