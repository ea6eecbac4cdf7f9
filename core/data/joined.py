"""Several prepared folders as one data set: one prepared in parts, or with more clips than before."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from .dataset import LatentDataset
from .shards import Clip, Index

SETTINGS = {"latents": "VAEs", "motion": "motion", "text": "text encoders", "classes": "classes"}


def joined(folders: Sequence[Path | str]) -> LatentDataset:
    """The clips of all, in the order of the folders, so that batches follow from seed and step as those of one folder.

    They may be of other sizes and lengths, and may be stored in another dtype. Raises what `LatentDataset.open` raises;
    and ValueError for none, for one named twice, and, naming both, for folders whose VAE, motion, text encoders,
    classes, tensors or captions differ.
    """
    sets = [LatentDataset.open(folder) for folder in folders]
    if not sets:
        raise ValueError("no folder of prepared data is named")
    if len(sets) == 1:
        return sets[0]
    places = [one.folder.resolve() for one in sets]
    if twice := [place for place in places if places.count(place) > 1]:
        raise ValueError(f"{twice[0]} is named twice: once is enough, every clip is seen once an epoch")
    for one in sets[1:]:
        _check_alike(sets[0], one)
    clips = tuple(clip for one, place in zip(sets, places, strict=True) for clip in _placed(one.index.clips, place))
    skipped = tuple(one for each in sets for one in each.index.skipped)
    return LatentDataset(sets[0].folder, Index(sets[0].index.settings, clips, skipped))


def _check_alike(first: LatentDataset, other: LatentDataset) -> None:
    here, there = _kept(first.index), _kept(other.index)
    for what, value in here.items():
        if there[what] != value:
            raise ValueError(
                f"{first.folder} and {other.folder} are not one data set, since their {what} differ: {value} and "
                f"{there[what]}. Prepare them alike, or train on one after the other"
            )


def _kept(index: Index) -> dict[str, object]:
    """What trainings rely on, by what it is called."""
    made = {called: index.settings.get(key) for key, called in SETTINGS.items()}
    captions = sum(clip.caption is not None for clip in index.clips)
    return made | {
        "tensors": sorted({name for clip in index.clips for name in clip.tensors}),
        "captions": "none" if not captions else "of all" if captions == len(index.clips) else "of some",
    }


def _placed(clips: Sequence[Clip], folder: Path) -> list[Clip]:
    """With the whole paths of their shards, each of which they share."""
    paths = {clip.shard: str(folder / clip.shard) for clip in clips}
    return [replace(clip, shard=paths[clip.shard]) for clip in clips]
