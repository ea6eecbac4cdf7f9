"""The world of moving digits: real handwriting that slides over a small canvas and bounces off its walls.

The scans are `sklearn.datasets.load_digits` (1797 digits of 43 writers, 8 x 8 pixels, UCI 1998). A clip is fixed by the
digit, the place it starts from and the direction (the motion class), so its truth is known at every frame.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

DIRECTIONS = ("right", "down-right", "down", "down-left", "left", "up-left", "up", "up-right")


@dataclass(frozen=True)
class DigitClips:
    """A batch of clips with its truth.

    ``video [b, 3, frames, size, size]`` in [-1, 1] (three equal channels), ``direction [b]`` indices into DIRECTIONS,
    ``centres [b, frames, 2]`` of the digit's box in pixels (x, y), pixel centres at integers, ``digit [b]`` indices
    into ``MovingDigits.glyphs``.
    """

    video: Tensor
    direction: Tensor
    centres: Tensor
    digit: Tensor


def load_glyphs(held_out: bool, share: float = 0.15, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Scans ``[n, 8, 8]`` in [0, 1] and labels ``[n]``; the split is by scan, drawn once with ``seed``.

    Raises ModuleNotFoundError naming scikit-learn, which holds the scans.
    """
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("scikit-learn holds the handwritten digits: pip install scikit-learn") from error
    data = load_digits()
    order = torch.randperm(len(data.target), generator=torch.Generator().manual_seed(seed))
    count = round(share * len(order))
    index = order[:count] if held_out else order[count:]
    glyphs = torch.from_numpy(data.images).float()[index] / 16
    return glyphs, torch.from_numpy(data.target)[index]


class MovingDigits:
    """Draws clips. ``box`` is the digit's side, ``speed`` in pixels a frame; the box stays inside the canvas."""

    def __init__(self, glyphs: Tensor, *, size: int = 32, frames: int = 8, box: int = 12, speed: float = 1.5):
        self.size, self.frames, self.box, self.speed = size, frames, box, speed
        self.glyphs = glyphs
        fine = F.interpolate(glyphs[:, None], size=(2 * box, 2 * box), mode="bicubic", align_corners=False)
        self._fine = F.pad(fine.clamp(0, 1), [2, 2, 2, 2])

    def sample(self, batch: int, generator: torch.Generator) -> DigitClips:
        return self.clips(**self.draw(batch, generator))

    def draw(self, batch: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Arguments of ``clips``: random digits, directions and starts. The first two pixels of travel never meet a
        wall, so that the direction can be read from every clip."""
        digit = torch.randint(len(self.glyphs), (batch,), generator=generator)
        direction = torch.randint(len(DIRECTIONS), (batch,), generator=generator)
        low, high = self._walls()
        ahead = 2.0 * heading(direction)
        least, most = low - ahead.clamp(max=0), high - ahead.clamp(min=0)
        start = least + (most - least) * torch.rand(batch, 2, generator=generator)
        return {"digit": digit, "direction": direction, "start": start}

    def clips(self, digit: Tensor, direction: Tensor, start: Tensor) -> DigitClips:
        """The clips of given digits, directions and first centres ``start [b, 2]`` (x, y), on their device."""
        centres = self.paths(direction, start)
        return DigitClips(self._render(digit, centres), direction, centres, digit)

    def paths(self, direction: Tensor, start: Tensor) -> Tensor:
        """Centres ``[b, frames, 2]``: constant speed, reflected at the walls."""
        low, high = self._walls()
        time = torch.arange(self.frames, dtype=torch.float32, device=start.device)
        straight = start[:, None] + self.speed * time[:, None] * heading(direction)[:, None]
        span = high - low
        folded = (straight - low) % (2 * span)
        return low + torch.minimum(folded, 2 * span - folded)

    def _walls(self) -> tuple[float, float]:
        """Least and greatest centre of a box that stays inside the canvas."""
        return (self.box - 1) / 2, self.size - 1 - (self.box - 1) / 2

    def _render(self, digit: Tensor, centres: Tensor) -> Tensor:
        batch, frames, _ = centres.shape
        axis = torch.arange(self.size, dtype=torch.float32, device=centres.device)
        extent = self._fine.shape[-1]
        offset = 2 * (axis - centres[..., None]) / (extent / 2)  # two fine pixels a pixel, [-1, 1] over the fine image
        x, y = offset[:, :, 0], offset[:, :, 1]
        grid = torch.stack(
            [x[:, :, None, :].expand(-1, -1, self.size, -1), y[:, :, :, None].expand(-1, -1, -1, self.size)], dim=-1
        )
        fine = self._fine.to(digit.device)[digit].repeat_interleave(frames, dim=0)
        ink = F.grid_sample(fine, grid.flatten(0, 1), mode="bilinear", align_corners=False)
        video = ink.reshape(batch, 1, frames, self.size, self.size) * 2 - 1
        return video.expand(-1, 3, -1, -1, -1).contiguous()


def heading(direction: Tensor) -> Tensor:
    """Unit vectors ``[b, 2]`` (x, y) of direction indices; y points down, as images do."""
    angle = direction.float() * (2 * math.pi / len(DIRECTIONS))
    return torch.stack([angle.cos(), angle.sin()], dim=-1)
