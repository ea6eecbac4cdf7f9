"""What is lost, and what the network is shown of what is left: the paper's two inverse problems (section 4).

A problem turns a whole picture into a measurement (for training and tests) and a measurement into the condition that
goes in on channels. Measurements are linear, so that "the restored picture agrees with what was measured" can be
checked with the same functions.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor


class Problem(Protocol):
    kind: str
    condition_channels: int

    def config(self) -> dict: ...


@dataclass(frozen=True)
class SuperResolution:
    """Each pixel of the measurement is the mean of ``factor`` x ``factor`` (8 in the paper)."""

    factor: int = 8
    kind = "super-resolution"
    condition_channels = 3

    def measure(self, picture: Tensor) -> Tensor:
        """``[N, 3, H, W]`` to ``[N, 3, H / factor, W / factor]``. Raises ValueError when it does not divide."""
        height, width = picture.shape[-2:]
        if height % self.factor or width % self.factor:
            raise ValueError(f"{width} x {height} pixels are no multiples of the factor {self.factor}: crop first")
        return F.avg_pool2d(picture, self.factor)

    def condition(self, measurement: Tensor) -> Tensor:
        """The measurement enlarged to the size of the answer, bicubic."""
        return F.interpolate(measurement, scale_factor=self.factor, mode="bicubic", align_corners=False)

    def config(self) -> dict:
        return {"kind": self.kind, "factor": self.factor}


@dataclass(frozen=True)
class Inpainting:
    """Pixels under a mask (1 = missing) are lost; the condition is the rest, zero in the holes, and the mask."""

    kind = "inpainting"
    condition_channels = 4

    def condition(self, picture: Tensor, missing: Tensor) -> Tensor:
        """``picture [N, 3, H, W]``, ``missing [N, 1, H, W]`` in 0..1, to ``[N, 4, H, W]``.

        Where the mask is soft the pixel counts as missing.
        """
        if missing.shape != (len(picture), 1, *picture.shape[-2:]):
            wanted = [len(picture), 1, *picture.shape[-2:]]
            raise ValueError(f"expected a mask {wanted}, got {list(missing.shape)}")
        hole = (missing > 0).to(picture)
        return torch.cat([picture * (1 - hole), hole], dim=1)

    def config(self) -> dict:
        return {"kind": self.kind}


PROBLEMS = {problem.kind: problem for problem in (SuperResolution, Inpainting)}


def make_problem(config: dict) -> Problem:
    """From what `Problem.config` gave. Raises ValueError for a kind that is not known."""
    arguments = dict(config)
    kind = arguments.pop("kind", None)
    if kind not in PROBLEMS:
        raise ValueError(f"unknown inverse problem {kind!r}; known: {', '.join(PROBLEMS)}")
    return PROBLEMS[kind](**arguments)
