"""Which frequencies a field holds, along one axis: a law on ``[-bound, bound]``, in units of 1 / length scale.

Both axes follow the law independently, so the field is band-limited to a box, and a grid that samples that box at the
Nyquist rate or finer represents it without aliasing. The covariance of the field is the product over the axes of the
law's characteristic function at (distance / length scale).
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

AxisFunction = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Spectrum:
    """A symmetric law of frequencies; two are equal when their kind and bound are.

    ``quantile``: from (0, 1) to ``[-bound, bound]``; ``share``: its inverse, the share of power below a frequency.
    Both map float64 tensors to float64 tensors of the same shape.
    """

    kind: str
    bound: float
    quantile: AxisFunction = field(compare=False, repr=False)
    share: AxisFunction = field(compare=False, repr=False)


def truncated_normal(bound: float = 2.0) -> Spectrum:
    """The paper's: N(0, 1) cut at ``bound`` standard deviations. Source: Warped Diffusion, section 3.1, appendix F.2.

    Without the cut the covariance would be squared-exponential; with it, it is the characteristic function of this
    law. On a grid sampled at exactly the Nyquist rate of the box neighbours have correlation 0.34: it is not white.
    """
    below = torch.special.ndtr(torch.tensor(-bound, dtype=torch.float64))
    inside = 1 - 2 * below

    def quantile(u: Tensor) -> Tensor:
        return torch.special.ndtri(below + u * inside)

    def share(s: Tensor) -> Tensor:
        return (torch.special.ndtr(s) - below) / inside

    return Spectrum("truncated normal", bound, quantile, share)


def flat(bound: float = 2.0) -> Spectrum:
    """All frequencies of the same box alike: white on the grid whose Nyquist box this is, also when it is shifted.

    The covariance is a product of sinc functions, whose zeros are the distances between that grid's points. Rotation
    and scaling leave the variance 1 but bring correlations.
    """
    return Spectrum("flat", bound, lambda u: (2 * u - 1) * bound, lambda s: (s / bound + 1) / 2)
