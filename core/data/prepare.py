"""Videos into latents, flow and masks: survey, plan, and one piece of work for each shard, wherever it is done.

The plan follows from the names of the sources and the settings. A shard follows from its part of the plan. So shards
may be made in any order, on any number of machines, and again where they are missing; the bytes are the same.
"""

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache, partial
from itertools import groupby
from pathlib import Path
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from ..motion.cycle import ALPHA1, ALPHA2
from ..motion.estimators import MAX_SIDE, DisEstimator, Estimator, estimate_motion, load_raft
from ..motion.estimators.estimate import estimation_size, reduced
from ..motion.field import MotionField
from ..motion.trusted import trusted_cells
from .buckets import SizeSettings, fitted
from .clips import Source, Unreadable, class_names
from .decoding import Reader
from .encoders import Encoder
from .shards import Clip, Index, ShardWriter, put, write_index, written
from .survey import ClipSettings, Part, survey
from .texts import TextEncoder, write_null

A, B = TypeVar("A"), TypeVar("B")
MASK = "more than half of a cell, from latent frame to latent frame"  # what `trusted_cells` calls so
DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}


class Runner(Protocol):
    """Where the work is done: ``runner(function, items)`` gives the results in the order of the items. ``light`` work
    takes one processor and no accelerator."""

    def __call__(self, function: Callable[[A], B], items: Iterable[A], light: bool = False) -> Iterator[B]: ...


def in_turn(function: Callable[[A], B], items: Iterable[A], light: bool = False) -> Iterator[B]:
    """A `Runner`: here, one after the other."""
    return map(function, items)


@dataclass(frozen=True)
class MotionSettings:
    """Flow in both directions and cycle masks (EMG section 4.2) beside the latents, on their grid.

    ``estimator``: dis-fine, dis-medium, dis-fast, dis-ultrafast, or raft with ``weights``, the path of torchvision's
    file. ``max_side``: longest side of the estimation, pixels. ``alpha1, alpha2``: of the cycle test, which is made at
    that size (`trusted_cells`).
    """

    estimator: str = "dis-fine"
    weights: str = ""
    max_side: int = MAX_SIDE
    alpha1: float = ALPHA1
    alpha2: float = ALPHA2

    def __post_init__(self):
        kind, _, preset = self.estimator.partition("-")
        if kind not in ("dis", "raft") or (kind == "raft") != bool(self.weights):
            raise ValueError(
                f"estimator is dis-fine, dis-medium, dis-fast or dis-ultrafast, or raft with weights, the path of its "
                f"file; got {self.estimator!r} with weights {self.weights!r}"
            )


@dataclass(frozen=True)
class PrepareSettings:
    """``dtype``: of latents, flow and texts on the disk. ``shard_mb``: MiB, the most that a shard holds.

    ``threads``: of each process, 0 as they are; another number may change the last bits of a VAE's latents.
    """

    clips: ClipSettings = ClipSettings()
    size: SizeSettings = SizeSettings()
    motion: MotionSettings | None = None
    text: TextEncoder | None = None
    dtype: str = "float16"
    shard_mb: float = 256
    threads: int = 1

    def __post_init__(self):
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype is one of {', '.join(DTYPES)}, got {self.dtype!r}")
        if not self.shard_mb > 0 or self.threads < 0:
            raise ValueError(f"shard_mb is positive and threads 0 or more, got {self.shard_mb} and {self.threads}")


@dataclass(frozen=True)
class Job:
    """One shard to be made. ``plan``: a digest of all that its bytes follow from."""

    number: int
    parts: tuple[Part, ...]
    plan: str = field(default="", compare=False)


