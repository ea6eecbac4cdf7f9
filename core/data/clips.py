"""What there is to learn from in a folder: videos, runs of numbered frames, pictures; captions and classes of them."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

VIDEOS = {".mp4", ".mov", ".m4v", ".webm", ".mkv", ".gif", ".avi"}
PICTURES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"}
_NUMBER = re.compile(r"^(.*?)(\d+)$", re.DOTALL)


class Unreadable(Exception):
    """A file, or a frame of it, that cannot be used: ``path`` and ``why``."""

    def __init__(self, path: str, why: str):
        super().__init__(path, why)
        self.path, self.why = path, why

    def __str__(self) -> str:
        return f"{self.path}: {self.why}"


@dataclass(frozen=True)
class Source:
    """A video, a picture, or a run of numbered frames.

    ``name``: of its first file, relative to the folder it was found in, with forward slashes. ``files``: full paths,
    several for a run. ``bytes``: what they weigh together. ``caption`` from the .txt beside it, ``label`` the number of
    its class.
    """

    name: str
    files: tuple[str, ...]
    bytes: int
    caption: str | None = None
    label: int | None = None

    @property
    def is_video(self) -> bool:
        return Path(self.files[0]).suffix.lower() in VIDEOS


def find(folder: Path, runs: bool = True) -> list[Source]:
    """All there is in ``folder`` and its subfolders, by name; hidden files are left alone.

    Pictures of one folder whose names differ in a number that counts up by one are a run, the frames of one clip; a
    gap ends it, and one with a caption of its own begins another. Without ``runs`` each is a clip of its own.

    A caption lies beside its file under the same name (``walk.mp4``, ``walk.txt``); that of a run beside its first
    frame or, as ``walk.txt`` beside ``walk/0001.png``, beside its folder. If all lies in subfolders, the first of them
    names the class, numbered in the order of the names.

    Raises FileNotFoundError if there is no such folder, ValueError if it holds none of these.
    """
    return _labelled(_found(Path(folder), runs))


def find_all(folders: Sequence[Path], runs: bool = True) -> list[Source]:
    """`find` in several folders, as if they were the subfolders of one, called as `titles` has it. One is looked at by
    itself."""
    if len(folders) == 1:
        return find(folders[0], runs)
    found = []
    for folder, title in zip(folders, titles(folders), strict=True):
        found += [replace(source, name=f"{title}/{source.name}") for source in _found(Path(folder), runs)]
    return _labelled(sorted(found, key=lambda source: source.name))


def titles(folders: Sequence[Path]) -> list[str]:
    """The names of folders; of several with one name the second is ``name (2)``."""
    names = [Path(folder).resolve().name for folder in folders]
    before = [names[:n].count(name) for n, name in enumerate(names)]
    return [f"{name} ({count + 1})" if count else name for name, count in zip(names, before, strict=True)]


def _found(folder: Path, runs: bool) -> list[Source]:
    """Without classes."""
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}")
    files = sorted(path for path in folder.rglob("*") if _counts(path, folder))
    videos = [(path,) for path in files if path.suffix.lower() in VIDEOS]
    pictures = [path for path in files if path.suffix.lower() in PICTURES]
    grouped = _runs(pictures) if runs else [(path,) for path in pictures]
    sources = sorted((_source(folder, run) for run in [*videos, *grouped]), key=lambda source: source.name)
    if not sources:
        endings = ", ".join(sorted(ending[1:] for ending in VIDEOS | PICTURES))
        raise ValueError(f"{folder} holds no videos and no pictures (looked for {endings}, in its subfolders too)")
    return sources


def _labelled(sources: list[Source]) -> list[Source]:
    names = class_names(sources)
    return [replace(source, label=names.index(_top(source))) if names else source for source in sources]


def class_names(sources: Iterable[Source]) -> list[str]:
    """The classes of `find`, in the order of their numbers; none if not all lies in two subfolders or more."""
    tops = {_top(source) for source in sources}
    return sorted(tops) if len(tops) > 1 and "" not in tops else []


def _counts(path: Path, folder: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
    return not hidden and path.suffix.lower() in VIDEOS | PICTURES and path.is_file()


def _runs(pictures: Iterable[Path]) -> list[tuple[Path, ...]]:
    """Pictures in runs of consecutive numbers; one without a neighbour is a run of its own."""
    runs: list[list[Path]] = []
    due = None  # what the next of the run would be called
    for *series, number, path in sorted((*_numbered(path), path) for path in pictures):
        if number < 0 or [*series, number] != due or path.with_suffix(".txt").is_file():
            runs.append([])
        runs[-1].append(path)
        due = [*series, number + 1]
    return [tuple(run) for run in runs]


def _numbered(path: Path) -> tuple[str, str, str, int]:
    """Folder, name before the number, ending, number; -1 without one."""
    found = _NUMBER.match(path.stem)
    stem, number = (found[1], int(found[2])) if found else (path.stem, -1)
    return str(path.parent), stem, path.suffix.lower(), number


def _source(folder: Path, files: tuple[Path, ...]) -> Source:
    name = files[0].relative_to(folder).as_posix()
    size = sum(path.stat().st_size for path in files)
    return Source(name, tuple(str(path) for path in files), size, _caption(folder, files))


def _caption(folder: Path, files: tuple[Path, ...]) -> str | None:
    beside = [files[0].with_suffix(".txt")]
    if len(files) > 1 and files[0].parent != folder:
        beside.append(files[0].parent.with_name(files[0].parent.name + ".txt"))
    text = next((path for path in beside if path.is_file()), None)
    return None if text is None else " ".join(text.read_text(encoding="utf-8", errors="replace").split())


def _top(source: Source) -> str:
    """The first subfolder on the way to a video or picture, "" for one in the folder itself.

    A run counts as the folder it lies in, which holds one clip and is no class.
    """
    parts = source.name.split("/")[: -2 if len(source.files) > 1 and "/" in source.name else -1]
    return parts[0] if parts else ""
