"""What `emg.py` has measured so far: a JSON file that is written after every row, so that a run can be taken up."""

import json
import time
from collections.abc import Callable
from pathlib import Path


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
        rounded = json.loads(json.dumps(self.result), parse_float=lambda text: float(f"{float(text):.5g}"))
        beside = self.path.with_suffix(".part")
        beside.write_text(_lines(rounded) + "\n")
        beside.replace(self.path)


def _lines(value, indent: str = "") -> str:
    """JSON with lists on one line: most of this file is a value for each clip or frame."""
    if not isinstance(value, dict):
        return json.dumps(value)
    inside = indent + " "
    rows = [f"{inside}{json.dumps(key)}: {_lines(one, inside)}" for key, one in value.items()]
    return "{\n" + ",\n".join(rows) + "\n" + indent + "}"
