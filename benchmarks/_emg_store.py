"""What `emg.py` has measured so far: a JSON file that is written after every row, so that a run can be taken up."""

import json
import time
from collections.abc import Callable
from pathlib import Path

from _results import as_text, rounded


class Store:
    """``once(part, row, digest, measure)``: the row if it is there and was measured with the same files.

    ``path`` None keeps nothing.
    """

    def __init__(self, path: Path | None, settings: dict, again: tuple[str, ...] = ()):
        self.path = path
        old = json.loads(path.read_text()) if path is not None and path.exists() else {}
        same = all(old.get(key) == value for key, value in settings.items())
        self.result = {**(old if same else {}), **settings}
        for part in again:
            self.result.pop(part, None)

    def once(self, part: str, row: str, digest: str, measure: Callable[[], dict]) -> dict:
        rows = self.result.setdefault(part, {})
        if rows.get(row, {}).get("digest") != digest:
            started = time.monotonic()
            rows[row] = {"digest": digest, **measure(), "took_s": time.monotonic() - started}
            print(f"{part}: {row}: {rows[row]['took_s']:.0f} s", flush=True)
            self.save()
        return rows[row]

    def save(self) -> None:
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        beside = self.path.with_suffix(".part")
        beside.write_text(as_text(rounded(self.result)))
        beside.replace(self.path)
