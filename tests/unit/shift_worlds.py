"""A world that slides by whole pixels, and denoisers that do or do not slide with it.

The clip is a window on one large picture: frame j shows ``picture(p - j step)``, so frame j at p + step is frame j - 1
at p, exactly. A denoiser that is tied to places on the screen (texture sticking) breaks that, by a known amount.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from aqueduct.core.motion import MotionField

DATA_STD = 0.5


@dataclass(frozen=True)
class ShiftWorld:
    """``frames`` of ``height x width`` with ``channels``, sliding by ``step`` (x, y) whole pixels a frame."""

    frames: int = 6
    channels: int = 3
    height: int = 14
    width: int = 18
    step: tuple[int, int] = (2, -1)

    def motion(self, backward: bool = True) -> MotionField:
        step = torch.tensor(self.step, dtype=torch.float32)[:, None, None]
        field = step.expand(self.frames - 1, 2, self.height, self.width).contiguous()
        return MotionField(field, -field if backward else None)

    def noise(self, seed: int = 0, dtype=torch.float64) -> Tensor:
        """White noise of the large picture through the window, ``[F, C, H, W]``."""
        x, y = self.step
        margin_x, margin_y = abs(x) * self.frames, abs(y) * self.frames
        size = (self.channels, self.height + 2 * margin_y, self.width + 2 * margin_x)
        picture = torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=dtype)
        corners = [(margin_y - j * y, margin_x - j * x) for j in range(self.frames)]
        return torch.stack([picture[:, r : r + self.height, c : c + self.width] for r, c in corners])

    def moved(self, clip: Tensor) -> Tensor:
        """Self-warping error of each frame after the first, a mean square over the pixels that stay, by slicing."""
        x, y = self.step
        rows, columns = slice(max(y, 0), self.height + min(y, 0)), slice(max(x, 0), self.width + min(x, 0))
        rows_before = slice(max(-y, 0), self.height + min(-y, 0))
        columns_before = slice(max(-x, 0), self.width + min(-x, 0))
        difference = clip[1:, :, rows, columns] - clip[:-1, :, rows_before, columns_before]
        return difference.square().mean((1, 2, 3))


def levels(steps: int, highest: float = 10.0, lowest: float = 0.02, bend: float = 7.0) -> Tensor:
    """Noise levels of Karras et al., float64 ``[steps + 1]``, last 0."""
    top, bottom = highest ** (1 / bend), lowest ** (1 / bend)
    falling = (top + torch.linspace(0, 1, steps, dtype=torch.float64) * (bottom - top)) ** bend
    return torch.cat([falling, falling.new_zeros(1)])


def pointwise(z: Tensor, t: Tensor, part: slice | None = None) -> Tensor:
    """The best denoiser of independent Gaussian pixels: equivariant to every shift, exactly."""
    return DATA_STD**2 / (DATA_STD**2 + float(t) ** 2) * z


@dataclass(frozen=True)
class Anchored:
    """The best denoiser of Gaussian pixels whose mean is a picture fixed to the screen: texture that sticks."""

    mean: Tensor  # [C, H, W]

    def __call__(self, z: Tensor, t: Tensor, part: slice | None = None) -> Tensor:
        return self.mean + pointwise(z - self.mean, t)


class PlaceNet(nn.Module):
    """A small random convolutional denoiser, preconditioned as EDM, that sees where on the screen it is."""

    def __init__(self, channels: int = 3, width: int = 12, seed: int = 0, dtype=torch.float64):
        super().__init__()
        self.layers = nn.ModuleList(
            [
                nn.Conv2d(channels + 2, width, 3, padding=1, dtype=dtype),
                nn.Conv2d(width, width, 3, padding=1, dtype=dtype),
                nn.Conv2d(width, channels, 3, padding=1, dtype=dtype),
            ]
        )
        generator = torch.Generator().manual_seed(seed)
        for layer in self.layers:
            spread = 1.2 / math.sqrt(layer.weight[0].numel())
            nn.init.normal_(layer.weight, std=spread, generator=generator)
            nn.init.normal_(layer.bias, std=0.1, generator=generator)
        self.requires_grad_(False)

    def forward(self, z: Tensor, t: Tensor, part: slice | None = None) -> Tensor:
        total = math.hypot(DATA_STD, float(t))
        places = [torch.linspace(-2, 2, size, dtype=z.dtype) for size in z.shape[-2:]]
        grid = torch.stack(torch.meshgrid(*places, indexing="ij"))[None].expand(len(z), -1, -1, -1)
        x = torch.cat([z / total, grid], 1)
        for layer in self.layers[:-1]:
            x = torch.tanh(layer(x))
        return (DATA_STD / total) ** 2 * z + DATA_STD * float(t) / total * self.layers[-1](x)
