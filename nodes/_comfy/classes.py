"""Class conditioning: names or indices as a user writes them -> indices of a model."""

import torch

NULL_NAMES = ("none", "null", "")


def class_indices(wanted: str | None, names: list[str], clips: int) -> torch.Tensor:
    """``[clips]`` indices. ``wanted`` is one name or index, or one per clip separated by commas; ``none`` is the null
    class (index ``len(names)``) of classifier-free guidance. Raises ValueError naming what the model knows."""
    if wanted is None:
        raise ValueError(
            "this model is conditioned on a class and the CONDITIONING holds none: wire AqueductMotionClass to "
            "positive and, for CFG, another one set to 'none' to negative"
        )
    indices = [_index(word.strip(), names) for word in wanted.split(",")]
    if clips % len(indices):
        raise ValueError(
            f"{len(indices)} classes for {clips} clips: give one class, or one per clip, separated by commas"
        )
    return torch.tensor(indices).repeat_interleave(clips // len(indices))


def _index(word: str, names: list[str]) -> int:
    if word.lower() in NULL_NAMES:
        return len(names)
    lowered = [name.lower() for name in names]
    if word.lower() in lowered:
        return lowered.index(word.lower())
    if word.isdigit() and int(word) < len(names):
        return int(word)
    shown = ", ".join(names[:12]) + (f", ... ({len(names)} in all)" if len(names) > 12 else "")
    raise ValueError(f"class {word!r} is unknown: this model knows 0 to {len(names) - 1} ({shown}), or 'none'")
