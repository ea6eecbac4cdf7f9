"""What a run was begun with, kept beside its checkpoint: weights of one training are not to be told as another's."""

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .config import Recipe


def check(recipe: Recipe, checkpoint: Path, main: bool) -> None:
    """Write it where a run begins; where one goes on, raise ValueError naming what has changed.

    Rates, steps, sizes of batches and what is only told may change on the way, so they are not in it.
    """
    path, here = checkpoint.with_suffix(".json"), _begun(recipe)
    if not checkpoint.is_file():
        if main:
            with suppress(OSError):  # where nothing can be written the training says so, on every process
                path.write_text(json.dumps(here, indent=1), encoding="utf-8")
    elif path.is_file():
        there = json.loads(path.read_text(encoding="utf-8"))
        changed = list(_differences(there, here))
        if changed:
            raise ValueError(
                f"{checkpoint} is of another training: {'; '.join(changed)}. Begin anew under another name or without "
                f"that file; to go on all the same, remove {path.name} beside it"
            )


def _begun(recipe: Recipe) -> dict[str, Any]:
    told = {"task": type(recipe.job).__name__, "seed": recipe.seed, "data_seed": recipe.data_seed}
    return json.loads(json.dumps(told | asdict(recipe.job), default=str))  # lists for tuples, as it is read back


def _differences(there: Any, here: Any, key: str = "") -> Iterator[str]:
    if isinstance(there, dict) and isinstance(here, dict):
        for name in sorted({*there, *here} - {"batch"}):
            yield from _differences(there.get(name), here.get(name), f"{key}.{name}" if key else name)
    elif there != here:
        yield f"{key} was {json.dumps(there)}, here it is {json.dumps(here)}"
