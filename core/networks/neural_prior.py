"""The neural prior: a coarse clip from one image, by regression (FrameBridge section 4.4, eq. 8)."""

import torch
from torch import Tensor, nn

from .latte import LatteVideo


class NeuralPrior(nn.Module):
    """``F(z_i, c)``: first-frame latent and class -> clip. Its optimum is ``E[z_0 | z_i, c]`` (Proposition 3).

    The network is ``LatteVideo`` without time, fed the first frame repeated along time; keyword arguments are its own.
    With ``residual`` the prediction is added to the repeated first frame.

    Source: FrameBridge eq. 8 and appendix C.3.
    """

    def __init__(self, *, residual: bool = False, **sizes):
        super().__init__()
        self.residual = residual
        self.network = LatteVideo(time=False, **sizes)

    @property
    def frames(self) -> int:
        return self.network.size[0]

    def forward(self, first_frame: Tensor, y: Tensor | None = None) -> Tensor:
        """``first_frame [b, c, h, w]`` -> clip ``[b, c, frames, h, w]``."""
        if first_frame.dim() != 4 or first_frame.shape[1] != self.network.in_channels:
            raise ValueError(
                f"the neural prior takes a first frame [batch, {self.network.in_channels}, height, width], "
                f"got {list(first_frame.shape)}"
            )
        repeated = first_frame[:, :, None].expand(-1, -1, self.frames, -1, -1)
        out = self.network(repeated, y=y)
        return repeated + out if self.residual else out


@torch.no_grad()
def make_prior(prior: NeuralPrior | None, first_frame: Tensor, y: Tensor | None, frames: int) -> Tensor:
    """``z_T [b, c, frames, h, w]``: the first frame repeated, or with ``prior`` its clip, which then begins with the
    image itself (the exact posterior mean of that frame)."""
    if prior is None:
        return first_frame[:, :, None].repeat(1, 1, frames, 1, 1)
    clip = prior(first_frame, y)
    clip[:, :, 0] = first_frame
    return clip
