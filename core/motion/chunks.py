"""How many frames to work on at once, and what to do when that was too many."""

from collections.abc import Callable
from typing import TypeVar

import torch

Result = TypeVar("Result")
UNKNOWN_BUDGET = 1 << 30  # bytes, for accelerators that do not say what they have free
# The CPU's allocator, MPS and CUDA itself (not torch's allocator for it) raise a plain RuntimeError.
SIGNS = ("can't allocate memory", "not enough memory", "out of memory")


def frame_chunks(count: int, bytes_per_item: int, device: torch.device | str) -> list[slice]:
    """``count`` items as slices that fit: single frames on the CPU, up to half the free memory on an accelerator.

    On the CPU a batch is slower than a loop, because its temporaries leave the cache; on a GPU it saves launches.
    """
    size = chunk_size(bytes_per_item, torch.device(device))
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def chunk_size(bytes_per_item: int, device: torch.device) -> int:
    if device.type == "cpu":
        return 1
    free = torch.cuda.mem_get_info(device)[0] // 2 if device.type == "cuda" else UNKNOWN_BUDGET
    return max(1, free // max(bytes_per_item, 1))


def is_out_of_memory(error: BaseException) -> bool:
    """True for the exceptions that mean memory ran out, on the CPU or an accelerator."""
    if isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in SIGNS)


def halving(
    work: Callable[[slice], Result], count: int, size: int, on_halve: Callable[[int], None] | None = None
) -> list[Result]:
    """``work(slice)`` over ``count`` items, ``size`` at a time; out of memory halves ``size`` and tries again.

    What was done stays done. ``on_halve(new_size)`` is told. When one item alone does not fit the error is raised.
    """
    results, start, size = [], 0, max(1, min(size, count))
    while start < count:
        part = slice(start, min(start + size, count))
        try:
            results.append(work(part))
        except Exception as error:
            if size == 1 or not is_out_of_memory(error):
                raise
            size //= 2
        else:
            start = part.stop
            continue
        # Outside the handler: there the exception's traceback still holds the tensors that did not fit.
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if on_halve is not None:
            on_halve(size)
    return results
