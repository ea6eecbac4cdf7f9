"""Prepared clips with more said of each: what a text or picture encoder makes of them, control images, measurements."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from .dataset import LatentDataset
from .shards import SHARD_BYTES, Clip, Index, write_dataset


def extend(
    source: Path | str, out: Path | str, more: Callable[[Mapping[str, Any]], Mapping[str, Tensor]],
    limit: int = SHARD_BYTES,
) -> Index:  # fmt: skip
    """The data set ``source`` again in ``out``, with the tensors ``more(sample)`` beside those of each clip.

    ``sample`` is what `LatentDataset` gives. Tensors keep the type they have on the disk. Raises ValueError for the
    same folder twice.
    """
    if Path(source).resolve() == Path(out).resolve():
        raise ValueError(f"{out} is what is read: write to another folder")
    dataset = LatentDataset.open(source)

    def samples() -> Iterator[tuple[Clip, Mapping[str, Tensor]]]:
        for i, clip in enumerate(dataset.index.clips):
            yield clip, {name: dataset.stored(i, name) for name in clip.tensors} | dict(more(dataset[i]))

    return write_dataset(Path(out), samples(), dataset.index.settings, limit)
