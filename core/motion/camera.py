"""Camera motion over a flat picture: pan, zoom about a point, roll, shake.

Signs are the camera's: it moves to the right and the content to the left. ``pan_x`` > 0 looks right, ``pan_y`` > 0
looks down, ``zoom`` > 1 comes closer, ``roll`` > 0 turns the camera clockwise, hence the content counterclockwise.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .field import MotionField
from .sampling import pixel_grid
from .track_document import EASES

WAVES = 4  # sinusoids per axis of a shake


@dataclass(frozen=True)
class Keyframe:
    """Where the camera is at ``time``, a share of the clip in 0..1 (frame k of F is at k / (F - 1)).

    ``pan_x``, ``pan_y``: shares of the picture's width and height, in the picture as it is without zoom. ``zoom``: a
    factor. ``roll``: degrees. ``ease``: how the way to the next keyframe is travelled, a name in `EASES`.
    """

    time: float
    pan_x: float = 0.0
    pan_y: float = 0.0
    zoom: float = 1.0
    roll: float = 0.0
    ease: str = "linear"

    def __post_init__(self):
        if not 0 <= self.time <= 1:
            raise ValueError(f"the time of a keyframe is a share of the clip in 0..1, got {self.time}")
        if not (0 < self.zoom < math.inf):
            raise ValueError(f"zoom is a factor above 0 (1: as it is), got {self.zoom}")
        if not all(math.isfinite(value) for value in (self.pan_x, self.pan_y, self.roll)):
            raise ValueError(f"pan and roll must be finite, got {self.pan_x}, {self.pan_y} and {self.roll}")
        if self.ease not in EASES:
            raise ValueError(f"unknown ease {self.ease!r}; there are {', '.join(EASES)}")


@dataclass(frozen=True)
class Shake:
    """An unsteady hand: a smooth random path, at most ``amplitude`` pixels from its middle in x and in y.

    The path is a sum of sinusoids between ``frequency`` / 2 and ``frequency`` cycles per clip. The same ``seed`` gives
    the same path of the same clip, at every size and on every device.
    """

    amplitude: float
    frequency: float = 4.0
    seed: int = 0

    def __post_init__(self):
        if not 0 <= self.amplitude < math.inf or not 0 < self.frequency < math.inf:
            raise ValueError(
                f"a shake needs an amplitude of at least 0 pixels and a frequency above 0, got {self.amplitude} and "
                f"{self.frequency}"
            )

    def path(self, time: Tensor) -> Tensor:
        """Offsets ``[T, 2]`` in pixels at ``time [T]``, shares of the clip in float64."""
        generator = torch.Generator().manual_seed(self.seed)
        share, phase = torch.rand(2, WAVES, 2, generator=generator, dtype=torch.float64)
        stratified = (torch.arange(WAVES)[:, None] + share) / WAVES
        cycles = self.frequency * (0.5 + 0.5 * stratified)
        return self.amplitude * torch.cos(2 * math.pi * (cycles * time[:, None, None] + phase)).mean(1)


def camera_motion(
    frames: int,
    height: int,
    width: int,
    keyframes: Sequence[Keyframe],
    centre: tuple[float, float] = (0.5, 0.5),
    shake: Shake | None = None,
    device: torch.device | str = "cpu",
) -> MotionField:
    """The motion of a picture seen by a moving camera, both directions exactly inverse to each other.

    With ``A_t`` of `camera_maps`, ``forward[i](p) = A_{i+1} A_i^-1 p - p`` and
    ``backward[i](q) = A_i A_{i+1}^-1 q - q``.
    Every vector is known: the map goes on beyond the frame. Raises ValueError for fewer than two frames and for
    keyframes that are none or not in order.
    """
    if frames < 2:
        raise ValueError(f"motion needs two frames or more, got {frames}")
    maps = camera_maps(frames, height, width, keyframes, centre, shake)
    onward = maps[1:] @ torch.linalg.inv(maps[:-1])
    grid = pixel_grid(height, width, device, torch.float64).flatten(1)

    def field(steps: Tensor) -> Tensor:
        still = torch.eye(2, dtype=torch.float64, device=device)
        parts = [((step[:2, :2] - still) @ grid + step[:2, 2:]).float() for step in steps.to(device)]
        return torch.stack(parts).view(-1, 2, height, width)

    return MotionField(field(onward), field(torch.linalg.inv(onward)))


def camera_maps(
    frames: int,
    height: int,
    width: int,
    keyframes: Sequence[Keyframe],
    centre: tuple[float, float] = (0.5, 0.5),
    shake: Shake | None = None,
) -> Tensor:
    """``A_t``, float64 ``[F, 3, 3]``: from the picture's pixels (homogeneous x, y, 1) to those of frame t.

    ``A_t p = c + zoom R (p - c - pan) + shake`` with the fixed point ``c`` of zoom and roll at ``centre`` (shares of
    width and height, from edge to edge). Between keyframes pan and roll are interpolated, and the logarithm of zoom, so
    that it grows evenly; before the first and after the last the camera rests.
    """
    time = torch.arange(frames, dtype=torch.float64) / max(frames - 1, 1)
    pan_x, pan_y, log_zoom, roll = _interpolated(keyframes, time).unbind(1)
    turn = log_zoom.exp()[:, None, None] * _rotation(-torch.deg2rad(roll))
    fixed = torch.tensor([centre[0] * width - 0.5, centre[1] * height - 0.5], dtype=torch.float64)
    looks_at = fixed + torch.stack([pan_x * width, pan_y * height], dim=1)
    maps = torch.eye(3, dtype=torch.float64).repeat(frames, 1, 1)
    maps[:, :2, :2] = turn
    maps[:, :2, 2] = fixed - (turn @ looks_at[..., None])[..., 0]
    if shake is not None:
        _check_frequency(shake, frames)
        maps[:, :2, 2] += shake.path(time)
    return maps


def _interpolated(keyframes: Sequence[Keyframe], time: Tensor) -> Tensor:
    """pan_x, pan_y, log zoom and roll at ``time [T]``: ``[T, 4]``."""
    if not keyframes:
        raise ValueError("camera motion needs a keyframe; one alone holds the camera still")
    times = [key.time for key in keyframes]
    if any(later <= earlier for earlier, later in zip(times, times[1:], strict=False)):
        raise ValueError(f"keyframes must be in order, each later than the one before, got the times {times}")
    poses = torch.tensor(
        [[key.pan_x, key.pan_y, math.log(key.zoom), key.roll] for key in keyframes], dtype=torch.float64
    )
    found = poses[0].expand(len(time), 4).clone()
    for index, (key, following) in enumerate(zip(keyframes, keyframes[1:], strict=False)):
        share = ((time - key.time) / (following.time - key.time)).clamp(0, 1)
        reached = torch.lerp(poses[index], poses[index + 1], EASES[key.ease](share)[:, None])
        found = torch.where((time >= key.time)[:, None], reached, found)
    return found


def _rotation(angle: Tensor) -> Tensor:
    """``[T, 2, 2]``: by ``angle [T]`` radians from x towards y, which on a screen is clockwise."""
    cos, sin = angle.cos(), angle.sin()
    return torch.stack([torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)], -2)


def _check_frequency(shake: Shake, frames: int) -> None:
    most = (frames - 1) / 2
    if shake.amplitude and shake.frequency > most:
        raise ValueError(
            f"{frames} frames show at most {most:g} cycles, a shake of {shake.frequency:g} cycles per clip would "
            f"look slower than it is; lower the frequency (shake_cycles) or make more frames"
        )
