"""Frames out of a video or a run of pictures, one at a time, and what is broken said of the frame it is broken in."""

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from ..optional import need
from .clips import Source, Unreadable

RUN_ON = 64  # frames: to a window this near ahead it is decoded on, to one further off it is sought


@dataclass(frozen=True)
class Timeline:
    """The frames of a source. ``height, width``: upright, in square pixels. ``lost``: how many fewer there are than its
    header promises.

    ``times``: when each frame of a video is shown, ascending, in units of ``base`` seconds; ``end``: when the last one
    goes. A run of pictures has no times.
    """

    count: int
    height: int
    width: int
    times: tuple[int, ...] = ()
    end: int = 0
    base: Fraction = Fraction(1)
    lost: int = 0

    def at_rate(self, fps: float) -> list[int]:
        """The frame that is on show 0, 1/fps, 2/fps, ... seconds after the first, to the end of the last.

        Whoever wrote the file rounded times to their unit, so a frame counts from half a unit earlier.
        """
        step = 1 / (Fraction(fps).limit_denominator(100_000) * self.base)
        start, chosen, frame = self.times[0], [], 0
        while len(chosen) * step < self.end - start:
            moment = len(chosen) * step + Fraction(1, 2)
            while frame + 1 < self.count and self.times[frame + 1] - start < moment:
                frame += 1
            chosen.append(frame)
        return chosen


@dataclass(frozen=True)
class Window:
    """The frames of a source that make a clip: their indices, ascending, and, of a video, the times of all frames from
    the first of them to the last."""

    frames: tuple[int, ...]
    times: tuple[int, ...] = ()


def timeline(source: Source) -> Timeline:
    """From the packets of a video and its first frame, or from the first picture of a run. Raises Unreadable."""
    if not source.is_video:
        height, width = _picture(source, 0).shape[-2:]
        return Timeline(len(source.files), height, width)
    av = _pyav()
    try:
        with av.open(source.files[0]) as container:
            stream = _stream(container, source)
            packets = [packet for packet in container.demux(stream) if packet.size]
            aspect, promised, base = stream.sample_aspect_ratio or 1, stream.frames or _tagged(stream), stream.time_base
    except (av.FFmpegError, OSError) as error:
        raise Unreadable(source.name, f"it cannot be opened: {_said(error)}") from error
    shown = sorted((p.pts, p.duration or 0) for p in packets if p.pts is not None and not p.is_discard)
    times = tuple(dict.fromkeys(pts for pts, _ in shown))
    if not times:
        raise Unreadable(source.name, "it holds no frames that say when to show them")
    height, width = _shape(source, times, aspect)
    gap = shown[-1][1] or (times[-1] - times[-2] if len(times) > 1 else 1)
    return Timeline(len(times), height, width, times, times[-1] + gap, base, max(0, promised - len(packets)))


