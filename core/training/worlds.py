"""Worlds whose motion is known exactly: textured layers that turn and slide over each other.

Everything is a formula of continuous coordinates (texture, outline, pose), so frames, flow between any two frames and
occlusion are exact at every pixel, and nothing is interpolated. They are the oracle for flow estimators and cycle
masks, and training material for whatever learns motion.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..motion.field import MotionField
from ..motion.sampling import inside, pixel_grid

WAVES = 48
BLOB_HARMONICS = 4


@dataclass(frozen=True)
class Texture:
    """Three channels, each a sum of plane waves; wavelengths from 6 to 60 pixels, longer ones stronger."""

    frequencies: Tensor  # [WAVES, 2], radians per pixel
    phases: Tensor  # [3, WAVES]
    weights: Tensor  # [3, WAVES]
    base: Tensor  # [3]

    def __call__(self, points: Tensor) -> Tensor:
        """Colour in 0..1 at ``points [2, n]`` in the layer's own pixels -> ``[3, n]``."""
        phase = self.frequencies @ points
        # cos(a + p) = cos a cos p - sin a sin p: one table of waves serves all channels
        waves = (self.weights * self.phases.cos()) @ phase.cos() - (self.weights * self.phases.sin()) @ phase.sin()
        return torch.sigmoid(3 * waves + self.base[:, None])


@dataclass(frozen=True)
class Photo:
    """A picture ``[3, h, w]`` in 0..1 as a texture: read between its pixels, mirrored beyond its borders.

    ``origin``: the picture's point at the layer's own (0, 0), in pixels of both.
    """

    picture: Tensor
    origin: tuple[float, float]

    def __call__(self, points: Tensor) -> Tensor:
        """Colour in 0..1 at ``points [2, n]`` in the layer's own pixels -> ``[3, n]``."""
        height, width = self.picture.shape[1:]
        x, y = points[0] + self.origin[0], points[1] + self.origin[1]
        at = torch.stack([2 * x / (width - 1) - 1, 2 * y / (height - 1) - 1], dim=-1)[None, None]
        source = self.picture[None].to(points.dtype)
        return F.grid_sample(source, at, padding_mode="reflection", align_corners=True)[0, :, 0]


@dataclass(frozen=True)
class Blob:
    """A star-shaped outline: radius times a few harmonics of the angle."""

    radius: float
    cosines: Tensor  # [BLOB_HARMONICS]
    sines: Tensor

    def depth(self, points: Tensor) -> Tensor:
        """Pixels from ``points [2, h, w]`` to the outline along the radius, positive inside."""
        angle = torch.atan2(points[1], points[0])
        wobble = sum(
            c * torch.cos(k * angle) + s * torch.sin(k * angle)
            for k, (c, s) in enumerate(zip(self.cosines.tolist(), self.sines.tolist(), strict=True), start=2)
        )
        return self.radius * (1 + wobble) - points.square().sum(0).sqrt()


@dataclass(frozen=True)
class Layer:
    """A texture with an outline (None: it covers everything), and where it is at frame t."""

    texture: Texture | Photo
    outline: Blob | None
    centre: tuple[float, float]
    velocity: tuple[float, float]  # pixels per frame
    spin: float  # radians per frame
    growth: float  # factor per frame

    def to_frame(self, points: Tensor, t: float) -> Tensor:
        """From the layer's coordinates to frame t's pixels, ``[2, h, w]``."""
        return self._turn(points, t * self.spin) * self.growth**t + self._place(t, points)

    def from_frame(self, points: Tensor, t: float) -> Tensor:
        """From frame t's pixels to the layer's coordinates, ``[2, h, w]``."""
        return self._turn(points - self._place(t, points), -t * self.spin) / self.growth**t

    def depth(self, points: Tensor, t: float) -> Tensor:
        """Pixels of frame t to the outline, positive on the layer; infinite for a layer without one."""
        if self.outline is None:
            return torch.full(points.shape[1:], torch.inf, dtype=points.dtype)
        return self.outline.depth(self.from_frame(points, t)) * self.growth**t

    def _place(self, t: float, like: Tensor) -> Tensor:
        x, y = (c + t * v for c, v in zip(self.centre, self.velocity, strict=True))
        return like.new_tensor([x, y])[:, None, None]

    @staticmethod
    def _turn(points: Tensor, angle: float) -> Tensor:
        c, s = math.cos(angle), math.sin(angle)
        x, y = points
        return torch.stack([c * x - s * y, s * x + c * y])


