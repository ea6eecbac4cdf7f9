"""From a few tracks to motion everywhere: densifiers, and the field that one makes of tracks."""

from .densifiers import DENSIFIERS
from .motion import motion_from_tracks

__all__ = ["DENSIFIERS", "motion_from_tracks"]
