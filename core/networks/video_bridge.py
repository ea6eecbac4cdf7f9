"""A video network as a bridge denoiser: everything between (z_t, t) and z0_hat that a model's file describes."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from ..bridges.denoiser import NetworkDenoiser
from ..bridges.parameterisation import PARAMETERISATIONS, Parameterisation
from ..bridges.precondition import PRECONDITIONS, Precondition
from ..bridges.process import Bridge, make_bridge
from .layout import InputLayout


@dataclass(frozen=True)
class VideoBridge:
    """Process, input, and meaning of the output of one kind of model; the weights are somebody else's."""

    bridge: Bridge
    parameterisation: Parameterisation
    precondition: Precondition
    layout: InputLayout

    @classmethod
    def from_config(cls, config: dict, process: Bridge | None = None) -> "VideoBridge":
        """From a file's configuration (``docs/formats.md``); ``process`` in place of the one it names."""
        if process is None:
            process = make_bridge(config["bridge"]["kind"], **config["bridge"]["constants"])
        return cls(
            process,
            PARAMETERISATIONS[config["parameterisation"]],
            PRECONDITIONS[config["precondition"]],
            InputLayout(**config["layout"]),
        )

    def denoiser(
        self, network: Callable, z_T: Tensor, first_frame: Tensor, y: Tensor | None, noise: Tensor | None = None
    ) -> NetworkDenoiser:
        """``denoiser(z_t, t) -> z0_hat`` of clips ``[b, c, f, h, w]``, with image ``[b, c, h, w]`` and class ``y [b]``.

        ``network(x, timesteps, y)`` is a `LatteVideo`, or anything called like one. ``noise``: see `NetworkDenoiser`.
        """

        def predict(entering: Tensor, timesteps: Tensor) -> Tensor:
            joined = self.layout.join(entering, z_T, first_frame)
            return self.layout.crop(network(joined, timesteps, y))

        return NetworkDenoiser(predict, self.bridge, self.parameterisation, self.precondition, z_T, noise)
