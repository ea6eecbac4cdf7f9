"""Training of exemplar-guided translation: the loss of EBDM, and its two stages."""

import torch
from torch import Tensor, nn

from ..bridges import PARAMETERISATIONS, PRECONDITIONS, Bridge, NetworkDenoiser, brownian
from .objectives import Weight, draw_bridge, draw_times, step_weight, z0_loss

STEPS = 1000


def exemplar_loss(
    denoiser: nn.Module, z_T: Tensor, z_0: Tensor, style, generator: torch.Generator,
    bridge: Bridge | None = None, weight: Weight | None = None,
) -> Tensor:  # fmt: skip
    """EBDM eq. 7 for a batch: the weighted squared error of the residual ``z_t - z_0`` at times drawn for each row.

    ``denoiser(z_t, timesteps, styles)`` predicts the residual; ``z_T, z_0 [n, c, h, w]`` are the latents of control
    and photo; ``style`` is the exemplar of each row, or None. Default: the Brownian bridge of variance 1 in 1000 steps
    with `objectives.step_weight`. Under it a network that answers 0 has the loss ``(2 (1 - m) + m |z_T - z_0|^2) / H``
    per pixel at ``m``: no time dominates.

    The error in ``z_0`` is the error in the residual, since ``z_t`` is given. Times and noise come from ``generator``.
    """
    bridge = brownian() if bridge is None else bridge
    weight = step_weight(STEPS) if weight is None else weight
    styles = () if style is None else (style,)
    t = draw_times(len(z_0), STEPS, generator)
    eps = torch.randn(z_0.shape, generator=generator, device=generator.device).to(z_0)
    predict = NetworkDenoiser(
        lambda x, timesteps: denoiser(x, timesteps, styles), bridge, PARAMETERISATIONS["residual"],
        PRECONDITIONS["raw"], z_T,
    )  # fmt: skip
    prediction = predict(draw_bridge(bridge, z_0, z_T, t, eps), t)
    return z0_loss(prediction, z_0, weight(bridge, t))
