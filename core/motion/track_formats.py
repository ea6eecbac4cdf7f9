"""Tracks as other packs write them: coordinate JSON (KJNodes, WanVideo, ATI) and ComfyUI's TRACKS.

Neither format says how large its image is, so ``size`` (height, width) comes from the caller. Coordinates are taken for
pixels as they stand: whether a pixel's centre is at 0 or at 0.5 is not said either, and the points of drawn tracks are
mostly whole numbers.
"""

import json
import sys
from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

from .tracks import Tracks

LARGEST = sys.float_info.max  # JSON has no largest integer

Path = list[tuple[float, float, bool]]

DRAWN_AT = "aqueduct_size"  # (height, width)

EXPECTED = (
    'expected one track, [{"x": 10, "y": 20}, ...] with one point per frame, a list of such tracks, or what the '
    "Aqueduct track editor writes"
)


def parse_tracks(text: str | Sequence[str], size: tuple[int, int], frames: int | None = None) -> Tracks:
    """The tracks in ``text``, over an image of ``size`` (height, width).

    Understood: the document of the track editor; coordinate JSON of one track or of many (KJNodes' spline editor,
    WanVideoWrapper, ATI's lists of 121 points, ComfyUI's WanTrackToVideo), in double or single quotes, also one text
    per track. A point is ``{"x", "y"}``, with ``"visible"`` (optional), or ``[x, y]`` or ``[x, y, visible]``.

    ``frames`` is the length to resample to (`Tracks.resampled`); the editor's document has none of its own and needs
    it. Without it all tracks must be of the same length, apart from static points, given once, which repeat.

    Raises ValueError for malformed JSON (naming line and column), for anything that is no track (naming track and
    frame), for tracks of several lengths (naming them), and for normalised coordinates.
    """
    data = _loaded(text) if isinstance(text, str) else [_loaded(part) for part in text]
    if isinstance(data, dict) and "version" in data:
        return _from_document(data, size, frames)
    paths = _paths(data)
    _check_pixels(paths)
    return _joined(paths, size, _common_length(paths) if frames is None else frames)


def coordinates_json(tracks: Tracks) -> str:
    """``tracks`` as coordinate JSON: a list of tracks, each a list of ``{"x", "y"}`` in pixels, to a hundredth.

    A hidden point also says ``"visible": false``: `parse_tracks` reads it, other readers look at x and y alone. ATI
    and WanTrackToVideo want 121 points whatever the length of the video (``tracks.resampled(121)``) and take a shorter
    track to end where it ends.
    """
    positions = tracks.positions.transpose(0, 1).tolist()
    visible = tracks.visible.transpose(0, 1).tolist()
    document = [
        [
            {"x": round(x, 2) + 0.0, "y": round(y, 2) + 0.0} | ({} if seen else {"visible": False})
            for (x, y), seen in zip(*track, strict=True)
        ]
        for track in zip(positions, visible, strict=True)
    ]
    return json.dumps(document, separators=(",", ":"))


def from_core(tracks: dict, size: tuple[int, int]) -> Tracks:
    """ComfyUI's TRACKS: ``track_path`` ``[T, N, 2]`` in pixels, ``track_visibility`` ``[T, N]`` (optional).

    Also accepted: a batch of one in front, and a visibility that is the same for every track, ``[T, 1]``, which is what
    ComfyUI's nodes make of a mask. Tracks that say the size they were drawn at (`to_core`) are resized to ``size``.
    Raises TypeError or ValueError for anything else.
    """
    if not isinstance(tracks, dict) or not isinstance(tracks.get("track_path"), Tensor):
        raise TypeError(f"TRACKS is a dict with a tensor 'track_path' [frames, tracks, 2], got {_described(tracks)}")
    positions = _unbatched(tracks["track_path"], 3, "track_path")
    visible = tracks.get("track_visibility")
    if visible is None:
        return Tracks(positions.float(), positions.new_ones(positions.shape[:-1], dtype=torch.bool), size)
    visible = _unbatched(visible, 2, "track_visibility").to(positions.device)
    visible = visible if visible.dtype == torch.bool else visible > 0.5
    if visible.shape[0] not in (1, positions.shape[0]) or visible.shape[1] not in (1, positions.shape[1]):
        raise ValueError(
            f"track_visibility is [frames, tracks] = {list(positions.shape[:2])} (or 1 where all share it), got "
            f"{list(visible.shape)}; give the mask of the tracks as many frames as the tracks have"
        )
    drawn = Tracks(positions.float(), visible.expand(positions.shape[:-1]).clone(), tracks.get(DRAWN_AT, size))
    return drawn if drawn.size == tuple(size) else drawn.resized(*size)


def to_core(tracks: Tracks) -> dict:
    """``tracks`` as ComfyUI's TRACKS, and in a key of our own the size they are for, which TRACKS does not tell."""
    return {"track_path": tracks.positions, "track_visibility": tracks.visible, DRAWN_AT: tracks.size}


