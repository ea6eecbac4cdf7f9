"""Motion on disk: Middlebury ``.flo`` fields, which every optical-flow tool reads, and one safetensors file for a clip.

``docs/formats.md`` describes both. What is read is checked before it becomes motion.
"""

import re
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from ..tensor_file import TensorFile, differences, open_tensors, shortened
from ..whole_file import replaced
from .field import MotionField

FORMAT, VERSION = "aqueduct-motion", "1"
CONVENTIONS = (
    "Pixels, channels (x, y), pixel centres at integers. forward[i] lives on frame i: p is at p + forward[i](p) in "
    "frame i+1. backward[i] lives on frame i+1: p was at p + backward[i](p) in frame i. Validity: True where known."
)
FIELDS, MASKS = ("forward", "backward"), ("forward_valid", "backward_valid")

TAG = b"PIEH"  # the float32 202021.25, little-endian
HEADER = 12
UNKNOWN, LIMIT = 1e10, 1e9  # what is written for an unknown vector; components beyond the limit are unknown


def save_motion(path: str | Path, motion: MotionField, dtype: torch.dtype = torch.float32) -> None:
    """A file if ``path`` ends in ``.safetensors``, else a new folder of ``.flo`` files (created when missing).

    The file keeps everything; ``dtype`` float16 halves it at the price of precision (vectors rounded by one part in
    2048). A folder is always float32, and forgets the vectors that are marked as unknown.

    Raises ValueError for another dtype, for vectors over 65504 pixels in float16 and for a path that ends in ``.flo``,
    FileExistsError for a folder with ``.flo`` files in it, which would become part of this motion.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        _save_file(path, motion, dtype)
    elif path.suffix == ".flo":
        raise ValueError(
            f"a .flo file holds one field; save motion to a folder or a .safetensors file, not {path.name}"
        )
    else:
        _save_folder(path, motion)


def load_motion(path: str | Path) -> MotionField:
    """The motion in a safetensors file, in a single ``.flo`` file (two frames), or in a folder of ``.flo`` files.

    The folder holds ``forward_00000.flo`` and so on, and perhaps ``backward_00000.flo`` as many; or, as data sets come,
    forward fields of any one name and consecutive numbers (``frame_0001.flo``, ``frame_0002.flo``, ...).

    Raises FileNotFoundError, and ValueError naming the file and what is wrong with it.
    """
    path = Path(path)
    if path.is_dir():
        return _load_folder(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    with open(path, "rb") as file:
        start = file.read(len(TAG))
    flo = start == TAG or (start and path.suffix == ".flo")
    return _stacked([path]) if flo else _load_file(open_tensors(path))


def write_flo(path: str | Path, flow: Tensor, valid: Tensor | None = None) -> None:
    """``flow [2, H, W]`` in Middlebury's format; vectors that are not ``valid`` (bool ``[H, W]``) as 1e10."""
    if flow.ndim != 3 or flow.shape[0] != 2:
        raise ValueError(f"a .flo file holds one field [2, height, width], got {list(flow.shape)}")
    pixels = flow.detach().to("cpu", torch.float32).permute(1, 2, 0)
    if not pixels.abs().le(LIMIT).all():
        raise ValueError(
            f"vectors must be finite and under {LIMIT:g} pixels: beyond that they mean unknown in .flo files"
        )
    if valid is not None:
        pixels = pixels.where(valid.cpu()[..., None], UNKNOWN)  # a new tensor: the caller's field stays as it is
    size = np.array([flow.shape[2], flow.shape[1]], dtype="<i4")
    Path(path).write_bytes(TAG + size.tobytes() + pixels.numpy().astype("<f4", copy=False).tobytes("C"))


def read_flo(path: str | Path) -> tuple[Tensor, Tensor]:
    """``flow`` float32 ``[2, H, W]`` and ``valid`` bool ``[H, W]``; unknown vectors (NaN, or beyond 1e9) are zero."""
    path = Path(path)
    data = path.read_bytes()
    if data[: len(TAG)] != TAG:
        raise ValueError(f"{path.name} is no .flo file: it begins with {data[:4]!r}, not with {TAG!r}")
    if len(data) < HEADER:
        raise ValueError(f"{path.name} is cut short: {len(data)} bytes, its header alone has {HEADER}")
    width, height = (int(n) for n in np.frombuffer(data, "<i4", 2, len(TAG)))
    if width < 1 or height < 1:
        raise ValueError(f"{path.name} says it is {width} x {height} pixels; it is damaged")
    expected = HEADER + 8 * width * height
    if len(data) != expected:
        what = "is cut short" if len(data) < expected else "is too long"
        raise ValueError(f"{path.name} {what}: {len(data)} bytes, {width} x {height} pixels are {expected}")
    vectors = np.frombuffer(data, "<f4", offset=HEADER).reshape(height, width, 2)
    valid = (np.abs(vectors) <= LIMIT).all(-1)  # False for NaN, too
    known = np.where(valid[..., None], vectors, np.float32(0))
    return torch.from_numpy(np.ascontiguousarray(known.transpose(2, 0, 1), dtype=np.float32)), torch.from_numpy(valid)


def _save_file(path: Path, motion: MotionField, dtype: torch.dtype) -> None:
    if dtype not in (torch.float32, torch.float16):
        raise ValueError(f"motion is saved as float32 or float16, not as {dtype}")
    tensors = {}
    for name in FIELDS + MASKS:
        value = getattr(motion, name)
        if value is not None:
            value = value.detach().to("cpu", torch.bool if name in MASKS else dtype).contiguous()
            # Two names may be one tensor (a still motion there and back), which safetensors refuses.
            tensors[name] = value.clone() if any(_overlap(value, other) for other in tensors.values()) else value
    if not all(tensors[name].isfinite().all() for name in FIELDS if name in tensors):
        raise ValueError("vectors over 65504 pixels do not fit into float16; save this motion as float32")
    numbers = {"frames": motion.frames, "height": motion.height, "width": motion.width}
    metadata = {"format": FORMAT, "version": VERSION, **{key: str(value) for key, value in numbers.items()}}
    path.parent.mkdir(parents=True, exist_ok=True)
    with replaced(path) as beside:
        save_file(tensors, beside, metadata={**metadata, "conventions": CONVENTIONS})


