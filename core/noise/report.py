"""What noise of a clip is like: its moments, whether it is white, and whether it follows a motion."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..motion.carry import BORDER
from ..motion.field import MotionField
from ..motion.sampling import inside, pixel_grid
from .corners import read
from .maps import seen_maps

LAGS = 3  # pixels in x and y, frames in time
SIGMAS = 4
FEWEST = 16  # pixels that a correlation is taken from; NaN with less


@dataclass(frozen=True, eq=False)
class NoiseStatistics:
    """Statistics of noise ``[F, C, H, W]``; correlations are Pearson's.

    ``mean, std [F]``: of each frame. ``lag_x, lag_y [F, 3]``: of each frame with itself, 1 to 3 pixels to the right
    or down. ``lag_time [3]``: of all frames with those 1 to 3 frames later, at the same place (NaN where the clip
    is too short). ``along_previous, along_first [F-1]`` or None: of frames 1, 2, ... with the frame before, and with
    frame 0, read bilinearly where the motion says each pixel was; over those pixels that were there to be seen, NaN
    where they are too few. Interpolated noise that is white again reaches 0.81 at most half a pixel off in x and y.
    ``shape``: (F, C, H, W).
    """

    mean: Tensor
    std: Tensor
    lag_x: Tensor
    lag_y: Tensor
    lag_time: Tensor
    along_previous: Tensor | None
    along_first: Tensor | None
    shape: tuple[int, int, int, int]

    @property
    def values(self) -> int:
        """In a frame."""
        return self.shape[1] * self.shape[2] * self.shape[3]

    @property
    def mean_band(self) -> float:
        """Four standard deviations of the mean of one frame of white noise."""
        return SIGMAS / self.values**0.5

    @property
    def std_band(self) -> float:
        """The same of its standard deviation, around 1."""
        return SIGMAS / (2 * self.values) ** 0.5

    @property
    def lag_band(self) -> float:
        """The same of a lag correlation, at the largest lag, which has the fewest pairs. One pair in 16,000 errs."""
        _, channels, height, width = self.shape
        pairs = min(channels * height * max(width - LAGS, 1), channels * max(height - LAGS, 1) * width)
        return SIGMAS / pairs**0.5

    @property
    def unit_variance(self) -> bool:
        """Mean 0 and standard deviation 1 in every frame, within the bands."""
        return _within(self.mean, self.mean_band) and _within(self.std - 1, self.std_band)

    @property
    def uncorrelated(self) -> bool:
        """No lag correlation in any frame leaves its band."""
        return _within(self.lag_x, self.lag_band) and _within(self.lag_y, self.lag_band)

    @property
    def white(self) -> bool:
        """`unit_variance` and `uncorrelated`. Of truly white clips of 16 frames 1 in 130 says no."""
        return self.unit_variance and self.uncorrelated

    def text(self) -> str:
        """A table for people; the frame that is farthest off speaks for its clip."""
        frames, channels, height, width = self.shape
        lines = [
            f"noise: {frames} frames, {channels} channels, {width} x {height}; bands are 4 sigma of one white frame",
            f"mean       {_worst(self.mean):+.4f}   within +-{self.mean_band:.4f}: {_yes(self.mean, self.mean_band)}",
            f"std         {1 + _worst(self.std - 1):.4f}   within 1 +-{self.std_band:.4f}: "
            f"{_yes(self.std - 1, self.std_band)}",
        ]
        for name, lags in (("x", self.lag_x), ("y", self.lag_y)):
            listed = " ".join(f"{_worst(lags[:, k]):+.4f}" for k in range(LAGS))
            lines.append(f"lags in {name}  {listed}   within +-{self.lag_band:.4f}: {_yes(lags, self.lag_band)}")
        lines.append(
            "same place, 1 to 3 frames later  " + " ".join(f"{value:+.4f}" for value in self.lag_time.tolist())
        )
        for name, along in (("the frame before", self.along_previous), ("the first frame", self.along_first)):
            if along is not None:
                lines.append(
                    f"along the motion, with {name}: {along.nanmean().item():.3f} on average, "
                    f"{along[-1].item():.3f} in the last frame"
                )
        verdict = "white" if self.white else "not white"
        return "\n".join([*lines, f"this noise is {verdict}"])


def noise_statistics(noise: Tensor, motion: MotionField | None = None) -> NoiseStatistics:
    """Statistics of ``noise [F, C, H, W]``, along ``motion`` if there is one.

    The motion is checked (`MotionField.checked`), backward fields are found if missing. Raises ValueError for another
    shape, for values that are not finite, and when the motion has another size or number of frames.
    """
    if noise.dim() != 4 or 0 in noise.shape:
        raise ValueError(f"noise must be [frames, channels, height, width], got {list(noise.shape)}")
    if not bool(noise.isfinite().all()):
        raise ValueError("the noise holds values that are not finite")
    noise = noise.float()
    frames = range(len(noise))
    along = (None, None) if motion is None else _along(noise, motion)
    return NoiseStatistics(
        noise.mean((1, 2, 3)),
        noise.flatten(1).std(1, correction=0),
        torch.stack([_lags(frame, 2) for frame in noise]),
        torch.stack([_lags(frame, 1) for frame in noise]),
        torch.stack([_together([correlation(noise[i], noise[i + k]) for i in frames[:-k]]) for k in (1, 2, 3)]),
        *along,
        tuple(noise.shape),
    )


def correlation(a: Tensor, b: Tensor) -> Tensor:
    """Pearson's, over all values of two tensors of one shape; NaN for too few values or such without variance."""
    if a.numel() < FEWEST:
        return a.new_tensor(torch.nan)
    a, b = a - a.mean(), b - b.mean()
    return (a * b).mean() / (a.square().mean() * b.square().mean()).sqrt()


def _lags(frame: Tensor, axis: int) -> Tensor:
    size = frame.shape[axis]
    return torch.stack(
        [
            correlation(frame.narrow(axis, 0, max(size - k, 0)), frame.narrow(axis, min(k, size), max(size - k, 0)))
            for k in range(1, LAGS + 1)
        ]
    )


def _along(noise: Tensor, motion: MotionField) -> tuple[Tensor, Tensor]:
    frames, _, height, width = noise.shape
    if (motion.frames, *motion.size) != (frames, height, width):
        raise ValueError(
            f"the noise has {frames} frames of {width} x {height}, the motion {motion.frames} of "
            f"{motion.width} x {motion.height}"
        )
    motion = motion.to(noise.device).bidirectional().checked(margin=BORDER)
    grid = pixel_grid(height, width, noise.device)
    previous, first = [], []
    for frame, (points, seen) in enumerate(seen_maps(motion)):
        if frame == 0:
            continue
        before = grid + motion.backward[frame - 1]
        known = motion.backward_valid[frame - 1] & inside(before, height, width)
        previous.append(correlation(read(noise[frame - 1], before)[:, known], noise[frame][:, known]))
        seen = seen & inside(points, height, width)
        first.append(correlation(read(noise[0], points)[:, seen], noise[frame][:, seen]))
    return torch.stack(previous), torch.stack(first)


def _together(values: list[Tensor]) -> Tensor:
    return torch.stack(values).mean() if values else torch.tensor(torch.nan)


def _worst(values: Tensor) -> float:
    return values.flatten()[values.abs().nan_to_num().argmax()].item()


def _within(values: Tensor, band: float) -> bool:
    return bool((values.abs().nan_to_num() <= band).all())


def _yes(values: Tensor, band: float) -> str:
    return "yes" if _within(values, band) else "NO"
