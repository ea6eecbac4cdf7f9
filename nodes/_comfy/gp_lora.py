"""A core MODEL that has learnt Gaussian-process noise, as a LoRA."""

from dataclasses import asdict, dataclass
from pathlib import Path

from torch import Tensor

from ...core.motion.field import MotionField
from ...core.training.clip_tasks import check_motion
from .host_loss import Asked, OwnLoss, makes_pictures
from .host_training import SAMPLE_STEPS, Host, Rank, sampled, trained_beside
from .lora import lora_tensors, write_lora
from .noise import Fields
from .training import Common, Trained


@dataclass(frozen=True, eq=False)
class AlongMotion(OwnLoss):
    """The noise of each clip is one field, read along the motion of that clip."""

    fields: Fields

    def drawn(self, clip: int, seed: int, like: Tensor) -> Tensor:
        clips = self.asked.clips
        motion = MotionField(clips.tensor(clip, "forward"), clips.tensor(clip, "backward"))
        return self.fields.moving(seed, motion).generate_noise({"samples": like}).to(like)


def train_gp_noise(host: Host, fields: Fields, along_motion: bool, lora: Rank, given: Common) -> Trained:
    """Warped Diffusion section 4.1: the MODEL's own objective, under noise that is not white.

    A field for every frame, as the paper, which trains MODELs of pictures; or ``along_motion``, as a MODEL of video
    will be given it. Raises ValueError where that is asked of a MODEL of pictures, or there is no motion.
    """
    if along_motion and makes_pictures(host.patcher.model):
        raise ValueError(
            f"along_motion is for MODELs of video, and {host.name} makes pictures, which need no more than fields of "
            f"their own: turn it off"
        )
    if along_motion:
        check_motion(host.clips)
    told = {"rank": lora.rank, "alpha": lora.alpha, "layers": lora.layers}
    config = {"kind": "gp noise", "host": host.name, "noise": {**asdict(fields), "along_motion": along_motion},
              "lora": told, "training": {**given.told(), "data": host.data.about}}  # fmt: skip

    def still(seed: int, like: Tensor) -> Tensor:
        return fields.still(seed).generate_noise({"samples": like}).to(like)

    def body(asked: Asked) -> Trained:
        loss = AlongMotion(asked, still, fields) if along_motion else OwnLoss(asked, still)
        layers = lora.made(asked.model.diffusion_model, given.seed)

        def save(path: Path) -> None:
            write_lora(path, lora_tensors(layers, asked.model), config)

        sample = sampled(asked, host, lambda: loss.sample(0, SAMPLE_STEPS, given.seed))
        return trained_beside(asked, host, given, loss, {"lora": layers}, config, save, sample)

    return host.running(given, lambda clone: clone, body)
