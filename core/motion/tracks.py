"""Tracks: where a few points are in every frame, and in which frames they are seen."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Tracks:
    """``positions`` float32 ``[T, N, 2]`` in pixels (x, y), ``visible`` bool ``[T, N]``, ``size`` (height, width).

    Pixel centres are integers, as everywhere: the image spans x from -0.5 to width - 0.5. A point may lie outside it
    (it leaves the frame, or comes in): `inside` tells. A hidden point needs a finite position too.

    Raises TypeError for other dtypes, ValueError for other shapes, for no frame or no track, and for a position that is
    not finite (naming the track and the frame).
    """

    positions: Tensor
    visible: Tensor
    size: tuple[int, int]

    def __post_init__(self) -> None:
        _check_types(self.positions, self.visible)
        _check_shapes(self.positions, self.visible, self.size)
        _check_finite(self.positions)

    @property
    def frames(self) -> int:
        return self.positions.shape[0]

    @property
    def count(self) -> int:
        """How many points are tracked."""
        return self.positions.shape[1]

    @property
    def height(self) -> int:
        return self.size[0]

    @property
    def width(self) -> int:
        return self.size[1]

    def inside(self) -> Tensor:
        """Bool ``[T, N]``: between the centres of the outermost pixels, where an image can be sampled."""
        x, y = self.positions.unbind(-1)
        return (x >= 0) & (x <= self.width - 1) & (y >= 0) & (y <= self.height - 1)

    def steps(self) -> tuple[Tensor, Tensor, Tensor]:
        """``(starts [T-1, N, 2], vectors [T-1, N, 2], known bool [T-1, N])``: the motion from each frame to the next.

        A step is known where the point is visible at both of its ends.
        """
        starts = self.positions[:-1]
        return starts, self.positions[1:] - starts, self.visible[:-1] & self.visible[1:]

    def resampled(self, frames: int) -> "Tracks":
        """The same motion told in ``frames`` frames: linear in time, first on first and last on last.

        Visibility is the nearest frame's (half way, the earlier one's). Next to a frame that hides a point, its
        position too is the nearest frame's, so that what stands there for a hidden point (zeros, in some formats)
        cannot draw a visible one away.
        A single frame, of static points, repeats.
        """
        if frames < 1:
            raise ValueError(f"tracks need at least one frame, got {frames}")
        time = torch.linspace(0, self.frames - 1, frames, dtype=torch.float64, device=self.positions.device)
        before = time.floor().long()
        after = (before + 1).clamp(max=self.frames - 1)
        share = (time - before)[:, None]
        nearest = share.round()
        share = torch.where(self.visible[before] == self.visible[after], share, nearest)[..., None]
        between = torch.lerp(self.positions[before].double(), self.positions[after].double(), share)
        visible = torch.where(nearest > 0, self.visible[after], self.visible[before])
        return Tracks(between.float(), visible, self.size)

    def resized(self, height: int, width: int) -> "Tracks":
        """The same tracks over the image resized to ``height`` x ``width``: the outer edges of the images coincide."""
        scale = self.positions.new_tensor([width / self.width, height / self.height])
        return Tracks((self.positions + 0.5) * scale - 0.5, self.visible, (height, width))


def _check_types(positions: Tensor, visible: Tensor) -> None:
    if positions.dtype != torch.float32:
        raise TypeError(f"positions of tracks are float32 pixels, got {positions.dtype}; convert them with .float()")
    if visible.dtype != torch.bool:
        raise TypeError(f"visibility of tracks is bool, got {visible.dtype}; compare it with a threshold first")


def _check_shapes(positions: Tensor, visible: Tensor, size: tuple[int, int]) -> None:
    if positions.ndim != 3 or positions.shape[-1] != 2:
        raise ValueError(f"positions of tracks are [frames, tracks, 2 (x, y)], got {list(positions.shape)}")
    if visible.shape != positions.shape[:2]:
        raise ValueError(
            f"visibility of tracks is [frames, tracks] = {list(positions.shape[:2])}, got {list(visible.shape)}"
        )
    if not positions.shape[0] or not positions.shape[1]:
        raise ValueError(
            f"tracks need at least one frame and one point, got {positions.shape[0]} frames of {positions.shape[1]} "
            f"points; draw a track, or use a zero motion where nothing shall move"
        )
    if len(size) != 2 or min(size) < 1:
        raise ValueError(f"the size of tracks is (height, width) in pixels, got {size}")


def _check_finite(positions: Tensor) -> None:
    broken = ~positions.isfinite().all(-1)
    if broken.any():
        frame, track = broken.nonzero()[0].tolist()
        raise ValueError(
            f"track {track} has no finite position in frame {frame}: {positions[frame, track].tolist()} "
            f"(counted from 0; {int(broken.sum())} such positions in all). A hidden point needs a finite position too: "
            f"repeat its last one and mark it invisible"
        )
