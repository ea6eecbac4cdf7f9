"""From a network to ``h(z, sigma) = E[z_0 | z]``: the preconditioning of Karras et al. 2022 (EDM), Table 1.

    z = z_0 + sigma eps        h = c_skip z + c_out F(c_in z, ln(sigma) / 4, condition)

The same for white eps and for one of a Gaussian process: with noise of covariance Q the score is weighted by Q, and
``Q grad log p = (E[z_0 | z] - z) / sigma^2`` (Warped Diffusion eq. 5), so prediction and loss stay what they were.
"""

from dataclasses import dataclass

from torch import Tensor

from ..guidance.guided import FrameDenoiser
from ..networks.restorer import Restorer


@dataclass(frozen=True)
class Precondition:
    """``std_data``: standard deviation of the pictures in -1..1; 0.5 in EDM and in ComfyUI's EDM models."""

    std_data: float = 0.5

    def scales(self, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """``(c_skip, c_out, c_in)``, so that input and training target have unit variance at every level."""
        total = (sigma.square() + self.std_data**2).sqrt()
        return self.std_data**2 / total.square(), sigma * self.std_data / total, 1 / total

    def __call__(self, network: Restorer, z: Tensor, sigma: Tensor, condition: Tensor, outer: bool = False) -> Tensor:
        """``h`` for ``z [N, 3, H, W]`` at ``sigma``, a scalar or ``[N]``."""
        sigma = sigma.to(z).expand(len(z))
        skip, out, into = (scale[:, None, None, None] for scale in self.scales(sigma))
        return skip * z + out * network(into * z, sigma.log() / 4, condition, outer)


def image_denoiser(
    network: Restorer, condition: Tensor, precondition: Precondition | None = None, outer: bool = False
) -> FrameDenoiser:
    """``(z [n, 3, H, W], sigma, frames) -> z0_hat`` for `guidance.sample_warped_diffusion`.

    ``condition [F, c, H, W]`` of the whole clip; each call takes its own frames'.
    """
    precondition = precondition or Precondition()

    def denoise(z: Tensor, sigma: Tensor, frames: slice) -> Tensor:
        return precondition(network, z, sigma, condition[frames].to(z), outer)

    return denoise