def prepare(
    sources: Sequence[Source], settings: PrepareSettings, encode: Encoder, out: Path, runner: Runner = in_turn,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Index:  # fmt: skip
    """Make the shards of ``sources`` that are not in ``out`` yet, and the index; ``report(done, total)`` in clips.

    What cannot be used is in the index with the reason. Raises ValueError for settings the encoder cannot follow,
    OSError for a folder that cannot be written.
    """
    out = Path(out)
    _check_lengths(settings.clips.lengths, encode)
    put_here(out)
    sizes = settings.size.sizes(encode.multiple)
    look = partial(survey, clips=settings.clips, sizes=sizes, enlarge=settings.size.enlarge)
    found = list(runner(look, sources, light=True))
    parts = [part for of_one, _ in found for part in of_one]
    left_out = [one for _, of_one in found for one in of_one]
    said = described(settings, encode) | {"classes": class_names(sources)}
    jobs = plan(parts, settings, encode, said)
    missing = [job for job in jobs if not written(out, job.number, job.plan)]
    done = len(parts) - sum(len(job.parts) for job in missing)
    report(done, len(parts))
    work = partial(make_shard, settings=settings, encode=encode, out=out)
    for job, _ in zip(missing, runner(work, missing), strict=True):
        done += len(job.parts)
        report(done, len(parts))
    if settings.text is not None:
        list(runner(partial(write_null, text=settings.text, out=out, dtype=DTYPES[settings.dtype]), [""]))
    return write_index(out, said, len(jobs), left_out)


def put_here(out: Path) -> None:
    """The folder, made if it is missing, and proved writable. Raises OSError that names it."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"the output folder {out} cannot be made ({error}): choose another") from error
    probe = out / "writable"
    put(probe, b"")
    probe.unlink()


def described(settings: PrepareSettings, encode: Encoder) -> dict:
    """What the data depend on, as JSON: goes into the index."""
    said = asdict(settings)
    if settings.motion is not None:
        said["motion"] |= {"weights": Path(settings.motion.weights).name, "mask": MASK}
    if settings.text is not None:
        said["text"] = settings.text.describe()
    return json.loads(json.dumps(said)) | {"latents": encode.describe()}


def plan(parts: Sequence[Part], settings: PrepareSettings, encode: Encoder, said: dict) -> list[Job]:
    """Which clips go into which shard: in their order, as many as its size allows."""
    limit, groups, used = settings.shard_mb * 2**20, [], math.inf
    for part in parts:
        size = _bytes(part, settings, encode)
        if used + size > limit:
            groups.append([])
            used = 0
        groups[-1].append(part)
        used += size
    jobs = [Job(number, tuple(group)) for number, group in enumerate(groups)]
    return [replace(job, plan=_digest(job, said)) for job in jobs]


def make_shard(job: Job, settings: PrepareSettings, encode: Encoder, out: Path) -> int:
    """Decode, fit, encode, measure and write one shard; the number of clips in it. Broken clips are noted in it."""
    writer = ShardWriter(out, job.number, job.plan)
    with _threads(settings.threads):
        for source, parts in groupby(job.parts, lambda part: part.source):
            reader = Reader(source)
            try:
                for part in parts:
                    _add(writer, reader, part, settings, encode)
            finally:
                reader.close()
    writer.write()
    return len(writer.clips)


def _add(writer: ShardWriter, reader: Reader, part: Part, settings: PrepareSettings, encode: Encoder) -> None:
    first, last = part.window.frames[0], part.window.frames[-1]
    try:
        frames = torch.stack([fitted(frame, part.shown, part.size) for frame in reader.read(part.window)])
        tensors = clip_tensors(frames, settings, encode)
    except Unreadable as broken:
        writer.skip(broken.path, broken.why)
        return
    except FloatingPointError as overflow:
        writer.skip(part.source.name, f"frames {first} to {last}: {overflow}")
        return
    source = part.source
    if settings.text is not None:
        told = settings.text(source.caption or "")
        tensors |= {name: value.to(DTYPES[settings.dtype]) for name, value in told.items()}
    writer.add(Clip(source.name, first, last, source.caption, source.label), tensors)


@torch.no_grad()
def clip_tensors(frames: Tensor, settings: PrepareSettings, encode: Encoder) -> dict[str, Tensor]:
    """What is kept of a clip, uint8 ``[F, 3, H, W]`` (see `LatentDataset`). Raises FloatingPointError for latents that
    the dtype cannot hold, ValueError for an encoder whose latents are not what it said."""
    video = frames.float() / 127.5 - 1
    latent = encode(video.movedim(0, 1)[None])[0]
    expected = encode.shape(len(frames), *frames.shape[-2:])
    if tuple(latent.shape) != tuple(expected):
        raise ValueError(f"the encoder gave latents {list(latent.shape)} and had announced {list(expected)}")
    dtype = DTYPES[settings.dtype]
    latent = latent.to(dtype)
    if not latent.isfinite().all():
        raise FloatingPointError(f"the latents are not finite in {settings.dtype}")
    kept = {"latent": latent, "first": frames[0]}
    if settings.motion is None or len(frames) < 2:
        return kept
    chosen, cells = settings.motion, latent.shape[-2:]
    motion = _motion((video + 1) / 2, chosen, _estimator(chosen, settings.threads))
    mask = trusted_cells(motion, *cells, encode.temporal, chosen.alpha1, chosen.alpha2)
    flow = motion.resized(*cells)
    return kept | {"forward": flow.forward.to(dtype), "backward": flow.backward.to(dtype), "mask": mask}


def _motion(clip: Tensor, chosen: MotionSettings, estimator: Estimator) -> MotionField:
    """At the size of its estimation."""
    size = estimation_size(*clip.shape[-2:], chosen.max_side, estimator.needs.smallest)
    return estimate_motion(reduced(clip, *size), estimator, max_side=None)


def _check_lengths(lengths: Sequence[int], encode: Encoder) -> None:
    for length in lengths:
        if (length - 1) % encode.temporal:
            near = (length - 1) // encode.temporal * encode.temporal + 1
            raise ValueError(
                f"clips of {length} frames do not fit this VAE, which takes 1 plus a multiple of {encode.temporal}: "
                f"take {near} or {near + encode.temporal}"
            )


def _bytes(part: Part, settings: PrepareSettings, encode: Encoder) -> int:
    """Of the tensors a clip will have."""
    frames, (height, width) = len(part.window.frames), part.size
    shape = encode.shape(frames, height, width)
    item, cells = DTYPES[settings.dtype].itemsize, shape[-2] * shape[-1]
    flow = 0 if settings.motion is None else 2 * ((frames - 1) * 2 * item + shape[1] - 1) * cells
    text = sum(map(math.prod, settings.text.shapes().values())) * item if settings.text is not None else 0
    return math.prod(shape) * item + flow + text + 3 * height * width


def _digest(job: Job, said: dict) -> str:
    """Of the sources by name and size, not by place and date: a copy of the folder gives the same shards."""
    parts = [[*asdict(replace(part.source, files=())).values(), part.window.frames, part.shown, part.size]
             for part in job.parts]  # fmt: skip
    return hashlib.sha256(json.dumps([said, job.number, parts], sort_keys=True).encode()).hexdigest()


@lru_cache(1)  # a process prepares many shards with one estimator
def _estimator(motion: MotionSettings, threads: int) -> Estimator:
    if motion.weights:
        return load_raft(motion.weights, "cuda" if torch.cuda.is_available() else "cpu")
    return DisEstimator(motion.estimator.removeprefix("dis-"), threads or None)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
