"""The track editor's document: drawn tracks and pinned places in coordinates that no change of size invalidates.

Version 1, a JSON string; only ``version`` and the ``points`` of a track or pin must be there::

    {"version": 1,
     "tracks": [{"points": [[u, v], ...], "curve": "smooth", "start": 0.0, "end": 1.0, "ease": "linear",
                 "hold": true, "enabled": true, "name": ""}],
     "pins": [{"points": [[u, v], ...], "radius": 0.05, "erase": false}]}

``u`` and ``v`` in 0..1 span the image's outer edges (x = u width - 0.5 in pixels); points may lie outside. ``start``
and ``end`` are shares of the clip: frame k of F is at k/(F-1). ``web/js/track_editor/document.mjs`` says the same in
the browser; a change belongs in both, and a new meaning gets a new version.
"""

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from .curves import curves_through
from .pins import painted
from .tracks import Tracks

VERSION = 1
# Coordinates beyond this are no longer a track that leaves the frame: somebody wrote pixels.
FARTHEST = 20.0
# Frames are compared with start and end in float64: a third of 30 frames is frame 10 whichever way it was rounded.
SAME_TIME = 1e-9

EASES: dict[str, Callable[[Tensor], Tensor]] = {
    "linear": lambda s: s,
    "in": lambda s: s * s,
    "out": lambda s: 1 - (1 - s) * (1 - s),
    "in-out": lambda s: s * s * (3 - 2 * s),
}
CURVES = ("smooth", "straight")

Point = tuple[float, float]


@dataclass(frozen=True)
class DrawnTrack:
    """One track as drawn. ``points`` are normalised; one point stays where it is. Times are shares of the clip.

    ``ease`` bends the moving time, ``hold`` keeps the point visible outside ``start`` to ``end``.
    """

    points: tuple[Point, ...]
    curve: str = "smooth"
    start: float = 0.0
    end: float = 1.0
    ease: str = "linear"
    hold: bool = True
    enabled: bool = True
    name: str = ""


@dataclass(frozen=True)
class Pin:
    """One brush stroke that holds the background still, or frees it again (``erase``). ``radius``: of image width."""

    points: tuple[Point, ...]
    radius: float
    erase: bool = False


@dataclass(frozen=True)
class TrackDocument:
    """Everything the editor knows: the drawn tracks, those switched off included, and the pins in painting order."""

    drawn: tuple[DrawnTrack, ...] = ()
    pins: tuple[Pin, ...] = ()

    def enabled(self) -> list[DrawnTrack]:
        """The tracks that are switched on. Raises ValueError where there is none."""
        drawn = [track for track in self.drawn if track.enabled]
        if not drawn:
            off = f"; all {len(self.drawn)} tracks are switched off" if self.drawn else ""
            raise ValueError(f"there is no track to follow{off}: draw one in the track editor, or switch one on")
        return drawn

    def tracks(self, size: tuple[int, int], frames: int) -> Tracks:
        """The enabled tracks in pixels of an image of ``size`` (height, width), in ``frames`` frames.

        A track moves along its curve at a speed even in pixels, bent by its ease. Raises ValueError where no track is
        enabled, and for fewer than one frame.
        """
        drawn = self.enabled()
        if frames < 1:
            raise ValueError(f"tracks need at least one frame, got {frames}")
        height, width = size
        points = torch.tensor([point for track in drawn for point in track.points], dtype=torch.float64)
        points = points * points.new_tensor([width, height]) - 0.5
        counts = torch.tensor([len(track.points) for track in drawn])
        curves = curves_through(points, counts, torch.tensor([track.curve == "smooth" for track in drawn]))
        time = torch.linspace(0, 1, frames, dtype=torch.float64)[:, None]
        return Tracks(curves.at(_travelled(drawn, time)).float(), _visible(drawn, time), (height, width))

    def pinned(self, size: tuple[int, int]) -> Tensor:
        """Float mask [height, width], 1 where the background is held still. Its edge is one pixel soft."""
        return painted([(pin.points, pin.radius, pin.erase) for pin in self.pins], size)

    def to_json(self) -> str:
        """The document as text, every value written out."""
        return json.dumps({"version": VERSION, "tracks": [asdict(t) for t in self.drawn],
                           "pins": [asdict(pin) for pin in self.pins]})  # fmt: skip


def _times(drawn: list[DrawnTrack]) -> tuple[Tensor, Tensor]:
    times = torch.tensor([(track.start, track.end) for track in drawn], dtype=torch.float64)
    return times[:, 0], times[:, 1]


def _travelled(drawn: list[DrawnTrack], time: Tensor) -> Tensor:
    """Share of its length [T, N] that each track has behind it. Where start and end coincide it jumps."""
    start, end = _times(drawn)
    moving = (end - start).clamp(min=SAME_TIME)
    share = ((time - start) / moving).clamp(0, 1)
    share = torch.where((end - start <= SAME_TIME) & (time >= end - SAME_TIME), torch.ones_like(share), share)
    for name, ease in EASES.items():
        own = torch.tensor([track.ease == name for track in drawn])
        share[:, own] = ease(share[:, own])
    return share


