"""Prepared clips on the disk: safetensors files of bounded size, each with its own table of contents, and an index.

A folder holds ``shard-00000.safetensors``, ``shard-00001.safetensors``, ... and ``index.json``. A shard is written
beside and renamed, so that it is whole or absent, and says in its metadata which clips it holds, which it could not,
and from which plan it was made: the index is put together from the shards alone, and a run that was killed goes on with
those that are missing. Nothing of it depends on when, where or in how many processes it was written.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ..whole_file import replaced

FORMAT = 1
INDEX = "index.json"
METADATA_KEY = "aqueduct"
SHARD_BYTES = 256 * 2**20


@dataclass(frozen=True)
class Skipped:
    """A file, or a part of one, that is not in the data, and why."""

    path: str
    why: str


@dataclass(frozen=True, slots=True)
class Clip:
    """One clip in the index.

    ``path``: its source, relative to the folder that was prepared, with forward slashes. ``first, last``: its frames
    in the source, counted from 0. ``label``: the number of its class. ``tensors``: name -> its key in ``shard``;
    ``shapes``: name -> its shape.
    """

    path: str
    first: int = 0
    last: int = 0
    caption: str | None = None
    label: int | None = None
    shard: str = ""
    tensors: dict[str, str] = field(default_factory=dict)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Index:
    """What a folder of shards holds. ``settings``: how it was made; JSON."""

    settings: dict
    clips: tuple[Clip, ...]
    skipped: tuple[Skipped, ...]


class ShardWriter:
    """One shard in the making: clips are added, then it is written at once.

    ``plan`` says what the shard was meant to hold (a digest of it, say); see `written`.
    """

    def __init__(self, folder: Path, number: int, plan: str = ""):
        self.path, self.plan = Path(folder) / shard_name(number), plan
        self.clips: list[Clip] = []
        self.skipped: list[Skipped] = []
        self.tensors: dict[str, Tensor] = {}
        self.size = 0

    def add(self, clip: Clip, tensors: Mapping[str, Tensor]) -> None:
        """``clip`` says where it comes from; its place in the shard is filled in here."""
        keys = {name: f"{len(self.clips):05d}.{name}" for name in sorted(tensors)}
        shapes = {name: tuple(tensors[name].shape) for name in keys}
        self.clips.append(replace(clip, shard=self.path.name, tensors=keys, shapes=shapes))
        for name, key in keys.items():
            # A copy: safetensors refuses tensors that share memory, and a view would keep its whole base alive.
            self.tensors[key] = tensors[name].detach().cpu().clone(memory_format=torch.contiguous_format)
            self.size += self.tensors[key].nbytes

    def skip(self, path: str, why: str) -> None:
        self.skipped.append(Skipped(path, why))

    def write(self) -> Path:
        """The shard, whole, even if nothing of its plan could be used. Raises OSError that names the folder."""
        table = {
            "format": FORMAT,
            "plan": self.plan,
            "clips": [asdict(clip) for clip in self.clips],
            "skipped": [asdict(one) for one in self.skipped],
        }
        # One entry: safetensors writes several in no certain order.
        put(self.path, save(self.tensors, {METADATA_KEY: json.dumps(table, sort_keys=True)}))
        return self.path


def shard_name(number: int) -> str:
    return f"shard-{number:05d}.safetensors"


def put(path: Path, content: bytes) -> None:
    """The file with ``content``, whole or as it was. Raises OSError that names the file and the way out."""
    try:
        with replaced(path, shared=True) as beside:
            beside.write_bytes(content)
    except OSError as error:
        raise OSError(
            f"{path} cannot be written ({error}): free some space, or choose another output folder; what is there is "
            f"whole, and the same run goes on from it"
        ) from error


def written(folder: Path, number: int, plan: str) -> bool:
    """Whether that shard is there and was made from this plan."""
    try:
        return _table(Path(folder) / shard_name(number))["plan"] == plan
    except (OSError, ValueError):
        return False


def write_index(folder: Path, settings: Mapping, shards: int, skipped: Sequence[Skipped] = ()) -> Index:
    """The index of shards 0 to ``shards - 1``; others are removed. ``skipped``: what came into no shard's plan."""
    folder = Path(folder)
    names = [shard_name(number) for number in range(shards)]
    tables = [_table(folder / name) for name in names]
    for old in sorted(set(folder.glob("shard-*.safetensors")) - {folder / name for name in names}):
        old.unlink()
    left_out = [asdict(one) for one in skipped] + [one for table in tables for one in table["skipped"]]
    content = {
        "format": FORMAT,
        "settings": dict(settings),
        "clips": [clip for table in tables for clip in table["clips"]],
        "skipped": sorted(left_out, key=lambda one: (one["path"], one["why"])),
    }
    put(folder / INDEX, (_lines(content) + "\n").encode())
    return read_index(folder)


