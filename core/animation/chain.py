"""The autoregressive chain of EMG (section 4.4, eq. 13) in windows, over any image-to-video generator.

Each window starts from the last frame there is and is shown what the motion makes of it. Errors would add up from
window to window; but a place that has been in view all along shows what it showed in the first frame, and the cycle
test along the whole chain knows which places those are. There the chain goes back to the first frame itself.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from ..motion.advect import advect
from ..motion.cycle import ALPHA1, ALPHA2
from ..motion.field import MotionField
from .anchor import anchored, first_frame_maps


@dataclass(frozen=True, eq=False)
class Window:
    """What one window is generated from: frames ``start`` to ``stop - 1`` of the clip, number ``index`` of ``count``.

    ``first [C, H, W]``: its first frame, as far as it is known before. ``prior [W, C, H, W]``: that frame carried along
    the ``motion`` of the window, with the pixels of the clip's first frame where those can still be seen. ``seen`` bool
    ``[W, H, W]``: where that is.
    """

    index: int
    count: int
    start: int
    stop: int
    first: Tensor
    prior: Tensor
    seen: Tensor
    motion: MotionField


def window_starts(frames: int, window: int, overlap: int) -> list[int]:
    """First frames of the windows of a clip: ``window - overlap`` apart, the last one moved back to end with the clip.

    Each window begins within the one before, by ``overlap`` frames at least: there its first frame comes from.
    Raises ValueError when the window is longer than the clip, or shorter than two frames, or all overlap.
    """
    if window < 2:
        raise ValueError(f"a window takes two frames or more, got {window}")
    if not 1 <= overlap < window:
        raise ValueError(f"windows of {window} frames overlap by 1 to {window - 1} of them, got {overlap}")
    if window > frames:
        raise ValueError(
            f"the window is {window} frames, the clip has {frames}: make the window shorter, if the MODEL makes such "
            f"clips, or the motion longer (its number of frames, or slower by AqueductComposeMotion)"
        )
    last = frames - window
    return [*range(0, last, window - overlap), last]


def eulerian_chain(
    first: Tensor,
    motion: MotionField,
    generate: Callable[[Window], Tensor],
    window: int,
    overlap: int,
    anchor: bool = True,
    report: Callable[[int, int], None] | None = None,
    alpha1: float = ALPHA1,
    alpha2: float = ALPHA2,
) -> Iterator[tuple[Tensor, Tensor]]:
    """The clip that ``first [C, H, W]`` becomes along ``motion``, frame after frame as they are finished.

    ``generate(Window)`` gives a window's clip ``[W, C, H, W]``; the warp alone is ``lambda window: window.prior``.
    Gives ``(frame [C, H, W], seen bool [H, W])`` for every frame of the motion, in order; seen: what is there has been
    in view since the first frame. Nothing is generated before it is asked for, nothing longer than a window is kept.
    Where windows overlap, the later one fades in. With ``anchor``, ``first`` takes the place of what was generated, in
    the frame a window starts from and in its prior, wherever it is still seen; else the chain only goes on.
    ``alpha1, alpha2``: the cycle test (`core.motion.cycle`). ``report(done, total)`` is called after each window.

    Raises ValueError for sizes that differ, for a motion without backward fields, see `window_starts`, and for a
    ``generate`` that gives another shape.
    """
    starts = window_starts(motion.frames, window, overlap)
    if first.dim() != 3 or first.shape[-2:] != motion.size:
        raise ValueError(
            f"the motion is for {motion.width} x {motion.height} pixels, the first frame is {list(first.shape)} "
            f"[C,H,W]: resize the motion (MotionField.resized, AqueductResizeMotion) or the frame"
        )
    if motion.backward is None:
        raise ValueError("this motion has forward fields only; .bidirectional() finds the backward ones")
    if motion.device != first.device:
        motion = motion.to(first.device)
    chain = _Chain(first, motion, anchor, alpha1, alpha2)
    return chain.frames(starts, window, generate, report)


class _Chain:
    def __init__(self, first: Tensor, motion: MotionField, anchor: bool, alpha1: float, alpha2: float):
        self.first, self.motion, self.anchor = first, motion, anchor
        self.maps = first_frame_maps(motion, alpha1, alpha2)
        self.views: deque[tuple[Tensor, Tensor]] = deque()  # `maps` of the frames from the window's start on

    def frames(self, starts: list[int], size: int, generate, report) -> Iterator[tuple[Tensor, Tensor]]:
        kept = self.first.new_empty(0, *self.first.shape)  # what the next window begins with, once it has faded in
        for index, (start, after) in enumerate(zip(starts, [*starts[1:], self.motion.frames], strict=True)):
            seen = self._advance(size)
            window = self._window(index, len(starts), start, kept[0] if index else self.first, seen)
            clip = faded(kept, _checked(generate(window), window.prior))
            done, kept = clip[: after - start], clip[after - start :].clone()
            del window, clip  # before the next one is made
            if report is not None:
                report(index + 1, len(starts))
            yield from zip(done, seen, strict=False)
            del done
            for _ in range(after - start):
                self.views.popleft()

    def _advance(self, size: int) -> Tensor:
        """What is seen of the first frame in the next window, ``[size, H, W]``."""
        self.views.extend(islice(self.maps, size - len(self.views)))
        return torch.stack([seen for _, seen in self.views])

    def _window(self, index: int, count: int, start: int, first: Tensor, seen: Tensor) -> Window:
        motion = self.motion.sliced(start, start + len(seen))
        if self.anchor:
            first = anchored(first, self.first, *self.views[0])
        prior, _ = advect(first, motion)
        if self.anchor:
            for t in range(1, len(prior)):  # the start is anchored already, and a soft edge is softened once
                prior[t] = anchored(prior[t], self.first, *self.views[t])
        return Window(index, count, start, start + len(seen), first, prior, seen, motion)


def faded(before: Tensor, after: Tensor) -> Tensor:
    """``after [W, C, H, W']``, fading in over ``before [n, C, H, W']``, its first frames so far, in even steps."""
    count = len(before)
    shares = torch.arange(1, count + 1).to(after) / (count + 1)
    return torch.cat([torch.lerp(before, after[:count], shares[:, None, None, None]), after[count:]])


def _checked(clip: Tensor, prior: Tensor) -> Tensor:
    if clip.shape != prior.shape:
        raise ValueError(f"a window is {list(prior.shape)} [W,C,H,W], generate gave {list(clip.shape)}")
    return clip.to(prior)
