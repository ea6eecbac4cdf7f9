"""One process or several that train one network together.

Every process draws the same whole batch, takes the loss of its own rows, and gradients are averaged: n processes do
what one does, to rounding. ``Alone`` says what the loop asks of them by doing it for one.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn

from .ema import Ema
from .task import Batch, Task


class Alone:
    """This process is the only one.

    ``rank``        of the ``count`` processes, from 0
    ``main``        whether this is the one that writes and reports
    ``replicated``  whether it has all weights, and can write a checkpoint without the others
    """

    rank, count, main, replicated = 0, 1, True, True

    @property
    def device(self) -> torch.device:
        """Where this process should put its networks."""
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")

    @property
    def about(self) -> str:
        """How many there are, and where, in words."""
        return f"1 process on {self.device.type}"

    @contextmanager
    def sharing(self, task: Task, ema: Ema | None) -> Iterator[Sequence[nn.Parameter]]:
        """Within it the task is trained by all processes; gives the parameters as they lie in this one."""
        yield moving(task)

    def loss(self, task: Task, batch: Batch) -> Tensor:
        """Of this process's rows, differentiable in what ``sharing`` gave."""
        return task.loss(batch)

    def portion(self, n: int) -> slice:
        """This process's rows of ``n``. Raises ValueError unless all get as many."""
        return slice(n)

    def averaging(self, now: bool) -> AbstractContextManager:
        """Around loss and backward pass: whether gradients are averaged over the processes yet, or only summed up."""
        return nullcontext()

    def mean(self, value: Tensor) -> Tensor:
        """Over the processes, without gradient."""
        return value.detach()

    def agree(self, error: BaseException | None) -> None:
        """Raise ``error``; and where it is another process that has one, ``Stopped``. Every process comes here."""
        if error is not None:
            raise error

    def whole(self, tensor: Tensor) -> Tensor:
        """Of a share, all of it; every process comes here."""
        return tensor.detach()

    def share(self, whole: Tensor, like: Tensor) -> Tensor:
        """Of ``whole``, what this process has if it is laid out as ``like``; memory of its own."""
        return whole.to(like.device, copy=True)

    def close(self) -> None:
        """Part with the other processes, at the end of the program."""


ALONE = Alone()


class Stopped(RuntimeError):
    """Another process ended the training; it says why."""


def launched() -> Alone:
    """The processes this one was started with: by `accelerate launch` or `torchrun`, else none.

    In a launch with ``--use_fsdp --fsdp_version 2`` weights, gradients and moments are shared out, for networks that
    are too large for one device. Raises ImportError if several were started and Accelerate is missing, and ValueError
    for version 1.
    """
    if "RANK" not in os.environ or int(os.environ.get("WORLD_SIZE", 1)) == 1:
        return ALONE
    from .together import join

    return join()


def moving(task: Task) -> list[nn.Parameter]:
    """What of ``task.parameters`` requires a gradient. Raises ValueError if nothing does."""
    parameters = [p for p in task.parameters if p.requires_grad]
    if not parameters:
        raise ValueError(f"none of the task's {len(task.parameters)} parameters requires a gradient: nothing to train")
    return parameters
