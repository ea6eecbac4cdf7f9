r"""White noise carried along motion, white again in every frame.

One step. Let ``x`` be white noise on the pixels s of the source and W >= 0 any matrix of shares: ``w[t, s]`` says how
much of what pixel t shows comes from s. `Transport` makes them bilinear, over the footprint of t where things shrink.
Scale its rows,

    V = D^(-1/2) W,   d[t] = sum_s w[t, s] c[s],   c[s] = sum_t w[t, s],   S = V V^T,

and, with ``z`` fresh white noise independent of ``x``, return

    x' = f(S) V x + (I - S)^m z,   f(l)^2 = (1 - (1 - l)^(2 m)) / l = sum_(i < 2m) (1 - l)^i.

*Exact*: given the motion, x' has mean 0 and covariance ``f(S) S f(S) + (I - S)^(2m) = I``. It is a linear image of
Gaussians: its values are independent N(0, 1), for every motion and every W, also where flow is wrong, tears, folds or
leaves the frame. (All that needs is S <= I: ``D^(-1) W W^T`` has rows that sum to 1, and S is similar to it.)
*Approximate*: only f, a polynomial of degree `DEGREE` in S in place of the root; it puts the eigenvalues of the
covariance at 1 +- 3e-6 over the whole of [0, 1], so for every motion, and float32 adds its rounding.

*As correlated as whiteness allows*: of all x' with covariance I, the one that minimises ``E |x' - V x|^2`` is
``S^(-1/2) V x`` (plus anything independent where S vanishes), the polar factor of V. Here it is met wherever S
is above about 1/m (f(l)^2 l = 1 - (1 - l)^(2m)); what interpolation all but erases is renewed instead. What this means:
- whole pixels: V is a permutation, S = I, x' = V x. Those rows are copied, bit for bit;
- parts of a pixel: an all-pass filter, the noise itself seen between its pixels. Nothing is averaged away and no
  variance is made up for, except next to the highest frequency, which has no place between pixels;
- contraction, n sources in one pixel: V = 1/sqrt(n): their sum over sqrt(n);
- expansion, one source under n pixels: V = 1/sqrt(n), S the projection onto their mean: each gets x/sqrt(n), plus
  ``z - mean(z)``. The sum stays, the rest is conditionally independent, no two pixels share a value;
- nothing there (disoccluded, from outside): S = 0, x' = z.

A clip. Frame j takes from frame 0 what still can be seen of it, through the composed map, so that no error grows with
the number of frames; and for z, a second noise that starts with frame 0 and goes from frame to frame by the same
step, so that what appears on the way stays with what it appeared on. Both are white and independent, hence so is every
frame. Frames are of course not independent of each other. Steps alone would be as white and nearer to the frame before,
but their phases drift apart. Panning by (0.3, 0.1) pixels a frame, correlation along the motion with frame 0 falls to
0.10 in 30 steps, and stays between 0.76 and 1 this way; that with the frame before is 0.95 in steps, and 0.85 to 0.95.

Relatives: the integral noise of "How I Warped Your Noise" (Chang et al. 2024) and "Infinite-Resolution Integral Noise
Warping" (Deng et al. 2024) is white by sharing out the area under each pixel, with independent noise inside it;
"Go-with-the-Flow" (Burgert et al. 2025) by counting sources and targets. Half a pixel off in x and y such noise has
correlation 1/2 with the interpolated one; the polar factor has (8 / pi^2) = 0.81, this one 0.76. That whitening by the
symmetric root stays closest is known from statistics: Kessy, Lewin and Strimmer 2018, "Optimal whitening and
decorrelation".
"""

import math
from collections.abc import Iterator
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

from ..motion.carry import BORDER
from ..motion.field import MotionField
from ..motion.sampling import inside, pixel_grid
from .corners import corners
from .draws import FILLED, SECOND, drawn
from .maps import seen_maps

FLATNESS = 8  # m: 88 % of the variance is kept from S = 1/8 up; more costs more products with S
DEGREE = 14  # of the polynomial for f
FOOTPRINT = 3  # points under a pixel in each direction, at most: contraction up to 3 a step is summed without gaps


def white_frames(noise: Tensor, motion: MotionField, seed: int) -> Iterator[Tensor]:
    """Every frame's noise ``[C, H, W]``, from ``noise`` of the first, which must be white; see the module's text.

    Raises ValueError when the sizes differ.
    """
    motion = motion.to(noise.device).bidirectional().checked(margin=BORDER)
    grid = pixel_grid(*motion.size, motion.device, motion.forward.dtype)
    second = drawn(noise.shape, seed, SECOND).to(noise)
    for frame, (points, seen) in enumerate(seen_maps(motion)):
        if frame == 0:
            yield noise
            continue
        step = Transport(grid + motion.backward[frame - 1], motion.backward_valid[frame - 1])
        second = step.carry(second, drawn(noise.shape, seed, FILLED, frame).to(noise))
        yield Transport(points, seen).carry(noise, second)


