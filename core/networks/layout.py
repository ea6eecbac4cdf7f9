"""How the prior and the first frame reach a video network: beside the latent, on channels or as one more frame."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class InputLayout:
    """Which conditions are joined to ``z`` and where.

    ``concat_prior``, ``concat_first_frame``: on channels, in this order behind ``z`` (the first frame repeated).
    ``prepend_first_frame``: the clean first frame as one more frame before ``z`` whose output is dropped; it fills
    every channel group of that frame, the prior's too, as in FrameBridge's released model with neural prior.

    Source: FrameBridge appendix C.3 (prior on channels; image condition in the token sequence for Latte).
    """

    concat_prior: bool = False
    concat_first_frame: bool = False
    prepend_first_frame: bool = False

    def join(self, z: Tensor, z_T: Tensor, first_frame: Tensor) -> Tensor:
        """``z, z_T [b, c, f, h, w]`` and ``first_frame [b, c, h, w]`` -> the network's input."""
        still = first_frame[:, :, None]
        parts = [z]
        if self.concat_prior:
            parts.append(z_T)
        if self.concat_first_frame:
            parts.append(still.expand_as(z))
        joined = torch.cat(parts, dim=1)
        if self.prepend_first_frame:
            joined = torch.cat([still.repeat(1, len(parts), 1, 1, 1), joined], dim=2)
        return joined

    def crop(self, output: Tensor) -> Tensor:
        """Drop the output of the prepended frame, if there is one."""
        return output[:, :, 1:] if self.prepend_first_frame else output

    def channels(self, latent_channels: int) -> int:
        """Input channels of a network that reads this layout."""
        return latent_channels * (1 + self.concat_prior + self.concat_first_frame)
