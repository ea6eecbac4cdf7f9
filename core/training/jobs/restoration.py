"""Restoration of pictures: super-resolution and inpainting, with white and with Gaussian-process noise.

White first, then fine-tuned to Gaussian-process noise as in Warped Diffusion (section 4.1). Every draw is in the order
places of the crops, holes, noise levels, noise.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ... import checkpoints
from ...networks.restorer import Restorer
from ...restoration import Precondition, Problem, make_problem
from ...tables import unknown
from ..config import Files, Recipe
from ..restoration import DAMAGES, NOISES, Crops, Levels, denoising_loss, read_pictures
from ..task import Batch, Task


@dataclass(frozen=True)
class Sizes:
    """Arguments of a `Restorer`, whatever it is shown."""

    channels: int = 48
    multipliers: tuple[int, ...] = (1, 1, 2)

    def arguments(self, problem: Problem) -> dict:
        shown = problem.condition_channels
        return {"condition_channels": shown, "channels": self.channels, "multipliers": list(self.multipliers)}


@dataclass(frozen=True)
class Damaged:
    """``kind`` of problem, ``super-resolution`` by ``factor`` or ``inpainting``; ``noise``: ``white`` or ``gp``."""

    kind: str
    noise: str
    factor: int | None = None

    def __post_init__(self):
        for what, known in (("kind", DAMAGES), ("noise", NOISES)):
            if getattr(self, what) not in known:
                raise ValueError(unknown(what, getattr(self, what), list(known)))
        if self.factor is not None and self.factor < 1:
            raise ValueError(f"factor is 1 or more, got {self.factor}")
        try:
            self.problem()
        except TypeError as error:  # a factor of inpainting
            raise ValueError(f"{self.kind}: {error}") from error

    def problem(self) -> Problem:
        return make_problem({"kind": self.kind} | ({} if self.factor is None else {"factor": self.factor}))


@dataclass(frozen=True)
class CropData:
    """``batch`` crops a step, of ``size`` pixels a side, mirrored or not.

    ``folder``: of your own pictures, relative to that of the runs, reduced so that the shorter side is each of
    ``shortest``. Without it, the pictures of the small models, at those same sizes.
    """

    size: int = 64
    batch: int = 8
    folder: str | None = None
    shortest: tuple[int, ...] = (80, 128, 192, 256)  # a crop is between a quarter of a picture and most of it

    def __post_init__(self):
        if min(self.size, self.batch, *self.shortest) < 1 or not self.shortest:
            raise ValueError(f"size, batch and each of shortest are 1 or more, got {self}")
        if self.size > max(self.shortest):
            raise ValueError(
                f"pictures are reduced to a shorter side of {max(self.shortest)} pixels at most, and crops of "
                f"{self.size} do not fit: add to shortest, {list(self.shortest)}"
            )

    def crops(self, files: Files) -> Crops:
        """Raises ValueError for a folder without a picture that is large enough."""
        levels = files.pictures() if self.folder is None else read_pictures(files.folder / self.folder, self.shortest)
        return Crops([level for level in levels if min(level.shape[1:]) >= self.size], self.size)

    def about(self) -> str:
        if self.folder is not None:
            return f"pictures of {self.folder}, reduced; crops of {self.size} x {self.size}"
        return (
            "9 of 10 pictures of comfyui-workflow-templates-media-image 0.3.160 (MIT), two photos of "
            "scikit-learn (CC BY 2.0), 22 frames of Big Buck Bunny (CC BY 3.0), reduced; crops of "
            f"{self.size} x {self.size}"
        )


@dataclass(frozen=True)
class Start:
    """``model``: the earlier run whose weights this one begins with."""

    model: str | None = None


@dataclass(frozen=True)
class RestorationJob:
    """A denoiser that is shown a damaged picture (Warped Diffusion, section 4), by EDM's loss."""

    restoration: Damaged
    network: Sizes = Sizes()
    data: CropData = CropData()
    levels: Levels = Levels()
    start: Start = Start()

    def make(self, recipe: Recipe, files: Files) -> Task:
        crops, problem = self.data.crops(files), self.restoration.problem()
        damage, noise = DAMAGES[problem.kind], NOISES[self.restoration.noise]
        precondition, count, size = Precondition(problem), self.data.batch, self.data.size
        network = Restorer(**self.network.arguments(problem)).initialise(torch.Generator().manual_seed(recipe.seed))
        if self.start.model is not None:
            start, _ = checkpoints.load(files.model(self.start.model))
            network.load_state_dict(start.state_dict())
        network = network.train().to(files.device, memory_format=torch.channels_last)

        def draw(generator: torch.Generator, n: int) -> Batch:
            places, lost = crops.draw(count, generator), damage.draw(count, size, generator)
            sigma = self.levels.draw(count, precondition.std, generator)
            return {"places": places, **lost, "sigma": sigma, "eps": noise(generator, count, size, size)}

        def loss(batch: Batch) -> Tensor:
            z_0 = crops.read(batch["places"]).to(files.device)
            drawn = {name: value.to(files.device) for name, value in batch.items()}
            condition = damage.show(problem, z_0, drawn)
            return denoising_loss(network, precondition, z_0, drawn["eps"], drawn["sigma"], condition)

        return Task({"model": network}, list(network.parameters()), draw, loss, self.describe(recipe))

    def describe(self, recipe: Recipe) -> dict:
        """The configuration that goes into the file's metadata."""
        problem, levels = self.restoration.problem(), self.levels
        return {
            "about": recipe.about,
            "parts": {"model": {"architecture": "Restorer", "arguments": self.network.arguments(problem)}},
            "restoration": problem.config(),
            "noise": self.restoration.noise,
            "precondition": {"kind": "edm", "std_data": problem.std_guess},
            "levels": {"minimum": levels.minimum, "maximum": levels.maximum},
            "latent": {"format": "pixel", "channels": 3, "vae": "pixel_space"},
            "training": {
                "data": self.data.about(),
                **recipe.training(),
                "start": self.start.model, "batch": self.data.batch,
                "loss": f"EDM, ln(sigma / std_data) normal of mean {levels.mean} and deviation {levels.std}",
            },
        }  # fmt: skip
