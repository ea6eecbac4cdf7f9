"""Files that change whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replaced(path: str | Path, *, shared: bool = False) -> Iterator[Path]:
    """The path of a file beside ``path``, to be written in the block, that takes its place when the block ends.

    An error, a full disk or a kill within leaves ``path`` as it was. ``shared``: other processes may be writing the
    same file at the same time, and the last of them stays.
    """
    path = Path(path)
    beside = path.with_name(f"{path.name}.{os.getpid()}.part" if shared else f"{path.name}.part")
    try:
        yield beside
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
