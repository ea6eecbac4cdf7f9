"""From a clip to a motion: every pair of neighbouring frames, in both directions, through any flow estimator."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from ..chunks import chunk_size, halving
from ..field import MotionField

MAX_SIDE = 512  # longest side, in pixels, at which motion is estimated
OVERSHOOT = 0.5  # resampling filters leave 0..1 by a little; 8-bit values and latents by far more
Report = Callable[[int, int], None]


@dataclass(frozen=True)
class Needs:
    """What an estimator asks of its caller.

    ``device``: where it wants its images. ``smallest``: the fewest pixels a side it can work on. ``pairs``: how many
    pairs at once are worth it. ``pair_bytes(height, width)``: working memory of one pair, which limits that number on
    an accelerator.
    """

    device: torch.device
    smallest: int
    pairs: int
    pair_bytes: Callable[[int, int], int]


class Estimator(Protocol):
    """``(first, second)``, both float ``[N, 3, h, w]`` in 0..1, to the flow ``[N, 2, h, w]`` on the grid of ``first``.

    Pixels, (x, y): the pixel p of ``first`` is at ``p + flow(p)`` in ``second``. Each pair is independent of the others
    in the batch.
    """

    name: str

    @property
    def needs(self) -> Needs: ...

    def __call__(self, first: Tensor, second: Tensor) -> Tensor: ...


def estimate_motion(
    clip: Tensor, estimator: Estimator, max_side: int | None = MAX_SIDE, report: Report | None = None
) -> MotionField:
    """Forward and backward motion of ``clip [F, C, H, W]``, float in 0..1, on the clip's own size and device.

    All ``2 (F - 1)`` pairs are one batch (EMG eqs. 11 and 12), cut into what fits and halved when memory runs out. The
    longest side is reduced to ``max_side`` pixels for the estimation (None: not at all) and the vectors are rescaled.
    Grey frames are repeated to RGB, an alpha channel is ignored. ``report(done, total)`` is called between chunks and
    may raise to stop.

    Raises ValueError for fewer than two frames, values that are not finite or far from 0..1, or too small images.
    """
    check_clip(clip, estimator)
    frames, _, height, width = clip.shape
    needs = estimator.needs
    small = reduced(clip, *estimation_size(height, width, max_side, needs.smallest))
    steps = frames - 1
    earlier = torch.arange(steps)
    first, second = torch.cat([earlier, earlier + 1]), torch.cat([earlier + 1, earlier])
    flow = flow_between(small, first, second, estimator, report)
    return MotionField(flow[:steps], flow[steps:]).resized(height, width)


def flow_between(
    frames: Tensor, first: Tensor, second: Tensor, estimator: Estimator, report: Report | None = None
) -> Tensor:
    """Flow float32 ``[N, 2, h, w]`` from ``frames[first[n]]`` to ``frames[second[n]]``, as one batch.

    ``frames`` float ``[F, 3, h, w]`` in 0..1; ``first, second`` int64 ``[N]``. Cut into what fits, halved when memory
    runs out. ``report(done, total)`` as `estimate_motion`.
    """
    needs, size = estimator.needs, frames.shape[-2:]
    flow = frames.new_empty(len(first), 2, *size, dtype=torch.float32)

    def work(part: slice) -> None:
        pair = [frames[index[part].to(frames.device)].to(needs.device) for index in (first, second)]
        flow[part] = estimator(*pair).to(flow.device, torch.float32)
        if report is not None:
            report(part.stop, len(flow))

    halving(work, len(flow), pairs_at_once(needs, *size))
    return flow


def pairs_at_once(needs: Needs, height: int, width: int) -> int:
    if needs.device.type == "cpu":
        return needs.pairs
    return min(needs.pairs, chunk_size(needs.pair_bytes(height, width), needs.device))


def check_clip(clip: Tensor, estimator: Estimator) -> None:
    """Raises ValueError that says what is wrong with ``clip`` and which frame it is."""
    if clip.ndim != 4 or not clip.is_floating_point() or clip.shape[1] not in (1, 3, 4):
        raise ValueError(
            f"a clip is a float tensor [F,C,H,W] of 1, 3 or 4 channels, got {clip.dtype} {list(clip.shape)}"
        )
    if clip.shape[0] < 2:
        raise ValueError(f"motion needs at least two frames, got {clip.shape[0]}")
    if min(clip.shape[2:]) < estimator.needs.smallest:
        raise ValueError(
            f"{estimator.name} needs images of at least {estimator.needs.smallest} pixels a side, "
            f"got {clip.shape[3]} x {clip.shape[2]}"
        )
    for index, frame in enumerate(clip):
        low, high = (value.item() for value in frame.aminmax())
        if not (torch.isfinite(frame.sum()) or frame.isfinite().all()):
            raise ValueError(f"frame {index} holds values that are not finite (NaN or infinity)")
        if low < -OVERSHOOT or high > 1 + OVERSHOOT:
            raise ValueError(f"images are in 0..1, but frame {index} has values from {low:.4g} to {high:.4g}")


def estimation_size(height: int, width: int, max_side: int | None, smallest: int) -> tuple[int, int]:
    """The size to estimate at: longest side at most ``max_side``, no side reduced below ``smallest``."""
    if max_side is not None and max_side < smallest:
        raise ValueError(f"max_side must be at least {smallest} pixels for this estimator, got {max_side}")
    if max_side is None or max(height, width) <= max_side:
        return height, width
    scale = max_side / max(height, width)
    return max(round(height * scale), min(height, smallest)), max(round(width * scale), min(width, smallest))


def reduced(clip: Tensor, height: int, width: int) -> Tensor:
    """RGB float32 frames ``[F, 3, height, width]``, antialiased, one frame at a time."""
    if clip.shape[1:] == (3, height, width) and clip.dtype == torch.float32:
        return clip
    small = clip.new_empty(clip.shape[0], 3, height, width, dtype=torch.float32)
    for index in range(clip.shape[0]):
        frame = clip[index : index + 1, :3].float()
        if frame.shape[-2:] != (height, width):
            frame = F.interpolate(frame, (height, width), mode="bilinear", align_corners=False, antialias=True)
        small[index] = frame[0]
    return small
