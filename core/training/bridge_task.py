"""FrameBridge from scratch, on prepared clips."""

import torch
from torch import Tensor

from ..bridges import sample_bridge, times
from ..data.dataset import LatentDataset
from ..networks.latte import LatteVideo
from ..networks.video_bridge import VideoBridge
from .clip_tasks import Enter, check_one_size, device_of, draw_seeds, noise
from .objectives import Weight, draw_bridge, draw_times, z0_loss
from .task import Batch, Task

TIMES = 1000  # as many as the paper has
DROPPED = 0.1  # share of the clips whose class is not told, for classifier-free guidance


def bridge_task(
    network: LatteVideo, video: VideoBridge, clips: LatentDataset, weight: Weight, batch: int, seed: int, config: dict,
    enter: Enter = lambda z: z,
) -> Task:  # fmt: skip
    """FrameBridge algorithm 1: a bridge from the repeated first latent frame to the clip, given its class if there is
    one. ``weight`` of the squared error in z_0; ``seed``: of the clips' order.

    Raises ValueError unless all clips are of the network's size.
    """
    order, classes = clips.order(batch, seed), network.classes
    names = ("latent", "class") if classes else ("latent",)
    check_one_size(clips, (network.out_channels, *network.size), "the bridge")

    def draw(generator: torch.Generator, n: int) -> Batch:
        rows = order.rows(n)
        t = draw_times(len(rows), TIMES, generator)
        dropped = torch.rand(len(rows), generator=generator) < DROPPED
        return {"clip": rows, "t": t, "dropped": dropped, "noise": draw_seeds(len(rows), generator)}

    def loss(drawn: Batch) -> Tensor:
        read = clips.batch(drawn["clip"], names)
        z_0, t = enter(read["latent"].to(device_of(network))), drawn["t"]
        z_T = still(z_0[:, :, 0], z_0.shape[2])
        y = torch.where(drawn["dropped"], classes, read["class"]).to(z_0.device) if classes else None
        z_t = draw_bridge(video.bridge, z_0, z_T, t, noise(drawn["noise"], z_0))
        prediction = video.denoiser(network, z_T, z_T[:, :, 0], y)(z_t, t)
        return z0_loss(prediction, z_0, weight(video.bridge, t))

    return Task({"model": network}, [p for p in network.parameters() if p.requires_grad], draw, loss, config)


def still(first: Tensor, frames: int) -> Tensor:
    """``[b, c, h, w]`` -> ``[b, c, frames, h, w]``"""
    return first[:, :, None].expand(-1, -1, frames, -1, -1)


def sample_clips(
    network: LatteVideo, video: VideoBridge, first: Tensor, y: Tensor | None, steps: int, seed: int
) -> Tensor:
    """Clips ``[b, c, f, h, w]`` that begin with ``first [b, c, h, w]``, of the classes ``y [b]``."""
    z_T, generator = still(first, network.size[0]), torch.Generator().manual_seed(seed)

    def fresh(t: Tensor, t_next: Tensor) -> Tensor:
        return torch.randn(z_T.shape, generator=generator).to(z_T)

    denoiser = video.denoiser(network, z_T, first, y)
    return sample_bridge(denoiser, z_T, times(video.bridge, steps), video.bridge, noise_sampler=fresh)
