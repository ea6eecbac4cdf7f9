"""Files of tensors, read without running anything they hold: safetensors, and PyTorch pickles as weights only.

What kind a file is shows in its first bytes; its name is not trusted.
"""

import pickle
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

Shapes = dict[str, tuple[int, ...]]

# CVE-2025-32434: before this version `weights_only=True` could still run code.
SAFE_TORCH = (2, 6)
CONVERT = (
    "python -c \"import torch, safetensors.torch as s; c = torch.load({source!r}, map_location='cpu', "
    "weights_only=False); c = next((c[k] for k in ('ema', 'model', 'state_dict') if k in c), c); "
    's.save_file({{k: v.clone().contiguous() for k, v in c.items()}}, {target!r})"'
)


SECTIONS = ("ema", "model", "state_dict")


@dataclass(frozen=True)
class TensorFile:
    """An opened file: what it holds is known, tensors are read on demand.

    ``entries``: the names at the top of a PyTorch checkpoint, of which one may be the section the tensors lie in.
    """

    name: str
    metadata: dict[str, str]
    shapes: Shapes
    read: Callable[[Iterable[str]], dict[str, Tensor]]
    entries: frozenset[str] = frozenset()


def open_tensors(path: str | Path, sections: Sequence[str] = SECTIONS) -> TensorFile:
    """The tensors in ``path``. Of a PyTorch checkpoint: those in the first of ``sections`` it has, else all.

    Raises FileNotFoundError, and ValueError that says what to do for a file that is damaged, is no file of tensors, or
    holds code.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    with open(path, "rb") as file:
        start = file.read(9)
    if start[8:] == b"{":
        return _open_safetensors(path)
    if start.startswith((b"PK", b"\x80")):
        return _open_pickle(path, sections)
    raise ValueError(
        f"{path.name} is {'empty' if not start else 'neither a safetensors file nor a PyTorch checkpoint'}; "
        f"the download may have been cut short or may be a web page: download it again"
    )


def differences(expected: Shapes, found: Shapes) -> str:
    """Missing, unexpected and misshapen tensors in one line; empty if there are none."""
    missing = sorted(expected.keys() - found.keys())
    unexpected = sorted(found.keys() - expected.keys())
    common = sorted(expected.keys() & found.keys())
    shapes = [f"{key}: got {found[key]}, expected {expected[key]}" for key in common if found[key] != expected[key]]
    groups = [("missing", missing), ("unexpected", unexpected), ("of another shape", shapes)]
    return "; ".join(f"{len(keys)} {label} ({shortened(keys)})" for label, keys in groups if keys)


def shortened(names: list[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def shapes_of(state: Mapping[str, Tensor]) -> Shapes:
    return {key: tuple(value.shape) for key, value in state.items()}


def _open_safetensors(path: Path) -> TensorFile:
    def read(keys: Iterable[str]) -> dict[str, Tensor]:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in keys}

    try:
        with safe_open(path, framework="pt") as file:
            shapes = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}
            return TensorFile(path.name, file.metadata() or {}, shapes, read)
    except SafetensorError as error:
        raise ValueError(
            f"{path.name} is not a readable safetensors file ({error}): it is damaged or cut short; "
            f"download or train it again"
        ) from error


def _open_pickle(path: Path, sections: Sequence[str]) -> TensorFile:
    content = _weights(path)
    entries = frozenset(map(str, content)) if isinstance(content, Mapping) else frozenset()
    if isinstance(content, Mapping):
        content = next((content[key] for key in sections if isinstance(content.get(key), Mapping)), content)
    tensors = {k: v for k, v in content.items() if isinstance(v, Tensor)} if isinstance(content, Mapping) else {}
    if not tensors:
        held = shortened([str(key) for key in content], 5) if isinstance(content, Mapping) else type(content).__name__
        raise ValueError(f"{path.name} holds no tensors where a checkpoint keeps them (found: {held or 'nothing'})")
    return TensorFile(path.name, {}, shapes_of(tensors), lambda keys: {key: tensors[key] for key in keys}, entries)


def _weights(path: Path):
    """``torch.load`` that refuses to run anything; mapped rather than read where the format allows it."""
    convert = CONVERT.format(source=path.as_posix(), target=path.with_suffix(".safetensors").as_posix())
    if tuple(int(part) for part in torch.__version__.split(".")[:2]) < SAFE_TORCH:
        raise ValueError(
            f"PyTorch {torch.__version__} cannot read {path.name} safely (CVE-2025-32434); update it to "
            f"{'.'.join(map(str, SAFE_TORCH))} or later, or convert the file elsewhere: {convert}"
        )
    with open(path, "rb") as file:
        mappable = file.read(2) == b"PK"
    try:
        return torch.load(str(path), map_location="cpu", weights_only=True, mmap=mappable)
    except pickle.UnpicklingError as error:
        wanted = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = f"holds code besides weights (it calls for {wanted[1]})" if wanted else "is damaged or holds code"
        raise ValueError(
            f"{path.name} {what}; loading it could run that code, so it was not loaded. If a fresh download is no "
            f"better and you trust where it comes from, convert it to safetensors in a place where nothing can be "
            f"harmed, and use the new file: {convert}"
        ) from error
    except Exception as error:  # a damaged archive fails in many ways: RuntimeError, EOFError, KeyError, struct.error
        raise ValueError(
            f"{path.name} is damaged or cut short, PyTorch cannot read it ({type(error).__name__}: "
            f"{' '.join(str(error).split())[:200]}); download it again"
        ) from error