class Transport:
    """One step: white noise of a source to white noise of the frame whose pixels were at ``points`` in the source.

    ``points [2, H, W]``: (x, y) in pixels of the source, which has the same size. ``valid`` bool ``[H, W]``: which
    pixels come from there at all; those that come from outside of the frame never do. Built once, it carries any number
    of noises. Linear in the number of pixels, but for sorting the shares once.
    """

    def __init__(self, points: Tensor, valid: Tensor):
        self.size = tuple(points.shape[-2:])
        target, source, share = _shares(points.float(), valid)
        ones = share.new_ones(math.prod(self.size), 1)
        gather = Bags(target, source, share, len(ones))
        crowd = gather @ (gather.transposed() @ ones)  # d: W W^T summed along its rows
        square = Bags(target, source, share.square(), len(ones)) @ ones
        self.alone = (square == crowd) & (crowd > 0)  # shares no source with another pixel: S = 1 there, exactly
        self.gather = Bags(target, source, share / crowd[target, 0].sqrt(), len(ones))
        self.scatter = self.gather.transposed()

    def carry(self, noise: Tensor, fresh: Tensor) -> Tensor:
        """``noise [C, H, W]`` carried to the frame; ``fresh [C, H, W]`` fills what does not come from it."""
        seen, new = self.gather @ _rows(noise), _rows(fresh)
        for _ in range(FLATNESS):
            new = new - self._s(new)
        carried = torch.where(self.alone, seen, self._root(seen) + new)
        return carried.T.reshape(noise.shape).to(noise.dtype)

    def _s(self, x: Tensor) -> Tensor:
        return self.gather @ (self.scatter @ x)

    def _root(self, x: Tensor) -> Tensor:
        """``f(S) x``, by Clenshaw's recurrence in ``2 S - 1``."""
        first, *others = root_series(FLATNESS, DEGREE)
        after, beyond = torch.zeros_like(x), torch.zeros_like(x)
        for coefficient in reversed(others):
            after, beyond = coefficient * x + 4 * self._s(after) - 2 * after - beyond, after
        return first * x + 2 * self._s(after) - after - beyond


class Bags:
    """A sparse matrix as lists of (row, column, value), sorted by row, for products with a few dense columns.

    Sums run in the order of the list, so that results do not change from run to run, on any device.
    """

    def __init__(self, row: Tensor, column: Tensor, value: Tensor, rows: int):
        self.row, self.column, self.value = row, column, value
        counts = torch.bincount(row, minlength=rows)
        self.starts = torch.cat([counts.new_zeros(1), counts.cumsum(0)])

    def __matmul__(self, x: Tensor) -> Tensor:
        return F.embedding_bag(
            self.column, x, self.starts, mode="sum", per_sample_weights=self.value, include_last_offset=True
        )

    def transposed(self) -> "Bags":
        order = self.column.argsort(stable=True)
        return Bags(self.column[order], self.row[order], self.value[order], len(self.starts) - 1)


@cache
def root_series(flatness: int, degree: int) -> tuple[float, ...]:
    """Chebyshev coefficients of f in ``2 l - 1`` over [0, 1], by interpolation at the Chebyshev points."""
    angle = torch.pi * (torch.arange(4 * degree, dtype=torch.float64) + 0.5) / (4 * degree)
    rest = (1 - torch.cos(angle)) / 2
    values = sum(rest**power for power in range(2 * flatness)).sqrt()
    return tuple((1 if k == 0 else 2) * float((values * torch.cos(k * angle)).mean()) for k in range(degree + 1))


def _rows(noise: Tensor) -> Tensor:
    return noise.flatten(1).T.float().contiguous()


def _shares(points: Tensor, valid: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The entries of W: ``(target, source, share)``, sorted by target and source, each pair once."""
    height, width = valid.shape
    valid = (valid & inside(points, height, width, BORDER)).flatten()
    pixel = torch.arange(len(valid), device=points.device)
    pairs, shares = [], []
    for under in footprint(points):
        (x, y), weights = corners(under.flatten(1))
        used = (weights > 0) & valid & (x >= 0) & (x < width) & (y >= 0) & (y < height)
        pairs.append((pixel * len(valid) + y * width + x)[used])
        shares.append(weights[used])
    pair, order = torch.cat(pairs).sort(stable=True)
    pair, group = pair.unique_consecutive(return_inverse=True)
    together = Bags(group, order, torch.ones_like(order, dtype=points.dtype), len(pair))
    share = (together @ torch.cat(shares)[:, None])[:, 0]
    return pair // len(valid), pair % len(valid), share


def footprint(points: Tensor) -> Iterator[Tensor]:
    """Points ``[2, H, W]`` spread evenly under every pixel, so far that reading them all leaves no gaps.

    Bilinear reading reaches one pixel far. What the neighbouring pixels' points are farther apart, along either axis,
    these cover. Only ``points`` itself where nothing contracts.
    """
    across, down = _beyond(points, 2), _beyond(points, 1)
    farthest = max(float(reach.square().sum(0).max()) for reach in (across, down)) ** 0.5
    count = min(FOOTPRINT, 1 + math.ceil(farthest))
    steps = [k / (count - 1) - 0.5 for k in range(count)] if count > 1 else [0.0]
    for right in steps:
        for below in steps:
            yield points + right * across + below * down


def _beyond(points: Tensor, axis: int) -> Tensor:
    """``[2, H, W]``: to the next pixel's point along ``axis``, less one pixel; the nearer one, so not across edges."""
    step = points.diff(dim=axis)
    if not step.shape[axis]:
        return torch.zeros_like(points)
    before = torch.cat([step.narrow(axis, 0, 1), step], axis)
    after = torch.cat([step, step.narrow(axis, -1, 1)], axis)
    step = torch.where(before.square().sum(0) <= after.square().sum(0), before, after)
    length = step.square().sum(0).sqrt()
    return step * ((length - 1).clamp(0, FOOTPRINT - 1) / length.clamp_min(1))
