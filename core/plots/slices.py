"""A clip as one picture: a line of every frame, side by side over time.

What stands still makes straight lines, what moves makes slanted ones, and flicker makes stripes across them.
"""

from collections.abc import Callable

from torch import Tensor


def _rows(frames: Tensor, position: float, thickness: int) -> Tensor:
    """One row of each frame; time runs downwards."""
    lines = frames[:, :, _index(position, frames.shape[2])]
    return lines.movedim(0, 1).repeat_interleave(thickness, dim=1)


def _columns(frames: Tensor, position: float, thickness: int) -> Tensor:
    """One column of each frame; time runs to the right."""
    lines = frames[:, :, :, _index(position, frames.shape[3])]
    return lines.movedim(0, 2).repeat_interleave(thickness, dim=2)


SLICES: dict[str, Callable[[Tensor, float, int], Tensor]] = {"x": _rows, "y": _columns}


def time_slice(frames: Tensor, position: float = 0.5, along: str = "x", thickness: int = 4) -> Tensor:
    """``frames [F, C, H, W]`` to ``[1, C, F * thickness, W]`` along "x", ``[1, C, H, F * thickness]`` along "y".

    Args:
        position: which row or column, a share 0..1 of the height or width; 0 and 1 are the first and the last.
        along: the axis the line runs along: "x" cuts a row, "y" a column. One of `SLICES`.
        thickness: pixels each frame is drawn high, or wide.

    Raises ValueError for anything else.
    """
    if frames.dim() != 4 or 0 in frames.shape:
        raise ValueError(f"expected frames [F, C, H, W], got {list(frames.shape)}")
    if not 0 <= position <= 1:
        raise ValueError(f"the position is a share of the frame from 0 to 1, got {position}")
    if along not in SLICES:
        raise ValueError(f"a slice runs along {' or '.join(SLICES)}, got {along!r}")
    if thickness < 1:
        raise ValueError(f"each frame is drawn 1 pixel high or more, got {thickness}")
    return SLICES[along](frames, position, thickness)[None]


def _index(position: float, size: int) -> int:
    """The pixel at a share of ``size`` pixels, each of which is 1 / size wide; the far edge belongs to the last."""
    return min(int(position * size), size - 1)
