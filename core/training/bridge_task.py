"""FrameBridge from scratch, on prepared clips."""

import torch
from torch import Tensor

from ..bridges import sample_bridge, times
from ..data.dataset import LatentDataset
from ..networks.latte import LatteVideo
from ..networks.neural_prior import NeuralPrior, make_prior
from ..networks.video_bridge import VideoBridge
from .clip_tasks import Enter, check_one_size, device_of, draw_seeds, noise
from .objectives import Weight, draw_bridge, draw_times, z0_loss
from .task import Batch, Task

TIMES = 1000  # as many as the paper has
DROPPED = 0.1  # share of the clips whose class is not told, for classifier-free guidance


def bridge_task(
    network: LatteVideo, video: VideoBridge, clips: LatentDataset, weight: Weight, batch: int, seed: int, config: dict,
    enter: Enter = lambda z: z, prior: NeuralPrior | None = None,
) -> Task:  # fmt: skip
    """FrameBridge algorithm 1: a bridge from the repeated first latent frame to the clip, given its class if there is
    one. ``weight`` of the squared error in z_0; ``seed``: of the clips' order.

    With ``prior``, which is frozen and becomes a part of the file, from its guess of the clip (section 4.4). That is
    told the class always; to the network it is not for some clips. Raises ValueError unless all clips are of the
    network's size.
    """
    order, classes = clips.order(batch, seed), network.classes
    known = prior.network.classes if prior is not None else 0
    names = ("latent", "class") if classes or known else ("latent",)
    check_one_size(clips, (network.out_channels, *network.size), "the bridge")

    def draw(generator: torch.Generator, n: int) -> Batch:
        rows = order.rows(n)
        t = draw_times(len(rows), TIMES, generator)
        dropped = torch.rand(len(rows), generator=generator) < DROPPED
        return {"clip": rows, "t": t, "dropped": dropped, "noise": draw_seeds(len(rows), generator)}

    def loss(drawn: Batch) -> Tensor:
        read = clips.batch(drawn["clip"], names)
        z_0, t = enter(read["latent"].to(device_of(network))), drawn["t"]
        z_T = make_prior(prior, z_0[:, :, 0], read["class"].to(z_0.device) if known else None, z_0.shape[2])
        y = torch.where(drawn["dropped"], classes, read["class"]).to(z_0.device) if classes else None
        z_t = draw_bridge(video.bridge, z_0, z_T, t, noise(drawn["noise"], z_0))
        prediction = video.denoiser(network, z_T, z_T[:, :, 0], y)(z_t, t)
        return z0_loss(prediction, z_0, weight(video.bridge, t))

    parts = {"model": network} | ({} if prior is None else {"prior": prior})
    return Task(parts, [p for p in network.parameters() if p.requires_grad], draw, loss, config)


def sample_clips(
    network: LatteVideo, video: VideoBridge, first: Tensor, y: Tensor | None, steps: int, seed: int,
    prior: NeuralPrior | None = None,
) -> Tensor:  # fmt: skip
    """Clips ``[b, c, f, h, w]`` that begin with ``first [b, c, h, w]``, of the classes ``y [b]``."""
    z_T, generator = make_prior(prior, first, y, network.size[0]), torch.Generator().manual_seed(seed)

    def fresh(t: Tensor, t_next: Tensor) -> Tensor:
        return torch.randn(z_T.shape, generator=generator).to(z_T)

    denoiser = video.denoiser(network, z_T, first, y)
    return sample_bridge(denoiser, z_T, times(video.bridge, steps), video.bridge, noise_sampler=fresh)
