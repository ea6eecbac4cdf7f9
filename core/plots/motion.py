"""Pictures of motion, by name."""

from collections.abc import Callable

from torch import Tensor

from ..motion.cycle import ALPHA1, ALPHA2, cycle_energy, cycle_mask
from ..motion.field import MotionField
from .clips import Report
from .flow_arrows import flow_arrows
from .flow_colour import flow_colours
from .flow_grid import warped_grid
from .flow_heat import energy_heat
from .tracks import draw_tracks

__all__ = ["PREVIEWS", "draw_tracks", "energy_heat", "flow_arrows", "flow_colours", "motion_energy", "warped_grid"]

Preview = Callable[[MotionField, Tensor | None, Report | None], Tensor]


def motion_energy(
    motion: MotionField,
    images: Tensor | None = None,
    report: Report | None = None,
    alpha1: float = ALPHA1,
    alpha2: float = ALPHA2,
) -> Tensor:
    """`energy_heat` of the forward fields, with the contour of the cycle test. Raises ValueError without backward."""
    if motion.backward is None:
        raise ValueError(
            "cycle energy compares forward with backward motion, and this motion has forward fields only; estimate "
            "both directions, or invert it first (MotionField.bidirectional)"
        )
    energy = cycle_energy(motion.forward, motion.backward)
    valid = cycle_mask(motion.forward, motion.backward, alpha1, alpha2)
    return energy_heat(energy, valid, images, report=report)


def _colours(motion: MotionField, images: Tensor | None, report: Report | None = None) -> Tensor:
    return flow_colours(motion.forward, motion.forward_valid, images, report=report)


def _arrows(motion: MotionField, images: Tensor | None, report: Report | None = None) -> Tensor:
    return flow_arrows(motion.forward, motion.forward_valid, images, report=report)


def _grid(motion: MotionField, images: Tensor | None, report: Report | None = None) -> Tensor:
    return warped_grid(motion, images, report=report)


# Name -> function(motion, images [F or 1, C, H, W] or None, report or None) -> IMAGE batch: a picture of each step
# (F - 1, each on its first frame), and of each frame (F) for the grid.
PREVIEWS: dict[str, Preview] = {"colours": _colours, "arrows": _arrows, "grid": _grid, "energy": motion_energy}
