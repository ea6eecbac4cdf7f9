"""One motion made of others. Sizes and lengths must agree; validity travels with the vectors."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from .field import MotionField, Path
from .invert import invert
from .sampling import inside, sample, sample_valid

Report = Callable[[int, int], None]


def over(camera: MotionField, moving: MotionField, report: Report | None = None) -> MotionField:
    """``moving`` is what happens in the photo, ``camera`` how the photo is seen: what the moving camera sees happen.

    A pixel p of frame i shows the place ``x = p + camera.between(i, 0)(p)`` of the photo, which moves on to
    ``x + moving.forward[i](x)`` and is seen at that place ``+ camera.between(0, i + 1)`` in frame i + 1. Written as the
    camera's own step plus what the object adds to it, so that a resting object leaves the camera's vectors as they
    are, beyond the photo too. A vector is valid where the camera's paths are and the photo's motion is known there: not
    in what the camera brings in from outside the photo. Costs about F^2 / 2 reads. ``report(done, total)`` is called
    after each step. Raises ValueError when sizes or lengths differ.
    """
    _check_alike(camera, moving, "the camera's motion", "the object's motion", frames=True)
    camera, moving = camera.bidirectional(report), moving.bidirectional(report)
    onward = Path(camera)
    before = _Seen(camera, 0, onward, onward.valid.clone())
    fields: list[tuple[Tensor, ...]] = []
    for step in range(camera.steps):
        was_inside = onward.valid.clone()
        after = _Seen(camera, step + 1, onward.follow(step), was_inside)
        forward = before.step(camera.forward, camera.forward_valid, moving.forward, moving.forward_valid, step, after)
        back = after.step(camera.backward, camera.backward_valid, moving.backward, moving.backward_valid, step, before)
        fields.append((*forward, *back))
        before = after
        if report is not None:
            report(step + 1, camera.steps)
    forward, forward_valid, backward, backward_valid = (torch.cat(parts) for parts in zip(*fields, strict=True))
    return MotionField(forward, backward, forward_valid, backward_valid)


class _Seen:
    """Frame ``index`` of a moving camera: where its pixels are in the photo, and where the photo's are in it."""

    def __init__(self, camera: MotionField, index: int, onward: Path, known: Tensor):
        self.size = camera.size
        self.shift, self.shift_known = onward.points - onward.grid, known  # from the photo to here, or just outside
        back = Path(camera)
        for step in range(index - 1, -1, -1):
            back.follow(step, back=True)
        self.photo, self.photo_valid = back.points, back.valid  # here to the photo

    def step(self, camera, camera_valid, moving, moving_valid, index: int, towards: "_Seen") -> tuple[Tensor, Tensor]:
        """``([1, 2, H, W], [1, H, W])`` of the fields' step ``index``, which leads from here to ``towards``."""
        own = sample(moving[index : index + 1], self.photo)
        landed = self.photo + own
        added = own + sample(towards.shift, landed) - sample(towards.shift, self.photo)
        valid = self.photo_valid & inside(landed, *self.size)
        for points in (self.photo, landed):
            valid = valid & sample_valid(towards.shift_known, points)
        if camera_valid is not None:
            valid = valid & camera_valid[index : index + 1]
        if moving_valid is not None:
            valid = valid & sample_valid(moving_valid[index : index + 1], self.photo)
        return camera[index : index + 1] + added, valid


def summed(first: MotionField, second: MotionField) -> MotionField:
    """Both velocities at once: vectors are added where they stand.

    ``backward`` undoes ``forward``: the sum of the backward fields is the start of its inversion (`invert`), and stays
    where there is no inverse. Commutative. Raises ValueError when sizes or lengths differ.
    """
    _check_alike(first, second, "the first motion", "the second motion", frames=True)
    forward = first.forward + second.forward
    forward_valid = _both(first.forward_valid, second.forward_valid)
    if first.backward is None and second.backward is None:
        return MotionField(forward, forward_valid=forward_valid)
    first, second = first.bidirectional(), second.bidirectional()
    sum_back = first.backward + second.backward
    inverse, found = invert(forward, start=sum_back)
    backward = torch.where(found[:, None], inverse, sum_back)
    return MotionField(forward, backward, forward_valid, _both(first.backward_valid, second.backward_valid))


def concatenated(first: MotionField, second: MotionField) -> MotionField:
    """``first``, then ``second``: its first frame is the last of ``first``, so F1 + F2 - 1 frames.

    Raises ValueError when the sizes differ.
    """
    _check_alike(first, second, "the first motion", "the second motion", frames=False)
    if (first.backward is None) != (second.backward is None):
        first, second = first.bidirectional(), second.bidirectional()

    def joined(name: str) -> Tensor | None:
        parts = [getattr(motion, name) for motion in (first, second)]
        if all(part is None for part in parts):
            return None
        known = [
            torch.ones(motion.steps, *motion.size, dtype=torch.bool, device=first.device) if part is None else part
            for motion, part in zip((first, second), parts, strict=True)
        ]
        return torch.cat([part.to(first.device) for part in known])

    return MotionField(*(joined(name) for name in ("forward", "backward", "forward_valid", "backward_valid")))


