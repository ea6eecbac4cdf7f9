"""Control images, all in 0..1: what tells the network where things are, and nothing of how they look."""

import torch
from torch import Tensor

from ..optional import need

# EBDM takes its edges "using the Canny edge detector following" CoCosNet, see `canny`.
COCOSNET_CANNY = {"low": 0.1 * 255, "high": 0.2 * 255, "sigma": 1.0, "euclidean": True}


def canny(
    images: Tensor, low: float = 100, high: float = 200, *, sigma: float = 0.0, euclidean: bool = False
) -> Tensor:
    """Canny edges ``[n, 1, H, W]``, 0 or 1, of the 8-bit grey of ``images`` ``[n, 3, H, W]`` in 0..1 (OpenCV).

    ``low`` and ``high``: hysteresis thresholds on the gradient of 3 x 3 Sobel filters without normalisation (a
    straight step of h grey levels of 255 makes 4 h); its length if ``euclidean``, else |x| + |y|. ``sigma``: a
    Gaussian in pixels beforehand (0: none).

    EBDM (section 4) gives no thresholds, only "the Canny edge detector following" CoCosNet. CoCosNet's published
    data/celebahqedge_dataset.py calls ``skimage.feature.canny(grey)`` (scikit-image 0.14.2) without arguments at the
    size it loads (286 in training, 256 in testing): a Gaussian of sigma 1, then thresholds 0.1 and 0.2 on the
    length of the Sobel gradient of grey in 0..1. ``COCOSNET_CANNY`` are these as arguments of this function. CoCosNet
    uses them for hair and background only: inside the face its edges are the boundaries of annotated parts
    (eyes, brows, nose, lips, ears, skin), and it adds one distance transform for each of 13 parts, 15 channels in
    all. EBDM does not say whether it keeps either; its control is one image. OpenCV works in whole grey levels, breaks
    ties otherwise and marks the outermost pixels too, which scikit-image never does: single pixels differ.
    """
    if images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f"canny takes images [n, 3, H, W] in 0..1, got {tuple(images.shape)}")
    if not 0 <= low <= high:
        raise ValueError(f"canny needs 0 <= low <= high, got low={low} and high={high}: the higher one starts an edge")
    cv2 = need("cv2", "the Canny edges")
    pictures = (images.detach().cpu().float() * 255).round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()

    def edges(picture) -> Tensor:
        grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
        if sigma > 0:
            grey = cv2.GaussianBlur(grey, (0, 0), sigma)
        return torch.from_numpy(cv2.Canny(grey, low, high, L2gradient=euclidean))

    return (torch.stack([edges(picture) for picture in pictures])[:, None] > 0).to(images)


def far_colours(count: int) -> Tensor:
    """``[count, 3]`` in 0..1, far apart: each the farthest from those before it; more only add to the list.

    The first eight are the corners of the RGB cube, black first: at least 1 from one another. A bridge's prior tells
    controls apart by the distance of their colours (EBDM section 10), so near colours would merge.
    """
    steps = torch.linspace(0, 1, 5)
    candidates = torch.cartesian_prod(steps, steps, steps)
    if not 1 <= count <= len(candidates):
        raise ValueError(
            f"there are colours for 1 to {len(candidates)} classes, got {count}: give a palette of your own"
        )
    chosen = [0]
    nearest = (candidates - candidates[0]).norm(dim=1)
    while len(chosen) < count:
        chosen.append(int(nearest.argmax()))
        nearest = nearest.minimum((candidates - candidates[chosen[-1]]).norm(dim=1))
    return candidates[chosen]


def mask_map(labels: Tensor, palette: Tensor | None = None) -> Tensor:
    """Class maps as pictures: int64 ``[n, H, W]`` to ``[n, 3, H, W]``; class ``k`` has colour ``palette[k]``, in 0..1.

    Without a palette `far_colours`, in which a class keeps its colour however many there are.
    """
    if labels.is_floating_point() or labels.ndim != 3:
        raise ValueError(f"mask_map takes labels as integers [n, H, W], got {labels.dtype} {tuple(labels.shape)}")
    lowest, highest = (int(edge) for edge in labels.aminmax())
    palette = far_colours(highest + 1) if palette is None and lowest >= 0 else palette
    if lowest < 0 or highest >= len(palette):
        raise ValueError(
            f"mask_map: labels run from {lowest} to {highest}, and the palette has 0 to {len(palette) - 1}"
        )
    return palette.to(labels.device)[labels].movedim(-1, 1).contiguous()
