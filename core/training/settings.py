"""How long and how fast a training runs, and how far it has come."""

import math
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import torch

PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class LoopSettings:
    """``learning_rate`` is the peak, reached after ``warmup`` steps, decayed to zero on a cosine at ``steps``, or, with
    ``cosine`` false, kept.

    A step takes the mean gradient of ``accumulate`` losses: batches larger than what fits at once.

    ``precision`` is that of the layers for which half of it will do (autocast); weights, their gradients and the
    optimiser stay as they are. ``float16``, whose gradients would underflow, is trained on a scaled loss; with
    ``scaled`` any other is too, for what is trained beside networks that compute in float16 by themselves.
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
    scaled: bool = False

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise ValueError(f"no precision {self.precision!r}; known: {', '.join(PRECISIONS)}")
        for key, least in (("steps", 0), ("warmup", 0), ("save_every", 1), ("accumulate", 1)):
            if getattr(self, key) < least:
                raise ValueError(f"{key} is {least} or more, got {getattr(self, key)}")

    def rate(self, step: int) -> float:
        if not self.cosine:
            return self.warm_rate(step)
        return self.warm_rate(step) * 0.5 * (1 + math.cos(math.pi * min(1.0, step / self.steps)))

    def warm_rate(self, step: int) -> float:
        """Without the decay."""
        return self.learning_rate * min(1.0, (step + 1) / max(1, self.warmup))

    @property
    def scales_loss(self) -> bool:
        return self.scaled or self.precision == "float16"

    def autocast(self, device: torch.device) -> AbstractContextManager:
        """The layers of a forward pass within it compute in ``precision``."""
        dtype = PRECISIONS[self.precision]
        return nullcontext() if dtype is None else torch.autocast(device.type, dtype)


@dataclass
class Progress:
    """What a run has done so far: losses per step and seconds of wall time."""

    losses: list[float] = field(default_factory=list)
    seconds: float = 0.0


def spelled_time(seconds: float) -> str:
    """``2 h 05 min``, ``3 min 20 s``, ``12 s``."""
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02} min"
    return f"{whole // 60} min {whole % 60:02} s" if whole >= 60 else f"{whole} s"
