"""The training loop: AdamW with warm-up and decay, gradient clipping, a loss curve, resumable checkpoints.

A run is a list of parameters and a loss. Everything random comes from one generator, all that moves is in one object
(`Run`), and a checkpoint is that object between two steps: so a run that was stopped anywhere, and goes on with
another number of processes, ends as if nothing had been.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch
from torch import Tensor, nn

from .ema import Ema
from .interrupts import Signals
from .plateau import Plateau
from .processes import ALONE, Alone, moving
from .recompute import recomputing
from .resumable import check_writable
from .run import Run
from .settings import LoopSettings, Progress
from .task import Task

Report = Callable[[int, Progress], None]


def silent(step: int, progress: Progress) -> None:
    """Reports nothing."""


def train(
    parameters: Iterable[nn.Parameter],
    loss: Callable[[torch.Generator], Tensor],
    settings: LoopSettings,
    generator: torch.Generator,
    checkpoint: Path | None = None,
    report: Report = silent,
    ema: Ema | None = None,
    plateau: Plateau | None = None,
) -> Progress:
    """Minimise ``loss(generator)``; every draw of data and noise comes from ``generator``.

    ``ema``, of the same parameters, follows every step; the parameters themselves end as the last step left them.
    ``plateau`` lowers the rate in place of the cosine.

    With ``checkpoint`` the run is saved there every ``save_every`` steps (weights, optimiser, generator, ``ema``,
    ``plateau``), and as of the last whole step when something stops it: an exception of ``loss`` or ``report``, Ctrl-C,
    SIGTERM, a lack of memory. It continues from there exactly if the file exists.

    Raises FloatingPointError on a loss or gradient that is not finite; the last file stays as it is. Raises OSError
    before the first step if nothing can be written there, and when the disk is full; the last file stays whole. Raises
    ValueError if ``ema`` is of other parameters, or if the file was written with an average or a plateau and this run
    has none, or the other way round.
    """
    if settings.recompute:
        raise ValueError("recompute needs to know the networks: train a Task, with train_task")
    parameters = [p for p in parameters if p.requires_grad]
    _check_average(ema, parameters)
    run = Run(parameters, settings, generator, ALONE, ema, plateau)

    def computed(number: int) -> Tensor:
        with settings.autocast(run.device):
            return loss(generator)

    return _minimise(run, computed, checkpoint, report)


def train_task(
    task: Task,
    settings: LoopSettings,
    generator: torch.Generator,
    *,
    processes: Alone = ALONE,
    checkpoint: Path | None = None,
    report: Report = silent,
    ema: Ema | None = None,
    plateau: Plateau | None = None,
) -> Progress:
    """Minimise the loss of a task as ``train`` does, together with the other ``processes`` (see ``launched``).

    A step draws ``accumulate`` batches, numbered through from the first step on. ``report`` runs on the main process,
    which writes the checkpoint too; every process must be able to read it. The file is the same whatever the number of
    processes. Raises ValueError for a batch that they cannot share equally, or if nothing of the task moves.
    """
    _check_average(ema, moving(task))

    with recomputing(task.running) if settings.recompute else nullcontext():
        with processes.sharing(task, ema) as parameters:
            run = Run(list(parameters), settings, generator, processes, ema, plateau)

            def loss(number: int) -> Tensor:
                drawn = task.draw(generator, number)
                with settings.autocast(run.device):  # half precision is for networks, not for their data
                    return processes.loss(task, drawn)

            return _minimise(run, loss, checkpoint, report)


def _check_average(ema: Ema | None, parameters: Sequence[nn.Parameter]) -> None:
    if ema is not None and [id(p) for p in ema.parameters] != [id(p) for p in parameters]:
        raise ValueError(
            f"the average is of {len(ema.parameters)} parameters, which are not the {len(parameters)} in training; "
            f"make it of those given to train(), once what is frozen is frozen"
        )


def _minimise(run: Run, loss: Callable[[int], Tensor], checkpoint: Path | None, report: Report) -> Progress:
    """``loss(n)`` draws batch ``n`` and is differentiable."""
    progress, settings, processes = run.progress, run.settings, run.processes
    if checkpoint is not None:
        processes.agree(_error_of(check_writable, checkpoint) if processes.main else None)
        if _found(checkpoint, processes):
            run.restore(checkpoint)
    started = time.monotonic() - progress.seconds
    with Signals() as signals:
        for step in range(len(progress.losses), settings.steps):
            with _saved_if_stopped(run, checkpoint):
                run.apply(run.gradients(loss, step), step)
                progress.seconds = time.monotonic() - started
                told = _error_of(report, step, progress) if processes.main else None
                processes.agree(told or signals.noted())
            if checkpoint is not None and (step + 1 == settings.steps or (step + 1) % settings.save_every == 0):
                processes.agree(_error_of(run.save, checkpoint))
        processes.agree(signals.noted())  # one that came during the last save
    return progress


def _found(checkpoint: Path, processes: Alone) -> bool:
    """Raises OSError if only some of the processes find it: the others would begin anew beside them."""
    share = processes.mean(torch.tensor(float(checkpoint.exists()), device=processes.device)).item()
    if 0 < share < 1:
        raise OSError(f"{checkpoint} is not there for all of the processes: put it where every machine can read it")
    return share == 1


@contextmanager
def _saved_if_stopped(run: Run, checkpoint: Path | None) -> Iterator[None]:
    """Whatever comes out of it is raised on, once the last whole step is in the file."""
    try:
        yield
    except FloatingPointError:
        raise  # the weights may be past rescue already: an older file is the better one
    except BaseException as stop:
        if checkpoint is not None and run.savable:
            run.optimiser.zero_grad(set_to_none=True)  # what may have run out is memory
            failed = _error_of(run.save, checkpoint)
            if failed is not None:
                raise stop from failed
        raise


def _error_of(action: Callable[..., None], *arguments) -> BaseException | None:
    """What ``action`` raises."""
    try:
        action(*arguments)
    except BaseException as error:
        return error
    return None
