"""What an exemplar is on its way from one node to the next: the socket AQUEDUCT_EXEMPLAR."""

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True, eq=False)
class Exemplar:
    """Pictures that show a style, as the networks that take it from them see them. On the CPU.

    ``image [n, 3, H, W]`` in 0..1; ``latent [n, c, h, w]`` as its VAE gives it (raw, before a MODEL's own scaling);
    ``cls [n, d]``: DINOv2's [CLS] behind its last norm, None without a CLIP_VISION; ``keep`` bool ``[n, H, W]``: the
    part of each picture that counts, None for all of it. n is 1 (for every picture of a LATENT) or the LATENT's batch.
    """

    image: Tensor
    latent: Tensor
    cls: Tensor | None = None
    keep: Tensor | None = None

    def __len__(self) -> int:
        return len(self.image)

    def kept(self, height: int, width: int) -> Tensor | None:
        """``keep`` in cells, bool ``[n, height, width]``, never empty: those that lie half or more in it, or, for a
        part smaller than any cell, the one that has most of it."""
        if self.keep is None:
            return None
        share = F.adaptive_avg_pool2d(self.keep[:, None].float(), (height, width))[:, 0]
        return share >= share.amax((-2, -1), keepdim=True).clamp(max=0.5)