def _overlap(a: Tensor, b: Tensor) -> bool:
    """Whether two contiguous tensors share memory."""
    return a.data_ptr() < b.data_ptr() + b.nbytes and b.data_ptr() < a.data_ptr() + a.nbytes


def _load_file(file: TensorFile) -> MotionField:
    found = file.metadata.get("format")
    if found != FORMAT:
        what = "its metadata names no format" if found is None else f"its format is {found!r}"
        raise ValueError(f"{file.name} holds no motion ({what}, expected {FORMAT!r})")
    if file.metadata.get("version") != VERSION:
        raise ValueError(
            f"{file.name} has version {file.metadata.get('version')} of {FORMAT}, this pack reads version {VERSION}: "
            f"update the pack"
        )
    try:
        frames, height, width = (int(file.metadata[key]) for key in ("frames", "height", "width"))
    except (KeyError, ValueError) as error:
        raise ValueError(
            f"{file.name} is damaged: its metadata lacks a whole number of frames, height or width"
        ) from error
    shapes = {"forward": (frames - 1, 2, height, width), **{name: (frames - 1, height, width) for name in MASKS}}
    shapes["backward"] = shapes["forward"]
    expected = {name: shape for name, shape in shapes.items() if name in file.shapes or name == "forward"}
    told = differences(expected, file.shapes)
    if told:
        raise ValueError(f"{file.name} is damaged: of {frames} frames of {width} x {height} pixels, {told}")
    tensors = {key: value if key in MASKS else value.float() for key, value in file.read(file.shapes).items()}
    try:
        return MotionField(**tensors)
    except ValueError as error:
        raise ValueError(f"{file.name}: {error}") from error


def _save_folder(path: Path, motion: MotionField) -> None:
    path.mkdir(parents=True, exist_ok=True)
    if any(path.glob("*.flo")):
        raise FileExistsError(f"{path} already holds .flo files; choose another name, or empty it first")
    for name, mask in zip(FIELDS, MASKS, strict=True):
        field, valid = getattr(motion, name), getattr(motion, mask)
        for i in range(0 if field is None else motion.steps):
            write_flo(path / f"{name}_{i:05d}.flo", field[i], None if valid is None else valid[i])


def _load_folder(folder: Path) -> MotionField:
    series: dict[str, dict[int, Path]] = {}
    for path in sorted(folder.glob("*.flo")):
        parts = re.fullmatch(r"(.*?)_?(\d+)", path.stem)
        if parts is None:
            raise ValueError(f"{path.name} in {folder} has no frame number; expected forward_00000.flo and so on")
        numbered = series.setdefault(parts[1], {})
        if int(parts[2]) in numbered:
            raise ValueError(f"{path.name} and {numbered[int(parts[2])].name} in {folder} have the same number")
        numbered[int(parts[2])] = path
    if not series:
        raise ValueError(f"{folder} holds no .flo files")
    if set(series) <= set(FIELDS):
        return _directed(series, folder)
    if len(series) > 1:
        raise ValueError(
            f"{folder} holds .flo files of several names ({shortened(sorted(series), 5)}); expected forward_00000.flo, "
            f"backward_00000.flo and so on, or one name"
        )
    [numbered] = series.values()
    return _stacked(_in_order(numbered, min(numbered), max(numbered) + 1, folder))


def _directed(series: dict[str, dict[int, Path]], folder: Path) -> MotionField:
    """Forward and perhaps backward fields, all numbers from 0."""
    if "forward" not in series:
        raise ValueError(f"{folder} holds backward fields only; forward_00000.flo and so on are missing")
    count = 1 + max(max(numbered) for numbered in series.values())
    files = {name: _in_order(numbered, 0, count, folder) for name, numbered in series.items()}
    return _stacked(files["forward"], files.get("backward", []))


def _in_order(numbered: dict[int, Path], start: int, stop: int, folder: Path) -> list[Path]:
    missing = [str(i) for i in range(start, stop) if i not in numbered]
    if missing:
        example = next(iter(numbered.values())).name
        raise ValueError(f"{folder} lacks {len(missing)} fields named like {example}: numbers {shortened(missing, 8)}")
    return [numbered[i] for i in range(start, stop)]


def _stacked(forward: list[Path], backward: list[Path] | tuple = ()) -> MotionField:
    """Read into place, one file at a time; validity that is True everywhere becomes None."""
    size: tuple[Path, torch.Size] | None = None
    tensors: dict[str, Tensor] = {}
    for name, mask, paths in zip(FIELDS, MASKS, (forward, backward), strict=True):
        for i, path in enumerate(paths):
            flow, valid = read_flo(path)
            size = size or (path, valid.shape)
            if valid.shape != size[1]:
                (h, w), (h0, w0) = valid.shape, size[1]
                raise ValueError(f"{path.name} is {w} x {h} pixels, {size[0].name} {w0} x {h0}: one size is needed")
            if i == 0:
                tensors[name] = torch.empty(len(paths), *flow.shape)
                tensors[mask] = torch.empty(len(paths), *valid.shape, dtype=torch.bool)
            tensors[name][i], tensors[mask][i] = flow, valid
    return MotionField(**{name: None if name in MASKS and value.all() else value for name, value in tensors.items()})
