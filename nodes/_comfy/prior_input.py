"""z_T on the input of a core MODEL's network, where the network's first layer is one that is known.

FrameBridge shows the network its prior beside the state. SNR alignment takes the prior out of the state exactly, so for
a MODEL that sees no image by itself this is the only way that the image comes in.
"""

from dataclasses import dataclass

import comfy.ldm.common_dit
from comfy.patcher_extension import WrappersMP
from comfy.utils import repeat_to_batch_size
from torch import Tensor, nn

from ...core.networks.prior_input import PriorInput
from .runs import bound
from .sampler import STATE_KEY

WRAPPER_KEY = "aqueduct_prior_input"


def _maps(network: nn.Module, layer: nn.Module, prior: Tensor) -> Tensor:
    """For a convolution over the latent itself; one in patches gets whole ones."""
    if layer.kernel_size != layer.stride:
        return prior
    return comfy.ldm.common_dit.pad_to_patch_size(prior, layer.kernel_size)


def _tokens(network: nn.Module, layer: nn.Module, prior: Tensor) -> Tensor:
    return network.patchifier.patchify(prior)[0]


# Names of first layers -> the prior as they take it: Wan, the U-Nets of Stable Diffusion, LTX-Video.
FIRST_LAYERS = {"patch_embedding": _maps, "input_blocks.0.0": _maps, "patchify_proj": _tokens}


def first_layer(model: nn.Module) -> str:
    """The name of a `BaseModel`'s first layer. Raises ValueError, with the way out, where none is known."""
    network = model.diffusion_model
    names = {name for name, _ in network.named_modules()}
    for name in FIRST_LAYERS:
        if name in names:
            return name
    raise ValueError(
        f"a {type(network).__name__} has none of the first layers that can take the prior ({', '.join(FIRST_LAYERS)}): "
        f"turn prior_input off, for a MODEL that sees the image by its own conditioning"
    )


def prior_input(model: nn.Module) -> PriorInput:
    """A new one for this `BaseModel`, at zero. Raises ValueError where there can be none."""
    layer = model.diffusion_model.get_submodule(first_layer(model))
    return PriorInput(layer, layer.in_features if isinstance(layer, nn.Linear) else model.latent_format.latent_channels)


@dataclass(frozen=True, eq=False)
class Showing:
    """A DIFFUSION_MODEL wrapper: the layer ``name`` sees, by ``network``, the prior of the bridge that is sampled."""

    name: str
    network: PriorInput

    def __call__(self, executor, *args, **kwargs):
        state = (bound(executor, args, kwargs).arguments["transformer_options"] or {}).get(STATE_KEY)
        if state is None:
            raise ValueError("this MODEL takes the prior of a bridge as input: sample it with AqueductBridgeSampler")
        host = executor.class_obj
        layer = host.get_submodule(self.name)

        def laid_out(x: Tensor) -> Tensor:
            return _fitting(FIRST_LAYERS[self.name](host, layer, state["prior"]), x, isinstance(layer, nn.Linear))

        with self.network.added(layer, laid_out):
            return executor(*args, **kwargs)


def _fitting(given: Tensor, x: Tensor, tokens: bool) -> Tensor:
    """Once for each branch of CFG. Raises ValueError for another size."""
    theirs, ours = (value.shape[1:2] if tokens else value.shape[2:] for value in (given, x))
    if theirs != ours:
        raise ValueError(
            f"the prior comes to {list(theirs)} where the network's input has {list(ours)}: sample a LATENT of the "
            f"prior's frames and size, with nothing beside it"
        )
    return repeat_to_batch_size(given, len(x))


def show_prior(patcher, network: PriorInput) -> None:
    """Have the network of this MODEL, a clone, see the prior."""
    showing = Showing(first_layer(patcher.model), network)
    patcher.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, WRAPPER_KEY, showing)