class Reader:
    """Reads windows of one source. One after the other they are decoded on; what lies far ahead is sought.

    A frame that does not decode spoils the windows it is in, and those built on it up to the next key frame.
    """

    def __init__(self, source: Source):
        self.source = source
        self._container = self._decoding = None
        self._window = None  # the last that was asked for

    def read(self, window: Window) -> Iterator[Tensor]:
        """Each frame uint8 ``[3, h, w]``, upright. Raises Unreadable, which names the frame."""
        if not self.source.is_video:
            yield from self._pictures(window)
            return
        try:
            yield from self._video(window)
        except Unreadable:
            self.close()
            raise

    def first(self, window: Window):
        """The first frame of a video that can be decoded, as PyAV has it; None without any. Raises Unreadable."""
        self._window = window
        self._open()
        return next(self._decoding, None)

    def close(self) -> None:
        if self._container is not None:
            self._container.close()
        self._container = self._decoding = None

    def _pictures(self, window: Window) -> Iterator[Tensor]:
        size = None
        for index in window.frames:
            picture = _picture(self.source, index)
            size = size or picture.shape
            if picture.shape != size:
                found, first = (f"{shape[2]} x {shape[1]}" for shape in (picture.shape, size))
                raise Unreadable(self.source.name, f"frame {index} is {found} pixels, those before it {first}")
            yield picture

    def _video(self, window: Window) -> Iterator[Tensor]:
        first = window.frames[0]
        before, self._window = self._window, window
        if self._decoding is None or not 0 < first - before.frames[-1] <= RUN_ON:
            self._seek(window)
        due = {window.times[index - first]: index for index in window.frames}
        left = len(window.frames)
        for frame in self._decoding:
            if frame.is_corrupt:
                raise Unreadable(self.source.name, f"{_place(window, frame.pts)}: its data is damaged")
            if frame.pts in due:
                picture = _upright(frame)
                for _ in range(window.frames.count(due[frame.pts])):
                    left -= 1
                    yield picture
            if frame.pts is not None and frame.pts >= window.times[-1]:
                break
        if left:
            missing = window.frames[len(window.frames) - left]
            raise Unreadable(self.source.name, f"frame {missing} is missing: the file is cut short or damaged")

    def _seek(self, window: Window) -> None:
        """Before the window's first frame, at a key frame; at the start of the file where its seeking goes astray."""
        if window.frames[0] > 0:
            self._open()
            stream = self._container.streams.video[0]
            self._container.seek(window.times[0], stream=stream)
            landed = next(self._container.demux(stream), None)
            # Frames in front of a key frame in time may lie behind it in the file: those it shows before itself.
            if landed is not None and landed.pts is not None and landed.pts <= window.times[0]:
                self._container.seek(window.times[0], stream=stream)
                return
        self._open()

    def _open(self) -> None:
        self.close()
        av = _pyav()
        try:
            self._container = av.open(self.source.files[0])
        except (av.FFmpegError, OSError) as error:
            raise Unreadable(self.source.name, f"it cannot be opened: {_said(error)}") from error
        self._decoding = self._decoded()

    def _decoded(self) -> Iterator:
        av, at = _pyav(), None
        try:
            for packet in self._container.demux(self._container.streams.video[0]):
                at = packet.pts
                yield from packet.decode()
        except av.FFmpegError as error:
            raise Unreadable(self.source.name, f"{_place(self._window, at)}: {_said(error)}") from error


def _place(window: Window, pts: int | None) -> str:
    """In words, the frame that is shown then; ``window`` is what was asked for."""
    first, at = window.frames[0], -1 if pts is None else bisect_left(window.times, pts)
    if pts is None or pts < window.times[0]:
        return f"a frame before frame {first}, on which that builds"
    return f"frame {first + at}" if at < len(window.times) else f"a frame after frame {window.frames[-1]}"


def _stream(container, source: Source):
    if not container.streams.video:
        raise Unreadable(source.name, "it holds no video")
    return container.streams.video[0]


def _tagged(stream) -> int:
    """Frames that Matroska's and WebM's header promises; 0 if it does not tell."""
    tag = stream.metadata.get("DURATION", "")
    if not tag or not stream.average_rate:
        return 0
    hours, minutes, seconds = tag.split(":")
    return round((int(hours) * 3600 + int(minutes) * 60 + float(seconds)) * float(stream.average_rate))


def _shape(source: Source, times: tuple[int, ...], aspect: Fraction) -> tuple[int, int]:
    """Height and width of the first frame, upright, in square pixels. ``aspect``: of the pixels of the file."""
    reader = Reader(source)
    try:
        frame = reader.first(Window((0,), times[:1]))
        if frame is None:
            raise Unreadable(source.name, "none of its frames can be decoded")
        height, width = frame.height, round(frame.width * aspect)
        return (width, height) if frame.rotation % 180 else (height, width)
    finally:
        reader.close()


def _upright(frame) -> Tensor:
    """uint8 ``[3, h, w]``, turned as the camera was held: FFmpeg counts degrees counterclockwise."""
    pixels = torch.from_numpy(frame.to_ndarray(format="rgb24"))
    return torch.rot90(pixels, round(frame.rotation / 90), (0, 1)).permute(2, 0, 1)


def _picture(source: Source, index: int) -> Tensor:
    from PIL import Image, ImageOps

    try:
        with Image.open(source.files[index]) as image:
            picture = ImageOps.exif_transpose(image).convert("RGB")
            pixels = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as why:  # all that Pillow raises
        raise Unreadable(source.name, f"frame {index}: {_said(why).replace(source.files[index], 'it')}") from why
    return pixels.view(picture.height, picture.width, 3).permute(2, 0, 1)


def _said(error: BaseException) -> str:
    """An error's own words without numbers of FFmpeg's and paths of this machine."""
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).strip()


def _pyav():
    return need("av", "Reading videos")
