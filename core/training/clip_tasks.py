"""Trainings on prepared clips: the neural prior, and a motion adapter on a frozen image-to-video bridge."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from ..bridges import sample_bridge
from ..bridges.spacing import times
from ..data.dataset import LatentDataset
from ..motion.carry import Carry, carry
from ..motion.field import MotionField
from ..networks.neural_prior import NeuralPrior
from ..networks.video_bridge import VideoBridge
from ..networks.video_unet import VideoMotionAdapter, VideoUNet
from .geometric import MASKS, MASKS_OF_TESTED, geometric_consistency, total_loss
from .objectives import draw_between, draw_bridge, uniform_weight, z0_loss
from .task import Batch, Task

LAMBDA_GEO = 0.1  # ours: EMG names none
REMEMBERED = 256  # clips whose way back to the first frame is kept: half a megabyte each at 16 frames of 64 x 64
Enter = Callable[[Tensor], Tensor]  # latents as a VAE gives them -> as the network has them


def prior_task(
    prior: NeuralPrior, clips: LatentDataset, batch: int, seed: int, config: dict, enter: Enter = lambda z: z
) -> Task:
    """FrameBridge eq. 8: the mean squared error of the clip from its first latent frame and, if it has one, its class.

    Its optimum is ``E[z_0 | first frame, class]`` (Proposition 3), and nothing about it is random but which clips.
    ``seed``: of their order. Raises ValueError unless all clips are of the prior's size.
    """
    order, classes = clips.order(batch, seed), prior.network.classes
    names = ("latent", "class") if classes else ("latent",)
    check_one_size(clips, (prior.network.in_channels, *prior.network.size), "the neural prior")

    def draw(generator: torch.Generator, n: int) -> Batch:
        return {"clip": order.rows(n)}

    def loss(drawn: Batch) -> Tensor:
        read = clips.batch(drawn["clip"], names)
        z_0 = enter(read["latent"].to(device_of(prior)))
        y = read["class"].to(z_0.device) if classes else None
        return z0_loss(prior(z_0[:, :, 0], y), z_0, torch.ones(len(z_0)))

    return Task({"prior": prior}, [p for p in prior.parameters() if p.requires_grad], draw, loss, config)


@dataclass(frozen=True)
class AdapterObjective:
    """EMG section 4.2: the backbone's own loss and ``weight`` times the geometric consistency (eq. 10) under ``mask``,
    a name in `MASKS`. ``carried``: share of the clips whose prior is the picture carried along the motion."""

    mask: str = "bidirectional"
    weight: float = LAMBDA_GEO
    carried: float = 0.0

    def __post_init__(self):
        if self.mask not in MASKS:
            raise ValueError(f"no mask {self.mask!r}; known: {', '.join(MASKS)}")
        if self.weight < 0 or not 0 <= self.carried <= 1:
            raise ValueError(f"weight is 0 or more and carried 0 to 1, got {self.weight} and {self.carried}")


@dataclass(frozen=True, eq=False)
class Adapted:
    """An image-to-video bridge of pictures in -1..1 under a motion adapter."""

    backbone: VideoUNet
    adapter: VideoMotionAdapter
    video: VideoBridge

    def denoiser(self, z_T: Tensor, first: Tensor, way: Carry):
        """``denoiser(z_t, t) -> z0_hat`` of clips that begin with ``first [b, 3, h, w]``, moved along ``way``."""
        carried = self.adapter.carried((first + 1) / 2, way)

        def network(x: Tensor, timesteps: Tensor, y: None) -> Tensor:
            entering = torch.nn.functional.pixel_unshuffle(x.transpose(1, 2).flatten(0, 1), self.backbone.fold)
            return self.backbone(x, timesteps, control=self.adapter(entering, timesteps, carried)).float()

        return self.video.denoiser(network, z_T, first, None)

    def sample(self, first: Tensor, way: Carry, steps: int, seed: int) -> Tensor:
        """Clips ``[b, 3, f, h, w]`` from the repeated ``first``."""
        still, generator = first[:, :, None].repeat(1, 1, way.frames, 1, 1), torch.Generator().manual_seed(seed)

        def fresh(t: Tensor, t_next: Tensor) -> Tensor:
            return torch.randn(still.shape, generator=generator).to(still)

        denoiser, bridge = self.denoiser(still, first, way), self.video.bridge
        return sample_bridge(denoiser, still, times(bridge, steps), bridge, noise_sampler=fresh)


def adapter_task(
    adapted: Adapted, clips: LatentDataset, objective: AdapterObjective, batch: int, seed: int, config: dict
) -> Task:
    """A motion adapter learns what its frozen backbone does not see: the motion of each clip.

    ``clips`` of one size, in pixel space, with their motion in both directions. ``seed``: of their order. Raises
    ValueError for clips without motion or of another length.
    """
    order, ways = clips.order(batch, seed), motions(clips, device_of(adapted.adapter))
    bridge = adapted.video.bridge
    adapted.backbone.requires_grad_(False)

    def draw(generator: torch.Generator, n: int) -> Batch:
        rows = order.rows(n)
        t = draw_between(len(rows), generator)
        carried = torch.rand(len(rows), generator=generator) < objective.carried
        return {"clip": rows, "t": t, "carried": carried, "noise": draw_seeds(len(rows), generator)}

    def loss(drawn: Batch) -> Tensor:
        device = device_of(adapted.adapter)
        z_0, t = clips.batch(drawn["clip"])["latent"].to(device), drawn["t"]
        first, (field, way) = z_0[:, :, 0], ways(drawn["clip"])
        still = first[:, :, None].expand_as(z_0)
        which = drawn["carried"].to(device)[:, None, None, None, None]
        z_T = torch.where(which, way.stretched(first).transpose(1, 2), still)
        z_t = draw_bridge(bridge, z_0, z_T, t, noise(drawn["noise"], z_0))
        prediction = adapted.denoiser(z_T, first, way)(z_t, t)
        own = z0_loss(prediction, z_0, uniform_weight(bridge, t))
        return total_loss(own, consistency(prediction, *field, objective.mask), objective.weight)

    moved = [p for p in adapted.adapter.parameters() if p.requires_grad]
    networks, largest = [adapted.backbone], order.first_with(clips.largest)
    return Task({"adapter": adapted.adapter}, moved, draw, loss, config, networks, largest)


def consistency(prediction: Tensor, forward: Tensor, backward: Tensor, tested: Tensor, mask: str) -> Tensor:
    """EMG eq. 10 clip by clip, and their mean, so that a part of the rows has the mean over those.

    ``prediction [b, c, f, h, w]``, flow ``[b, f-1, 2, h, w]`` and where it passed the cycle test, ``[b, f-1, h, w]``;
    ``mask``: a name in `MASKS`.
    """
    counted = MASKS_OF_TESTED[mask](forward, backward, tested)
    each = zip(prediction.split(1), forward.split(1), counted.split(1), strict=True)
    return torch.stack([geometric_consistency(*one) for one in each]).mean()


def motions(clips: LatentDataset, device: torch.device):
    """``(rows) -> ((forward, backward [b, f-1, 2, h, w], tested [b, f-1, h, w]), Carry of b)`` at the size of the
    latents; tested: where the forward flow passed the cycle test.

    Raises ValueError for clips without motion.
    """
    check_motion(clips)

    @lru_cache(REMEMBERED)
    def one(row: int) -> tuple[tuple[Tensor, Tensor, Tensor], Carry]:
        size = clips.index.clips[row].shapes["latent"][-2:]
        field = MotionField(clips.tensor(row, "forward"), clips.tensor(row, "backward")).resized(*size)
        return (field.forward, field.backward, clips.tensor(row, "mask")[:, 0]), carry(field)

    def of(rows: Tensor) -> tuple[tuple[Tensor, ...], Carry]:
        fields, ways = zip(*(one(row) for row in rows.tolist()), strict=True)
        parts = [torch.cat(part) for part in zip(*((w.points, w.seen, w.onward) for w in ways), strict=True)]
        return tuple(torch.stack(part).to(device) for part in zip(*fields, strict=True)), Carry(*parts).to(device)

    return of


def check_motion(clips: LatentDataset) -> None:
    """ValueError unless all have their motion in both directions, and where the two agree."""
    still = [clip.path for clip in clips.index.clips if not {"forward", "backward", "mask"} <= set(clip.tensors)]
    if still:
        raise ValueError(
            f"{len(still)} of {len(clips)} clips have no motion, the first {still[0]}: prepare them with motion on"
        )


def check_one_size(clips: LatentDataset, size: Sequence[int], what: str) -> None:
    """ValueError unless all latents are ``size`` [c, f, h, w]."""
    others = {shape: rows for shape, rows in clips.buckets.items() if tuple(shape) != tuple(size)}
    if others:
        told = ", ".join(f"{len(rows)} are {list(shape)}" for shape, rows in others.items())
        raise ValueError(f"{what} is for clips {list(size)} (channels, frames, height, width), and of these {told}")


def draw_seeds(count: int, generator: torch.Generator) -> Tensor:
    """int64 ``[count]``: seeds of what is too large to be drawn before it is needed."""
    return torch.randint(2**62, (count,), generator=generator)


def noise(seeds: Tensor, like: Tensor) -> Tensor:
    """Standard normal numbers of the shape of ``like [n, ...]``, each row from its own seed; the same on any device."""
    drawn = [torch.randn(like.shape[1:], generator=torch.Generator().manual_seed(seed)) for seed in seeds.tolist()]
    return torch.stack(drawn).to(like)


def device_of(network: torch.nn.Module) -> torch.device:
    return next(network.parameters()).device
