"""Clips with their motion, to train and to measure motion adapters on: worlds of photographs, exact to the pixel.

A clip is stored small: pixels in 8 bits, flow and displacements in half precision (within 1/64 pixel up to 32 pixels).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from ..motion.carry import Carry, carry, direct_carry
from ..motion.field import MotionField
from ..motion.sampling import pixel_grid
from .worlds import BLOB_HARMONICS, Blob, Layer, LayeredWorld, Photo


@dataclass(frozen=True, eq=False)
class MotionClips:
    """``video`` uint8 ``[n, 3, F, H, W]``; ``forward, backward`` float16 ``[n, F-1, 2, H, W]`` as in `MotionField`.

    ``back, onward`` float16 ``[n, F, 2, H, W]`` and ``seen`` bool ``[n, F, H, W]``: `core.motion.carry.Carry`, the
    first two as displacements.
    """

    video: Tensor
    forward: Tensor
    backward: Tensor
    back: Tensor
    onward: Tensor
    seen: Tensor

    def __len__(self) -> int:
        return len(self.video)

    def __getitem__(self, which) -> "MotionClips":
        return MotionClips(*(getattr(self, field.name)[which] for field in fields(self)))

    @classmethod
    def joined(cls, parts: Sequence["MotionClips"]) -> "MotionClips":
        return cls(*(torch.cat([getattr(part, field.name) for part in parts]) for field in fields(cls)))

    def pictures(self) -> Tensor:
        """float32 ``[n, 3, F, H, W]`` in -1..1."""
        return self.video.float() / 127.5 - 1

    def carry(self) -> Carry:
        grid = pixel_grid(*self.back.shape[-2:])
        return Carry(grid + self.back.float(), self.seen, self.onward.float())


def one_clip(video: Tensor, motion: MotionField, way: Carry) -> MotionClips:
    """``video [F, 3, H, W]`` in 0..1 with its motion, and its way back to the first frame."""
    half = torch.float16
    back = way.points - pixel_grid(*way.size)
    pixels = (video.clamp(0, 1) * 255).round().byte().transpose(0, 1)[None]
    return MotionClips(
        pixels, motion.forward[None].to(half), motion.backward[None].to(half), back.to(half), way.onward.to(half),
        way.seen,
    )  # fmt: skip


def world_clip(world: LayeredWorld) -> MotionClips:
    """All of it from formulas: also the way back to frame 0, and what was seen there."""
    grid = pixel_grid(world.height, world.width)
    times = range(world.frames)
    points = torch.stack([grid + world.flow(t, 0) for t in times])
    seen = torch.stack([~world.occluded(t, 0) for t in times])
    onward = torch.stack([world.flow(0, t) for t in times])
    return one_clip(world.clip(), world.motion(), Carry(points[None], seen[None], onward[None]))


def estimated_clip(video: Tensor, estimate, reference_anchored: bool = False) -> MotionClips:
    """``video [F, 3, H, W]`` in 0..1 with motion from ``estimate(first [n, 3, H, W], second) -> flow [n, 2, H, W]``.

    The way back to frame 0 is the Eulerian chain, or with ``reference_anchored`` estimated in one go (Lagrangian, EMG
    eq. 1).
    """
    motion = MotionField(estimate(video[:-1], video[1:]), estimate(video[1:], video[:-1]))
    if not reference_anchored:
        return one_clip(video, motion, carry(motion))
    first = video[:1].expand_as(video[1:])
    return one_clip(video, motion, direct_carry(estimate(first, video[1:]), estimate(video[1:], first)))


@dataclass(frozen=True)
class PhotoWorlds:
    """Random worlds cut from ``pictures``, uint8 ``[3, h, w]`` each: a background and up to ``blobs`` objects.

    ``speed``: the largest, pixels per frame, of objects; backgrounds stand still as often as not, and go at most a
    third as fast. ``still``: share of worlds in which nothing moves. ``spin``: the largest rotation, radians a frame.
    """

    pictures: Sequence[Tensor]
    height: int = 64
    width: int = 64
    frames: int = 16
    blobs: int = 3
    speed: float = 3.0
    spin: float = 0.06
    still: float = 0.08

    def draw(self, generator: torch.Generator) -> LayeredWorld:
        """The next world of ``generator``."""

        def uniform(low: float, high: float) -> float:
            return low + (high - low) * torch.rand((), generator=generator, dtype=torch.float64).item()

        moves = uniform(0, 1) >= self.still
        speed, spin = (self.speed, self.spin) if moves else (0.0, 0.0)
        count = round(uniform(0.5, self.blobs + 0.49))
        ground = (speed / 3, spin / 3) if uniform(0, 1) < 0.5 else (0.0, 0.0)
        layers = [self._layer(generator, uniform, None, (self.width / 2, self.height / 2), *ground)]
        for _ in range(count):
            radius = min(self.height, self.width) * uniform(0.1, 0.24)
            wobble = torch.randn(2, BLOB_HARMONICS, generator=generator, dtype=torch.float64) * 0.08
            place = (self.width * uniform(0.2, 0.8), self.height * uniform(0.2, 0.8))
            layers.append(self._layer(generator, uniform, Blob(radius, *wobble), place, speed * uniform(0, 1), spin))
        return LayeredWorld(tuple(layers), self.height, self.width, self.frames)

    def _layer(self, generator, uniform, outline, place, speed: float, spin: float) -> Layer:
        """At ``place`` in the first frame."""
        direction = uniform(0, 2 * math.pi)
        velocity = speed * math.cos(direction), speed * math.sin(direction)
        picture = self.pictures[int(torch.randint(len(self.pictures), (), generator=generator))]
        height, width = picture.shape[1:]
        origin = (uniform(self.width / 2, width - self.width / 2), uniform(self.height / 2, height - self.height / 2))
        turn, growth = uniform(-spin, spin), 1 + uniform(-spin, spin) / 4
        return Layer(Photo(picture.float() / 255, origin), outline, place, velocity, turn, growth)
