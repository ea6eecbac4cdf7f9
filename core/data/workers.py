"""Several processes of this machine as a runner."""

import multiprocessing
import runpy
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TypeVar

A, B = TypeVar("A"), TypeVar("B")
ENTER = Path(__file__).with_name("_enter.py")
PACK = __name__.split(".core.")[0]  # what this pack is called in this process


class Pool:
    """A `Runner` of ``processes``: ``with Pool(4) as runner``. Fresh ones, not forked: PyTorch has threads."""

    def __init__(self, processes: int):
        if processes < 1:
            raise ValueError(f"at least one process is needed, got {processes}")
        self.processes = processes

    def __enter__(self) -> "Pool":
        self._executor = ProcessPoolExecutor(
            self.processes, multiprocessing.get_context("spawn"), runpy.run_path, (str(ENTER), {"PACK": PACK})
        )
        return self

    def __exit__(self, *error) -> None:
        self._executor.shutdown(cancel_futures=True)

    def __call__(self, function: Callable[[A], B], items: Iterable[A], light: bool = False) -> Iterator[B]:
        return self._executor.map(function, items)
