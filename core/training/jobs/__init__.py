"""Kinds of training: each a frozen dataclass whose fields are the keys of its TOML files, and which makes a `Task`."""

from .digits import BridgeJob, NeuralPriorJob
from .join import JoinJob
from .restoration import RestorationJob

JOBS: dict[str, type] = {
    "bridge": BridgeJob,
    "neural_prior": NeuralPriorJob,
    "restoration": RestorationJob,
    "join": JoinJob,
}
