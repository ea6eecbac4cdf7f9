"""Released checkpoints of other projects, recognised by the names and shapes of their tensors and converted in memory.

FrameBridge's models for UCF-101 (Latte-S/2, appendix C.3) come as three files: the bridge from the repeated first
frame, the neural prior, and the bridge from that prior. Each becomes a configuration as in our own files
(``docs/formats.md``) and a state dict under our names. Those of other projects are described in modules of their own.
"""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from .networks import LatteVideo, NeuralPrior
from .networks.layout import InputLayout
from .released_bbdm import LBBDM
from .released_cmp import CMP
from .released_layout import Released
from .released_mofa import MOFA
from .tensor_file import TensorFile, differences, shortened
from .ucf101 import UCF101_CLASSES

# Source: FrameBridge appendix C.3; Latte-S/2 on 256 x 256 video through a VAE of stride 8.
LATTE_S2 = {
    "out_channels": 4, "height": 32, "width": 32, "patch": 2, "hidden": 384, "depth": 12, "heads": 6,
    "classes": len(UCF101_CLASSES),
}  # fmt: skip
LATENT = {"format": "sd15", "channels": 4, "vae": "sd-vae-ft-ema", "scale": 0.18215}
FRAMES = 16
UCF101 = {"class_names": list(UCF101_CLASSES), "latent": LATENT}


def _bridge(title: str, layout: InputLayout, **settings) -> Released:
    arguments = {**LATTE_S2, "frames": FRAMES + layout.prepend_first_frame, "in_channels": layout.channels(4)}
    common = {
        **UCF101,
        "bridge": {"kind": "bridge-gmax", "constants": {"beta_min": 0.01, "beta_max": 50.0}},
        "parameterisation": "psi",
        "precondition": "frame_index",
        "layout": vars(layout),
        "sampling": {"solver": "sde", "spacing": "inclusive", "guidance": 7.0},
    }
    return Released(title, "model", LatteVideo, arguments, {**common, **settings})


RELEASED: tuple[Released, ...] = (
    _bridge(
        "FrameBridge for UCF-101, without neural prior (Latte-S/2)",
        InputLayout(prepend_first_frame=True),
        image_condition="first frame of the prior",
    ),
    _bridge(
        "FrameBridge for UCF-101, with neural prior (Latte-S/2)",
        InputLayout(concat_prior=True, prepend_first_frame=True),
        image_condition="image",
        separate_parts={"prior": "FrameBridge's neural prior for UCF-101 (Latte-S/2)"},
    ),
    Released(
        "FrameBridge's neural prior for UCF-101 (Latte-S/2)", "prior", NeuralPrior,
        {**LATTE_S2, "frames": FRAMES, "in_channels": 4}, UCF101,
        renamed=(("nwarp_model.", "network."), ("", "network.")), beside=("diffusion_model.",),
    ),
    LBBDM,
    CMP,
    MOFA,
)  # fmt: skip


@dataclass(frozen=True)
class Conversion:
    """A recognised file: its configuration, and its tensors under our names."""

    config: dict[str, Any]
    file: TensorFile
    names: dict[str, str]

    def state(self) -> dict[str, Tensor]:
        tensors = self.file.read(self.names.values())
        return {ours: tensors[theirs] for ours, theirs in self.names.items()}


def recognise(file: TensorFile) -> Conversion:
    """The released checkpoint that ``file`` is. Raises ValueError saying what was found, and what is understood."""
    closest, told = 0.5, ""
    for released in RELEASED:
        names = released.names(file.shapes)
        expected, found = released.shapes, {ours: file.shapes[theirs] for ours, theirs in names.items()}
        difference = differences(expected, found)
        if not difference:
            _check_entries(released, file)
            return Conversion(released.config, file, names)
        likeness = len(expected.items() & found.items()) / len(expected.keys() | found.keys())
        if likeness > closest:
            closest, told = likeness, f" Closest: {released.title}, but {difference}."
    raise ValueError(
        f"{file.name} is no checkpoint known here: {len(file.shapes)} tensors ({shortened(sorted(file.shapes))}), "
        f"metadata {sorted(file.metadata) or 'none'}.{told} Understood are files written by Aqueduct, and "
        f"{'; '.join(released.title for released in RELEASED)}"
    )


def _check_entries(released: Released, file: TensorFile) -> None:
    for entry in sorted(released.refused.keys() & file.entries):
        raise ValueError(
            f"{file.name} is {released.title}, but was trained on {released.refused[entry]} (its entry {entry!r}), "
            f"which Aqueduct does not read"
        )
