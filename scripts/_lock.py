"""A lock between processes that vanishes with its holder, so a killed run never leaves the next one waiting.

The programs a holder starts with `close_fds=False` share the lock (not on Windows): if the holder is killed while its
pip goes on alone, the next run waits for that pip instead of writing into the same environment beside it.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

if os.name == "nt":
    import msvcrt

    def _acquire(descriptor: int) -> None:
        os.lseek(descriptor, 0, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)

    def _release(descriptor: int) -> None:
        os.lseek(descriptor, 0, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _acquire(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _release(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


POLL_SECONDS = 0.5


@contextmanager
def exclusive(path: Path, on_wait: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold the lock file `path`; call `on_wait` once if another process has it, then wait for that process."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    os.set_inheritable(descriptor, True)
    try:
        if not _try(descriptor):
            on_wait()
            while not _try(descriptor):
                time.sleep(POLL_SECONDS)
        try:
            yield
        finally:
            _release(descriptor)
    finally:
        os.close(descriptor)


def _try(descriptor: int) -> bool:
    try:
        _acquire(descriptor)
    except OSError:
        return False
    return True
