"""A network that has learned how things move together, as one more densifier."""

from collections.abc import Callable

import torch
from torch import Tensor

from .densifiers import Densifier
from .hints import hint_map

# (picture [N, 3, H, W] in 0..1, hints [N, 2, H, W] in pixels, known bool [N, 1, H, W]) -> flow [N, 2, H, W] in pixels:
# what networks for this offer as their method `flow`.
Flow = Callable[[Tensor, Tensor, Tensor], Tensor]


def learned(flow: Flow) -> Densifier:
    """The densifier that asks ``flow``, and follows a picture, ``guide [3, H, W]`` in 0..1.

    Points outside the picture are left out; where none is inside, everything rests.
    """

    def densify(points: Tensor, vectors: Tensor, size: tuple[int, int], guide: Tensor) -> Tensor:
        hints, known = hint_map(points, vectors, size)
        if not known.any():
            return torch.zeros(2, *size, device=guide.device)
        return flow(guide[None].float(), hints[None].to(guide.device), known[None].to(guide.device))[0]

    return densify
