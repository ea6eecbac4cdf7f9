"""How pixels move: adjacent-frame fields, their composition, masks, and where they come from.

Flow is in pixels, channel order (x, y), pixel centres are integers. ``forward[i]`` lives on frame i, ``backward[i]`` on
frame i + 1. Modules that need more than torch (estimators, densifiers) are imported where they are used.
"""

from .advect import advect
from .cycle import cycle_energy, cycle_mask
from .field import MotionField
from .invert import invert
from .sampling import inside, pixel_grid, sample, warp
from .tracks import Tracks

__all__ = [
    "MotionField",
    "Tracks",
    "advect",
    "cycle_energy",
    "cycle_mask",
    "inside",
    "invert",
    "pixel_grid",
    "sample",
    "warp",
]
