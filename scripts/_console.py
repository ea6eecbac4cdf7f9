"""What the person at the keyboard sees: one line per step with its duration, and errors that say what to do.

Everything goes to stderr, so that `test.py --python` can be used inside `$(...)`.
"""

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager


class HouseError(RuntimeError):
    """A problem its reader can fix. Scripts print the message alone; a traceback would hide it."""


class Step:
    """One running step. On a terminal its line counts the seconds, because a step may take minutes in silence."""

    def __init__(self, title: str):
        self._title = title
        self._start = time.monotonic()
        self._live = sys.stderr.isatty()
        self._write(f"{title} ...", end="" if self._live else "\n")

    def tick(self) -> None:
        if self._live:
            self._write(f"\r{self._title} ... {self._elapsed():.0f} s", end="")

    def finish(self, outcome: str) -> None:
        self._write(f"{chr(13) if self._live else ''}{self._title} ... {outcome} in {self._elapsed():.1f} s", end="\n")

    def _elapsed(self) -> float:
        return time.monotonic() - self._start

    @staticmethod
    def _write(text: str, end: str) -> None:
        print(text, end=end, file=sys.stderr, flush=True)


@contextmanager
def step(title: str) -> Iterator[Step]:
    """Announce a step before it runs and its outcome after, also when it fails."""
    running = Step(title)
    try:
        yield running
    except BaseException:
        running.finish("failed")
        raise
    running.finish("done")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@contextmanager
def readable_errors() -> Iterator[None]:
    """For the main of a script: show a HouseError as its message, and stop tidily on Ctrl-C and on `kill`."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except HouseError as error:
        say(f"\nerror: {error}")
        sys.exit(1)
    except KeyboardInterrupt:
        say("\nstopped")
        sys.exit(130)
