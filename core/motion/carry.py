"""Where every pixel of a clip was in its first frame: what carries pictures and features of that frame along."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .cycle import ALPHA1, ALPHA2, cycle_mask
from .field import MotionField, Path
from .sampling import CERTAIN, inside, pixel_grid, sample

BORDER = 0.5  # a border pixel is seen until its area ends, else still motion with a breath of noise loses the border


@dataclass(frozen=True, eq=False)
class Carry:
    """``points [B, F, 2, H, W]``: where the pixels of frame t were in frame 0, in pixels (x, y) of ``H x W``.

    ``seen`` bool ``[B, F, H, W]``: whether they were seen there. ``onward [B, F, 2, H, W]``: how far the pixels of
    frame 0 have got by frame t, in pixels, on frame 0's grid. One of each per clip; B may be 1 for all clips alike.
    """

    points: Tensor
    seen: Tensor
    onward: Tensor

    @property
    def frames(self) -> int:
        return self.points.shape[1]

    @property
    def size(self) -> tuple[int, int]:
        return self.points.shape[-2], self.points.shape[-1]

    def to(self, device: torch.device | str) -> "Carry":
        return Carry(self.points.to(device), self.seen.to(device), self.onward.to(device))

    def resized(self, height: int, width: int) -> "Carry":
        """The same for frames of another size, by the half-pixel rule of image resizing; seen where all was seen."""
        if (height, width) == self.size:
            return self
        grid = pixel_grid(*self.size, self.points.device, self.points.dtype)
        ratio = self.points.new_tensor([width / self.size[1], height / self.size[0]])[:, None, None]

        def smaller(x: Tensor) -> Tensor:
            shrinks = height < self.size[0] or width < self.size[1]
            flat = F.interpolate(x.flatten(0, 1), (height, width), mode="bilinear", antialias=shrinks)
            return flat.unflatten(0, x.shape[:2])

        moved = smaller(self.points - grid) * ratio
        there = pixel_grid(height, width, grid.device, grid.dtype)
        seen = smaller(self.seen[:, :, None].to(grid.dtype))[:, :, 0] > CERTAIN
        return Carry(there + moved, seen, smaller(self.onward) * ratio)

    def apply(self, x: Tensor) -> Tensor:
        """``x [b, C, H, W]`` of the first frames -> ``[b, F, C, H, W]``: bilinear, zero where nothing was seen."""
        return self.stretched(x) * self.seen[:, :, None].to(x.dtype)

    def stretched(self, x: Tensor) -> Tensor:
        """As `apply`, but what was never seen is what the motion points to, the border's value beyond the frame."""
        if x.dim() != 4 or x.shape[-2:] != self.size or len(self.points) not in (1, len(x)):
            raise ValueError(
                f"this carries {len(self.points)} x [C, {self.size[0]}, {self.size[1]}], got {list(x.shape)}: resize "
                f"the motion or the picture"
            )
        points = self.points.expand(len(x), -1, -1, -1, -1)
        moved = sample(x.repeat_interleave(self.frames, 0).to(points.dtype), points.flatten(0, 1))
        return moved.unflatten(0, (len(x), self.frames)).to(x.dtype)


def steps_of(
    motion: MotionField, alpha1: float = ALPHA1, alpha2: float = ALPHA2
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """`Carry`'s ``points [2, H, W]``, ``seen [H, W]`` and ``onward [2, H, W]`` frame after frame, from frame 0 on.

    Each frame follows its pixels back through the adjacent fields, so nothing is interpolated twice (EMG eq. 5). Never
    seen is a pixel whose path leaves the frame (half a pixel beyond the outermost centres) or meets an invalid vector,
    where a step fails the cycle test (eq. 9), or where the whole way back and forth does, with ``alpha2`` for every
    step: motion slower than sqrt(alpha2) pixels a frame uncovers things, too, and only the whole way shows it.
    Costs F^2 / 2 readings. Raises ValueError for a motion without backward fields.
    """
    motion = motion.checked(alpha1, alpha2, BORDER)
    onward = Path(motion, BORDER)
    yield onward.points[0], onward.valid[0].clone(), onward.displacement()
    for t in range(1, motion.frames):
        onward.follow(t - 1)
        back = Path(motion, BORDER)
        for step in range(t - 1, -1, -1):
            back.follow(step, back=True)
        ahead = onward.displacement()
        returns = cycle_mask(back.displacement()[None], ahead[None], alpha1, alpha2 * t, BORDER)
        yield back.points[0], (back.valid & returns)[0], ahead


def carry(
    motion: MotionField,
    alpha1: float = ALPHA1,
    alpha2: float = ALPHA2,
    report: Callable[[int, int], None] | None = None,
) -> Carry:
    """The Eulerian chain of ``motion`` back to its first frame, one clip (`steps_of`)."""
    found = []
    for t, step in enumerate(steps_of(motion, alpha1, alpha2)):
        found.append(step)
        if report is not None and t:
            report(t, motion.steps)
    points, seen, onward = (torch.stack(part)[None] for part in zip(*found, strict=True))
    return Carry(points, seen, onward)


def direct_carry(onward: Tensor, back: Tensor, alpha1: float = ALPHA1, alpha2: float = ALPHA2) -> Carry:
    """The Lagrangian form: ``onward, back [F-1, 2, H, W]``, flow 0 -> t and t -> 0, each found in one go (EMG eq. 1).

    Seen: the cycle test between frame 0 and frame t.
    """
    grid = pixel_grid(*back.shape[-2:], back.device, back.dtype)
    points = torch.cat([grid[None], grid + back])
    seen = cycle_mask(back, onward, alpha1, alpha2, BORDER) & inside(points[1:], *grid.shape[-2:], BORDER)
    first = torch.ones_like(seen[:1])
    ahead = torch.cat([torch.zeros_like(onward[:1]), onward])
    return Carry(points[None], torch.cat([first, seen])[None], ahead[None])
