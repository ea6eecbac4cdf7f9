"""EBDM's two stages as trainings on any pictures, in pixels or in the latents of any VAE."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from ..bridges import NetworkDenoiser, sample_bridge, times
from ..networks.exemplar_unet import ExemplarNetwork, ExemplarUNet
from .exemplar import Objective, Stage
from .exemplar_pairs import Triples
from .task import Batch, Task

See = Callable[[Tensor], Tensor]  # pictures [n, 3, H, W] in -1..1 -> latents [n, c, h, w], or a [CLS] [n, features]


@dataclass(frozen=True)
class ExemplarSize:
    """Arguments of an `ExemplarUNet` and of its siamese, but for channels and features."""

    channels: int
    multipliers: tuple[int, ...]
    blocks: int
    sites: tuple[int, ...]
    head_channels: int
    groups: int
    context: int
    expansion: int
    fold: int = 1

    def arguments(self, channels: int, features: int) -> dict:
        """For latents of so many ``channels`` and a [CLS] of so many ``features``."""
        own = {**vars(self), "multipliers": list(self.multipliers), "sites": list(self.sites)}
        return {"in_channels": channels, "out_channels": channels, "features": features, **own}


EXEMPLAR_SIZES: dict[str, ExemplarSize] = {
    "tiny": ExemplarSize(16, (1, 2), 1, (1,), 16, 8, 32, 2, fold=2),
    "small": ExemplarSize(16, (2, 3, 3), 1, (1, 2), 24, 8, 64, 2),  # of the model that ships
    "EBDM-f4": ExemplarSize(128, (1, 4, 8), 2, (1, 2), 64, 32, 512, 4),  # EBDM Table 5
}


@dataclass(frozen=True, eq=False)
class Translator:
    """What is trained: denoiser and, from the second stage on, exemplar network; ``latents`` and ``encode``: how both
    see pictures. ``stage`` and ``objective``: how it is trained."""

    stage: Stage
    objective: Objective
    denoiser: ExemplarUNet
    network: ExemplarNetwork | None
    latents: See
    encode: See

    def task(
        self, sample: Callable[[torch.Generator], Triples], shape: Sequence[int], others: dict[str, nn.Module],
        config: dict,
    ) -> Task:  # fmt: skip
        """``sample(generator)``: the pictures of a batch, whose latents are of ``shape`` [n, c, h, w]. ``others``: what
        the file holds besides."""
        device = next(self.denoiser.parameters()).device

        def draw(generator: torch.Generator, n: int) -> Batch:
            return vars(sample(generator)) | self.stage.draw(shape, generator, self.objective)

        def loss(drawn: Batch) -> Tensor:
            times = {"t": drawn["t"]}  # of 64 bits, which not every device has
            drawn = {name: value.to(device) for name, value in drawn.items() if name not in times} | times
            control, photo = drawn["control"], drawn["photo"]
            own = self.stage.exemplar(photo, drawn["exemplar"])
            seen = [self.latents(pictures) for pictures in (control, photo, own)]
            return self.stage.loss_at(self.denoiser, self.network, *seen, self.encode(own), drawn, self.objective)

        parts = {"model": self.denoiser} | ({} if self.network is None else {"exemplar": self.network}) | others
        return Task(parts, self.stage.select(self.denoiser, self.network), draw, loss, config)

    def translate(self, control: Tensor, exemplar: Tensor, steps: int, seed: int) -> Tensor:
        """Latents ``[n, c, h, w]`` of pictures in the style of ``exemplar [n, 3, H, W]``, one for each control."""
        z_T, asked, generator = self.latents(control), self.objective, torch.Generator().manual_seed(seed)
        style = self.stage.style(self.denoiser, self.network, self.latents(exemplar), self.encode(exemplar))

        def fresh(t: Tensor, t_next: Tensor) -> Tensor:
            return torch.randn(z_T.shape, generator=generator).to(z_T)

        network = partial(self.denoiser, styles=(style,))
        denoiser = NetworkDenoiser(network, asked.bridge, asked.parameterisation, asked.precondition, z_T)
        return sample_bridge(denoiser, z_T, times(asked.bridge, steps), asked.bridge, "bbdm", noise_sampler=fresh)
