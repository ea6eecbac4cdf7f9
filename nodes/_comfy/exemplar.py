"""What an exemplar is on its way from one node to the next (the socket AQUEDUCT_EXEMPLAR), and how it is applied."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ...core.networks.exemplar_attention import kept_cells


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
        """``keep`` in cells, bool ``[n, height, width]``, see `kept_cells`."""
        return None if self.keep is None else kept_cells(self.keep, height, width)

    def shown(self) -> list[Tensor]:
        """What a global encoder is to look at, ``[1, 3, h, w]`` in 0..1 for each picture."""
        return shown(self.image, self.keep)


@dataclass(frozen=True, eq=False)
class Settings:
    """How an exemplar acts on a MODEL, from ``start`` to ``end`` of its levels.

    ``mask``: MASK ``[H, W]`` or ``[n, H, W]``, where in the pictures, n 1 or the LATENT's batch. ``positive_only``: not
    in the negative branch of CFG. For MODELs not made for exemplars: ``blocks`` that attend to it (see
    `chosen_blocks`), ``reference_percent``: how far denoised they are shown it, 1 for clean; ``each_step``: as noisy as
    the picture is at each step, in place of that. Raises ValueError for what cannot be.
    """

    strength: float = 1.0
    start: float = 0.0
    end: float = 1.0
    blocks: str = ""
    reference_percent: float = 1.0
    each_step: bool = False
    positive_only: bool = False
    mask: Tensor | None = None

    def __post_init__(self):
        if self.strength < 0:
            raise ValueError(f"strength must be 0 or more, got {self.strength}")
        if not 0 <= self.reference_percent <= 1:
            raise ValueError(f"reference_percent must be 0 (noise) to 1 (clean), got {self.reference_percent}")
        if self.mask is not None and not bool((self.mask > 0).any()):
            raise ValueError(
                "the mask marks nothing, so the exemplar would act nowhere: leave it out for the whole picture "
                "(LoadImage gives an empty MASK for a picture without alpha)"
            )


def shown(image: Tensor, keep: Tensor | None) -> list[Tensor]:
    """Each of ``image [n, 3, H, W]`` cut to the part in ``keep``, ``[1, 3, h, w]``; what of the rectangle around it
    does not belong to it has its mean colour."""
    if keep is None:
        return list(image.split(1))
    return [_cut_out(*pair) for pair in zip(image, keep, strict=True)]


def _cut_out(picture: Tensor, keep: Tensor) -> Tensor:
    mean = picture[:, keep].mean(1)[:, None, None]
    rows, columns = (torch.nonzero(keep.any(axis)).flatten() for axis in (1, 0))
    filled = torch.where(keep, picture, mean)
    return filled[None, :, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
