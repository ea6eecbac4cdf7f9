"""The one value for how pixels move."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from .cycle import ALPHA1, ALPHA2, cycle_mask
from .invert import invert
from .sampling import CERTAIN, inside, pixel_grid, sample, sample_valid


@dataclass(frozen=True, eq=False, repr=False)
class MotionField:
    """Adjacent-frame (Eulerian) motion of ``F`` frames: pixels, channel order (x, y), on the frames' own grid.

    ``forward [F-1, 2, H, W]``: ``forward[i]`` lives on frame i and says where its pixel is in frame i+1.
    ``backward [F-1, 2, H, W]`` or None: ``backward[i]`` lives on frame i+1 and says where its pixel was in frame i.
    ``forward_valid``, ``backward_valid`` bool ``[F-1, H, W]`` or None: which vectors are known; None means all.
    Vectors are float32 (or all float64); everything lies on one device.

    Raises ValueError when shapes, types or devices disagree or a vector is not finite.
    """

    forward: Tensor
    backward: Tensor | None = None
    forward_valid: Tensor | None = None
    backward_valid: Tensor | None = None

    def __post_init__(self):
        shape = self.forward.shape
        if len(shape) != 4 or shape[1] != 2 or shape[0] < 1 or not shape[2] or not shape[3]:
            raise ValueError(f"forward must be [F-1,2,H,W] with at least two frames, got {list(shape)}")
        if self.backward is not None and self.backward.shape != shape:
            raise ValueError(f"backward must have the shape of forward, {list(shape)}, got {list(self.backward.shape)}")
        self._check_alike()
        for name, field in (("forward", self.forward), ("backward", self.backward)):
            if field is not None and field.dtype not in (torch.float32, torch.float64):  # half cannot count pixels
                raise ValueError(f"{name} must be floating point, of 32 or 64 bits, got {field.dtype}: use .float()")
            if field is not None and not field.isfinite().all():
                raise ValueError(f"{name} holds vectors that are not finite; mark unknown ones in {name}_valid instead")
        self._check_validity()

    def _check_alike(self) -> None:
        for name in ("backward", "forward_valid", "backward_valid"):
            value = getattr(self, name)
            if value is not None and value.device != self.device:
                raise ValueError(f"{name} lies on {value.device}, forward on {self.device}: move one of them there")
        if self.backward is not None and self.backward.dtype != self.forward.dtype:
            raise ValueError(f"backward is {self.backward.dtype}, forward {self.forward.dtype}: give one type")

    def _check_validity(self) -> None:
        expected = (self.steps, self.height, self.width)
        for name in ("forward_valid", "backward_valid"):
            mask = getattr(self, name)
            if mask is not None and (tuple(mask.shape) != expected or mask.dtype != torch.bool):
                raise ValueError(f"{name} must be bool {list(expected)}, got {mask.dtype} {list(mask.shape)}")
        if self.backward is None and self.backward_valid is not None:
            raise ValueError("backward_valid without backward")

    @property
    def steps(self) -> int:
        """Number of fields in each direction, F - 1."""
        return self.forward.shape[0]

    @property
    def frames(self) -> int:
        return self.steps + 1

    @property
    def height(self) -> int:
        return self.forward.shape[2]

    @property
    def width(self) -> int:
        return self.forward.shape[3]

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)"""
        return self.height, self.width

    @property
    def device(self) -> torch.device:
        return self.forward.device

    def __repr__(self) -> str:
        directions = "forward" if self.backward is None else "forward and backward"
        return f"MotionField({self.frames} frames, {self.width} x {self.height} pixels, {directions})"

    def to(self, device: torch.device | str) -> "MotionField":
        return self._each(lambda tensor: tensor.to(device))

    def sliced(self, start: int, stop: int) -> "MotionField":
        """The motion of frames ``start`` to ``stop - 1``: at least two of them."""
        if not 0 <= start < stop - 1 < self.frames:
            raise ValueError(f"frames {start} to {stop} are not two or more of the {self.frames} there are")
        return self._each(lambda tensor: tensor[start : stop - 1])

    def resized(self, height: int, width: int) -> "MotionField":
        """The same motion on frames of another size: vectors are rescaled with the grid (x by width, y by height).

        Half-pixel rule of image resizing, antialiased when it shrinks. A vector stays valid when all it was made of
        was valid.
        """
        if height < 1 or width < 1:
            raise ValueError(f"cannot resize motion to {width} x {height} pixels")
        if (height, width) == self.size:
            return self
        scale = self.forward.new_tensor([width / self.width, height / self.height])[:, None, None]

        def vectors(field: Tensor | None) -> Tensor | None:
            return None if field is None else torch.cat([_resize(one, height, width) * scale for one in field.split(1)])

        def masks(valid: Tensor | None) -> Tensor | None:
            if valid is None:
                return None
            return torch.cat([_resize(one[None].float(), height, width)[0] > CERTAIN for one in valid.split(1)])

        return MotionField(
            vectors(self.forward), vectors(self.backward), masks(self.forward_valid), masks(self.backward_valid)
        )

    def reversed(self) -> "MotionField":
        """The clip played backwards. Raises ValueError without backward fields."""
        self._need_backward()
        flipped = self._each(lambda tensor: tensor.flip(0))
        return MotionField(flipped.backward, flipped.forward, flipped.backward_valid, flipped.forward_valid)

    def bidirectional(self, report: Callable[[int, int], None] | None = None) -> "MotionField":
        """Itself, or with backward fields found by inverting the forward ones.

        Valid where that has an answer made of valid vectors. ``report(done, total)`` is called after each field.
        """
        if self.backward is not None:
            return self
        backward, valid = invert(self.forward, report=report)
        if self.forward_valid is not None:
            grid = pixel_grid(*self.size, self.device, backward.dtype)
            for step, known in enumerate(self.forward_valid):
                valid[step] &= sample_valid(known[None], grid + backward[step : step + 1])[0]
        return replace(self, backward=backward, backward_valid=valid)

    def checked(self, alpha1: float = ALPHA1, alpha2: float = ALPHA2, margin: float = 0.0) -> "MotionField":
        """With the cycle test (`cycle_mask`) of both directions added to what is valid."""
        self._need_backward()
        forward = cycle_mask(self.forward, self.backward, alpha1, alpha2, margin)
        backward = cycle_mask(self.backward, self.forward, alpha1, alpha2, margin)
        if self.forward_valid is not None:
            forward &= self.forward_valid
        if self.backward_valid is not None:
            backward &= self.backward_valid
        return replace(self, forward_valid=forward, backward_valid=backward)

    def between(self, i: int, j: int) -> Tensor:
        """``[2, H, W]`` on frame i's grid: the pixel p of frame i is at ``p + between(i, j)(p)`` in frame j.

        Follows each pixel along the chain of adjacent fields (Eulerian to Lagrangian, EMG section 4.1): velocities are
        interpolated, the growing map never is.
        """
        return self.between_valid(i, j)[0]

    def between_valid(self, i: int, j: int) -> tuple[Tensor, Tensor]:
        """`between`, and bool ``[H, W]``: the path stayed inside the frame and met valid vectors only.

        Raises ValueError for a frame that is not there, and, back in time, when there are no backward fields.
        """
        for frame in (i, j):
            if not 0 <= frame < self.frames:
                raise ValueError(f"frame {frame} is not there: the motion has frames 0 to {self.frames - 1}")
        if j < i:
            self._need_backward()
        path = Path(self)
        for step in range(i, j) if j > i else range(i - 1, j - 1, -1):
            path.follow(step, back=j < i)
        return path.displacement(), path.valid[0]

    def _need_backward(self) -> None:
        if self.backward is None:
            raise ValueError("this motion has forward fields only; .bidirectional() finds the backward ones")

    def _each(self, change) -> "MotionField":
        fields = (self.forward, self.backward, self.forward_valid, self.backward_valid)
        return MotionField(*(None if tensor is None else change(tensor) for tensor in fields))


