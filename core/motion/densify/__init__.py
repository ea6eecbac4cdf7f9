"""From a few tracks to motion everywhere: densifiers, and the field that one makes of tracks."""

from .densifiers import DENSIFIERS, Densifier
from .learned import learned
from .motion import motion_from_tracks

__all__ = ["DENSIFIERS", "Densifier", "learned", "motion_from_tracks"]