def looped(motion: MotionField, times: int, ping_pong: bool = False) -> MotionField:
    """``motion`` ``times`` times over; with ``ping_pong`` each time there and back, so that every time ends where it
    began. Without it the motion goes on from where it got to. ``times`` (F - 1) steps, or twice that.
    """
    if times < 1:
        raise ValueError(f"a loop runs at least once, got {times}")
    once = concatenated(motion, motion.bidirectional().reversed()) if ping_pong else motion
    fields = (once.forward, once.backward, once.forward_valid, once.backward_valid)
    return MotionField(*(None if field is None else torch.cat([field] * times) for field in fields))


def masked(motion: MotionField, mask: Tensor, other: MotionField | None = None, feather: float = 0.0) -> MotionField:
    """``motion`` where ``mask`` is 1, ``other`` (default: rest) where it is 0, in proportion between.

    ``mask`` ``[H, W]``, ``[1, H, W]`` or ``[F, H, W]`` in 0..1: one per frame, or one that stays where it is. Field i
    is masked by the frame whose grid it lives on: ``forward[i]`` by frame i, ``backward[i]`` by frame i + 1.
    ``feather``: standard deviation in pixels of a blur of the mask. Raises ValueError for sizes or lengths that differ
    and for a mask beyond 0..1.
    """
    if other is not None:
        _check_alike(motion, other, "the motion", "the other motion", frames=True)
        if (motion.backward is None) != (other.backward is None):
            motion, other = motion.bidirectional(), other.bidirectional()
    weight = _weights(motion, mask, feather)

    def mixed(name: str, share: Tensor) -> tuple[Tensor | None, Tensor | None]:
        field, rest = getattr(motion, name), None if other is None else getattr(other, name)
        if field is None:
            return None, None
        known, rest_known = (None if m is None else getattr(m, f"{name}_valid") for m in (motion, other))
        valid = _both(
            None if known is None else known | (share[:, 0] == 0),
            None if rest_known is None else rest_known | (share[:, 0] == 1),
        )
        return share * field if rest is None else torch.lerp(rest, field, share), valid

    forward, forward_valid = mixed("forward", weight[:-1])
    backward, backward_valid = mixed("backward", weight[1:])
    return MotionField(forward, backward, forward_valid, backward_valid)


def _weights(motion: MotionField, mask: Tensor, feather: float) -> Tensor:
    """``[F, 1, H, W]`` like the motion's fields."""
    mask = mask[None] if mask.ndim == 2 else mask
    if mask.ndim != 3 or tuple(mask.shape[-2:]) != motion.size or len(mask) not in (1, motion.frames):
        raise ValueError(
            f"the mask must be [H, W] or [1 or {motion.frames}, H, W] at the motion's {motion.width} x {motion.height} "
            f"pixels, got {list(mask.shape)}: resize the mask, or the motion (AqueductResizeMotion)"
        )
    if not bool(((mask >= 0) & (mask <= 1)).all()):
        raise ValueError(f"the mask must lie in 0..1, got {mask.min().item():.4g} to {mask.max().item():.4g}")
    if not feather >= 0:
        raise ValueError(f"feather must be at least 0 pixels, got {feather}")
    mask = mask.to(motion.forward)[:, None]
    if feather:
        mask = _blurred(mask, feather).clamp(0, 1)  # rounding only: the kernel is positive and sums to 1
    return mask.expand(motion.frames, -1, -1, -1)


def _blurred(x: Tensor, deviation: float) -> Tensor:
    """Gaussian blur of ``[N, 1, H, W]``, borders held, cut at four deviations."""
    reach = int(4 * deviation) + 1
    offsets = torch.arange(-reach, reach + 1, device=x.device, dtype=x.dtype)
    kernel = torch.exp(-0.5 * (offsets / deviation) ** 2)
    kernel = kernel / kernel.sum()
    x = F.conv2d(F.pad(x, (reach, reach, 0, 0), mode="replicate"), kernel.view(1, 1, 1, -1))
    return F.conv2d(F.pad(x, (0, 0, reach, reach), mode="replicate"), kernel.view(1, 1, -1, 1))


def _check_alike(first: MotionField, second: MotionField, one: str, two: str, frames: bool) -> None:
    if first.size != second.size:
        raise ValueError(
            f"{one} is for {first.width} x {first.height} pixels, {two} for {second.width} x {second.height}: resize "
            f"one of them (MotionField.resized, AqueductResizeMotion)"
        )
    if frames and first.frames != second.frames:
        raise ValueError(
            f"{one} has {first.frames} frames, {two} {second.frames}: make them equally long, where they are made "
            f"(their frames) or by slowing {two} down by {first.steps / second.steps:.4g} (retimed, "
            f"AqueductComposeMotion)"
        )


def _both(first: Tensor | None, second: Tensor | None) -> Tensor | None:
    return second if first is None else first if second is None else first & second
