"""Fresh white noise that depends on a seed and on what it is for, and on nothing else."""

from collections.abc import Sequence

import torch
from torch import Tensor

WORD = (1 << 64) - 1

# What is drawn for: the first number of a purpose, so that no two uses of one seed are the same noise.
FIRST, RESAMPLED, SECOND, FILLED, RENEWED = range(5)


def derived_seed(seed: int, *purpose: int) -> int:
    """A 64-bit seed for ``purpose``, e.g. ``FILLED, frame``. Neighbouring seeds and purposes share nothing.

    ``seed + frame`` would: seed 1 would begin with the second frame of seed 0. Mixing: splitmix64 (Steele, Lea and
    Flood 2014), once for each number.
    """
    state = 0
    for number in (seed, *purpose):
        state = _mixed((state ^ (number & WORD)) + 0x9E3779B97F4A7C15 & WORD)
    return state


def drawn(shape: Sequence[int], seed: int, *purpose: int) -> Tensor:
    """float32 N(0, 1), from a generator of its own on the CPU: the same on every machine, no global state touched."""
    return torch.randn(tuple(shape), generator=torch.Generator().manual_seed(derived_seed(seed, *purpose)))


def _mixed(word: int) -> int:
    word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9 & WORD
    word = (word ^ (word >> 27)) * 0x94D049BB133111EB & WORD
    return word ^ (word >> 31)