def _from_document(data: dict, size: tuple[int, int], frames: int | None) -> Tracks:
    from .track_document import read_document

    if frames is None:
        raise ValueError("the track editor's document tells when to move as a share of the clip: say how many frames")
    return read_document(json.dumps(data)).tracks(size, frames)


def _loaded(text: str):
    """JSON, also as Python prints it: several packs write single quotes."""
    if not text.strip():
        raise ValueError(f"the text of the tracks is empty; {EXPECTED}")
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError(f"the text of the tracks is nested too deeply; {EXPECTED}") from None
    except json.JSONDecodeError:
        pass
    try:
        return json.loads(text.replace("'", '"'))  # as long as before: line and column of a failure stay true
    except json.JSONDecodeError as error:
        near = text[max(error.pos - 20, 0) : error.pos + 20]
        raise ValueError(
            f"the text of the tracks is no JSON: {error.msg} in line {error.lineno}, column {error.colno}, near "
            f"{near!r}; {EXPECTED}"
        ) from None


def _paths(data) -> list[Path]:
    """Tracks as lists of (x, y, visible), from one track or a list of them."""
    if not isinstance(data, list):
        raise ValueError(f"these are no tracks, but {_described(data)}; {EXPECTED}")
    if not data:
        raise ValueError(f"there is no track in the text; {EXPECTED}")
    many = [data] if _looks_like_a_point(data[0]) else data
    for index, track in enumerate(many):
        if not isinstance(track, list) or not track:
            raise ValueError(f"track {index} is no list of points, but {_described(track)}; {EXPECTED}")
    return [[_point(point, index, frame) for frame, point in enumerate(track)] for index, track in enumerate(many)]


def _looks_like_a_point(value) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and bool(value) and _is_number(value[0]))


def _point(value, track: int, frame: int) -> tuple[float, float, bool]:
    if isinstance(value, dict):
        parts = [value.get("x"), value.get("y"), value.get("visible", True)]
    else:
        parts = [*value, True][:3] if isinstance(value, list) and len(value) in (2, 3) else [None]
    if not all(_is_number(part) for part in parts[:2]) or not isinstance(parts[-1], bool | int | float):
        raise ValueError(f'track {track}, frame {frame}: expected {{"x": 10, "y": 20}} or [10, 20], got {value!r:.80}')
    if not all(abs(part) <= LARGEST for part in parts[:2]):  # False for NaN, too
        raise ValueError(f"track {track} has no finite position in frame {frame}: {value!r:.80} (counted from 0)")
    return float(parts[0]), float(parts[1]), parts[2] > 0.5


def _is_number(value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _check_pixels(paths: list[Path]) -> None:
    """Fractions between 0 and 1 throughout are shares of the image, which would pass for points in its first pixel."""
    numbers = [number for path in paths for x, y, _ in path for number in (x, y)]
    if all(0 <= number <= 1 for number in numbers) and any(number not in (0, 1) for number in numbers):
        raise ValueError(
            "all coordinates lie between 0 and 1: these are shares of the image, expected pixels. Multiply x by the "
            "width and y by the height (of KJNodes' spline editor, connect coord_str, not normalized_str)"
        )


def _common_length(paths: list[Path]) -> int:
    lengths = Counter(len(path) for path in paths)
    moving = sorted(length for length in lengths if length > 1)
    if len(moving) > 1:
        named = ", ".join(f"{lengths[length]} of {length}" for length in moving)
        raise ValueError(
            f"the tracks have different numbers of points ({named}): say for how many frames, and each is resampled "
            f"to that, or draw them with the same number"
        )
    return moving[0] if moving else 1


def _joined(paths: list[Path], size: tuple[int, int], frames: int) -> Tracks:
    by_length: dict[int, list[int]] = {}
    for index, path in enumerate(paths):
        by_length.setdefault(len(path), []).append(index)
    groups = [_tracks([paths[index] for index in group], size).resampled(frames) for group in by_length.values()]
    place = torch.tensor([index for group in by_length.values() for index in group]).argsort()
    positions = torch.cat([group.positions for group in groups], dim=1)
    return Tracks(positions[:, place], torch.cat([group.visible for group in groups], dim=1)[:, place], size)


def _tracks(paths: list[Path], size: tuple[int, int]) -> Tracks:
    values = torch.tensor(paths, dtype=torch.float64).transpose(0, 1)
    return Tracks(values[..., :2].float().contiguous(), values[..., 2] > 0.5, size)


def _unbatched(value: Tensor, dimensions: int, name: str) -> Tensor:
    if value.ndim == dimensions + 1 and value.shape[0] == 1:
        return value[0]
    if value.ndim != dimensions:
        shape = "[frames, tracks, 2]" if dimensions == 3 else "[frames, tracks]"
        raise ValueError(f"{name} is {shape}, got {list(value.shape)}; give one clip's tracks at a time")
    return value


def _described(value) -> str:
    if isinstance(value, dict):
        return f"an object with the keys {', '.join(map(repr, value)) or '(none)'}"
    return f"{type(value).__name__} {value!r:.60}"
