"""Sparse to dense: the velocities of tracks at their current places, made into adjacent fields (EMG section 4.4)."""

import inspect
from collections.abc import Callable

import torch
from torch import Tensor

from ..field import MotionField
from ..invert import invert
from ..tracks import Tracks
from .carried import CarriedImage
from .densifiers import DENSIFIERS, Densifier

Report = Callable[[int, int], None]


def motion_from_tracks(
    tracks: Tracks,
    densifier: str | Densifier,
    *,
    image: Tensor | None = None,
    pinned: Tensor | None = None,
    report: Report | None = None,
    **settings,
) -> MotionField:
    """The motion of every pixel, in both directions, from ``tracks``; the field has the size of the tracks.

    ``forward[i]`` is made of the steps i -> i + 1 at their places in frame i, ``backward[i]`` of the same steps turned
    round, at their places in frame i + 1, and then the exact inverse of ``forward[i]`` wherever there is one nearby. So
    smooth motion returns exactly, and an object moves as itself in both: where it lands it covers what was there, and
    what it uncovers points to where the object was, which the cycle test then finds (`cycle_mask`). Of a step only the
    tracks count that are visible at both of its ends; a step without any is at rest.

    ``densifier``: a name in `DENSIFIERS` or a function like these; ``settings`` go to it. One that follows a picture
    gets ``image [C, H, W]`` in 0..1, the first frame, carried along with the motion. ``pinned [H, W]`` in 0..1 holds
    the picture still: both fields are multiplied by ``1 - pinned``. ``report(done, total)`` is called after each step.

    Raises ValueError for tracks of one frame, an unknown densifier or setting, a picture or pin mask that is missing or
    of another size, and pins beyond 0..1.
    """
    make = _densifier(densifier, settings)
    guided = "guide" in inspect.signature(make).parameters
    _check(tracks, image, pinned, guided)
    guide = CarriedImage(image) if guided else None
    starts, vectors, known = tracks.steps()
    ends = starts + vectors
    free = None if pinned is None else 1 - pinned.to(starts)
    fields: tuple[list[Tensor], list[Tensor]] = ([], [])
    for step in range(tracks.frames - 1):
        chosen = known[step]
        for field, places, motion in ((0, starts, vectors), (1, ends, -vectors)):
            dense = _dense(make, places[step, chosen], motion[step, chosen], tracks.size, settings, guide)
            fields[field].append(dense if free is None else dense * free)
            if guide is not None and field == 0:
                guide.follow(fields[0][-1])
        fields[1][-1] = _returning(fields[0][-1], fields[1][-1])
        if report is not None:
            report(step + 1, tracks.frames - 1)
    return MotionField(torch.stack(fields[0]), torch.stack(fields[1]))


def _returning(forward: Tensor, backward: Tensor) -> Tensor:
    """``backward``, corrected to undo ``forward`` where that can be done."""
    inverse, found = invert(forward[None], start=backward[None])
    return torch.where(found, inverse, backward[None])[0]


def _dense(make: Densifier, points, vectors, size, settings: dict, guide: CarriedImage | None) -> Tensor:
    if not len(points):
        return torch.zeros(2, *size, device=points.device)
    if guide is None:
        return make(points, vectors, size, **settings).to(points.device)
    return make(points, vectors, size, guide=guide.shown, **settings).to(points.device)


def _densifier(densifier: str | Densifier, settings: dict) -> Densifier:
    if isinstance(densifier, str) and densifier not in DENSIFIERS:
        raise ValueError(f"unknown densifier {densifier!r}; there are {', '.join(DENSIFIERS)}")
    make = DENSIFIERS[densifier] if isinstance(densifier, str) else densifier
    parameters = inspect.signature(make).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return make
    own = [name for name in list(parameters)[3:] if name != "guide"]
    foreign = [name for name in settings if name not in own]
    if foreign:
        raise ValueError(
            f"densifier {densifier if isinstance(densifier, str) else make.__name__!r} has no setting "
            f"{', '.join(map(repr, foreign))}; it has {', '.join(own) or 'none'}"
        )
    return make


def _check(tracks: Tracks, image: Tensor | None, pinned: Tensor | None, guided: bool) -> None:
    if tracks.frames < 2:
        raise ValueError("tracks of a single frame hold no motion: set frames to 2 or more")
    if guided and image is None:
        raise ValueError("this densifier follows a picture: give the first frame as image")
    height, width = tracks.size
    for name, given, dimensions in (("image", image if guided else None, 3), ("pin mask", pinned, 2)):
        if given is None:
            continue
        if given.ndim != dimensions:
            raise ValueError(f"the {name} must be {['[H, W]', '[C, H, W]'][dimensions - 2]}, got {list(given.shape)}")
        if tuple(given.shape[-2:]) != (height, width):
            raise ValueError(
                f"the {name} is {given.shape[-1]} x {given.shape[-2]} pixels, the tracks are for {width} x {height}: "
                f"wire the same picture to AqueductTrackEditor and AqueductMotionFromTracks"
            )
    if pinned is not None and not bool(((pinned >= 0) & (pinned <= 1)).all()):
        raise ValueError(f"the pin mask must lie in 0..1, got {pinned.min().item():.4g} to {pinned.max().item():.4g}")
