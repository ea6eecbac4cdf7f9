"""Kinds of training: each a frozen dataclass whose fields are the keys of its TOML files, and which makes a `Task`."""

from .animation import AnimationJob, MotionAdapterJob
from .densifier import DensifierJob
from .digits import BridgeJob, NeuralPriorJob
from .exemplar import ExemplarDiffusionJob, FirstStageJob, SecondStageJob
from .exemplar_latents import LatentFirstStage, LatentSecondStage
from .gp_noise import GpNoise
from .join import JoinJob
from .latents import LatentBridge, LatentPrior
from .restoration import RestorationJob
from .style_encoder import StyleEncoderJob

JOBS: dict[str, type] = {
    "bridge": BridgeJob,
    "neural_prior": NeuralPriorJob,
    "restoration": RestorationJob,
    "join": JoinJob,
    "latent_bridge": LatentBridge,
    "latent_prior": LatentPrior,
    "gp_noise": GpNoise,
    "latent_exemplar_stage_1": LatentFirstStage,
    "latent_exemplar_stage_2": LatentSecondStage,
    "animation": AnimationJob,
    "motion_adapter": MotionAdapterJob,
    "densifier": DensifierJob,
    "style_encoder": StyleEncoderJob,
    "exemplar_stage_1": FirstStageJob,
    "exemplar_stage_2": SecondStageJob,
    "exemplar_diffusion": ExemplarDiffusionJob,
}
