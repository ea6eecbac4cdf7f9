"""The training loop: AdamW with warm-up and cosine decay, gradient clipping, a loss curve, resumable checkpoints."""

import math
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class LoopSettings:
    """``learning_rate`` is the peak, reached after ``warmup`` steps, decayed to zero on a cosine at ``steps``."""

    steps: int
    learning_rate: float = 1e-3
    warmup: int = 100
    weight_decay: float = 0.0
    clip_norm: float = 1.0
    save_every: int = 100

    def rate(self, step: int) -> float:
        warm = min(1.0, (step + 1) / max(1, self.warmup))
        return self.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * min(1.0, step / self.steps)))


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
) -> Progress:
    """Minimise ``loss(generator)``; every draw of data and noise comes from ``generator``.

    With ``checkpoint`` the run is saved there every ``save_every`` steps (weights, optimiser, generator) and continues
    from it exactly if it exists. Raises FloatingPointError on a loss that is not finite; the last file stays good.
    """
    parameters = [p for p in parameters if p.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True)
    progress = Progress()
    if checkpoint is not None and checkpoint.exists():
        _restore(checkpoint, parameters, optimiser, generator, progress)
    started = time.monotonic() - progress.seconds
    for step in range(len(progress.losses), settings.steps):
        for group in optimiser.param_groups:
            group["lr"] = settings.rate(step)
        optimiser.zero_grad(set_to_none=True)
        value = loss(generator)
        if not bool(torch.isfinite(value)):
            raise FloatingPointError(f"the loss became {value.item()} at step {step}; lower the learning rate")
        value.backward()
        nn.utils.clip_grad_norm_(parameters, settings.clip_norm)
        optimiser.step()
        progress.losses.append(value.item())
        progress.seconds = time.monotonic() - started
        report(step, progress)
        last = step + 1 == settings.steps
        if checkpoint is not None and (last or (step + 1) % settings.save_every == 0):
            _save(checkpoint, parameters, optimiser, generator, progress)
    return progress


def _save(path: Path, parameters, optimiser, generator, progress: Progress) -> None:
    """Write beside and rename, so that a kill or a full disk leaves the old file whole."""
    state = {
        "parameters": [p.detach() for p in parameters],
        "optimiser": optimiser.state_dict(),
        "generator": generator.get_state(),
        "losses": progress.losses,
        "seconds": progress.seconds,
    }
    beside = path.with_suffix(".part")
    try:
        torch.save(state, beside)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def _restore(path: Path, parameters, optimiser, generator, progress: Progress) -> None:
    state = torch.load(path, weights_only=True)
    with torch.no_grad():
        for parameter, saved in zip(parameters, state["parameters"], strict=True):
            parameter.copy_(saved)
    optimiser.load_state_dict(state["optimiser"])
    generator.set_state(state["generator"])
    progress.losses, progress.seconds = state["losses"], state["seconds"]
