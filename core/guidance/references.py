"""Which prediction is held against which: the pairs of frames that guidance compares, as data.

Algorithm 1 of Warped Diffusion compares each frame with the one before. The first frame as the reference stops drift
but knows nothing of what appeared later; both can hold at once.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..motion.cycle import ALPHA1, ALPHA2, cycle_mask
from ..motion.field import MotionField, Path
from .equivariance import check_finite, compared, equivariance_error, error_and_gradient

BORDER = 0.5  # in the cycle test: the border's area counts, or resizing to a latent's grid would lose the border


@dataclass(frozen=True, eq=False)
class Pairs:
    """N comparisons within a clip of ``frames``: frame ``later[n]`` follows ``earlier[n]`` along ``flow[n]``.

    ``flow [N, 2, H, W]`` in pixels (x, y) and ``mask`` bool ``[N, H, W]`` (what counts, beside staying in the frame)
    live on the earlier frame's grid. Raises ValueError for shapes that differ, a frame that is not there, a reference
    that does not come first, or flow that is not finite.
    """

    frames: int
    later: tuple[int, ...]
    earlier: tuple[int, ...]
    flow: Tensor
    mask: Tensor

    def __post_init__(self):
        count = len(self.later)
        if self.flow.dim() != 4 or self.flow.shape[:2] != (count, 2) or len(self.earlier) != count:
            raise ValueError(
                f"{count} later and {len(self.earlier)} earlier frames need flow [{count},2,H,W], "
                f"got {list(self.flow.shape)}"
            )
        if self.mask.shape != self.flow[:, 0].shape:
            wanted, got = list(self.flow[:, 0].shape), list(self.mask.shape)
            raise ValueError(f"the mask must be [N,H,W] = {wanted} like the flow, got {got}")
        for later, earlier in zip(self.later, self.earlier, strict=True):
            if not 0 <= earlier < later < self.frames:
                raise ValueError(f"frame {later} of {self.frames} cannot follow {earlier}: a reference comes first")
        check_finite(self.flow)

    def __len__(self) -> int:
        return len(self.later)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)"""
        return self.flow.shape[2], self.flow.shape[3]

    def check(self, clip: Tensor) -> None:
        """ValueError unless ``clip`` is ``[frames, C, H, W]`` of these pairs, naming both lengths or both sizes."""
        if clip.dim() != 4:
            raise ValueError(f"guidance works on a clip [F,C,H,W], got {list(clip.shape)}")
        if len(clip) != self.frames:
            raise ValueError(f"the motion has {self.frames} frames, the clip {len(clip)}: make them as long")
        if clip.shape[-2:] != self.size:
            (height, width), (h, w) = self.size, clip.shape[-2:]
            raise ValueError(
                f"the motion is for {width} x {height} pixels, the clip has {w} x {h}: use .resized({h}, {w})"
            )

    def within(self, part: slice) -> "Pairs":
        """Those whose later frame is one of ``part``; frames keep their numbers."""
        return self._chosen([n for n, frame in enumerate(self.later) if part.start <= frame < part.stop])

    def resized(self, height: int, width: int) -> "Pairs":
        """The same on frames of another size, by the rules of `MotionField.resized`."""
        if (height, width) == self.size:
            return self
        field = MotionField(self.flow, forward_valid=self.mask).resized(height, width)
        return Pairs(self.frames, self.later, self.earlier, field.forward, field.forward_valid)

    def repeated(self, clips: int) -> "Pairs":
        """For a batch of clips of the same motion, laid out clip after clip ``[clips F, C, H, W]``."""
        starts = [clip * self.frames for clip in range(clips)]
        later = tuple(start + frame for start in starts for frame in self.later)
        earlier = tuple(start + frame for start in starts for frame in self.earlier)
        return Pairs(
            clips * self.frames, later, earlier, self.flow.repeat(clips, 1, 1, 1), self.mask.repeat(clips, 1, 1)
        )

    def to(self, device: torch.device | str) -> "Pairs":
        return Pairs(self.frames, self.later, self.earlier, self.flow.to(device), self.mask.to(device))

    def error_and_gradient(self, clip: Tensor, part: slice) -> tuple[Tensor, Tensor]:
        """Errors ``[n]`` of the n frames of ``part`` in the predictions ``clip [F, C, H, W]``, and their gradients.

        All later frames must lie in ``part``. Each error has its gradient ``[n, C, H, W]`` in its own frame alone. A
        frame with several references has the sum of their errors, one without has none. Only the frames of these pairs
        are read.
        """
        errors, gradients = error_and_gradient(*self.frames_of(clip), self.flow, self.mask)
        return self.summed(errors, part), self.summed(gradients, part)

    def errors(self, clip: Tensor) -> Tensor:
        """`equivariance_error` of each comparison in ``clip [F, C, H, W]``, ``[N]``."""
        self.check(clip)
        return equivariance_error(*self.frames_of(clip), self.flow, self.mask)

    def values(self, channels: int) -> Tensor:
        """How many values each comparison holds against each other, ``[N]``: pixels that count, times channels."""
        return channels * compared(self.flow, self.mask)

    def mean(self, errors: Tensor, channels: int) -> float:
        """``errors``, of comparisons or of frames, per compared value of the clip; nan where nothing is compared."""
        return float(errors.sum() / self.values(channels).sum())

    def frames_of(self, clip: Tensor) -> tuple[Tensor, Tensor]:
        """The later and the earlier frames of ``clip [F, C, H, W]``, ``[N, C, H, W]`` each."""
        return clip[list(self.later)], clip[list(self.earlier)]

    def summed(self, x: Tensor, part: slice) -> Tensor:
        """What is known of each comparison, ``[N, ...]``, added up for the later frames, those of ``part``."""
        own = torch.tensor([frame - part.start for frame in self.later], device=x.device)
        return x.new_zeros(part.stop - part.start, *x.shape[1:]).index_add(0, own, x)

    def _chosen(self, keep: list[int]) -> "Pairs":
        later, earlier = (tuple(frames[n] for n in keep) for frames in (self.later, self.earlier))
        return Pairs(self.frames, later, earlier, self.flow[keep], self.mask[keep])


