"""What a benchmark has measured before, so that `--only` adds to it."""

import json
from pathlib import Path


def previous(path: Path, settings: dict) -> dict:
    """The results in ``path`` if they were measured under the same settings, else an empty dictionary."""
    old = json.loads(path.read_text()) if path.exists() else {}
    return old if all(old.get(key) == value for key, value in settings.items()) else {}
