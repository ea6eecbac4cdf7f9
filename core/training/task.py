"""What a training is: networks, what of them moves, how a batch is drawn, and the loss of one."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

Batch = dict[str, Tensor]
"""Tensors by name; the first dimension of each counts the same rows."""


@dataclass(frozen=True, eq=False)
class Task:
    """Everything that is particular to one kind of training; ``core.training.loop.train_task`` does the rest.

    ``parts``       what the file holds, by part name (``core.checkpoints.save``)
    ``parameters``  what moves; everything else is frozen
    ``draw``        ``(generator, n)`` -> everything random of batch ``n = 0, 1, ...``, all of it from ``generator``
    ``loss``        the mean over the rows of the batch it is given, with no randomness of its own
    ``config``      what the file says of the networks (``core.checkpoints``), but for how the training went
    ``networks``    what runs besides the parts, as a frozen host: recomputed, shared out and counted as they are
    ``largest``     number of a batch than which none takes more memory

    Every process draws the same whole batch and takes the loss of its own rows of it. So a draw is small, indices and
    seeds where the data are large, and ``loss`` reads what they name; and the loss of a batch is the mean of the losses
    of its equal parts.
    """

    parts: Mapping[str, nn.Module]
    parameters: Sequence[nn.Parameter]
    draw: Callable[[torch.Generator, int], Batch]
    loss: Callable[[Batch], Tensor]
    config: dict[str, Any]
    networks: Sequence[nn.Module] = ()
    largest: int = 0

    @property
    def running(self) -> list[nn.Module]:
        """Parts and networks, each once."""
        return list(dict.fromkeys([*self.parts.values(), *self.networks]))


def rows(batch: Batch, which: slice) -> Batch:
    """Those rows of every tensor."""
    return {name: value[which] for name, value in batch.items()}


def count_rows(batch: Batch) -> int:
    """Raises ValueError if there is no tensor, or if they do not agree."""
    counts = {name: len(value) if value.ndim else None for name, value in batch.items()}
    if len(set(counts.values())) != 1 or None in counts.values():
        raise ValueError(f"every tensor of a batch has its rows first, and all as many; got {counts}")
    return next(iter(counts.values()))