def _visible(drawn: list[DrawnTrack], time: Tensor) -> Tensor:
    start, end = _times(drawn)
    inside = (time >= start - SAME_TIME) & (time <= end + SAME_TIME)
    return inside | torch.tensor([track.hold for track in drawn])


def read_document(text: str) -> TrackDocument:
    """Read the editor's JSON. Raises ValueError that says where and what: the place in the text, or the track."""
    try:
        data = json.loads(text)
    except RecursionError:
        raise ValueError("the track document is nested too deeply to be one") from None
    except json.JSONDecodeError as error:
        raise ValueError(
            f"the track document is not JSON: {error.msg} at line {error.lineno} column {error.colno}, near "
            f"{text[max(0, error.pos - 20) : error.pos + 20]!r}"
        ) from None
    if not isinstance(data, dict):
        raise ValueError(f'the track document is a JSON object like {{"version": {VERSION}, ...}}, got {_brief(data)}')
    _check_version(data)
    _check_keys(data, {"version", "tracks", "pins"}, "the track document")
    return TrackDocument(
        tuple(_track(item, f"tracks[{i}]") for i, item in enumerate(_list(data.get("tracks", []), "tracks"))),
        tuple(_pin(item, f"pins[{i}]") for i, item in enumerate(_list(data.get("pins", []), "pins"))),
    )


def _check_version(data: dict) -> None:
    version = data.get("version")
    if type(version) is not int or version != VERSION:
        found = f"has version {_brief(version)}" if "version" in data else "names no version"
        raise ValueError(
            f"the track document {found}, this Aqueduct reads version {VERSION}; update Aqueduct if a newer one made it"
        )


def _track(item, where: str) -> DrawnTrack:
    item = _object(item, where)
    if isinstance(item.get("name"), str) and item["name"]:
        where += f' ("{item["name"]}")'
    _check_keys(item, DrawnTrack.__dataclass_fields__, where)
    track = DrawnTrack(
        points=_points(item.get("points"), where),
        curve=_choice(item, "curve", CURVES, where),
        start=_number(item.get("start", 0.0), f"{where}: start", 0, 1),
        end=_number(item.get("end", 1.0), f"{where}: end", 0, 1),
        ease=_choice(item, "ease", tuple(EASES), where),
        hold=_typed(item.get("hold", True), bool, f"{where}: hold"),
        enabled=_typed(item.get("enabled", True), bool, f"{where}: enabled"),
        name=_typed(item.get("name", ""), str, f"{where}: name"),
    )
    if track.start > track.end:
        raise ValueError(f"{where}: it ends (at {track.end:g}) before it starts (at {track.start:g})")
    return track


def _pin(item, where: str) -> Pin:
    item = _object(item, where)
    _check_keys(item, Pin.__dataclass_fields__, where)
    radius = _number(item.get("radius"), f"{where}: radius", 0, FARTHEST)
    if radius == 0:
        raise ValueError(f"{where}: radius is 0, a brush has a width (a share of the image's)")
    return Pin(_points(item.get("points"), where), radius, _typed(item.get("erase", False), bool, f"{where}: erase"))


def _points(value, where: str) -> tuple[Point, ...]:
    points = _list(value, f"{where}: points")
    if not points:
        raise ValueError(f"{where}: points is empty, a track has at least one")
    for i, point in enumerate(points):
        if not isinstance(point, list) or len(point) != 2:
            raise ValueError(f"{where}: points[{i}] is [u, v], got {_brief(point)}")
        _number(point[0], f"{where}: points[{i}] u", -FARTHEST, FARTHEST)
        _number(point[1], f"{where}: points[{i}] v", -FARTHEST, FARTHEST)
    return tuple((float(u), float(v)) for u, v in points)


def _number(value, what: str, low: float, high: float) -> float:
    if type(value) not in (int, float) or value != value or abs(value) == math.inf:
        raise ValueError(f"{what} is a finite number, got {_brief(value)}")
    if not low <= value <= high:
        hint = "; coordinates are shares of the image, 0 to 1, not pixels" if high == FARTHEST else ""
        raise ValueError(f"{what} lies in {low:g} to {high:g}, got {_brief(value)}{hint}")
    return float(value)


def _choice(item: dict, key: str, options: tuple[str, ...], where: str) -> str:
    value = item.get(key, options[0])
    if value not in options:
        raise ValueError(f"{where}: {key} is one of {', '.join(options)}, got {_brief(value)}")
    return value


def _typed(value, kind: type, what: str):
    if not isinstance(value, kind):
        names = {bool: "true or false", str: "a text", list: "a list", dict: "an object"}
        raise ValueError(f"{what} is {names[kind]}, got {_brief(value)}")
    return value


def _list(value, what: str) -> list:
    return _typed(value, list, what)


def _object(value, what: str) -> dict:
    return _typed(value, dict, what)


def _check_keys(item: dict, known, where: str) -> None:
    unknown = sorted(set(item) - set(known))
    if unknown:
        raise ValueError(f"{where} has no {unknown[0]!r} in version {VERSION}; it has {', '.join(sorted(known))}")


def _brief(value) -> str:
    text = "nothing" if value is None else json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
