"""From a network to ``h(z, sigma) = E[z_0 | z, condition]``: the preconditioning of Karras et al. 2022 (EDM), Table 1,
around a first guess of the picture instead of around zero.

    z = z_0 + sigma eps        h = m + c_skip (z - m) + c_out F(c_in (z - m), ln(sigma) / 4, condition)

``m`` is the problem's guess and ``std_data`` in c_skip, c_out, c_in how far the truth is from it: with F = 0 the
prediction is the best that guess and z give for a Gaussian remainder, and the network learns the rest alone.

The same for white eps and for one of a Gaussian process: with noise of covariance Q the score is weighted by Q, and
``Q grad log p = (E[z_0 | z] - z) / sigma^2`` (Warped Diffusion eq. 5), so prediction and loss stay what they were.
"""

from dataclasses import dataclass

from torch import Tensor

from ..guidance.guided import FrameDenoiser
from ..networks.restorer import Restorer
from .problems import Problem


@dataclass(frozen=True)
class Precondition:
    """``problem`` and ``std_data``, by default the problem's `std_guess`."""

    problem: Problem
    std_data: float | None = None

    @property
    def std(self) -> float:
        return self.problem.std_guess if self.std_data is None else self.std_data

    def scales(self, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """``(c_skip, c_out, c_in)``, so that input and training target have unit variance at every level."""
        total = (sigma.square() + self.std**2).sqrt()
        return self.std**2 / total.square(), sigma * self.std / total, 1 / total

    def __call__(self, network: Restorer, z: Tensor, sigma: Tensor, condition: Tensor, outer: bool = False) -> Tensor:
        """``h`` for ``z [N, 3, H, W]`` at ``sigma``, a scalar or ``[N]``."""
        sigma = sigma.to(z).expand(len(z))
        skip, out, into = (scale[:, None, None, None] for scale in self.scales(sigma))
        guess = self.problem.guess(condition)
        apart = z - guess
        h = guess + skip * apart + out * network(into * apart, sigma.log() / 4, condition, outer)
        return self.problem.known(h, condition)


def image_denoiser(
    network: Restorer, precondition: Precondition, condition: Tensor, outer: bool = False
) -> FrameDenoiser:
    """``(z [n, 3, H, W], sigma, frames) -> z0_hat`` for `guidance.sample_warped_diffusion`.

    ``condition [F, c, H, W]`` of the whole clip; each call takes its own frames'.
    """

    def denoise(z: Tensor, sigma: Tensor, frames: slice) -> Tensor:
        return precondition(network, z, sigma, condition[frames].to(z), outer)

    return denoise
