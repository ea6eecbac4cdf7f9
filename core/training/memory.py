"""How much memory a training takes, found before it begins: counted where it can be, else measured on one row or two.

What a forward pass keeps for the backward pass is seen by autograd's hooks for saved tensors, tensor by tensor; it
grows by the same amount with every row. Not seen is what a layer needs only while it runs: see `MARGIN`.
"""

import math
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from .processes import moving
from .recompute import around, blocks, tensors
from .settings import LoopSettings
from .task import Batch, Task, count_rows, rows

__all__ = ["Memory", "blocks", "check", "estimate"]
SMALLER = (
    "Smaller activations: a smaller batch, with accumulate raised to match; recompute = true; precision = bfloat16; "
    "smaller or shorter clips"
)
MARGIN = 1.2
"""Of the activations, for what layers need while they run: the peak of PyTorch's allocator was 0.7 to 1.3 times, on a
CPU, `Memory.more` in small transformers and convolutions (1.3: two convolutions and nothing else)."""


@dataclass(frozen=True)
class Memory:
    """Bytes. ``weights`` are those of all parts and networks, trained or not."""

    weights: int
    gradients: int
    optimiser: int
    average: int
    activations: int

    @property
    def total(self) -> int:
        return sum(self._parts().values())

    @property
    def more(self) -> int:
        """What is not there before the training begins."""
        return self.total - self.weights

    def table(self) -> str:
        lines = [f"{name:12} {_told(size):>10}" for name, size in (self._parts() | {"total": self.total}).items()]
        return "\n".join(lines)

    def _parts(self) -> dict[str, int]:
        return {field.name: getattr(self, field.name) for field in fields(self)}


def estimate(
    task: Task, settings: LoopSettings, batch: int, average: bool = False, beside: Iterable[Tensor] = (),
    free: float = math.inf,
) -> Memory:  # fmt: skip
    """Of a step on ``batch`` rows of its largest batch at once, in this process; ``average``: whether there is an
    `Ema`. ``beside``: what the loss uses and the task does not hold, as the weights of a network that somebody else has
    in memory; it is not counted.

    Runs the loss on one row, and on a second one if ``batch`` has more, in the settings' precision; with
    ``recompute`` what is kept of a block is its input, and one block at a time is computed again. Draws from a
    generator of its own. Under FSDP weights, gradients and moments are shared out; this counts them whole.

    Raises ValueError once these rows alone keep more than ``free`` bytes: where memory is the machine's own, a process
    that takes more is ended from outside, without a word.
    """
    trained = moving(task)
    weights = [*trained, *(x for one in task.running for x in (*one.parameters(), *one.buffers()))]
    gradients = sum(p.nbytes for p in trained)
    drawn = task.draw(torch.Generator().manual_seed(0), task.largest)
    if not 1 <= batch <= count_rows(drawn):
        raise ValueError(f"a batch of this task has {count_rows(drawn)} rows; {batch} of them cannot be one")
    known = [*weights, *beside]
    kept = [_kept(task, settings, rows(drawn, slice(n)), known, free) for n in range(1, min(batch, 2) + 1)]
    return Memory(
        weights=sum({x.untyped_storage().data_ptr(): x.nbytes for x in weights}.values()),
        gradients=gradients,
        optimiser=2 * gradients + 4 * len(trained),  # AdamW's two moments and its counts of steps
        average=sum(p.numel() * max(4, p.element_size()) for p in trained) if average else 0,
        activations=kept[0] + (batch - 1) * (kept[-1] - kept[0]),
    )


def check(memory: Memory, free: int) -> None:
    """Raise ValueError if the training will not fit into ``free`` bytes, the weights being in place already."""
    needed = memory.more + int((MARGIN - 1) * memory.activations)
    if needed > free:
        raise ValueError(
            f"the training takes about {_told(needed)} besides its weights, and {_told(free)} are free:\n"
            f"{memory.table()}\n"
            f"{SMALLER}. Fewer gradients and moments: train fewer weights (a LoRA of lower "
            f"rank), or share them out over several devices (accelerate launch --use_fsdp --fsdp_version 2)"
        )


class _Storages:
    """Memory that tensors hold on to, each piece counted once. Held here, so that none is used twice meanwhile."""

    def __init__(self, known: Iterable[Tensor] = (), free: float = math.inf):
        self.known = {x.untyped_storage().data_ptr() for x in known}
        self.found: dict[int, Tensor] = {}
        self.size, self.free = 0, free

    def keep(self, x: Tensor) -> None:
        place = x.untyped_storage().data_ptr()
        if place in self.known or place in self.found:
            return
        self.found[place] = x.detach()
        self.size += x.untyped_storage().nbytes()
        if self.size > self.free:
            raise ValueError(
                f"a row or two of a batch take more than the {_told(self.free)} that are free, and so the training "
                f"will not fit. {SMALLER}"
            )

    @property
    def largest(self) -> int:
        return max((x.untyped_storage().nbytes() for x in self.found.values()), default=0)

    def saved(self) -> AbstractContextManager:
        """Within it autograd keeps here what it keeps. No backward pass can follow."""
        return torch.autograd.graph.saved_tensors_hooks(self.keep, lambda _: None)


def _kept(task: Task, settings: LoopSettings, batch: Batch, weights: list[Tensor], free: float) -> int:
    """Bytes of activations at most: those kept from a forward pass on ``batch`` to its backward pass, and the gradients
    before and behind the largest of them."""
    outside, inside = _Storages(weights, free), [_Storages()]

    def measured(forward: Callable) -> Callable:
        def run(*args, **kwargs):
            if not torch.is_grad_enabled():
                return forward(*args, **kwargs)
            for x in tensors((args, kwargs)):
                outside.keep(x)
            block = _Storages([*weights, *outside.found.values()], free - outside.size)
            with block.saved():
                result = forward(*args, **kwargs)
            inside[0] = max(inside[0], block, key=lambda storages: storages.size)  # the others go
            return result

        return run

    again = around((block for one in task.running for block in blocks(one)), measured)
    own = {name: value.clone() for name, value in batch.items()}  # not the memory of all rows
    with torch.enable_grad(), again if settings.recompute else nullcontext(), outside.saved():
        with settings.autocast(moving(task)[0].device):
            task.loss(own)
    return outside.size + inside[0].size + 2 * max(outside.largest, inside[0].largest)


def _told(size: float) -> str:
    """In the unit that fits."""
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