def previous_frame(motion: MotionField, alpha1: float = ALPHA1, alpha2: float = ALPHA2) -> Pairs:
    """Each frame against the one before (Algorithm 1), where the flow is known and passes the cycle test.

    Give the motion at the size it was estimated at, where ``alpha2`` (pixels^2) means something, and resize the pairs.
    Without backward fields there is nothing to test; ``alpha2 = math.inf`` accepts all that stays in the frame.
    """
    motion = _tested(motion, alpha1, alpha2)
    steps = tuple(range(motion.steps))
    known = motion.forward_valid
    mask = torch.ones_like(motion.forward[:, 0], dtype=torch.bool) if known is None else known
    return Pairs(motion.frames, tuple(step + 1 for step in steps), steps, motion.forward, mask)


def first_frame(motion: MotionField, alpha1: float = ALPHA1, alpha2: float = ALPHA2) -> Pairs:
    """Each frame against frame 0 along the composed flow, where every step and the whole way pass the cycle test.

    Motion slower than sqrt(alpha2) pixels a frame covers things that no single step shows. As `previous_frame`
    otherwise; costs F^2 / 2 warps.
    """
    motion = _tested(motion, alpha1, alpha2)
    onward, flows, masks = Path(motion), [], []
    for t in range(1, motion.frames):
        onward.follow(t - 1)
        flow, valid = onward.displacement(), onward.valid[0].clone()
        if motion.backward is not None:
            back = Path(motion)
            for step in range(t - 1, -1, -1):
                back.follow(step, back=True)
            valid &= cycle_mask(flow[None], back.displacement()[None], alpha1, alpha2, BORDER)[0]
        flows.append(flow)
        masks.append(valid)
    later = tuple(range(1, motion.frames))
    return Pairs(motion.frames, later, (0,) * len(later), torch.stack(flows), torch.stack(masks))


def previous_and_first_frame(motion: MotionField, alpha1: float = ALPHA1, alpha2: float = ALPHA2) -> Pairs:
    """Each frame against the one before and frame 0; their errors add up. Frame 1 has both in one."""
    near, far = previous_frame(motion, alpha1, alpha2), first_frame(motion, alpha1, alpha2)
    return Pairs(
        motion.frames,
        near.later + far.later[1:],
        near.earlier + far.earlier[1:],
        torch.cat([near.flow, far.flow[1:]]),
        torch.cat([near.mask, far.mask[1:]]),
    )


REFERENCES: dict[str, Callable[..., Pairs]] = {
    "previous frame": previous_frame,
    "first frame": first_frame,
    "both": previous_and_first_frame,
}


def _tested(motion: MotionField, alpha1: float, alpha2: float) -> MotionField:
    return motion if motion.backward is None else motion.checked(alpha1, alpha2, BORDER)
