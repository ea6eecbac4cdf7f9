"""Forward warping: every pixel goes where the flow takes it, and what meets there is averaged."""

import torch
from torch import Tensor

from .sampling import check_same_size, inside, pixel_grid


def splat(x: Tensor, flow: Tensor, importance: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Every pixel p of ``x [N, C, H, W]`` lands at ``p + flow(p)``; ``flow [N, 2, H, W]`` in pixels (x, y).

    It is shared out among the four pixels around that point (bilinear), and each pixel is the mean of its shares,
    weighted by ``importance [N, 1, H, W]`` (default 1 everywhere; exp of some metric for softmax splatting). What lands
    outside the frame, or nowhere because its vector is not finite, is lost; where nothing lands there is zero.

    Returns ``(values [N, C, H, W], weight [N, 1, H, W])``: their product is the sum of what landed. Differentiable in
    all arguments. A GPU adds in no fixed order, so sums are kept in double precision where the device has it: the same
    input then gives the same values. Source: Niklaus & Liu 2020, "Softmax Splatting for Video Frame Interpolation",
    section 3.1. Raises ValueError when sizes differ and for negative importance.
    """
    check_same_size(x, flow)
    _check_importance(importance, x)
    height, width = x.shape[-2:]
    kind = torch.float32 if x.device.type == "mps" else torch.float64
    goal = pixel_grid(height, width, x.device, kind) + flow.to(kind)
    corner = goal.floor()
    share_x, share_y = (goal - corner).unbind(1)
    rows = torch.cat([x, torch.ones_like(x[:, :1])], dim=1).to(kind)
    if importance is not None:
        rows = rows * importance.to(kind)
    rows = rows.movedim(1, -1).flatten(0, 2)
    nowhere = len(rows)  # one row more, for what lands outside
    first = torch.arange(0, nowhere, height * width, device=x.device)[:, None, None]
    total = rows.new_zeros(nowhere + 1, rows.shape[1])
    for right, down in ((0, 0), (1, 0), (0, 1), (1, 1)):
        at = corner + corner.new_tensor([right, down])[:, None, None]
        lands = inside(at, height, width)
        index = torch.where(lands, first + at[:, 1] * width + at[:, 0], nowhere).long()
        share = (share_x if right else 1 - share_x) * (share_y if down else 1 - share_y)
        total.index_add_(0, index.flatten(), rows * torch.where(lands, share, 0).view(-1, 1))
    total = total[:nowhere].view(*lands.shape, -1).movedim(-1, 1)
    summed, weight = total[:, :-1], total[:, -1:]
    values = summed / torch.where(weight > 0, weight, 1)
    kept = x.dtype if x.is_floating_point() else torch.float32
    return values.to(kept), weight.to(kept)


def _check_importance(importance: Tensor | None, x: Tensor) -> None:
    if importance is None:
        return
    if importance.shape != x[:, :1].shape:
        raise ValueError(f"importance must be {list(x[:, :1].shape)}, got {list(importance.shape)}")
    if not bool((importance >= 0).all()):
        raise ValueError(f"importance must not be negative, got {importance.min().item():.4g}: exp a metric first")
