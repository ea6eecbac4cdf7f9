"""Training of image restoration: crops of pictures, masks at random, noise that is white or a Gaussian process."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..noise import GaussianField, finest_length_scale
from ..restoration import Inpainting, Precondition, Problem, SuperResolution
from .task import Batch

ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
# (seed drawn from the run's generator, clips, height, width) -> [clips, 3, height, width] of unit variance
Noise = Callable[[torch.Generator, int, int, int], Tensor]


def white_noise(generator: torch.Generator, count: int, height: int, width: int) -> Tensor:
    return torch.randn(count, 3, height, width, generator=generator)


def gp_noise(generator: torch.Generator, count: int, height: int, width: int) -> Tensor:
    """The shortest length scale the grid holds, as at sampling; one set of waves a batch, weights of their own."""
    seed = int(torch.randint(2**62, (), generator=generator))
    field = GaussianField(seed, 3 * count, finest_length_scale(height, width))
    return field.grid(height, width).view(count, 3, height, width)


NOISES: dict[str, Noise] = {"white": white_noise, "gp": gp_noise}


@dataclass(frozen=True, eq=False)
class Crops:
    """Square crops of ``size`` from ``pictures``, uint8 ``[3, h, w]`` each, left-right mirrored at random."""

    pictures: Sequence[Tensor]
    size: int

    def __post_init__(self):
        small = [tuple(picture.shape) for picture in self.pictures if min(picture.shape[1:]) < self.size]
        if small or not self.pictures:
            raise ValueError(f"crops of {self.size} pixels need pictures at least as large, got {small[:3] or 'none'}")

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        return self.read(self.draw(count, generator))

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """``[count, 4]``: picture, top, left, mirrored or not; every picture is as likely, and every place in it."""

        def below(n: int) -> int:
            return int(torch.randint(n, (), generator=generator))

        def one() -> list[int]:
            which = below(len(self.pictures))
            return [which, *(below(side - self.size + 1) for side in self.pictures[which].shape[1:]), below(2)]

        return torch.tensor([one() for _ in range(count)])

    def read(self, places: Tensor) -> Tensor:
        """``[count, 3, size, size]`` in -1..1 of what was drawn."""
        return torch.stack([self._one(*place) for place in places.tolist()])

    def _one(self, which: int, top: int, left: int, mirrored: int) -> Tensor:
        crop = self.pictures[which][:, top : top + self.size, left : left + self.size].float() / 127.5 - 1
        return crop.flip(-1) if mirrored else crop


def pyramid(picture: Tensor, shortest: Sequence[int]) -> list[Tensor]:
    """uint8 ``[3, h, w]`` reduced so that its shorter side is each of ``shortest``; never enlarged."""
    height, width = picture.shape[1:]
    levels = []
    for side in shortest:
        scale = side / min(height, width)
        if scale <= 1:
            size = (round(height * scale), round(width * scale))
            small = F.interpolate(picture[None].float(), size, mode="bilinear", antialias=True)[0]
            levels.append(small.round().clamp(0, 255).byte())
    return levels


def read_pictures(folder: Path | str, shortest: Sequence[int]) -> list[Tensor]:
    """The `pyramid` of every picture in ``folder`` and its subfolders, by name.

    Raises ValueError for a file that is no picture though it is called one, and for a folder without any.
    """
    from PIL import Image, ImageOps

    levels, paths = [], sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in ENDINGS)
    for path in paths:
        try:
            with Image.open(path) as picture:
                pixels = torch.from_numpy(np.array(ImageOps.exif_transpose(picture).convert("RGB")))
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as why:  # all that Pillow raises
            raise ValueError(f"{path} cannot be read ({why}): repair it, or take it out of the folder") from why
        levels += pyramid(pixels.permute(2, 0, 1), shortest)
    if not paths:
        raise ValueError(f"there are no pictures in {folder} (looked for {', '.join(ENDINGS)}, in subfolders too)")
    return levels


def random_holes(count: int, size: int, generator: torch.Generator) -> Tensor:
    """Masks ``[count, 1, size, size]``, 1 = missing: a rectangle or a thick stroke or both, of random size."""
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")

    def rectangle() -> Tensor:
        top, left, height, width = torch.rand(4, generator=generator).tolist()
        height, width = (0.2 + 0.4 * height) * size, (0.2 + 0.4 * width) * size
        inside_y = (y >= top * size - height / 2) & (y <= top * size + height / 2)
        return inside_y & (x >= left * size - width / 2) & (x <= left * size + width / 2)

    def stroke() -> Tensor:
        walk = torch.rand(1, 2, generator=generator) + 0.08 * torch.randn(24, 2, generator=generator).cumsum(0)
        radius = (0.03 + 0.07 * float(torch.rand((), generator=generator))) * size
        distances = ((x[..., None] - walk[:, 0] * size) ** 2 + (y[..., None] - walk[:, 1] * size) ** 2).amin(-1)
        return distances <= radius**2

    def hole() -> Tensor:
        shapes = [(rectangle,), (stroke,), (rectangle, stroke)][int(torch.randint(3, (), generator=generator))]
        return torch.stack([shape() for shape in shapes]).any(0)

    return torch.stack([hole() for _ in range(count)])[:, None].float()


@dataclass(frozen=True)
class Damage:
    """What is lost of pictures in training: ``draw(count, size, generator)`` what is random of it, for square pictures,
    and ``show(problem, pictures, drawn)`` the network what is left."""

    draw: Callable[[int, int, torch.Generator], Batch]
    show: Callable[[Problem, Tensor, Batch], Tensor]


DAMAGES: dict[str, Damage] = {
    SuperResolution.kind: Damage(
        draw=lambda count, size, generator: {},
        show=lambda problem, pictures, drawn: problem.condition(problem.measure(pictures)),
    ),
    Inpainting.kind: Damage(
        draw=lambda count, size, generator: {"holes": random_holes(count, size, generator)},
        show=lambda problem, pictures, drawn: problem.condition(pictures, drawn["holes"]),
    ),
}


@dataclass(frozen=True)
class Levels:
    """Noise levels of training, log-normal around ``std_data`` (Karras et al. 2022, section 5).

    ``mean`` and ``std`` are those of ``ln(sigma / std_data)``; held within ``minimum`` to ``maximum``.
    """

    mean: float = 0.2
    std: float = 1.4
    minimum: float = 0.01
    maximum: float = 10.0

    def draw(self, count: int, std_data: float, generator: torch.Generator) -> Tensor:
        sigma = std_data * (self.mean + self.std * torch.randn(count, generator=generator)).exp()
        return sigma.clamp(self.minimum, self.maximum)


def denoising_loss(network, precondition: Precondition, z_0: Tensor, eps: Tensor, sigma: Tensor, condition) -> Tensor:
    """EDM's loss: squared error in z_0 over c_out^2, that is of the network's own output with equal weight."""
    levels = sigma[:, None, None, None]
    prediction = precondition(network, z_0 + levels * eps, sigma, condition)
    _, out, _ = precondition.scales(levels)
    return ((prediction - z_0) / out).square().mean()
