"""Which clips a source gives: looked at before anything is decoded in earnest, so that the work can be planned."""

from collections.abc import Sequence
from dataclasses import dataclass

from .buckets import Size, best_length, best_size, windows
from .clips import Source, Unreadable
from .decoding import Timeline, Window, timeline
from .shards import Skipped


@dataclass(frozen=True)
class ClipSettings:
    """How sources are cut into clips.

    ``lengths``: frames of a clip; a source gives clips of the longest that it fills. ``fps``: frames a second, taken by
    the videos' time stamps; 0 takes every frame. ``stride``: of those, every n-th. ``hop``: frames from the start of a
    clip to that of the next, after both; 0 end to end. ``most``: clips of one source, evenly spread; 0 all.
    """

    lengths: tuple[int, ...] = (16,)
    fps: float = 0.0
    stride: int = 1
    hop: int = 0
    most: int = 0

    def __post_init__(self):
        if not self.lengths or min(self.lengths) < 1:
            raise ValueError(f"lengths are frames of a clip, one or more numbers from 1 on; got {list(self.lengths)}")
        if self.fps < 0 or self.stride < 1 or self.hop < 0 or self.most < 0:
            raise ValueError(
                f"fps, hop and most are 0 or more and stride 1 or more; got fps {self.fps}, hop {self.hop}, most "
                f"{self.most}, stride {self.stride}"
            )


@dataclass(frozen=True)
class Part:
    """A clip to be made: a window of a source that shows ``shown`` pixels, to be cut to ``size``."""

    source: Source
    window: Window
    shown: Size
    size: Size


Survey = tuple[list[Part], list[Skipped]]


def survey(source: Source, clips: ClipSettings, sizes: Sequence[Size], enlarge: float) -> Survey:
    """The clips of one source, and what is left out of it; never raises for what a file holds."""
    try:
        line = timeline(source)
        taken = _taken(source, line, clips)
        size = _size(source, line, sizes, enlarge)
    except Unreadable as broken:
        return [], [Skipped(broken.path, broken.why)]
    length = best_length(len(taken), clips.lengths)
    parts = []
    for start in windows(len(taken), length, clips.hop, clips.most):
        frames = tuple(taken[start : start + length])
        window = Window(frames, line.times[frames[0] : frames[-1] + 1])
        parts.append(Part(source, window, (line.height, line.width), size))
    end = f"the file is cut short: {line.lost} of {line.count + line.lost} frames are not there"
    return parts, [Skipped(source.name, end)] if line.lost else []


def _taken(source: Source, line: Timeline, clips: ClipSettings) -> list[int]:
    """The frames that clips are made of. Raises Unreadable for too few."""
    by_time = clips.fps > 0 and bool(line.times)
    taken = (line.at_rate(clips.fps) if by_time else list(range(line.count)))[:: clips.stride]
    if len(taken) < min(clips.lengths):
        how = [f"at {clips.fps:g} frames a second"] * by_time + [f"with stride {clips.stride}"] * (clips.stride > 1)
        left = f", {len(taken)} of them {' '.join(how)}" if how else ""
        has = f"{line.count} frame{'s' if line.count > 1 else ''}{left}"
        raise Unreadable(source.name, f"it has {has}; a clip needs {min(clips.lengths)}")
    return taken


def _size(source: Source, line: Timeline, sizes: Sequence[Size], enlarge: float) -> Size:
    shown = (line.height, line.width)
    size = best_size(shown, sizes)
    scale = max(size[0] / shown[0], size[1] / shown[1])
    if scale > enlarge:
        raise Unreadable(
            source.name,
            f"it is {shown[1]} x {shown[0]} pixels and would be scaled up {scale:.3g} times to {size[1]} x {size[0]}; "
            f"the most is {enlarge:g}",
        )
    return size
