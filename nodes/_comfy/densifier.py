"""A network that makes tracks dense, under ComfyUI's memory management (the AQUEDUCT_DENSIFIER socket)."""

from dataclasses import dataclass

import comfy.model_management as mm
import comfy.model_patcher
import comfy.ops
from torch import Tensor

from ...core import checkpoints
from ...core.motion.densify import Densifier, learned
from .layers import with_weights

PART = "densifier"


@dataclass(frozen=True)
class LoadedDensifier:
    """A network with a method ``flow(picture, hints, known)`` in its patcher, with its file's configuration."""

    patcher: comfy.model_patcher.ModelPatcher
    config: dict

    def densifier(self) -> Densifier:
        """For `motion_from_tracks`: the network on its device, where it stays until another model needs the room."""
        mm.load_models_gpu([self.patcher])
        device = self.patcher.load_device

        def flow(*given: Tensor) -> Tensor:
            return self.patcher.model.flow(*(one.to(device) for one in given)).to(given[0].device)

        return learned(flow)


def load_densifier(path: str) -> LoadedDensifier:
    """The densifier of a file of ours or a released one. Raises ValueError where it has none."""
    network, config = checkpoints.load(path, part=PART, operations=with_weights(comfy.ops.manual_cast), device="cpu")
    network.float()
    patcher = comfy.model_patcher.ModelPatcher(
        network, load_device=mm.get_torch_device(), offload_device=mm.unet_offload_device()
    )
    return LoadedDensifier(patcher, config)
