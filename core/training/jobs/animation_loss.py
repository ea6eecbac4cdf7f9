"""The loss of image-to-video bridges, from whatever clips."""

from collections.abc import Callable

import torch
from torch import Tensor

from ...bridges.denoiser import Denoiser
from ...bridges.process import Bridge
from ...motion.carry import Carry
from ..objectives import draw_bridge, uniform_weight, z0_loss
from ..task import Batch

# ``draw`` and ``loss`` of a `Task`.
Training = tuple[Callable[[torch.Generator, int], Batch], Callable[[Batch], Tensor]]


def with_carried(drawn: Batch, share: float, generator: torch.Generator) -> Batch:
    """``carried``, bool ``[b]``, drawn beside the rest; nothing for a ``share`` of 0."""
    if not share:
        return drawn
    return drawn | {"carried": torch.rand(len(drawn["t"]), generator=generator) < share}


def bridge_loss(
    bridge: Bridge, denoiser: Callable[[Tensor, Tensor], Denoiser], z_0: Tensor, eps: Tensor, way: Carry | None,
    drawn: Batch,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The mean squared error in ``z_0 [b, c, f, h, w]``, equal at all times, and the prediction.

    ``denoiser(z_T, first frames [b, c, h, w])``: what is trained. ``drawn``: times ``t`` and, if any are, the clips
    whose prior is the first frame ``carried`` along the motion; of the others, and of all without, it is repeated.
    """
    first, t = z_0[:, :, 0], drawn["t"]
    z_T = first[:, :, None].expand_as(z_0).contiguous()
    if "carried" in drawn:
        which = drawn["carried"].to(z_0.device)[:, None, None, None, None]
        z_T = torch.where(which, way.stretched(first).transpose(1, 2), z_T)
    prediction = denoiser(z_T, first)(draw_bridge(bridge, z_0, z_T, t, eps), t)
    return z0_loss(prediction, z_0, uniform_weight(bridge, t)), prediction
