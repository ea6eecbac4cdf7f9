"""The training loop: AdamW with warm-up and decay, gradient clipping, a loss curve, resumable checkpoints."""

import itertools
import math
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from .ema import Ema
from .plateau import Plateau
from .processes import ALONE, Alone
from .task import Task

PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class LoopSettings:
    """``learning_rate`` is the peak, reached after ``warmup`` steps, decayed to zero on a cosine at ``steps``, or, with
    ``cosine`` false, kept.

    A step takes the mean gradient of ``accumulate`` losses: batches larger than what fits at once.

    ``precision`` is that of the layers for which half of it will do (autocast); weights, their gradients and the
    optimiser stay as they are. ``float16``, whose gradients would underflow, is trained on a scaled loss.
    ``recompute``: of the networks' blocks only the inputs are kept, and the backward pass computes the rest again.
    """

    steps: int
    learning_rate: float = 1e-3
    warmup: int = 100
    weight_decay: float = 0.0
    clip_norm: float = 1.0
    save_every: int = 100
    accumulate: int = 1
    precision: str = "float32"
    recompute: bool = False
    cosine: bool = True

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise ValueError(f"no precision {self.precision!r}; known: {', '.join(PRECISIONS)}")

    def rate(self, step: int) -> float:
        if not self.cosine:
            return self.warm_rate(step)
        return self.warm_rate(step) * 0.5 * (1 + math.cos(math.pi * min(1.0, step / self.steps)))

    def warm_rate(self, step: int) -> float:
        """Without the decay."""
        return self.learning_rate * min(1.0, (step + 1) / max(1, self.warmup))


@dataclass
class Progress:
    """What a run has done so far: losses per step and seconds of wall time."""

    losses: list[float] = field(default_factory=list)
    seconds: float = 0.0


def train(
    parameters: Iterable[nn.Parameter],
    loss: Callable[[torch.Generator], Tensor],
    settings: LoopSettings,
    generator: torch.Generator,
    checkpoint: Path | None = None,
    report: Callable[[int, Progress], None] = lambda step, progress: None,
    ema: Ema | None = None,
    plateau: Plateau | None = None,
) -> Progress:
    """Minimise ``loss(generator)``; every draw of data and noise comes from ``generator``.

    ``ema``, of the same parameters, follows every step; the parameters themselves end as the last step left them.
    ``plateau`` lowers the rate in place of the cosine.

    With ``checkpoint`` the run is saved there every ``save_every`` steps (weights, optimiser, generator, ``ema``,
    ``plateau``) and continues from it exactly if it exists. Raises FloatingPointError on a loss that is not finite; the
    last file stays good. Raises ValueError if ``ema`` is of other parameters, or if the file was written with an
    average or a plateau and this run has none, or the other way round.
    """
    parameters = [p for p in parameters if p.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True)
    stateful = _stateful(parameters, optimiser=optimiser, ema=ema, plateau=plateau)
    progress = Progress()
    if checkpoint is not None and checkpoint.exists():
        _restore(checkpoint, parameters, stateful, generator, progress)
    started = time.monotonic() - progress.seconds
    for step in range(len(progress.losses), settings.steps):
        for group in optimiser.param_groups:
            group["lr"] = settings.rate(step) if plateau is None else settings.warm_rate(step) * plateau.scale
        optimiser.zero_grad(set_to_none=True)
        value = _gradients(loss, generator, settings.accumulate, step)
        nn.utils.clip_grad_norm_(parameters, settings.clip_norm)
        optimiser.step()
        progress.losses.append(value)
        if ema is not None:
            ema.update()
        if plateau is not None:
            plateau.watch(progress.losses)
        progress.seconds = time.monotonic() - started
        report(step, progress)
        last = step + 1 == settings.steps
        if checkpoint is not None and (last or (step + 1) % settings.save_every == 0):
            _save(checkpoint, parameters, stateful, generator, progress)
    return progress


def train_task(
    task: Task,
    settings: LoopSettings,
    generator: torch.Generator,
    *,
    processes: Alone = ALONE,
    checkpoint: Path | None = None,
    report: Callable[[int, Progress], None] = lambda step, progress: None,
    ema: Ema | None = None,
    plateau: Plateau | None = None,
) -> Progress:
    """Minimise the task's loss; as ``train``, together with the other ``processes``."""
    drawn = itertools.count()

    def loss(generator: torch.Generator) -> Tensor:
        return task.loss(task.draw(generator, next(drawn)))

    return train(task.parameters, loss, settings, generator, checkpoint, report, ema, plateau)


def _stateful(parameters: list[nn.Parameter], **parts) -> dict:
    """What a checkpoint holds besides the weights, by name."""
    ema = parts["ema"]
    if ema is not None and [id(p) for p in ema.parameters] != [id(p) for p in parameters]:
        raise ValueError(
            f"the average is of {len(ema.parameters)} parameters, which are not the {len(parameters)} in training; "
            f"make it of those given to train(), once what is frozen is frozen"
        )
    return {name: part for name, part in parts.items() if part is not None}


def _gradients(loss: Callable[[torch.Generator], Tensor], generator: torch.Generator, count: int, step: int) -> float:
    """Leave the gradient of the mean of ``count`` losses with the parameters; that mean."""
    total = 0.0
    for _ in range(count):
        value = loss(generator)
        if not bool(torch.isfinite(value)):
            raise FloatingPointError(f"the loss became {value.item()} at step {step}; lower the learning rate")
        (value / count).backward()
        total += value.item()
    return total / count


def _save(path: Path, parameters, stateful: dict, generator, progress: Progress) -> None:
    """Write beside and rename, so that a kill or a full disk leaves the old file whole."""
    state = {
        "parameters": [p.detach() for p in parameters],
        "generator": generator.get_state(),
        "losses": progress.losses,
        "seconds": progress.seconds,
    } | {name: part.state_dict() for name, part in stateful.items()}
    beside = path.with_suffix(".part")
    try:
        torch.save(state, beside)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def _restore(path: Path, parameters, stateful: dict, generator, progress: Progress) -> None:
    state = torch.load(path, weights_only=True)
    written, asked = (sorted({"ema", "plateau"} & set(names)) for names in (state, stateful))
    if written != asked:
        raise ValueError(
            f"{path} was written by a run with {' and '.join(written) or 'neither ema nor plateau'}, and this one has "
            f"{' and '.join(asked) or 'neither'}; go on as it began, or begin anew with another file"
        )
    with torch.no_grad():
        for parameter, saved in zip(parameters, state["parameters"], strict=True):
            parameter.copy_(saved)
    for name, part in stateful.items():
        part.load_state_dict(state[name])
    generator.set_state(state["generator"])
    progress.losses, progress.seconds = state["losses"], state["seconds"]
