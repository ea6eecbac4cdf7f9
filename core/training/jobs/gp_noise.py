"""A diffusion host learns to take noise of a Gaussian process, and what is left of a damaged picture, on prepared
pictures (Warped Diffusion section 4, appendix F.2)."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ...bridges import host_levels
from ...bridges.broadcast import scalars_like
from ...data.dataset import LatentDataset
from ...data.encoders import DiffusersVae
from ...noise import GaussianField
from ...restoration import Inpainting, SuperResolution
from ...tables import unknown
from ..clip_tasks import draw_seeds, noise
from ..config import Files, Recipe
from ..objectives import z0_loss
from ..restoration import random_holes
from ..task import Batch, Task
from .low_rank import LowRank, moved
from .prepared import Clips, Latent, Network, Start, ask, check_has, condition_names, described, without

Shown = Callable[[Tensor, Tensor], Tensor]  # pictures [n, 3, h, w] in -1..1 and seeds [n] -> what is left of them


@dataclass(frozen=True)
class Field:
    """Arguments of `GaussianField`; ``length_scale`` in units of the picture's side."""

    length_scale: float
    features: int = 3000
    truncation: float = 2.0

    def rows(self, seeds: Tensor, like: Tensor) -> Tensor:
        """A field for each seed, ``[n, c, h, w]``."""
        channels, height, width = like.shape[1:]
        draw = (GaussianField(s, channels, self.length_scale, self.features, self.truncation) for s in seeds.tolist())
        return torch.stack([field.grid(height, width, like.device) for field in draw]).to(like)


@dataclass(frozen=True)
class Damage:
    """``kind``: a name in `DAMAGES`. ``vae``: folder of the VAE that encodes what is left (`DiffusersVae`), the one
    that the data were prepared with."""

    kind: str
    vae: str
    factor: int = 8

    def __post_init__(self):
        if self.kind not in DAMAGES:
            raise ValueError(unknown("kind of damage", self.kind, list(DAMAGES)))


def _reduced(factor: int) -> Shown:
    problem = SuperResolution(factor)
    return lambda pictures, seeds: problem.condition(problem.measure(pictures))


def _holed(factor: int) -> Shown:
    def shown(pictures: Tensor, seeds: Tensor) -> Tensor:
        size = max(pictures.shape[-2:])
        holes = [random_holes(1, size, torch.Generator().manual_seed(seed)) for seed in seeds.tolist()]
        holes = torch.cat(holes)[..., : pictures.shape[-2], : pictures.shape[-1]]
        return Inpainting().condition(pictures, holes.to(pictures))[:, :3]

    return shown


DAMAGES: dict[str, Callable[[int], Shown]] = {SuperResolution.kind: _reduced, Inpainting.kind: _holed}
LEVELS: dict[str, Callable[[], Tensor]] = {
    "stable_diffusion": host_levels.stable_diffusion, "cogvideox": host_levels.cogvideox,
}  # fmt: skip
# What a host answers at x = signal z_0 + level noise.
OUTPUTS: dict[str, Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]] = {
    "eps": lambda z_0, eps, signal, level: eps,
    "v": lambda z_0, eps, signal, level: signal * eps - level * z_0,
    "x0": lambda z_0, eps, signal, level: z_0,
}


@dataclass(frozen=True)
class GpNoise:
    """The host's own loss with a Gaussian process for its noise; without ``noise``, white: the paper's comparison.

    Beside ``x``, on channels, comes the latent of what is left of the picture: of ``damage``, or the prepared tensor
    ``observed`` of each clip. ``lora``: in place of the whole network. ``levels``: the host's schedule; ``output``:
    what it answers.
    """

    data: Clips
    network: Network
    latent: Latent = field(default_factory=Latent)
    start: Start = field(default_factory=Start)
    noise: Field | None = None
    damage: Damage | None = None
    lora: LowRank | None = None
    levels: str = "stable_diffusion"
    output: str = "eps"

    def __post_init__(self):
        for what, known in (("levels", LEVELS), ("output", OUTPUTS)):
            if getattr(self, what) not in known:
                raise ValueError(unknown(what, getattr(self, what), list(known)))

    def make(self, recipe: Recipe, files: Files) -> Task:
        network = self.network.fresh(recipe.seed)
        widened = self.start.into(network, files)
        what = moved(network.train().to(files.home), self.network, self.lora, widened, recipe.seed)
        clips, names, angles = self.data.open(files, self.latent), condition_names(network), LEVELS[self.levels]()
        observed = self.observed(clips, files)
        check_has(clips, (*names, *(() if self.damage else ("observed",))))
        order, nothing, target = clips.order(self.data.batch, recipe.data_seed), self.data.nothing(files), self.output

        def draw(generator: torch.Generator, n: int) -> Batch:
            count = self.data.batch
            return {
                "clip": order.rows(n),
                "time": torch.randint(len(angles), (count,), generator=generator),
                "noise": draw_seeds(count, generator),
                "damage": draw_seeds(count, generator),
                "dropped": torch.rand(count, generator=generator) < self.data.dropout,
            }

        def loss(drawn: Batch) -> Tensor:
            read = clips.batch(drawn["clip"], ("latent", *names))
            read = {name: value.to(files.device) for name, value in read.items()}
            z_0 = self.latent.enter(read.pop("latent"))[:, :, 0]
            seeds = drawn["noise"]
            eps = noise(seeds, z_0) if self.noise is None else self.noise.rows(seeds, z_0)
            angle = angles[drawn["time"]]
            signal, level = scalars_like(z_0, angle.cos(), angle.sin())
            entering = torch.cat([signal * z_0 + level * eps, observed(drawn).to(z_0)], dim=1)
            told = without(read, drawn["dropped"], nothing, 0)
            answer = ask(network, entering, drawn["time"].to(z_0.device), told)
            return z0_loss(answer, OUTPUTS[target](z_0, eps, signal, level), torch.ones(len(z_0)))

        config = {**self.describe(recipe), "parts": what.described}
        largest = order.first_with(clips.largest)
        return Task(what.parts, what.parameters, draw, loss, config, what.networks, largest)

    def observed(self, clips: LatentDataset, files: Files) -> Callable[[Batch], Tensor]:
        """What is left of the pictures of a batch, as latents ``[n, c, h, w]`` that the network can have."""
        if self.damage is None:
            return lambda drawn: self.latent.enter(clips.batch(drawn["clip"], ("observed",))["observed"])[:, :, 0]
        encode = DiffusersVae(str(files.folder / self.damage.vae), device=str(files.device))
        shown = DAMAGES[self.damage.kind](self.damage.factor)

        def of(drawn: Batch) -> Tensor:
            pictures = clips.batch(drawn["clip"], ("first",))["first"].float() / 127.5 - 1
            with torch.autocast(files.device.type, enabled=False):  # the VAE has a precision of its own
                raw = encode(shown(pictures, drawn["damage"])[:, :, None])
            return self.latent.enter(raw)[:, :, 0]

        return of

    def describe(self, recipe: Recipe) -> dict:
        channels = self.network.arguments["out_channels"]
        common = described(recipe, self.data, self.latent, channels, f"mean squared error of {self.output}")
        own = {"levels": self.levels, "output": self.output, "noise": vars(self.noise) if self.noise else "white"}
        damage = {"kind": self.damage.kind, "factor": self.damage.factor} if self.damage else "observed"
        return {**common, "host": own, "damage": damage}
