"""The one denoiser contract, ``denoiser(z_t, t) -> z0_hat``, made from a network and from two denoisers."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .parameterisation import Parameterisation
from .precondition import Precondition
from .process import Bridge

Denoiser = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class NetworkDenoiser:
    """A network trained as a bridge, as a denoiser.

    ``predict(network_input, timesteps [batch])`` runs the network with whatever else it is conditioned on. ``noise``
    stands in for the network's input where the precondition leaves nothing of it: at T under SNR alignment, where
    ``z_t`` carries no noise of its own. Every other precondition ignores it.
    """

    predict: Callable[[Tensor, Tensor], Tensor]
    bridge: Bridge
    parameterisation: Parameterisation
    precondition: Precondition
    z_T: Tensor
    noise: Tensor | None = None

    def __call__(self, z_t: Tensor, t) -> Tensor:
        t = torch.as_tensor(t, dtype=torch.float64)
        entering = self.precondition.input(z_t, self.z_T, t, self.bridge)
        if self.noise is not None and self.precondition.vanishes(t, self.bridge):
            entering = self.noise
        timestep = self.precondition.timestep(self.bridge, t).to(device=z_t.device, dtype=torch.float32)
        output = self.predict(entering, timestep.expand(z_t.shape[0]))
        return self.parameterisation.z0(output, z_t, self.z_T, t, self.bridge)


def guided(conditional: Denoiser, unconditional: Denoiser, scale: float) -> Denoiser:
    """Classifier-free guidance ``u + scale (c - u)``.

    Every parameterisation is linear in ``z_0`` at fixed ``z_t`` and ``z_T``, so guiding the prediction of ``z_0`` is
    guiding ``psi``. The unconditional branch drops the text or class only: both keep the same image and prior.

    Source: FrameBridge appendix C.3.
    """

    def denoiser(z_t: Tensor, t: Tensor) -> Tensor:
        without = unconditional(z_t, t)
        return without + scale * (conditional(z_t, t) - without)

    return denoiser
