"""Motion as a grid printed on the first frame and carried along."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from ..motion.field import MotionField
from ..motion.sampling import inside, sample, sample_valid
from .canvas import Overlay, text_legend, text_size, with_legend
from .clips import Report, backdrops, rendered

UPRIGHT, LEVEL = (200, 62, 30), (28, 100, 180)  # the lines that start as x = const and as y = const
DIM = 0.55  # how much of an image's contrast remains beneath the lines


def warped_grid(
    motion: MotionField,
    images: Tensor | None = None,
    *,
    cell: int | None = None,
    legend: bool = True,
    report: Report | None = None,
) -> Tensor:
    """IMAGE ``[F, H, W, 3]``: the lines of a square grid on frame 0, as they lie in each frame (``between(0, t)``).

    ``cell`` in pixels (default ``grid_cell``). Lines that start upright are red, level ones blue. A line ends where its
    path is unknown: it left the frame or met vectors that are not valid. Beneath lies white, or ``images
    [F or 1, C, H, W]``, paled.
    """
    height, width = motion.size
    cell = grid_cell(height, width) if cell is None else cell
    if cell < 2:
        raise ValueError(f"a grid needs cells of at least two pixels, got {cell}")
    backdrop = backdrops(images, motion.frames, height, width)
    key = text_legend([f"cells of {cell} px in frame 0"], text_size(height, width)) if legend else None
    upright, level = grid_lines(height, width, cell)
    paths = carried(motion, torch.cat([upright.flatten(1), level.flatten(1)], dim=1))
    thickness = max(0.75, min(height, width) / 280)

    def draw(i: int) -> np.ndarray:
        below = backdrop(i)
        white = np.ones((height, width, 3), dtype=np.float32)
        sheet = Overlay(height, width)
        points, known = next(paths)  # pictures are drawn in order
        split = upright.shape[1] * upright.shape[2]
        for lines, part, colour in ((upright, slice(0, split), UPRIGHT), (level, slice(split, None), LEVEL)):
            shape = lines.shape[1:]
            for line, seen in zip(points[:, part].T.reshape(*shape, 2), known[part].reshape(shape), strict=True):
                for run in runs(seen):
                    sheet.line([tuple(point) for point in line[run].tolist()], colour, thickness)
        return with_legend(sheet.over(white if below is None else 1 - DIM * (1 - below)), key)

    return rendered(motion.frames, draw, report)


def grid_cell(height: int, width: int) -> int:
    """Pixels from line to line: 14 cells along the shorter side, but none under 12 pixels."""
    return max(12, round(min(height, width) / 14))


def grid_lines(height: int, width: int, cell: int) -> tuple[Tensor, Tensor]:
    """``upright [2, lines, H]`` and ``level [2, lines, W]``: the points (x, y), one per pixel, of a centred grid."""
    x = torch.arange((width - 1) % cell // 2, width, cell, dtype=torch.float32)
    y = torch.arange((height - 1) % cell // 2, height, cell, dtype=torch.float32)
    down, along = torch.arange(height, dtype=torch.float32), torch.arange(width, dtype=torch.float32)
    upright = torch.stack([x[:, None].expand(-1, height), down.expand(len(x), -1)])
    level = torch.stack([along.expand(len(y), -1), y[:, None].expand(-1, width)])
    return upright, level


def carried(motion: MotionField, points: Tensor) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Per frame, where the points ``[2, n]`` of frame 0 are, and bool ``[n]``: the way there is known.

    At pixel centres this is ``points + between(0, t)(points)``; following the points alone spares a whole field per
    frame.
    """
    places = points.to(motion.device, motion.forward.dtype)[None, :, None]
    known = torch.ones(places.shape[-1], dtype=torch.bool, device=motion.device)
    for step in range(motion.frames):
        yield places[0, :, 0].float().cpu().numpy(), known.cpu().numpy()
        if step == motion.steps:
            return
        if motion.forward_valid is not None:
            known = known & sample_valid(motion.forward_valid[step][None], places)[0, 0]
        places = places + sample(motion.forward[step][None], places)
        known = known & inside(places, *motion.size)[0, 0]


def runs(known: np.ndarray) -> Iterator[slice]:
    """The stretches of two or more neighbours that are all known."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], known, [False]]).astype(np.int8)))
    for start, stop in edges.reshape(-1, 2):
        if stop - start > 1:
            yield slice(start, stop)
