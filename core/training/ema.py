"""The exponential moving average of the weights in training: smoother than the last step's, and what is exported."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

Warmup = Callable[[int], float]


def ramp(update: int) -> float:
    """``(1 + k) / (10 + k)``: a young average follows the weights closely and forgets the random ones it began at."""
    return (1 + update) / (10 + update)


def no_warmup(update: int) -> float:
    return 1.0


class Ema:
    """``average <- d_k average + (1 - d_k) weights`` at update ``k = 0, 1, ...``, ``d_k = min(decay, warmup(k))``.

    It begins at the weights as they are now. Parameters that do not require a gradient are left out: they do not move.
    The average is kept in float32 or finer whatever the weights are, since ``1 - decay`` is below what bfloat16
    resolves.

    Raises ValueError unless ``0 <= decay < 1``.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], decay: float = 0.9999, warmup: Warmup = ramp):
        if not 0 <= decay < 1:
            raise ValueError(f"the decay lies in [0, 1), got {decay}; 0.999 averages over about 1000 steps")
        self.parameters = [p for p in parameters if p.requires_grad]
        self.decay, self.warmup, self.updates = decay, warmup, 0
        self.average = [p.detach().to(torch.promote_types(p.dtype, torch.float32), copy=True) for p in self.parameters]

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights as they are; once after every step of the optimiser."""
        share = 1 - min(self.decay, self.warmup(self.updates))
        for average, parameter in zip(self.average, self.parameters, strict=True):
            average.lerp_(parameter.to(average.dtype), share)
        self.updates += 1

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """Inside, the parameters are the average: to evaluate or to export. Afterwards they are what they were."""
        kept = [p.detach().clone() for p in self.parameters]
        try:
            self._set(self.average)
            yield
        finally:
            self._set(kept)

    @torch.no_grad()
    def _set(self, values: list[torch.Tensor]) -> None:
        for parameter, value in zip(self.parameters, values, strict=True):
            parameter.copy_(value)

    def state_dict(self) -> dict:
        return {"average": self.average, "updates": self.updates}

    def load_state_dict(self, state: dict) -> None:
        for average, saved in zip(self.average, state["average"], strict=True):
            average.copy_(saved)
        self.updates = state["updates"]