@dataclass(frozen=True)
class LayeredWorld:
    """``layers`` from back to front, seen through frames of ``height x width`` pixels."""

    layers: tuple[Layer, ...]
    height: int
    width: int
    frames: int

    def frame(self, t: float) -> Tensor:
        """``[3, H, W]`` in 0..1; outlines are antialiased over one pixel."""
        grid = self._grid()
        image = torch.zeros(3, self.height, self.width, dtype=grid.dtype)
        for layer in self.layers:
            cover = (layer.depth(grid, t) + 0.5).clamp(0, 1)
            shown = cover > 0
            colour = layer.texture(layer.from_frame(grid, t)[:, shown])
            image[:, shown] = torch.lerp(image[:, shown], colour, cover[shown])
        return image.float()

    def clip(self) -> Tensor:
        """``[F, 3, H, W]``"""
        return torch.stack([self.frame(t) for t in range(self.frames)])

    def visible(self, points: Tensor, t: float) -> Tensor:
        """Index of the front-most layer at ``points [2, h, w]`` of frame t, int64 ``[h, w]``."""
        top = torch.zeros(points.shape[1:], dtype=torch.int64)
        for index, layer in enumerate(self.layers):
            top = torch.where(layer.depth(points, t) > 0, index, top)
        return top

    def flow(self, i: float, j: float) -> Tensor:
        """``[2, H, W]`` in pixels: where frame i's pixel is in frame j, seen or hidden."""
        grid = self._grid()
        return (self._landing(grid, self.visible(grid, i), i, j) - grid).float()

    def occluded(self, i: float, j: float) -> Tensor:
        """bool ``[H, W]``: frame i's pixel is behind another layer, or outside, in frame j."""
        grid = self._grid()
        top = self.visible(grid, i)
        there = self._landing(grid, top, i, j)
        return (self.visible(there, j) != top) | ~inside(there, self.height, self.width)

    def motion(self) -> MotionField:
        """Forward and backward flow of all neighbouring frames, every vector known (also of hidden pixels)."""
        steps = range(self.frames - 1)
        return MotionField(
            torch.stack([self.flow(i, i + 1) for i in steps]), torch.stack([self.flow(i + 1, i) for i in steps])
        )

    def occlusions(self) -> tuple[Tensor, Tensor]:
        """bool ``[F-1, H, W]`` twice: hidden in the next frame (forward), hidden in the one before (backward)."""
        steps = range(self.frames - 1)
        return (
            torch.stack([self.occluded(i, i + 1) for i in steps]),
            torch.stack([self.occluded(i + 1, i) for i in steps]),
        )

    def _grid(self) -> Tensor:
        return pixel_grid(self.height, self.width, dtype=torch.float64)

    def _landing(self, grid: Tensor, top: Tensor, i: float, j: float) -> Tensor:
        there = grid
        for index, layer in enumerate(self.layers):
            there = torch.where(top == index, layer.to_frame(layer.from_frame(grid, i), j), there)
        return there


def make_world(
    seed: int, height: int, width: int, frames: int, layers: int = 4, speed: float = 6.0, spin: float = 0.03
) -> LayeredWorld:
    """A random world: a background that drifts slowly and ``layers - 1`` blobs that cross the middle of the clip.

    ``speed`` is the pixels per frame of the blobs (the background has a quarter), ``spin`` the largest rotation in
    radians per frame. The same arguments give the same world.
    """
    if layers < 1 or frames < 2:
        raise ValueError(f"a world needs a layer and two frames, got {layers} layers and {frames} frames")
    generator = torch.Generator().manual_seed(seed)
    background = _layer(generator, None, (width / 2, height / 2), frames, speed / 4, spin / 4)
    blobs = [_blob(generator, height, width, frames, speed, spin) for _ in range(layers - 1)]
    return LayeredWorld((background, *blobs), height, width, frames)


def _blob(generator: torch.Generator, height: int, width: int, frames: int, speed: float, spin: float) -> Layer:
    radius = min(height, width) * _uniform(generator, 0.14, 0.24)
    wobble = torch.randn(2, BLOB_HARMONICS, generator=generator, dtype=torch.float64) * 0.08
    middle = width * _uniform(generator, 0.25, 0.75), height * _uniform(generator, 0.25, 0.75)
    return _layer(generator, Blob(radius, *wobble), middle, frames, speed, spin)


def _layer(generator: torch.Generator, outline, middle, frames: int, speed: float, spin: float) -> Layer:
    """A layer that is at ``middle`` half way through the clip."""
    direction = _uniform(generator, 0, 2 * math.pi)
    velocity = speed * math.cos(direction), speed * math.sin(direction)
    centre = tuple(m - v * (frames - 1) / 2 for m, v in zip(middle, velocity, strict=True))
    turn, growth = _uniform(generator, -spin, spin), 1 + _uniform(generator, -spin, spin) / 6
    return Layer(_texture(generator), outline, centre, velocity, turn, growth)


def _texture(generator: torch.Generator) -> Texture:
    wavelength = 6 * 10 ** torch.rand(WAVES, generator=generator, dtype=torch.float64)
    angle = 2 * math.pi * torch.rand(WAVES, generator=generator, dtype=torch.float64)
    frequencies = (2 * math.pi / wavelength)[:, None] * torch.stack([angle.cos(), angle.sin()], 1)
    phases = 2 * math.pi * torch.rand(3, WAVES, generator=generator, dtype=torch.float64)
    weights = torch.randn(3, WAVES, generator=generator, dtype=torch.float64) * (wavelength / wavelength.max()).sqrt()
    weights = weights / weights.square().sum(1, keepdim=True).sqrt()
    base = torch.randn(3, generator=generator, dtype=torch.float64) * 0.7
    return Texture(frequencies, phases, weights, base)


def _uniform(generator: torch.Generator, low: float, high: float) -> float:
    return low + (high - low) * torch.rand((), generator=generator, dtype=torch.float64).item()
