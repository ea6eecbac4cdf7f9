"""Computing again instead of keeping, for code that edits its activations in place.

`torch.utils.checkpoint` keeps what the second run saves as it lies in memory: where the code edits it later in the same
run, the backward pass reads the edited values, and nothing tells, since autograd's own check does not look at them.
"""

import contextlib
import itertools
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn

T = TypeVar("T")
KINDS = ("cpu", "cuda", "mps", "xpu")  # of devices, each with an autocast of its own
LISTS = (nn.ModuleList, nn.Sequential)


def entries(network: nn.Module) -> list[nn.Module]:
    """What a network calls one after the other: the entries of its outermost lists and sequences.

    Lists within those are opened, because U-Nets call the entries of theirs one by one.
    """
    if not isinstance(network, LISTS):
        return [entry for child in network.children() for entry in entries(child)]
    return [one for entry in network for one in (entries(entry) if isinstance(entry, LISTS) else [entry])]


def recomputed(run: Callable[[], T]) -> T:
    """``run()``, whose activations are not kept: the backward pass runs it again where it comes to them.

    ``run`` must do the same each time and leave the tensors it starts from as they are. What it makes itself it may
    edit. Gradients reach every tensor it uses, its closure's too. Autocast is as it is now, the second time, too.
    """
    return _Recomputed(run).first()


class _Recomputed:
    """The first run keeps numbers in place of tensors and notes which of those were edited before it ended; the second
    keeps copies of these and the others as they are."""

    def __init__(self, run: Callable):
        self.run = run
        self.cast = [(kind, torch.get_autocast_dtype(kind)) for kind in KINDS if torch.is_autocast_enabled(kind)]
        self.edited: list[bool] = []
        self.kept: dict[int, Tensor] = {}

    def first(self):
        saved: list[tuple[Tensor, int]] = []

        def pack(x: Tensor) -> int:
            saved.append((x.detach(), x._version))  # an alias: edits count on it too
            return len(saved) - 1

        with torch.autograd.graph.saved_tensors_hooks(pack, self._unpack):
            result = self.run()
        self.edited = [x._version != version for x, version in saved]
        saved.clear()  # autograd keeps `pack` as long as the graph
        return result

    def _unpack(self, number: int) -> Tensor:
        if number not in self.kept:
            self._again()
        return self.kept.pop(number)

    def _again(self) -> None:
        numbers = itertools.count()

        def pack(x: Tensor) -> None:
            number = next(numbers)
            self.kept[number] = x.detach().clone() if self.edited[number] else x.detach()
            if number + 1 == len(self.edited):
                raise _Enough

        hooks = torch.autograd.graph.saved_tensors_hooks(pack, _never)
        try:
            with torch.enable_grad(), hooks, contextlib.ExitStack() as stack:
                for kind, dtype in self.cast:
                    stack.enter_context(torch.autocast(kind, dtype))
                self.run()
        except _Enough:
            pass


class _Enough(BaseException):
    """The second run has come to the last thing to be kept. No fallback within the run may take it for an error."""


def _never(_: None) -> Tensor:
    raise RuntimeError("a gradient was asked for within the second run of recomputed code, which keeps no graph")
