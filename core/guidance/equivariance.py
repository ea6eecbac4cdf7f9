"""How far a prediction is from moving along with the motion (Warped Diffusion eq. 8), and the slope of that.

    e_j = sum_p,c m(p) (h_j(p + f(p)) - h_i(p))^2        f: the flow from frame i, an earlier one, to frame j

Source: Warped Diffusion section 3.2 and Algorithm 1. ``|.|^2`` there is the squared length of a vector of grid values,
so it is a **sum** over pixels and channels, as in diffusion posterior sampling, from which the paper has lambda = 1.
With that the guided step ``(lambda / sqrt(e)) grad e = 2 lambda grad sqrt(e)`` does not grow with the frame: its length
is at most ``2 lambda`` times the norms of the network's Jacobian and of the warp. A mean over n values would shorten
it by sqrt(n). Divide by what `compared` counts to compare errors between sizes.
"""

import torch
from torch import Tensor

from ..motion.sampling import check_same_size, inside, pixel_grid
from .adjoint import BilinearTaps, bilinear_taps


def equivariance_error(later: Tensor, earlier: Tensor, forward_flow: Tensor, mask: Tensor | None = None) -> Tensor:
    """``|later o T - earlier|^2`` per frame, ``[N]``: summed over channels and the pixels that stay in the frame.

    ``later, earlier [N, C, H, W]``; ``forward_flow [N, 2, H, W]`` in pixels (x, y) on the earlier frame's grid says
    where its pixels are in the later one; ``mask [N, H, W]``, bool or weights, on that grid too: what counts.
    Everything is aligned with the earlier frame. Differentiable in both frames; half precision is summed in float32.
    For a gradient leave inference mode and hand in frames made outside it; flow and mask may come from it.

    Source: Warped Diffusion eq. 8 and Algorithm 1. Raises ValueError when shapes differ or the flow is not finite.
    """
    check_frames(later, earlier, forward_flow, mask)
    check_finite(forward_flow)
    difference, weight, _ = residual(later, earlier, forward_flow, mask)
    return _summed(weight * difference.square())


def error_and_gradient(
    later: Tensor, earlier: Tensor, forward_flow: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """``(e [N], 2 A^T m (A later - earlier) [N, C, H, W])``: the error and its gradient in ``later``, in closed form.

    A is the warp, its adjoint comes from `adjoint`; the earlier frame is a constant, as in Algorithm 1. Works within
    inference mode. Arguments and precision as `equivariance_error`, unchecked.
    """
    difference, weight, taps = residual(later, earlier, forward_flow, mask)
    pulled = weight * difference
    return _summed(pulled * difference), taps.adjoint(2 * pulled)


def compared(forward_flow: Tensor, mask: Tensor | None = None) -> Tensor:
    """How many pixels each error sums over, ``[N]`` (a sum of weights when the mask has weights)."""
    check_finite(forward_flow)
    return _weight(forward_flow, mask).flatten(1).sum(1)


def check_frames(later: Tensor, earlier: Tensor, flow: Tensor, mask: Tensor | None) -> None:
    """ValueError unless frames, flow ``[N, 2, H, W]`` and mask ``[N, H, W]`` agree, saying what each of them is."""
    if later.shape != earlier.shape:
        raise ValueError(f"later and earlier frames differ: {list(later.shape)} and {list(earlier.shape)}")
    check_same_size(later, flow)
    if mask is not None and mask.shape != flow[:, 0].shape:
        raise ValueError(f"the mask must be [N,H,W] = {list(flow[:, 0].shape)} like the flow, got {list(mask.shape)}")


def check_finite(flow: Tensor) -> None:
    if not flow.isfinite().all():
        raise ValueError("the motion holds vectors that are not finite; give any finite one there and mask it out")


def residual(later: Tensor, earlier: Tensor, flow: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, BilinearTaps]:
    """``(A later - earlier [N, C, H, W], weight [N, 1, H, W], A)``, in float32 or better. Unchecked."""
    dtype = torch.promote_types(torch.promote_types(later.dtype, flow.dtype), torch.float32)
    flow = flow.to(later.device, dtype)
    taps = bilinear_taps(flow)
    return taps.warp(later.to(dtype)) - earlier.to(dtype), _weight(flow, mask), taps


def _weight(flow: Tensor, mask: Tensor | None) -> Tensor:
    height, width = flow.shape[-2:]
    stays = inside(flow + pixel_grid(height, width, flow.device, flow.dtype), height, width).to(flow.dtype)
    return (stays if mask is None else stays * mask.to(flow))[:, None]


def _summed(x: Tensor) -> Tensor:
    return x.flatten(1).sum(1)
