"""Tiny prepared clips for the trainer nodes: squares that slide, with their exact motion and one class for each way."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from aqueduct.core.data.dataset import LatentDataset
from aqueduct.core.data.shards import Clip, write_dataset
from aqueduct.core.motion import MotionField

WAYS = {"right": (1.0, 0.0), "down": (0.0, 1.0)}
FRAMES, SIDE = 4, 16


def square(step: int, way: tuple[float, float], start: tuple[int, int], height: int, width: int) -> Tensor:
    """``[3, h, w]`` in -1..1: a coloured square of 5 pixels on a slope of grey."""
    picture = torch.linspace(-0.8, 0.2, width).expand(3, height, width).clone()
    x, y = (int(at + step * speed) for at, speed in zip(start, way, strict=True))
    picture[:, y : y + 5, x : x + 5] = torch.tensor([0.9, -0.2, 0.4])[:, None, None]
    return picture


def clip(number: int, height: int = SIDE, width: int = SIDE, frames: int = FRAMES) -> tuple[Tensor, Tensor, str]:
    """``(latent [3, f, h, w], forward [f-1, 2, h, w], class)``"""
    name = list(WAYS)[number % len(WAYS)]
    start = (1 + number % 3, 1 + number // 3 % 3)
    shown = torch.stack([square(t, WAYS[name], start, height, width) for t in range(frames)], 1)
    flow = torch.zeros(frames - 1, 2, height, width)
    for t in range(frames - 1):
        inside = square(t, WAYS[name], start, height, width)[0] == 0.9
        flow[t, :, inside] = torch.tensor(WAYS[name])[:, None]
    return shown, flow, name


def write_clips(
    folder: Path, count: int = 6, motion: bool = True, classes: bool = True, sizes: tuple = ((SIDE, SIDE),),
    frames: int = FRAMES,
) -> LatentDataset:  # fmt: skip
    """A prepared set in pixel space, the clips in turn of each of ``sizes``."""

    def samples():
        for number in range(count):
            latent, flow, name = clip(number, *sizes[number % len(sizes)], frames)
            tensors = {"latent": latent, "first": ((latent[:, 0] + 1) * 127.5).round().byte()}
            if motion:
                field = MotionField(flow, -flow).checked()
                mask = torch.stack([field.forward_valid, field.backward_valid], 1)
                tensors |= {"forward": flow, "backward": -flow, "mask": mask}
            label = list(WAYS).index(name) if classes else None
            yield Clip(f"{name}/{number}.mp4", 0, frames - 1, label=label), tensors

    write_dataset(folder, samples(), {"classes": list(WAYS)} if classes else {})
    return LatentDataset.open(folder)


@dataclass(frozen=True)
class Clips:
    """As the socket AQUEDUCT_DATASET carries them."""

    latents: LatentDataset
    conditioning: Any = None
    about: str = "sliding squares"
