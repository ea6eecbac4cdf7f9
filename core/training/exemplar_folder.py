"""Triples to learn exemplar-guided translation from, out of a folder of pictures."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from .exemplar_pairs import PhotoControl, Triples
from .restoration import pyramid

ENDINGS = {".png", ".jpg", ".jpeg", ".webp", ".bmp"}


class Unreadable(Exception):
    """A file whose picture cannot be read: its path, and why."""


class ExemplarFolder:
    """Triples of ``size`` pixels from the pictures in ``folder`` and its subfolders.

    ``control``: a function of the photographs (`controls.canny`), or the folder in which control images lie under the
    names of the photographs, subfolders included, in the same sizes. Those are shown as they are, so class maps need
    colours far apart (`controls.mask_map`).

    The exemplars of a photograph are

    - what ``pairs`` names: a file of lines "target,exemplar" or "target,exemplar,exemplar...", relative to ``folder``
      (CoCosNet's lists; blanks will do for commas). Only its targets are asked for then.
    - Else the other pictures of its subfolder, which should hold one person, or one style, each.
    - Else, if it is alone there or lies in ``folder`` itself, another crop of the same picture.

    A crop has a picture's shorter side whole; two crops of one picture are half or two thirds of it wide where the
    picture is large enough. Nothing is mirrored, for a pose has a left and a right.

    ``partners`` maps each target to the pictures that its exemplar is one of, itself only where there is no other
    (another crop of it then); ``skipped`` maps each file that cannot be used to the reason. Sizes are read at once,
    pixels when drawn; a file that then proves broken joins ``skipped`` (see `settle`). Raises ValueError when nothing
    usable is left, for a control of another size than its photograph, and for pairs that name files which are not
    there.
    """

    def __init__(self, folder: Path, size: int, control: PhotoControl | Path, pairs: Path | None = None):
        self.folder, self.size = Path(folder), size
        self.skipped: dict[Path, str] = {}
        self.controls: dict[Path, Path] = {}
        self.control = control if callable(control) else None
        beside = None if callable(control) else Path(control)
        sizes = self._sizes(beside)
        if pairs is None:
            self.partners = self._same_subfolder(sizes)
        else:
            self.partners = self._named(Path(pairs), sizes)
        if beside is not None:
            self._find_controls(beside, sizes)
        self._check_left()

    def sample(self, count: int, generator: torch.Generator) -> Triples:
        """Every target is as likely, and every exemplar of it."""
        rows = zip(*(self._one(generator) for _ in range(count)), strict=True)
        photos, controls, exemplars = (torch.stack(crops).float() / 127.5 - 1 for crops in rows)
        if self.control is not None:
            controls = 2 * self.control((photos + 1) / 2).expand_as(photos) - 1
        return Triples(controls, photos, exemplars)

    def settle(self, report: Callable[[int, int], None] = lambda done, total: None) -> "ExemplarFolder":
        """Read every file once, so that what is broken is set aside now: from then on what is drawn depends on nothing
        but the generator, and a training that was stopped goes on with the same pictures."""
        paths = dict.fromkeys(path for target, group in self.partners.items() for path in (target, *group))
        paths = [*paths, *dict.fromkeys(self.controls[path] for path in paths if path in self.controls)]
        for done, path in enumerate(paths, 1):
            try:
                _read(path)
            except Unreadable as broken:
                self._set_aside(*broken.args)
            report(done, len(paths))
        for target in [path for path, group in self.partners.items() if group == [path]]:
            if max(_size(target)) == self.size:  # alone only since others were set aside
                self._set_aside(target, self._no_room())
        self._check_left()
        return self

    def _sizes(self, beside: Path | None) -> dict[Path, tuple[int, int]]:
        """(height, width) of every picture that can be used, in the order of the names."""
        if not self.folder.is_dir():
            raise ValueError(f"there is no folder {self.folder}")
        sizes = {}
        for path in _pictures(self.folder):
            if beside is not None and beside in path.parents:
                continue
            try:
                sizes[path] = _size(path)
            except Unreadable as broken:
                self.skipped[path] = broken.args[1]
        for path in [path for path, size in sizes.items() if min(size) < self.size]:
            height, width = sizes.pop(path)
            self.skipped[path] = f"too small: {width} x {height} pixels, and {self.size} are needed on both sides"
        return sizes

    def _same_subfolder(self, sizes: dict[Path, tuple[int, int]]) -> dict[Path, list[Path]]:
        """All pictures of a subfolder share one list; those directly in the folder are strangers to each other."""
        together = defaultdict(list)
        for path in sizes:
            together[path if path.parent == self.folder else path.parent].append(path)
        partners = {path: group for group in together.values() for path in group}
        for path in [path for path, group in partners.items() if len(group) == 1 and max(sizes[path]) == self.size]:
            del partners[path]
            self.skipped[path] = self._no_room()
        return partners

    def _no_room(self) -> str:
        return f"alone, and too small for two different crops of {self.size} pixels"

    def _named(self, pairs: Path, sizes: dict[Path, tuple[int, int]]) -> dict[Path, list[Path]]:
        named = defaultdict(list)
        for number, line in enumerate(pairs.read_text(encoding="utf-8").splitlines(), 1):
            names = [name.strip().replace("\\", "/") for name in (line.split(",") if "," in line else line.split())]
            if not any(names):
                continue
            if len(names) < 2 or not all(names):
                raise ValueError(f'{pairs}, line {number} is {line!r}: "target,exemplar" was expected')
            target, *exemplars = (self.folder / name for name in names)
            named[target] += exemplars
        all_names = dict.fromkeys(path for target, exemplars in named.items() for path in (target, *exemplars))
        missing = [path for path in all_names if path not in sizes and path not in self.skipped]
        if missing:
            raise ValueError(
                f"{pairs} names {len(missing)} pictures that are not there, the first {missing[0]}: names are relative "
                f"to {self.folder}, with their endings"
            )
        partners = {}
        for target in [target for target in named if target in sizes]:
            partners[target] = [path for path in dict.fromkeys(named[target]) if path in sizes]
            if not partners[target]:
                del partners[target]
                self.skipped[target] = "none of its exemplars can be used"
        return partners

    def _find_controls(self, beside: Path, sizes: dict[Path, tuple[int, int]]) -> None:
        by_name = defaultdict(list)
        for path in _pictures(beside):
            by_name[path.relative_to(beside).with_suffix("")].append(path)
        for target in list(self.partners):
            name = target.relative_to(self.folder).with_suffix("")
            found = by_name[name]
            if len(found) > 1:
                raise ValueError(f"{target} has more than one control: {', '.join(map(str, found))}; keep one")
            try:
                if not found:
                    raise Unreadable(target, f"there is no control {name} in {beside}")
                (height, width), (own_height, own_width) = _size(found[0]), sizes[target]
            except Unreadable as lacking:
                del self.partners[target]
                self.skipped[lacking.args[0]] = lacking.args[1]
                continue
            if (height, width) != (own_height, own_width):
                raise ValueError(
                    f"the control {found[0]} is {width} x {height} pixels and its photograph {target} "
                    f"{own_width} x {own_height}: they must be of one size, or they would not lie on each other"
                )
            self.controls[target] = found[0]

    def _check_left(self) -> None:
        if not self.partners:
            reasons = [f"{path}: {why}" for path, why in self.skipped.items()]
            shown = "; ".join(reasons[:3]) or f"it holds no {', '.join(sorted(ENDINGS))}"
            raise ValueError(f"no picture in {self.folder} can be used ({shown})")

    def _one(self, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Crops uint8 of a photograph, its control (without channels if it is a function's) and an exemplar."""
        while True:
            target = exemplar = _any(list(self.partners), generator)
            while exemplar == target and self.partners[target] != [target]:
                exemplar = _any(self.partners[target], generator)
            try:
                return self._crops(target, exemplar, generator)
            except Unreadable as broken:
                self._set_aside(*broken.args)
                self._check_left()

    def _crops(self, target: Path, exemplar: Path, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        photo = _read(target)
        shorter, native = self.size, min(photo.shape[1:])
        if exemplar == target:
            if max(photo.shape[1:]) == self.size:
                raise Unreadable(target, self._no_room())
            shorter = _any([s for s in (2 * self.size, 3 * self.size // 2) if s <= native] or [native], generator)
        (photo,) = pyramid(photo, [shorter])
        control = photo[:0]
        if self.controls:  # to the nearest: no colours between those of two classes
            control = F.interpolate(_read(self.controls[target])[None], photo.shape[1:], mode="nearest-exact")[0]
        (other,) = [photo] if exemplar == target else pyramid(_read(exemplar), [shorter])
        both = _window(torch.cat([photo, control]), self.size, generator)
        return both[:3], both[3:], _window(other, self.size, generator)

    def _set_aside(self, broken: Path, why: str) -> None:
        """A file, photograph or control, that cannot be read after all; nothing asks for it any more."""
        self.skipped[broken] = why
        for group in {id(group): group for group in self.partners.values()}.values():
            if broken in group:
                group.remove(broken)
        for target, group in list(self.partners.items()):
            if broken in (target, self.controls.get(target)) or not group:
                del self.partners[target]
                self.skipped.setdefault(target, "its control, or the last of its exemplars, cannot be read")


def _any(options: Sequence, generator: torch.Generator):
    return options[int(torch.randint(len(options), (), generator=generator))]


def _window(picture: Tensor, size: int, generator: torch.Generator) -> Tensor:
    top, left = (int(torch.randint(side - size + 1, (), generator=generator)) for side in picture.shape[1:])
    return picture[:, top : top + size, left : left + size]


def _pictures(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in ENDINGS)


def _opened(path: Path, use: Callable):
    """What ``use`` makes of the picture at ``path``, turned upright as its camera says."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            return use(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as why:  # all that Pillow raises
        raise Unreadable(path, f"cannot be read: {why}") from why


def _on_its_side(image) -> bool:
    """Whether the camera lay so. Of a PNG it is not asked: Pillow would read all its pixels to tell."""
    return image.format != "PNG" and image.getexif().get(0x0112, 1) >= 5


def _size(path: Path) -> tuple[int, int]:
    """(height, width), from the header alone."""
    return _opened(path, lambda image: image.size if _on_its_side(image) else image.size[::-1])


def _read(path: Path) -> Tensor:
    """uint8 ``[3, h, w]``."""
    from PIL import ImageOps

    def use(image) -> Tensor:
        picture = (image if image.format == "PNG" else ImageOps.exif_transpose(image)).convert("RGB")
        pixels = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8)
        return pixels.view(picture.height, picture.width, 3).movedim(-1, 0)

    return _opened(path, use)
