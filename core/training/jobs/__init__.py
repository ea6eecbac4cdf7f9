"""Kinds of training: each a frozen dataclass whose fields are the keys of its TOML files, and which makes a `Task`."""

from .animation import AnimationJob, MotionAdapterJob
from .densifier import DensifierJob
from .digits import BridgeJob, NeuralPriorJob
from .exemplar import ExemplarDiffusionJob, FirstStageJob, SecondStageJob
from .join import JoinJob
from .restoration import RestorationJob
from .style_encoder import StyleEncoderJob

JOBS: dict[str, type] = {
    "bridge": BridgeJob,
    "neural_prior": NeuralPriorJob,
    "restoration": RestorationJob,
    "join": JoinJob,
    "animation": AnimationJob,
    "motion_adapter": MotionAdapterJob,
    "densifier": DensifierJob,
    "style_encoder": StyleEncoderJob,
    "exemplar_stage_1": FirstStageJob,
    "exemplar_stage_2": SecondStageJob,
    "exemplar_diffusion": ExemplarDiffusionJob,
}
