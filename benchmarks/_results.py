"""Results of a benchmark as files: what was measured before, and how numbers are written."""

import json
from pathlib import Path


def previous(path: Path, settings: dict) -> dict:
    """The results in ``path`` if they were measured under the same settings, else an empty dictionary."""
    old = json.loads(path.read_text()) if path.exists() else {}
    return old if all(old.get(key) == value for key, value in settings.items()) else {}


def rounded(result: dict) -> dict:
    """Five digits are enough."""
    return json.loads(json.dumps(result), parse_float=lambda text: float(f"{float(text):.5g}"))


def as_text(result: dict) -> str:
    """JSON with lists on one line: most of these files is a value for each clip or frame."""
    return _lines(result) + "\n"


def _lines(value, indent: str = "") -> str:
    if not isinstance(value, dict):
        return json.dumps(value)
    inside = indent + " "
    rows = [f"{inside}{json.dumps(key)}: {_lines(one, inside)}" for key, one in value.items()]
    return "{\n" + ",\n".join(rows) + "\n" + indent + "}"
