"""Flow fields as other packs pass them, made into a MotionField.

The name OPTICAL_FLOW has three meanings in ComfyUI: a list of numpy fields ``[H, W, 2]`` (comfyui-optical-flow by
seanlynch), a tensor ``[N, H, W, 2]`` (controlnet_aux's Unimatch), and core's own: a network that estimates flow.
Tensors ``[N, 2, H, W]`` travel as RAFT_FLOW. All are pixels, channel order (x, y), from each frame to the next.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from .field import MotionField

LAYOUTS = "[N, H, W, 2], [N, 2, H, W] or a list of [H, W, 2]"


def motion_from_flow(flow: Tensor | Sequence) -> MotionField:
    """The motion of forward fields in any of the layouts above; `MotionField.bidirectional` adds the way back.

    Raises TypeError for what is no field, ValueError for another shape, for fields of several sizes and where the
    layout cannot be told (both of ``H`` or ``W`` and the channels are 2).
    """
    if isinstance(flow, Tensor):
        return MotionField(_channels_first(flow))
    if isinstance(flow, (list, tuple)) and flow:
        fields = [torch.as_tensor(one) for one in flow]
        sizes = {tuple(field.shape) for field in fields}
        if len(sizes) > 1:
            raise ValueError(f"the flow fields of a clip have one size, got {', '.join(map(str, sorted(sizes)))}")
        return MotionField(_channels_first(torch.stack(fields)))
    what = "an empty list" if isinstance(flow, (list, tuple)) else type(flow).__name__
    raise TypeError(
        f"expected flow fields, {LAYOUTS}, got {what}. A flow network (core's Load Optical Flow Model) goes into "
        f"AqueductOpticalFlow"
    )


def _channels_first(flow: Tensor) -> Tensor:
    flow = flow[None] if flow.ndim == 3 else flow
    if flow.ndim != 4 or 2 not in (flow.shape[1], flow.shape[3]):
        raise ValueError(f"flow fields are {LAYOUTS}, got {list(flow.shape)}")
    if flow.shape[1] == flow.shape[3] == 2:
        raise ValueError(f"{list(flow.shape)} may have its channels second or last: give fields wider than 2 pixels")
    return (flow if flow.shape[1] == 2 else flow.movedim(3, 1)).float().contiguous()