def write_dataset(
    folder: Path, samples: Iterable[tuple[Clip, Mapping[str, Tensor]]], settings: Mapping, limit: int = SHARD_BYTES
) -> Index:
    """Shards of at most ``limit`` bytes of tensors (or of one clip) from clips in memory, and their index."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    writer, number = ShardWriter(folder, 0), 0
    for clip, tensors in samples:
        if writer.clips and writer.size + sum(tensor.nbytes for tensor in tensors.values()) > limit:
            writer.write()
            number += 1
            writer = ShardWriter(folder, number)
        writer.add(clip, tensors)
    writer.write()
    return write_index(folder, settings, number + 1)


def read_index(folder: Path) -> Index:
    """Raises FileNotFoundError where nothing was prepared (to the end), ValueError for what is no index."""
    path = Path(folder) / INDEX
    if not Path(folder).is_dir():
        raise FileNotFoundError(f"there is no folder {folder}; scripts/prepare.py makes one of videos")
    if not path.is_file():
        raise FileNotFoundError(
            f"{folder} holds no {INDEX}: it is no prepared data set, or its preparation did not come to the end (start "
            f"it again, it goes on)"
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON ({error}): it is damaged; prepare the data again") from error
    found = content.get("format") if isinstance(content, dict) else None
    if found != FORMAT:
        raise ValueError(f"{path} has format {found}, this version reads format {FORMAT}: prepare the data again")
    return Index(content["settings"], _clips(content["clips"]), tuple(Skipped(**one) for one in content["skipped"]))


def _clips(rows: list[dict]) -> tuple[Clip, ...]:
    """Clips of one shape share it, and shards their keys: a million clips are to fit into memory."""
    shared: dict = {}
    clips = []
    for row in rows:
        shapes = {name: tuple(shape) for name, shape in row["shapes"].items()}
        shapes = shared.setdefault(tuple(shapes.items()), shapes)
        keys = shared.setdefault(tuple(row["tensors"].values()), row["tensors"])
        shard = shared.setdefault(row["shard"], row["shard"])
        clips.append(Clip(**{**row, "shapes": shapes, "tensors": keys, "shard": shard}))
    return tuple(clips)


def _table(path: Path) -> dict:
    """What a shard says of itself. Raises OSError if it is not there, ValueError if it is damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            return json.loads((file.metadata() or {})[METADATA_KEY])
    except (SafetensorError, KeyError) as error:
        raise ValueError(f"{path} is no shard of a data set ({error}): delete it and prepare again") from error


def _lines(content: dict) -> str:
    """JSON with one clip, and one skipped file, a line: to be looked at, and compared."""
    parts = []
    for name, value in content.items():
        if isinstance(value, list):
            rows = ",\n".join(json.dumps(row, sort_keys=True) for row in value)
            parts.append(f"{json.dumps(name)}: [\n{rows}\n]" if rows else f"{json.dumps(name)}: []")
        else:
            parts.append(f"{json.dumps(name)}: {json.dumps(value, sort_keys=True)}")
    return "{" + ",\n".join(parts) + "}"
