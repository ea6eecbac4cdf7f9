"""The ways to fill the space between points, by name."""

from collections.abc import Callable

from torch import Tensor

from .edge_aware import edge_aware
from .gaussian import gaussian
from .nearest import nearest
from .rigid import rigid
from .thin_plate import thin_plate

# A densifier maps points [N, 2] and vectors [N, 2] (pixels, N at least 1), a size (height, width) and settings of its
# own to a field [2, height, width]. One that has a parameter `guide` follows a picture, which the caller must give.
Densifier = Callable[..., Tensor]

DENSIFIERS: dict[str, Densifier] = {
    "thin-plate": thin_plate,
    "gaussian": gaussian,
    "nearest": nearest,
    "rigid": rigid,
    "edge-aware": edge_aware,
}
