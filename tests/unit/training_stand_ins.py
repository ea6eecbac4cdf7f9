"""What trainings are tested on in place of downloads, of clips that take a quarter of an hour, and of earlier runs.

All of it is drawn, and written down exactly: pictures of squares, clips whose motion is unrelated to what they show,
networks whose weights are noise. Enough to see whether the same numbers come out, and nothing to learn from.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from aqueduct.core import checkpoints
from aqueduct.core.networks.exemplar_unet import ExemplarUNet
from aqueduct.core.networks.style_encoder import StyleEncoder
from aqueduct.core.networks.video_unet import VideoMotionAdapter, VideoUNet
from aqueduct.core.training.motion_clips import MotionClips
from aqueduct.core.training.sparse_to_dense import Scenes

VIDEO = {"in_channels": 6, "out_channels": 3, "frames": 16, "channels": 48, "multipliers": [1, 2], "fold": 4}
DENOISER = {
    "in_channels": 3, "out_channels": 3, "channels": 16, "multipliers": [2, 3, 3], "blocks": 1, "sites": [1, 2],
    "head_channels": 24, "groups": 8, "features": 128, "context": 64, "expansion": 2,
}  # fmt: skip
ENCODER = {"features": 128, "widths": [16, 32, 64, 64], "size": 64}
# Run -> its part, its network and the arguments: those that others start from.
STARTS: dict[str, tuple[str, type[nn.Module], dict]] = {
    "emg_backbone": ("model", VideoUNet, VIDEO),
    "emg_adapter": ("adapter", VideoMotionAdapter, VIDEO),
    "exemplar_encoder": ("encoder", StyleEncoder, ENCODER),
    "exemplar_global": ("model", ExemplarUNet, DENOISER),
}
BRIDGE = {
    "bridge": {"kind": "bridge-gmax", "constants": {"beta_min": 0.01, "beta_max": 50.0}},
    "parameterisation": "prior_residual",
    "precondition": "unit_noise",
    "layout": {"concat_prior": True},
    "image_condition": "first frame of the prior",
}


def write_starts(folder: Path) -> None:
    """The files of `STARTS`."""
    for seed, (run, (part, network, arguments)) in enumerate(STARTS.items()):
        made = network(**arguments)
        generator = torch.Generator().manual_seed(seed)
        for parameter in made.parameters():
            spread = parameter[0].numel() ** -0.5 if parameter.dim() > 1 else 0.1
            parameter.data = torch.randn(parameter.shape, generator=generator) * spread
        described = {part: {"architecture": network.__name__, "arguments": arguments}}
        checkpoints.save({part: made}, folder / f"{run}.safetensors", {"parts": described, "training": {}, **BRIDGE})


def pictures(held_out: bool = False, unrelated: bool = False) -> list[Tensor]:
    """uint8 ``[3, h, w]`` of squares of 10 x 10 pixels in random colours."""
    generator = torch.Generator().manual_seed(5)
    sizes = [(8, 10), (11, 9), (12, 17)]
    coarse = [torch.randint(256, (3, *size), generator=generator, dtype=torch.uint8) for size in sizes]
    return [squares.repeat_interleave(10, 1).repeat_interleave(10, 2) for squares in coarse]


def motion_clips(count: int = 6, frames: int = 4, side: int = 32) -> dict[str, Tensor]:
    """Of a `MotionClips`. Some of the flow is much faster than the rest, and some does not lead back."""
    generator = torch.Generator().manual_seed(6)

    def flow(frames: int) -> Tensor:
        coarse = 2 * torch.rand(count, frames, 2, side // 8, side // 8, generator=generator) - 1
        coarse = 2 * coarse * coarse * coarse
        return coarse.repeat_interleave(8, -1).repeat_interleave(8, -2).half()

    forward, onward = flow(frames - 1), flow(frames)
    backward = 0.5 * flow(frames - 1) - forward
    video = torch.randint(256, (count, 3, frames, side, side), generator=generator, dtype=torch.uint8)
    seen = torch.rand(count, frames, side, side, generator=generator) < 0.9
    return vars(MotionClips(video, forward, backward, -onward, onward, seen))


def scenes(side: int, count: int = 6) -> dict[str, Tensor]:
    """Of a `Scenes`: a square on a ground."""
    generator = torch.Generator().manual_seed(side)
    layer = torch.zeros(count, side, side, dtype=torch.uint8)
    layer[:, side // 4 : side // 2, side // 4 : side // 2] = 1
    ground, own = (torch.randn(count, 2, 1, 1, generator=generator).expand(-1, -1, side, side) for _ in range(2))
    flow = torch.where(layer[:, None] > 0, own, ground)
    picture = torch.randint(256, (count, 3, side, side), generator=generator, dtype=torch.uint8)
    return vars(Scenes(picture, layer, flow.half(), ground.half()))


@dataclass(frozen=True, eq=False)
class StandIns:
    """In the place of `core.training.config.Files`."""

    folder: Path
    device: torch.device = torch.device("cpu")
    pictures: Callable[..., list[Tensor]] = pictures

    def model(self, name: str) -> Path:
        return self.folder / f"{name}.safetensors"

    def kept(self, name: str, make: Callable) -> dict[str, Tensor]:
        kind, what, _ = name.split("_", 2)
        return scenes(int(what)) if kind == "scenes" else motion_clips()
