"""RAFT as torchvision implements it, from a file of weights that the user has; nothing is ever downloaded.

Source: Teed and Deng, "RAFT: Recurrent All-Pairs Field Transforms for Optical Flow", ECCV 2020.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...optional import need
from ...tensor_file import TensorFile, differences, open_tensors, shapes_of
from .estimate import Needs

STRIDE = 8  # the feature maps are an eighth of the image
SMALLEST = 128  # four levels of correlation: the coarsest of a 16 x 16 map is 2 x 2
UPDATES = 12  # torchvision's default, as in the paper's training
PURPOSE = "the RAFT optical flow"


@dataclass(frozen=True)
class Release:
    """One file of weights that torchvision publishes. ``builder`` makes its architecture."""

    file: str
    megabytes: int
    builder: str

    @property
    def url(self) -> str:
        return f"https://download.pytorch.org/models/{self.file}"


# torchvision's own default weights of each size (`Raft_Small_Weights.C_T_V2`, `Raft_Large_Weights.C_T_SKHT_V2`).
RELEASES = {
    "raft-small": Release("raft_small_C_T_V2-01064c6d.pth", 4, "raft_small"),
    "raft-large": Release("raft_large_C_T_SKHT_V2-ff5fadd5.pth", 20, "raft_large"),
}
# What the first keys of related models look like, for a message that names them.
RELATED = {
    "fnet.": "the original RAFT or SEA-RAFT code",
    "module.fnet.": "the original RAFT or SEA-RAFT code",
    "backbone.": "GMFlow or UniMatch",
}


def where_to_get(variant: str, folder: str | Path) -> str:
    """One sentence: which file, from where, into which folder. ``variant`` is a name in RELEASES."""
    if variant not in RELEASES:
        raise ValueError(f"unknown RAFT {variant!r}; there are {', '.join(RELEASES)}")
    release = RELEASES[variant]
    return f"{variant} needs {release.file} ({release.megabytes} MB): download {release.url} into {folder}"


class RaftEstimator:
    """A RAFT network that is loaded once and used for any number of clips. An `Estimator`.

    ``module``: torchvision's RAFT, or one with its call; it is used where it lies and as it is.
    ``updates``: refinements of the flow.
    """

    def __init__(self, module: nn.Module, name: str = "RAFT", updates: int = UPDATES):
        if updates < 1:
            raise ValueError(f"RAFT needs at least one update, got {updates}")
        self.module = module
        self.name = name
        self.updates = updates

    @property
    def needs(self) -> Needs:
        device = next(self.module.parameters()).device
        # On the CPU a batch is no faster than a loop (benchmarks/results/motion.md), and a loop can be stopped.
        return Needs(device, STRIDE, 1 if device.type == "cpu" else 64, pair_bytes)

    @torch.inference_mode()
    def __call__(self, first: Tensor, second: Tensor) -> Tensor:
        height, width = first.shape[-2:]
        margins = left, _, top, _ = _margins(height, width)
        dtype = next(self.module.parameters()).dtype
        pair = [F.pad(images.mul(2).sub_(1).to(dtype), margins, mode="replicate") for images in (first, second)]
        was_training = self.module.training
        self.module.eval()
        try:
            flow = self.module(*pair, num_flow_updates=self.updates)[-1]
        finally:
            self.module.train(was_training)
        return flow[:, :, top : top + height, left : left + width].float()


def pair_bytes(height: int, width: int) -> int:
    """Working memory of one pair, from above: the correlation of all pairs of cells, and the activations.

    The correlations (float32, an eighth of the size) come in four levels, 4/3 of the first, and are doubled while they
    are made; 1,200 bytes a pixel hold the encoders' widest layers and all updates at full size. Measured on the CPU, a
    pair takes about half of this (raft-large at 512 x 512: 247 of 471 MiB).
    """
    left, right, top, bottom = _margins(height, width)
    height, width = height + top + bottom, width + left + right
    cells = (height // STRIDE) * (width // STRIDE)
    return 4 * cells * cells * 8 // 3 + 1200 * height * width


def load_raft(path: str | Path, device: torch.device | str = "cpu", updates: int = UPDATES) -> RaftEstimator:
    """RAFT small or large, whichever ``path`` (.pth or .safetensors, torchvision's layout) holds.

    Raises FileNotFoundError, ImportError without torchvision, and ValueError that says what is foreign in the file.
    """
    file = open_tensors(path)
    variant, module = _architecture(file)
    module.load_state_dict(file.read(file.shapes))
    return RaftEstimator(module.eval().requires_grad_(False).to(device), f"{variant} ({file.name})", updates)


def raft_from_module(module: nn.Module, updates: int = UPDATES) -> RaftEstimator:
    """The estimator of a RAFT that is already loaded, such as the one in ComfyUI's OPTICAL_FLOW (``patcher.model``).

    Raises ValueError for anything that is not torchvision's RAFT.
    """
    parts = ("feature_encoder", "context_encoder", "corr_block", "update_block")
    missing = [part for part in parts if not hasattr(module, part)]
    if missing or not isinstance(module, nn.Module):
        raise ValueError(
            f"OPTICAL_FLOW should hold torchvision's RAFT, got {type(module).__name__} without {', '.join(missing)}"
        )
    return RaftEstimator(module, "OPTICAL_FLOW (RAFT)", updates)


def _architecture(file: TensorFile) -> tuple[str, nn.Module]:
    """The variant whose tensors are those of ``file``, and an empty network of it."""
    models = need("torchvision.models.optical_flow", PURPOSE)
    closest: list[tuple[int, str, str]] = []
    for variant, release in RELEASES.items():
        module = getattr(models, release.builder)(weights=None, progress=False)
        expected = shapes_of(module.state_dict())
        if expected == file.shapes:
            return variant, module
        shared = sum(file.shapes.get(key) == shape for key, shape in expected.items())
        closest.append((shared, variant, differences(expected, file.shapes)))
    shared, variant, difference = max(closest)
    hint = "".join(
        f" Its tensors are named as in {origin}; torchvision's layout is needed."
        for prefix, origin in RELATED.items()
        if any(key.startswith(prefix) for key in file.shapes)
    )
    what = f"is not {variant} as torchvision publishes it" if shared else "is no RAFT of torchvision"
    files = " or ".join(release.url for release in RELEASES.values())
    raise ValueError(f"{file.name} {what}: {difference}.{hint} Use {files}")


def _margins(height: int, width: int) -> tuple[int, int, int, int]:
    """What to pad (left, right, top, bottom) so that both sides are multiples of 8 and at least 128."""
    extra_height, extra_width = (max(SMALLEST, -(-side // STRIDE) * STRIDE) - side for side in (height, width))
    return extra_width // 2, extra_width - extra_width // 2, extra_height // 2, extra_height - extra_height // 2
