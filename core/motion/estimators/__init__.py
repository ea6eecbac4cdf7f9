"""Optical flow estimators behind one call, and the clip-level estimation that drives them."""

from .dis import DEFAULT_PRESET, PRESETS, DisEstimator
from .estimate import MAX_SIDE, Estimator, Needs, estimate_motion
from .raft import RELEASES, RaftEstimator, load_raft, raft_from_module, where_to_get

__all__ = [
    "DEFAULT_PRESET",
    "MAX_SIDE",
    "PRESETS",
    "RELEASES",
    "DisEstimator",
    "Estimator",
    "Needs",
    "RaftEstimator",
    "estimate_motion",
    "load_raft",
    "raft_from_module",
    "where_to_get",
]
