"""Noise for every frame of a moving clip, from one draw.

Sources of the baselines: Warped Diffusion section 4.2, after "How I Warped Your Noise" (Chang et al. 2024).
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from ..motion.field import MotionField
from .corners import read, read_nearest
from .draws import RESAMPLED, derived_seed, drawn
from .field import GaussianField
from .maps import composed_maps
from .white import white_frames

Source = GaussianField | Tensor
Strategy = Callable[[Source, MotionField, int], Iterator[Tensor]]


def fixed(source: Source, motion: MotionField, seed: int) -> Iterator[Tensor]:
    """The same noise in every frame: it sticks to the screen. Each frame keeps the law of the first."""
    noise = _first_frame(source, motion)
    for _ in range(motion.frames):
        yield noise


def resample(source: Source, motion: MotionField, seed: int) -> Iterator[Tensor]:
    """Independent noise in every frame after the first, of the same law; it boils."""
    yield _first_frame(source, motion)
    for frame in range(1, motion.frames):
        if isinstance(source, Tensor):
            yield drawn(source.shape, seed, RESAMPLED, frame).to(source)
        else:
            yield _redrawn(source, derived_seed(seed, RESAMPLED, frame)).grid(*motion.size, device=motion.device)


def nearest(source: Source, motion: MotionField, seed: int) -> Iterator[Tensor]:
    """The value of the first frame's pixel nearest to where each pixel comes from; outside, the border's.

    Every value is N(0, 1), but a clip of them is not white: under expansion, and wherever a border is left behind,
    pixels share values (4 pixels each at twice the size). Contraction leaves values out.
    """
    return _read_frames(source, motion, read_nearest)


def bilinear(source: Source, motion: MotionField, seed: int) -> Iterator[Tensor]:
    """The first frame's noise, read bilinearly where each pixel comes from; outside, the border's value.

    Averaging independent values takes variance: between pixels ``(a^2 + (1-a)^2) (b^2 + (1-b)^2)`` is left, with a
    and b the parts of a pixel in x and y, a quarter at the worst, 4/9 on average; and neighbours become alike. A
    model trained on white noise returns blur.
    """
    return _read_frames(source, motion, read)


def white(source: Source, motion: MotionField, seed: int) -> Iterator[Tensor]:
    """White noise that follows the motion and is white in every frame (`core.noise.white`).

    Raises TypeError for a field: its values at the pixels are not independent.
    """
    if not isinstance(source, Tensor):
        raise TypeError(
            f"the strategy 'white' carries white noise [C,H,W], not a {type(source).__name__}; fields: 'gp'"
        )
    return white_frames(_first_frame(source, motion), motion, seed)


def gp(source: Source, motion: MotionField, seed: int) -> Iterator[Tensor]:
    """The field where each pixel was in the first frame, ``xi(Phi_j(x))`` (Warped Diffusion section 3.3).

    Values are never interpolated, points may leave the frame. Every value is N(0, 1). Expansion makes the noise
    smoother, contraction rougher, and fields that fold repeat themselves, because this is the picture of one field;
    a model must have been trained on such noise. Raises TypeError for noise that is not a field, ValueError for a field
    finer than the grid.
    """
    if isinstance(source, Tensor):
        raise TypeError(
            "the strategy 'gp' needs a GaussianField, which has values between pixels; noise [C,H,W]: 'white'"
        )
    source.check_sampling(*motion.size)
    extent = torch.tensor([motion.width, motion.height], dtype=torch.float64, device=motion.device)
    for points, _ in composed_maps(motion.bidirectional()):
        yield source.evaluate((points.movedim(0, -1).double() + 0.5) / extent).movedim(-1, 0)


STRATEGIES: dict[str, Strategy] = {
    "fixed": fixed,
    "resample": resample,
    "nearest": nearest,
    "bilinear": bilinear,
    "white": white,
    "gp": gp,
}


def warp_noise(
    source: Source,
    motion: MotionField,
    strategy: str | Strategy,
    seed: int = 0,
    report: Callable[[int, int], None] | None = None,
) -> Tensor:
    """``[frames, C, H, W]``, float32: the noise of every frame, on the device of ``source``, for a field the motion's.

    ``source``: the first frame's noise ``[C, H, W]``, N(0, 1), or a `GaussianField`. ``strategy``: a name in
    `STRATEGIES`, or a function like them. ``seed``: of everything drawn beyond the source; the same seed gives the same
    noise on every device. ``report(done, total)`` is called after each frame. Motion without backward fields is
    inverted first (`MotionField.bidirectional`).

    With all but `resample`, still motion repeats the first frame bit for bit; with `nearest`, `bilinear`, `white` and
    `gp`, motion by whole pixels moves it, exactly but for rounding, where it does not come from outside.
    Raises ValueError for an unknown strategy, sizes that differ, and noise that is not finite.
    """
    if isinstance(strategy, str):
        if strategy not in STRATEGIES:
            raise ValueError(f"unknown noise strategy {strategy!r}; there are {', '.join(STRATEGIES)}")
        strategy = STRATEGIES[strategy]
    if isinstance(source, Tensor):
        _check_noise(source, motion)
        source, motion = source.float(), motion.to(source.device)
    frames = []
    for noise in strategy(source, motion, seed):
        frames.append(noise)
        if report is not None:
            report(len(frames), motion.frames)
    return torch.stack(frames)


def _first_frame(source: Source, motion: MotionField) -> Tensor:
    return source if isinstance(source, Tensor) else source.grid(*motion.size, device=motion.device)


def _redrawn(field: GaussianField, seed: int) -> GaussianField:
    law = (field.channels, field.length_scale, field.features, field.truncation)
    return GaussianField(seed, *law, lambda truncation: field.spectrum)


def _read_frames(source: Source, motion: MotionField, how: Callable[[Tensor, Tensor], Tensor]) -> Iterator[Tensor]:
    noise = _first_frame(source, motion)
    for points, _ in composed_maps(motion.bidirectional()):
        yield how(noise, points)


def _check_noise(noise: Tensor, motion: MotionField) -> None:
    if noise.dim() != 3 or noise.shape[-2:] != motion.size:
        raise ValueError(
            f"the motion is for {motion.width} x {motion.height} pixels, the noise is {list(noise.shape)} [C,H,W]: "
            f"resize the motion (MotionField.resized, AqueductResizeMotion); noise cannot be resized"
        )
    if not bool(noise.isfinite().all()):
        raise ValueError("the noise holds values that are not finite")
