"""What `saf.py` measures of a bridge: its loss and its clips, on held-out scans, the same for every bridge."""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from _digits import Model, generate, measure
from framebridge import trained_classifier

from aqueduct.core.metrics.video_classifier import VideoClassifier
from aqueduct.core.networks.neural_prior import make_prior
from aqueduct.core.training.digits import DigitClips, MovingDigits, load_glyphs
from aqueduct.core.training.objectives import draw_bridge

SEED, BATCH = 4321, 64


@dataclass(frozen=True)
class Effort:
    """``curve``, ``end``: how many clips are made, in how many evaluations, at every point and at the last one."""

    loss_clips: int = 256
    curve: tuple[int, int] = (128, 10)
    end: tuple[int, int] = (256, 20)
    classifier_steps: int = 500


QUICK = Effort(loss_clips=8, curve=(8, 2), end=(8, 2), classifier_steps=2)


@dataclass(frozen=True)
class Judge:
    """Held-out clips and the eyes that look at what is made of their first frames and directions."""

    effort: Effort
    classifier: VideoClassifier
    world: MovingDigits
    labels: torch.Tensor = field(repr=False)

    @classmethod
    def make(cls, folder: Path, effort: Effort) -> "Judge":
        """The classifier of `framebridge.py`, from its checkpoint in ``folder`` or trained there."""
        glyphs, labels = load_glyphs(held_out=True)
        return cls(effort, trained_classifier(folder, effort.classifier_steps), MovingDigits(glyphs), labels)

    def clips(self, count: int, seed: int = SEED) -> DigitClips:
        return self.world.sample(count, torch.Generator().manual_seed(seed))

    def point(self, model: Model) -> dict:
        """One point of a learning curve: loss and quality."""
        return {"loss": held_out_loss(model, self.clips(self.effort.loss_clips, SEED + 1)),
                **self.quality(model, *self.effort.curve)}  # fmt: skip

    def end(self, model: Model) -> dict:
        return self.quality(model, *self.effort.end)

    def quality(self, model: Model, count: int, evaluations: int) -> dict:
        clips = self.clips(count)
        solver = "ancestral" if model.is_diffusion else "sde"  # first order and stochastic, both
        return self._measured(generate(model, clips, solver, evaluations, SEED), clips)

    def floors(self, count: int) -> dict:
        """What the measures say of a still image, and of as many other true clips (the Frechet distance alone)."""
        clips, others = self.clips(count), self.clips(count, SEED + 2)
        still = clips.video[:, :, :1].expand_as(clips.video)
        return {
            "still image": self._measured(still, clips),
            "truth": self._measured(clips.video, clips),
            "other true clips": {"fvd": self._measured(others.video, clips)["fvd"]},
        }

    def _measured(self, video: torch.Tensor, clips: DigitClips) -> dict:
        found = measure(video, clips, self.world, self.labels, self.classifier)
        return {key: value[0] if isinstance(value, list) else value for key, value in found.items()}


@torch.no_grad()
def held_out_loss(model: Model, clips: DigitClips) -> list[float]:
    """Mean squared error in ``z_0`` in each quarter of time, from the data to the prior; their mean is the loss.

    Times are the middles of as many equal steps as there are clips. Clips and noise are the same whatever the model.
    """
    count, bridge = len(clips.direction), model.video.bridge
    t = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    eps = torch.randn(clips.video.shape, generator=torch.Generator().manual_seed(SEED))
    errors = []
    for part in torch.arange(count).split(BATCH):
        z_0, y = clips.video[part], clips.direction[part]
        z_T = make_prior(None, z_0[:, :, 0], y, z_0.shape[2])
        denoiser = model.video.denoiser(model.network, z_T, z_0[:, :, 0], y)
        error = denoiser(draw_bridge(bridge, z_0, z_T, t[part], eps[part]), t[part]) - z_0
        errors.append(error.square().flatten(1).mean(1))
    return torch.cat(errors).view(4, -1).mean(1).tolist()