class Path:
    """Where every pixel of a frame has got to, followed step by step along a motion.

    ``points [1, 2, H, W]`` in pixels; ``valid`` bool ``[1, H, W]``: all on the way was known, and inside the frame or
    at most ``margin`` pixels beyond its outermost pixel centres.
    """

    def __init__(self, motion: MotionField, margin: float = 0.0):
        self.motion, self.margin = motion, margin
        self.grid = pixel_grid(*motion.size, motion.device, motion.forward.dtype)[None]
        self.points = self.grid.clone()
        self.valid = torch.ones(1, *motion.size, dtype=torch.bool, device=motion.device)

    def follow(self, step: int, back: bool = False) -> "Path":
        """From frame ``step`` to ``step + 1``, or with ``back`` from ``step + 1`` to ``step``."""
        motion = self.motion
        field = motion.backward if back else motion.forward
        known = motion.backward_valid if back else motion.forward_valid
        if known is not None:
            self.valid &= sample_valid(known[step][None], self.points)
        self.points = self.points + sample(field[step][None], self.points)
        self.valid &= inside(self.points, *motion.size, self.margin)
        return self

    def displacement(self) -> Tensor:
        """``[2, H, W]``"""
        return (self.points - self.grid)[0]


def _resize(x: Tensor, height: int, width: int) -> Tensor:
    shrinks = height < x.shape[-2] or width < x.shape[-1]
    return F.interpolate(x, (height, width), mode="bilinear", align_corners=False, antialias=shrinks)
