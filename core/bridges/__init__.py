"""Bridge processes, their laws, network conventions, solvers and SNR alignment. Pure torch; notation in ``core``."""

from .alignment import HostInput, align_snr, flow_levels, host_input, variance_exploding_levels
from .denoiser import Denoiser, NetworkDenoiser, guided
from .laws import drift, marginal, posterior, pull, reverse_drift, score
from .parameterisation import PARAMETERISATIONS, Parameterisation
from .precondition import PRECONDITIONS, Precondition
from .process import PROCESSES, Bridge, bridge_gmax, brownian, i2sb, lbm, make_bridge, ve, vp
from .solvers import SOLVERS, sample_bridge, weights_of_steps
from .spacing import SPACINGS, checked_times, time_of_half_log_snr, times
from .steps import StepWeights, multistep_weights, step_weights

__all__ = [
    "PARAMETERISATIONS", "PRECONDITIONS", "PROCESSES", "SOLVERS", "SPACINGS", "Bridge", "Denoiser", "HostInput",
    "NetworkDenoiser", "Parameterisation", "Precondition", "StepWeights", "align_snr", "bridge_gmax", "brownian",
    "checked_times", "drift", "flow_levels", "guided", "host_input", "i2sb", "lbm", "make_bridge", "marginal",
    "multistep_weights", "posterior", "pull", "reverse_drift", "sample_bridge", "score", "step_weights",
    "time_of_half_log_snr", "times", "variance_exploding_levels", "ve", "vp", "weights_of_steps",
]  # fmt: skip
