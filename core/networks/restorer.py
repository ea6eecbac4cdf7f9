"""An image denoiser that is shown a damaged picture: the network behind super-resolution and inpainting.

The picture enters on channels beside the noisy one (Warped Diffusion section 4: "we concatenate the measurements
across the channel dimension"). Pixels are folded into channels first, so that the U-Net works at half the size.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .unet import UNet


class Restorer(nn.Module):
    """``(x [N, 3, H, W], timesteps [N], condition [N, condition_channels, H, W])`` to ``[N, 3, H, W]``.

    ``fold``: so many pixels a side become channels; the other arguments are `UNet`'s. Convolutions, and attention at
    1/2^(levels - 1) / fold of the size, so every H and W that are multiples of `step` will do.
    """

    def __init__(
        self, condition_channels: int, channels: int = 32, multipliers=(1, 2, 3), blocks: int = 1, attention=(),
        head_channels: int = 32, groups: int = 8, fold: int = 2, *, operations=nn, dtype=None, device=None,
    ):  # fmt: skip
        super().__init__()
        self.condition_channels, self.fold = condition_channels, fold
        self.unet = UNet(
            (3 + condition_channels) * fold**2, 3 * fold**2, channels, multipliers, blocks, attention, head_channels,
            groups, operations=operations, dtype=dtype, device=device,
        )  # fmt: skip

    @property
    def step(self) -> int:
        """Height and width are multiples of this."""
        return self.fold * 2 ** (self.unet.levels - 1)

    def initialise(self, generator: torch.Generator) -> "Restorer":
        """Start of a training, see `UNet.initialise`."""
        self.unet.initialise(generator)
        return self

    def forward(self, x: Tensor, timesteps: Tensor, condition: Tensor, outer: bool = False) -> Tensor:
        """``outer``: see `UNet.forward`. Raises ValueError for sizes that do not fit."""
        height, width = x.shape[-2:]
        if height % self.step or width % self.step:
            raise ValueError(f"height and width must be multiples of {self.step}, got {width} x {height}")
        if condition.shape != (len(x), self.condition_channels, height, width):
            wanted = [len(x), self.condition_channels, height, width]
            raise ValueError(f"expected a condition {wanted}, got {list(condition.shape)}")
        folded = F.pixel_unshuffle(torch.cat([x, condition.to(x)], dim=1), self.fold)
        return F.pixel_shuffle(self.unet(folded, timesteps, outer), self.fold)
