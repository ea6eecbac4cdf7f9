"""The models of `emg.py`, and how a clip is made with them; the settings of sampling are here and nowhere else."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from _model_files import ModelFiles
from torch import Tensor

from aqueduct.core.bridges import sample_bridge, times
from aqueduct.core.motion.carry import Carry
from aqueduct.core.motion.densify.learned import learned
from aqueduct.core.networks.video_unet import VideoMotionAdapter, start_from
from aqueduct.core.training.jobs.animation import Network, video_bridge
from aqueduct.core.training.jobs.animation_worlds import small
from aqueduct.scripts._training_pictures import training_pictures

STEPS, SOLVER, SPACING = 12, "sde", "uniform"
FRAMES, SIZE = 16, 64
BATCH = 8
SIZES = Network().arguments()
BACKBONE, SHIPPED = "emg_backbone", "emg_adapter_on"
DENSIFIER = "densifier"
# What ships is one file of several parts, which stands for the files of their trainings.
NAMES = {name: (name, "animate_photos") for name in (BACKBONE, SHIPPED, DENSIFIER)}


@dataclass(frozen=True, eq=False)
class Models(ModelFiles):
    """Networks are loaded when they are used.

    ``untrained``: an adapter whose file is missing is a new one, to try the program out.
    """

    steps: int = STEPS
    untrained: bool = False

    def path(self, name: str) -> Path | None:
        return next((path for own in NAMES.get(name, (name,)) if (path := super(Models, self).path(own))), None)

    def digest(self, *names: str) -> str:
        """Of the number of steps, too."""
        return hashlib.sha256(self.content(*names) + str(self.steps).encode()).hexdigest()[:12]

    def backbone(self):
        return self.load(BACKBONE)[0]

    def adapter(self, name: str):
        if self.path(name) is None and self.untrained:
            generator = torch.Generator().manual_seed(0)
            new = start_from(VideoMotionAdapter(**SIZES), self.backbone(), generator)
            return new.eval().requires_grad_(False)
        return self.load(name, "adapter")[0]

    def densifier(self):
        """The learned one, or None: it need not be there."""
        if self.path(DENSIFIER) is None:
            return None
        return learned(self.load(DENSIFIER, "densifier")[0].flow)

    def has(self, name: str) -> bool:
        return self.untrained or self.path(name) is not None


@torch.no_grad()
def animate(
    models: Models, backbone, adapter, first: Tensor, way: Carry, seeds: Iterable[int], prior: Tensor | None = None
) -> Tensor:
    """``[b, F, 3, H, W]`` in 0..1 from ``first [b, 3, H, W]`` in 0..1 and its motion; one seed for each clip.

    ``adapter`` None: the backbone by itself. ``prior [b, F, 3, H, W]``: what the bridge starts from; None: ``first`` at
    rest, as the adapters of Table 3 were trained.
    """
    seeds = list(seeds)
    made = []
    for part in torch.arange(len(first)).split(BATCH):
        chosen = slice(int(part[0]), int(part[-1]) + 1)
        own = Carry(way.points[chosen], way.seen[chosen], way.onward[chosen])
        starts = None if prior is None else prior[chosen]
        made.append(_animate(models, backbone, adapter, first[chosen], own, seeds[chosen], starts))
    return torch.cat(made)


def _animate(models: Models, backbone, adapter, first, way, seeds, prior) -> Tensor:
    video = video_bridge()
    picture = 2 * first - 1
    still = picture[:, :, None].expand(-1, -1, way.frames, -1, -1)
    z_T = still.contiguous() if prior is None else 2 * prior.transpose(1, 2) - 1
    network = autocast(controlled(backbone, adapter, first, way))
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def noise(t: Tensor, t_next: Tensor) -> Tensor:
        return torch.stack([torch.randn(z_T.shape[1:], generator=generator) for generator in generators])

    moments = times(video.bridge, models.steps, SPACING)
    denoiser = video.denoiser(network, z_T, picture, None)
    clip = sample_bridge(denoiser, z_T, moments, video.bridge, SOLVER, noise_sampler=noise)
    return (clip / 2 + 0.5).clamp(0, 1).transpose(1, 2)


def autocast(network):
    """``network`` in bfloat16 where that is safe, its answer in float32, as in training."""

    def run(*arguments):
        with torch.autocast("cpu", torch.bfloat16):
            return network(*arguments).float()

    return run


def held_out_pictures() -> list[Tensor]:
    """Of the sizes that worlds are cut from, without sisters in training."""
    return small(training_pictures(held_out=True, unrelated=True))


def controlled(backbone, adapter, first: Tensor, way: Carry):
    """``(x, times, y) -> output`` of the backbone under its adapter; what does not depend on time is done once."""
    if adapter is None:
        return lambda x, t, y: backbone(x, t)
    carried = adapter.carried(first, way)

    def run(x: Tensor, t: Tensor, y) -> Tensor:
        entering = F.pixel_unshuffle(x.transpose(1, 2).flatten(0, 1), backbone.fold)
        return backbone(x, t, control=adapter(entering, t, carried))

    return run
