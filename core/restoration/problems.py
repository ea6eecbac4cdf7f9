"""What is lost, and what the network is shown of what is left: the paper's two inverse problems (section 4).

A problem turns a whole picture into a measurement (for training and tests), a measurement into the condition that goes
in on channels, and a condition into a first guess of the picture. The network is left with what the guess lacks.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor


class Problem(Protocol):
    """``std_guess``: how far the truth is from the guess, root mean square over training pictures in -1..1."""

    kind: str
    condition_channels: int
    std_guess: float

    def guess(self, condition: Tensor) -> Tensor:
        """What the condition says at first sight, ``[N, 3, H, W]``: the prediction of a network that knows nothing."""

    def known(self, prediction: Tensor, condition: Tensor) -> Tensor:
        """The prediction with what is known for certain in its place."""

    def config(self) -> dict: ...


@dataclass(frozen=True)
class SuperResolution:
    """Each pixel of the measurement is the mean of ``factor`` x ``factor`` (8 in the paper)."""

    factor: int = 8
    kind = "super-resolution"
    condition_channels = 3
    std_guess = 0.2

    def measure(self, picture: Tensor) -> Tensor:
        """``[N, 3, H, W]`` to ``[N, 3, H / factor, W / factor]``. Raises ValueError when it does not divide."""
        height, width = picture.shape[-2:]
        if height % self.factor or width % self.factor:
            raise ValueError(f"{width} x {height} pixels are no multiples of the factor {self.factor}: crop first")
        return F.avg_pool2d(picture, self.factor)

    def condition(self, measurement: Tensor) -> Tensor:
        """The measurement enlarged to the size of the answer, bicubic."""
        return F.interpolate(measurement, scale_factor=self.factor, mode="bicubic", align_corners=False)

    def guess(self, condition: Tensor) -> Tensor:
        return condition

    def known(self, prediction: Tensor, condition: Tensor) -> Tensor:
        return prediction

    def config(self) -> dict:
        return {"kind": self.kind, "factor": self.factor}


@dataclass(frozen=True)
class Inpainting:
    """Pixels under a mask (1 = missing) are lost; the condition is the rest, zero in the holes, and the mask."""

    kind = "inpainting"
    condition_channels = 4
    std_guess = 0.3

    def condition(self, picture: Tensor, missing: Tensor) -> Tensor:
        """``picture [N, 3, H, W]``, ``missing [N, 1, H, W]`` in 0..1, to ``[N, 4, H, W]``.

        Where the mask is soft the pixel counts as missing.
        """
        if missing.shape != (len(picture), 1, *picture.shape[-2:]):
            wanted = [len(picture), 1, *picture.shape[-2:]]
            raise ValueError(f"expected a mask {wanted}, got {list(missing.shape)}")
        hole = (missing > 0).to(picture)
        return torch.cat([picture * (1 - hole), hole], dim=1)

    def guess(self, condition: Tensor) -> Tensor:
        """Holes filled smoothly from around them (`filled`)."""
        picture, hole = condition[:, :3], condition[:, 3:]
        return filled(picture, 1 - hole)

    def known(self, prediction: Tensor, condition: Tensor) -> Tensor:
        """Pixels outside the holes are the measured ones."""
        picture, hole = condition[:, :3], condition[:, 3:]
        return hole * prediction + (1 - hole) * picture

    def config(self) -> dict:
        return {"kind": self.kind}


def filled(picture: Tensor, weight: Tensor) -> Tensor:
    """``picture [N, C, H, W]`` where ``weight [N, 1, H, W]`` is 1; elsewhere the mean of what is around, by a pyramid.

    Each level halves the size, averaging what has weight; on the way back holes take the level below, enlarged (pull
    and push, Gortler et al. 1996). A picture without any weight is zero.
    """
    height, width = picture.shape[-2:]
    if max(height, width) == 1:
        return picture * weight
    odd = (0, width % 2, 0, height % 2)
    pooled = [F.avg_pool2d(F.pad(x, odd), 2) for x in (picture * weight, weight)]
    coarse = filled(pooled[0] / pooled[1].clamp(min=1e-6), (pooled[1] > 0).to(weight))
    rough = F.interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=False)[..., :height, :width]
    return weight * picture + (1 - weight) * rough


PROBLEMS = {problem.kind: problem for problem in (SuperResolution, Inpainting)}


def make_problem(config: dict) -> Problem:
    """From what `Problem.config` gave. Raises ValueError for a kind that is not known."""
    arguments = dict(config)
    kind = arguments.pop("kind", None)
    if kind not in PROBLEMS:
        raise ValueError(f"unknown inverse problem {kind!r}; known: {', '.join(PROBLEMS)}")
    return PROBLEMS[kind](**arguments)
