"""Ctrl-C and a polite kill as exceptions, between two steps rather than within one."""

import signal
import threading
import time

PATIENCE = 2.0
"""Seconds within which a signal that comes again is the same one: a terminal and a launcher may both send it."""


class Terminated(SystemExit):
    """SIGTERM: the process was asked to end."""


class Signals:
    """Within it SIGINT and SIGTERM wait until they are asked for with ``noted``; the same later again does not wait.

    Outside the main thread, which alone receives signals, it does nothing.
    """

    def __init__(self):
        self._before: dict[int, object] = {}
        self._first: tuple[float, BaseException] | None = None

    def __enter__(self) -> "Signals":
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def noted(self) -> BaseException | None:
        """KeyboardInterrupt or Terminated, if a signal has come."""
        return self._first and self._first[1]

    def _note(self, number: int, frame) -> None:
        error = KeyboardInterrupt() if number == signal.SIGINT else Terminated(128 + number)
        if self._first is None:
            self._first = time.time(), error
        elif time.time() - self._first[0] > PATIENCE:
            raise error
