"""Guidance towards predictions that move along with the motion (Warped Diffusion, section 3.2 and Algorithm 1).

Clips are ``[F, C, H, W]``; flow is in pixels, channel order (x, y), on the earlier frame's grid.
"""

from .adjoint import warp_adjoint
from .equivariance import compared, equivariance_error
from .guided import Guidance, Guided, GuidedDenoiser, check_strength, full, guided_prediction, outer, x0
from .penalties import ABSOLUTE, SQUARED, Penalty
from .references import REFERENCES, Pairs, first_frame, previous_and_first_frame, previous_frame
from .schedule import GuidanceSchedule, bridge_schedule, euler_schedule, guided_steps
from .warped_diffusion import sample_warped_diffusion

__all__ = [
    "ABSOLUTE", "REFERENCES", "SQUARED", "Guidance", "GuidanceSchedule", "Guided", "GuidedDenoiser", "Pairs",
    "Penalty", "bridge_schedule", "check_strength", "compared", "equivariance_error", "euler_schedule", "first_frame",
    "full", "guided_prediction", "guided_steps", "outer", "previous_and_first_frame", "previous_frame",
    "sample_warped_diffusion", "warp_adjoint", "x0",
]  # fmt: skip
