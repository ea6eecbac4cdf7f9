"""Reading images and fields between pixels. Pixel centres are integers: row i, column j is the point (x=j, y=i)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from .chunks import frame_chunks

CERTAIN = 1 - 1e-3  # share of valid neighbours from which an interpolated value counts as known


def pixel_grid(height: int, width: int, device: torch.device | str = "cpu", dtype=torch.float32) -> Tensor:
    """``[2, height, width]``: the point (x, y) of every pixel."""
    y = torch.arange(height, device=device, dtype=dtype)[:, None].expand(height, width)
    x = torch.arange(width, device=device, dtype=dtype)[None, :].expand(height, width)
    return torch.stack([x, y])


def precise(flow: Tensor) -> Tensor:
    """At least float32: half precision has no room for the coordinates of pixels."""
    return flow if flow.dtype == torch.float64 else flow.float()


def sample(x: Tensor, points: Tensor) -> Tensor:
    """``x [N or 1, C, H, W]`` at ``points [N, 2, h, w]`` in pixels -> ``[N, C, h, w]``.

    Bilinear; outside the frame the border's value holds.
    """
    height, width = x.shape[-2:]
    scale = points.new_tensor([2 / max(width - 1, 1), 2 / max(height - 1, 1)])
    at = points.permute(0, 2, 3, 1).mul(scale).sub_(1)
    if x.shape[0] != at.shape[0]:
        x = x.expand(at.shape[0], -1, -1, -1)
    return F.grid_sample(x, at, mode="bilinear", padding_mode="border", align_corners=True)


def sample_valid(valid: Tensor, points: Tensor) -> Tensor:
    """bool ``[N, h, w]``: whether all that `sample` reads of ``valid``, bool ``[N, H, W]``, at ``points`` is True."""
    return sample(valid[:, None].to(points.dtype), points)[:, 0] > CERTAIN


def inside(points: Tensor, height: int, width: int, margin: float = 0.0) -> Tensor:
    """bool ``[..., h, w]``: which of ``points [..., 2, h, w]`` lie within the frame, border pixels included.

    ``margin``: so many pixels beyond the outermost centres still count; at 0.5 the area of the border pixels ends.
    """
    x, y = points.unbind(-3)
    return (x >= -margin) & (x <= width - 1 + margin) & (y >= -margin) & (y <= height - 1 + margin)


def warp(x: Tensor, flow: Tensor) -> Tensor:
    """``x(p + flow(p))`` for ``x [N, C, H, W]`` and ``flow [N, 2, H, W]`` in pixels (x, y): bilinear, border held.

    ``warp(frame[i + 1], forward[i])`` is aligned with frame i. Raises ValueError when the sizes differ.
    """
    check_same_size(x, flow)
    flow = precise(flow)
    grid = pixel_grid(*flow.shape[-2:], flow.device, flow.dtype)
    size = x[0].numel() * x.element_size() * 4
    parts = [sample(x[part].to(flow.dtype), flow[part] + grid) for part in frame_chunks(len(x), size, flow.device)]
    return torch.cat(parts).to(x.dtype if x.is_floating_point() else flow.dtype)


def check_same_size(x: Tensor, flow: Tensor) -> None:
    """ValueError unless ``x [N, C, H, W]`` and ``flow [N, 2, H, W]`` agree, saying what each of them is."""
    if x.dim() != 4 or flow.dim() != 4 or flow.shape[1] != 2:
        raise ValueError(f"expected x [N,C,H,W] and flow [N,2,H,W], got {list(x.shape)} and {list(flow.shape)}")
    if x.shape[-2:] != flow.shape[-2:]:
        (h, w), (fh, fw) = x.shape[-2:], flow.shape[-2:]
        raise ValueError(
            f"the image is {w} x {h} pixels, the flow {fw} x {fh}: resize the flow (MotionField.resized, "
            f"AqueductResizeMotion) to {w} x {h}"
        )
    if len(x) != len(flow):
        raise ValueError(f"{len(x)} images for {len(flow)} flow fields: give one image per field")
