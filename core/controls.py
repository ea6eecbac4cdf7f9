"""Control images, all in 0..1: what tells the network where things are, and nothing of how they look."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .optional import need

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

    Black first, then white; the first eight are at least 0.7 from one another. A bridge's prior tells controls apart by
    the distance of their colours (EBDM section 10), so near colours would merge.
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
    palette = far_colours(max(highest, 0) + 1) if palette is None else palette
    if lowest < 0 or highest >= len(palette):
        raise ValueError(
            f"mask_map: labels run from {lowest} to {highest}, and the palette has 0 to {len(palette) - 1}"
        )
    return palette.to(labels.device)[labels].movedim(-1, 1).contiguous()


# Pairs of the 18 keypoints of OpenPose's COCO body (nose 0, neck 1, right arm 2-4, left arm 5-7, right leg 8-10, left
# leg 11-13, eyes 14-15, ears 16-17), in the order in which CoCosNet draws them.
OPENPOSE_LINKS = (
    (1, 2), (1, 5), (2, 3), (3, 4), (5, 6), (6, 7), (1, 8), (8, 9), (9, 10), (1, 11), (11, 12), (12, 13), (1, 0),
    (0, 14), (14, 16), (0, 15), (15, 17),
)  # fmt: skip


def keypoint_map(
    points: Tensor,
    visible: Tensor,
    size: tuple[int, int],
    links: Sequence[tuple[int, int]] = OPENPOSE_LINKS,
    radius: float | None = None,
) -> Tensor:
    """A pose as a picture ``[3, H, W]`` in 0..1: limbs, and on them discs at the keypoints, on black.

    ``points``: float ``[k, 2]`` (x, y) in pixels, whole numbers at the centres of pixels; ``visible``: bool ``[k]``,
    what is not is not drawn, nor its limbs; ``size``: (H, W); ``links``: the pairs of keypoints that a limb joins.
    ``radius`` of the discs in pixels: 4 at 256 as in CoCosNet's data/deepfashion_dataset.py, in proportion at other
    sizes; limbs are 0.7 as thick. Link ``i`` has colour ``i + 1`` of `far_colours`, keypoint ``i`` the ``i``-th after
    those: CoCosNet gives both the same hues, which a bridge would take for the same thing. Edges are not smoothed, for
    a mixed colour would stand for nothing.
    """
    count = len(points)
    if points.shape != (count, 2) or visible.shape != (count,) or visible.dtype != torch.bool:
        raise ValueError(
            f"keypoint_map takes points [k, 2] and bool visible [k], got {tuple(points.shape)} and "
            f"{visible.dtype} {tuple(visible.shape)}"
        )
    astray = [link for link in links if not all(0 <= end < count for end in link)]
    if astray:
        raise ValueError(
            f"links name keypoints 0 to {count - 1}, got {astray[:3]}: give the links of your own keypoints"
        )
    radius = max(1.0, min(size) / 64) if radius is None else radius
    strokes = [*links, *((n, n) for n in range(count))]  # a disc is a limb from a point to itself
    ends = torch.tensor(strokes, dtype=torch.int64).reshape(-1, 2)
    widths = radius * torch.tensor([0.7] * len(links) + [1.0] * count)
    shown = torch.where(visible.cpu(), 1.0, math.nan)[:, None] * points.detach().cpu().float()  # nan is near nothing
    inside = _to_segments(shown[ends[:, 0]], shown[ends[:, 1]], size) <= widths[:, None, None]
    top = (inside * torch.arange(1, len(strokes) + 1)[:, None, None]).amax(0)
    return far_colours(len(strokes) + 1)[top].movedim(-1, 0).contiguous()


def _to_segments(start: Tensor, end: Tensor, size: tuple[int, int]) -> Tensor:
    """Distance ``[m, H, W]`` of every pixel's centre from each segment."""
    y, x = torch.meshgrid(torch.arange(size[0]), torch.arange(size[1]), indexing="ij")
    place, along = torch.stack([x, y], -1) - start[:, None, None], (end - start)[:, None, None]
    share = ((place * along).sum(-1) / (along * along).sum(-1).clamp(min=1e-12)).clamp(0, 1)
    return (place - share[..., None] * along).norm(dim=-1)
