"""Files of the trainer nodes: what was trained, what an interrupted training leaves, what is known of finished ones.

Trained networks go where the loaders look. In ``output/aqueduct/training`` lie ``<prefix>.resume`` while a training is
unfinished, with ``<prefix>.resume.json``, which says of what it is, and ``<prefix>.resume.samples``, what it made so
far; and a record of each finished one.
"""

import glob
import json
import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import folder_paths
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ...core.whole_file import replaced
from .files import FOLDER, SHIPPED, register_folder

RECORDS = ("aqueduct", "training")
KEY = "aqueduct_training"
Description = dict  # JSON: all that the result of a training depends on


def checked_prefix(prefix: str) -> str:
    """A name with folders, below where files go. Raises ValueError for one that leads elsewhere."""
    path = Path(prefix.strip().replace("\\", "/"))
    if not path.name or path.is_absolute() or ".." in path.parts or re.search(r'[<>:"|?*\x00-\x1f]', str(path)):
        raise ValueError(
            f"filename_prefix {prefix!r} is no name for a file below ComfyUI's folders: take letters, digits and "
            f"dashes, with / for subfolders"
        )
    return path.as_posix()


def target_folder(kind: str) -> Path:
    """The first folder of ComfyUI's ``kind`` (``aqueduct``, ``loras``) that can be written to; the pack's own is not
    asked. Raises ValueError, which says of each why not."""
    if kind == FOLDER:
        register_folder()
    refused = []
    for folder in map(Path, folder_paths.get_folder_paths(kind)):
        if folder.resolve() == SHIPPED:
            continue
        try:
            check_writable(folder)
        except OSError as error:
            refused.append(f"{folder} ({error.strerror or error})")
        else:
            return folder
    listed = "\n  ".join(refused) or "none is listed"
    raise ValueError(
        f"what is trained cannot be saved, for no folder of models/{kind} can be written to:\n  {listed}\n"
        f"Make one of them writable, or add another in extra_model_paths.yaml"
    )


def check_writable(folder: Path) -> None:
    """OSError unless files can be made in it; it is made first if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    probe = folder / f".aqueduct-{os.getpid()}"
    try:
        probe.write_bytes(b"1")
    finally:
        probe.unlink(missing_ok=True)


def next_file(folder: Path, prefix: str) -> Path:
    """The next free ``<folder>/<prefix>_00001.safetensors``; its subfolder is made."""
    path = folder / prefix
    path.parent.mkdir(parents=True, exist_ok=True)
    named = re.compile(re.escape(path.name) + r"_(\d+)\.safetensors")
    taken = [int(found[1]) for file in path.parent.iterdir() if (found := named.fullmatch(file.name))]
    return path.with_name(f"{path.name}_{max(taken, default=0) + 1:05}.safetensors")


@dataclass(frozen=True)
class Unfinished:
    """What an interrupted training of this prefix leaves: ``checkpoint``, and beside it of what it is."""

    checkpoint: Path

    @classmethod
    def of(cls, prefix: str) -> "Unfinished":
        return cls(_records() / f"{prefix}.resume")

    @property
    def description(self) -> Path:
        return self.checkpoint.with_name(self.checkpoint.name + ".json")

    @property
    def samples(self) -> Path:
        return self.checkpoint.with_name(self.checkpoint.name + ".samples")

    def claim(self, description: Description, resume: bool) -> bool:
        """Whether there is something to go on from; else the place is this training's from now on.

        With ``resume`` off what is there goes. Raises ValueError, naming both sides, for a checkpoint of another
        training, and where nothing can be written.
        """
        try:
            check_writable(self.checkpoint.parent)
        except OSError as error:
            raise ValueError(
                f"the training cannot be saved on its way: {self.checkpoint.parent} cannot be written to "
                f"({error.strerror or error})"
            ) from error
        if resume and self.checkpoint.exists():
            self._check(description)
            return True
        self.remove()
        with replaced(self.description) as beside:
            beside.write_text(json.dumps(description, indent=1), encoding="utf-8")
        return False

    def _check(self, description: Description) -> None:
        try:
            theirs = json.loads(self.description.read_text(encoding="utf-8"))
        except (OSError, json.JSONDecodeError) as error:
            raise ValueError(
                f"{self.description}, which says of what training {self.checkpoint.name} is, cannot be read ({error}): "
                f"turn resume off, which throws both away, or take another filename_prefix"
            ) from error
        told = differences(theirs, json.loads(json.dumps(description)))
        if told:
            raise ValueError(
                f"{self.checkpoint} is of another training: {'; '.join(told[:6])}. Set that back to go on with it, "
                f"take another filename_prefix, or turn resume off, which throws it away"
            )

    def remove(self) -> None:
        for path in (self.checkpoint, self.description, self.samples):
            path.unlink(missing_ok=True)


def differences(theirs, ours, name: str = "") -> list[str]:
    """Where two pieces of JSON differ, as ``steps is 100 there and 200 here``."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        keys = dict.fromkeys([*theirs, *ours])
        return [told for key in keys for told in differences(theirs.get(key), ours.get(key), f"{name} {key}".strip())]
    return [] if theirs == ours else [f"{name} is {_short(theirs)} there and {_short(ours)} here"]


def _short(value) -> str:
    text = "not there" if value is None else value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 80 else text[:77] + "..."


@dataclass(frozen=True, eq=False)
class Record:
    """A finished training: its file, its losses, and the samples ``[n, h, w, 3]`` in 0..1 that it made on its way."""

    path: Path
    losses: list[float]
    samples: Tensor | None

    def keep(self, prefix: str, description: Description) -> None:
        stat = self.path.stat()
        told = {"description": description, "path": str(self.path), "size": stat.st_size, "time": stat.st_mtime_ns}
        tensors = {"losses": torch.tensor(self.losses, dtype=torch.float64)}
        if self.samples is not None:
            tensors["samples"] = (self.samples * 255).round().byte().contiguous()
        save_file(tensors, next_file(_records(), prefix), metadata={KEY: json.dumps(told)})

    @classmethod
    def find(cls, prefix: str, description: Description) -> "Record | None":
        """That of a training that would come out the same, if its file is still there as it was. Broken records, as a
        full disk leaves them, are passed over."""
        wanted = json.loads(json.dumps(description))
        place = _records() / prefix
        for file in sorted(place.parent.glob(f"{glob.escape(place.name)}_*.safetensors"), reverse=True):
            with suppress(OSError, KeyError, ValueError, SafetensorError), safe_open(file, "pt") as opened:
                told = json.loads((opened.metadata() or {})[KEY])
                stat = os.stat(told["path"])
                if told["description"] == wanted and [stat.st_size, stat.st_mtime_ns] == [told["size"], told["time"]]:
                    names = opened.keys()
                    samples = opened.get_tensor("samples").float() / 255 if "samples" in names else None
                    return cls(Path(told["path"]), opened.get_tensor("losses").tolist(), samples)
        return None


def _records() -> Path:
    return Path(folder_paths.get_output_directory(), *RECORDS)
