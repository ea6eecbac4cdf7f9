"""Gradient checkpointing: of a network's blocks only the inputs are kept, and the backward pass computes the rest."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..recomputation import entries, recomputed


def blocks(network: nn.Module) -> list[nn.Module]:
    """`entries` without single layers: what those keep is their input, and that stays in any case."""
    return [entry for entry in entries(network) if len(list(entry.children()))]


@contextmanager
def around(modules: Iterable[nn.Module], change: Callable[[Callable], Callable]) -> Iterator[None]:
    """Within it the forward passes of ``modules`` are what ``change`` makes of them."""
    before = {module: vars(module).get("forward") for module in modules}  # as whoever else changed it left it
    for module in before:
        module.forward = change(module.forward)
    try:
        yield
    finally:
        for module, own in before.items():
            if own is None:
                del module.forward
            else:
                module.forward = own


def recomputing(networks: Iterable[nn.Module]) -> AbstractContextManager:
    """Within it the blocks of ``networks`` keep their inputs alone.

    A block must do the same each time: dropout or batch statistics in one would be drawn or counted twice. Raises
    RuntimeError in the backward pass if an input was edited in place after the block had it.
    """
    return around((block for network in networks for block in blocks(network)), _recomputed)


def _recomputed(forward: Callable) -> Callable:
    def run(*args, **kwargs):
        if not torch.is_grad_enabled():
            return forward(*args, **kwargs)
        given = tensors((args, kwargs))
        precision, versions = _precision(given), [x._version for x in given]

        def again():
            if versions != [x._version for x in given]:
                raise RuntimeError("a block's input was edited in place behind it, so it cannot be computed again")
            with precision():
                return forward(*args, **kwargs)

        return recomputed(again)

    return run


def tensors(tree: Any) -> list[Tensor]:
    """Those in nested tuples, lists and dicts."""
    if isinstance(tree, Tensor):
        return [tree]
    inner = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list | tuple) else ()
    return [x for entry in inner for x in tensors(entry)]


def _precision(given: list[Tensor]) -> Callable[[], AbstractContextManager]:
    """Autocast as it is now: it is the thread's, and the backward pass is another's."""
    kind = next((x.device.type for x in given if x.device.type != "cpu"), "cpu")
    enabled, dtype = torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)
    return lambda: torch.autocast(kind, dtype, enabled)
