"""The state of a training: what moves, how it moves by one step, and how it is put into a file and taken out."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from . import resumable
from .ema import Ema
from .plateau import Plateau
from .processes import Alone
from .settings import LoopSettings, Progress


@dataclass(eq=False)
class Run:
    """All that moves in a training, and how it moves by one step."""

    parameters: list[nn.Parameter]
    settings: LoopSettings
    generator: torch.Generator
    processes: Alone
    ema: Ema | None
    plateau: Plateau | None

    def __post_init__(self) -> None:
        self.progress, self.device = Progress(), self.parameters[0].device
        peak, decay = self.settings.learning_rate, self.settings.weight_decay
        self.optimiser = torch.optim.AdamW(self.parameters, lr=peak, weight_decay=decay, fused=True)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.settings.scales_loss)
        self._at_start: Tensor | None = None  # the generator's state when a step began that has not ended
        self._torn = False  # some of it is after a step, and some before
        self._saved = 0  # steps in the file

    def gradients(self, loss: Callable[[int], Tensor], step: int) -> float:
        """Leave the gradient of the mean of ``accumulate`` losses with the parameters; that mean."""
        self._at_start = self.generator.get_state()
        self.optimiser.zero_grad(set_to_none=True)
        total, count = 0.0, self.settings.accumulate
        for number in range(step * count, (step + 1) * count):
            with self.processes.averaging(number + 1 == (step + 1) * count):
                value = loss(number)
                mean = self.processes.mean(value).item()
                if not math.isfinite(mean):
                    raise FloatingPointError(f"the loss became {mean} at step {step}; lower the learning rate")
                self.scaler.scale(value / count).backward()
            total += mean
        return total / count

    def apply(self, value: float, step: int) -> None:
        """Step ``step`` along the gradients; ``value`` is its loss."""
        for group in self.optimiser.param_groups:
            group["lr"] = self._rate(step)
        self.scaler.unscale_(self.optimiser)
        norm = nn.utils.clip_grad_norm_(self.parameters, self.settings.clip_norm).item()
        if not math.isfinite(norm) and not self._may_be_scale():
            raise FloatingPointError(f"the gradient became {norm} at step {step}; lower the learning rate")
        self._torn = True
        self.scaler.step(self.optimiser)  # none where the scale was too much for float16; it is lowered then
        self.scaler.update()
        self.progress.losses.append(value)
        if self.ema is not None:
            self.ema.update()
        if self.plateau is not None:
            self.plateau.watch(self.progress.losses)
        self._torn, self._at_start = False, None

    def _may_be_scale(self) -> bool:
        """Whether a gradient overflowed for float16's scale: such a step is left out, and the scale halved. Below 1 it
        is no longer to blame."""
        return self.scaler.is_enabled() and self.scaler.get_scale() >= 1

    def _rate(self, step: int) -> float:
        plateau = self.plateau
        return self.settings.rate(step) if plateau is None else self.settings.warm_rate(step) * plateau.scale

    @property
    def savable(self) -> bool:
        """Whether there is a whole step more than in the file, and all of it here: within a step no process waits for
        the others to put it together."""
        new = len(self.progress.losses) > self._saved
        return new and not self._torn and (self._at_start is None or self.processes.replicated)

    def save(self, path: Path) -> None:
        """As of the last whole step, from the main process."""
        state = {
            "parameters": self.parameters,
            "generator": self.generator.get_state() if self._at_start is None else self._at_start,
            "losses": self.progress.losses,
            "seconds": self.progress.seconds,
        } | {name: part.state_dict() for name, part in self._stateful().items()}
        whole = resumable.mapped(self.processes.whole, state)
        if self.processes.main:
            resumable.write(whole, path)
        self._saved = len(self.progress.losses)

    def restore(self, path: Path) -> None:
        """Go on from there. Raises ValueError for the file of another training."""
        state, stateful = resumable.read(path), self._stateful()
        _check_same(path, state, stateful, self.parameters)
        self._take_shares(state)
        with torch.no_grad():
            for parameter, saved in zip(self.parameters, state["parameters"], strict=True):
                parameter.copy_(self.processes.share(saved, parameter))
        for name, part in stateful.items():
            if name in state:  # a scale of the loss finds itself again
                part.load_state_dict(state[name])
        self.generator.set_state(state["generator"])
        self.progress.losses, self.progress.seconds = state["losses"], state["seconds"]
        self._saved = len(self.progress.losses)

    def _stateful(self) -> dict[str, Any]:
        """What a checkpoint holds besides the weights, by name."""
        scaler = self.scaler if self.scaler.is_enabled() else None
        parts = {"optimiser": self.optimiser, "ema": self.ema, "plateau": self.plateau, "scaler": scaler}
        return {name: part for name, part in parts.items() if part is not None}

    def _take_shares(self, state: dict[str, Any]) -> None:
        """Leave of whole tensors what this process has of the parameters they belong to, and nothing in the file."""
        if "ema" in state:
            average = zip(state["ema"]["average"], self.parameters, strict=True)
            state["ema"]["average"] = (self.processes.share(whole, p) for whole, p in average)  # one at a time
        moments = state["optimiser"]["state"]  # by the parameter's number
        for number, named in moments.items():
            like = self.parameters[number]
            moments[number] = {name: self.processes.share(whole, like) for name, whole in named.items()}


def _check_same(path: Path, state: dict[str, Any], stateful: dict[str, Any], parameters: list[nn.Parameter]) -> None:
    written, asked = (sorted({"ema", "plateau"} & set(names)) for names in (state, stateful))
    if written != asked:
        raise ValueError(
            f"{path} was written by a run with {' and '.join(written) or 'neither ema nor plateau'}, and this one has "
            f"{' and '.join(asked) or 'neither'}; go on as it began, or begin anew with another file"
        )
    saved, here = ([tuple(p.shape) for p in found] for found in (state["parameters"], parameters))
    if saved != here:
        raise ValueError(
            f"{path} is of another training: of {len(saved)} tensors, here are {len(here)}, and their shapes differ: "
            f"{_first_difference(saved, here)}; begin anew with another file"
        )


def _first_difference(saved: list, here: list) -> str:
    number = next((n for n in range(min(len(saved), len(here))) if saved[n] != here[n]), min(len(saved), len(here)))
    there, now = (str(shapes[number]) if number < len(shapes) else "none" for shapes in (saved, here))
    return f"number {number} is {there} in the file and {now} here"
