"""LoRA (Hu et al. 2021) beside any network's layers: ``W + (alpha / rank) B A``, the network itself untouched.

``A`` (down) is drawn, ``B`` (up) starts at zero, so the start is the network as it is, to the bit.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

ADAPTED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
# Attention and feed-forward layers, as the networks of DiT, Wan, LTX-Video, Flux and Stable Diffusion call them.
ATTENTION_AND_FEED_FORWARD = r"attn|attention|ff|mlp"
SHOWN = 8  # names in a message


def chosen_layers(network: nn.Module, pattern: str = ATTENTION_AND_FEED_FORWARD) -> dict[str, nn.Module]:
    """Linear layers and convolutions whose names the regular expression ``pattern`` is found in.

    Raises ValueError for one that is no regular expression, or is found in no name, with names that there are.
    """
    try:
        wanted = re.compile(pattern)
    except re.error as error:
        raise ValueError(f"the layers {pattern!r} are no regular expression ({error}); e.g. 'attn|ff'") from error
    known = {name: layer for name, layer in network.named_modules() if _takes_lora(layer)}
    found = {name: layer for name, layer in known.items() if wanted.search(name)}
    if not found:
        step = max(1, len(known) // SHOWN)
        raise ValueError(
            f"no layer's name holds {pattern!r}; of the {len(known)} layers of {type(network).__name__} some are "
            f"{', '.join(list(known)[::step][:SHOWN])}"
        )
    return found


def _takes_lora(layer: nn.Module) -> bool:
    return isinstance(layer, ADAPTED) and layer.weight is not None and getattr(layer, "groups", 1) == 1


class LowRank(nn.Module):
    """What is added to one layer: ``scale * up(down(x))``; a convolution's ``down`` has its kernel, ``up`` is 1 x 1.

    ``down [rank, in, ...]``, ``up [out, rank]``, ``scale = alpha / rank``. Both are float32, and compute in the type of
    what enters.
    """

    def __init__(self, layer: nn.Module, rank: int, alpha: float, generator: torch.Generator):
        super().__init__()
        out, *entering = layer.weight.shape
        bound = (3 / torch.Size(entering).numel()) ** 0.5  # variance 1 / inputs, as LoRA has it
        down = torch.empty(rank, *entering).uniform_(-bound, bound, generator=generator)
        self.down = nn.Parameter(down.to(layer.weight.device))
        self.up = nn.Parameter(torch.zeros(out, rank, device=layer.weight.device))
        self.rank, self.alpha = rank, alpha
        self._low = linear_map(layer)

    @property
    def scale(self) -> float:
        return self.alpha / self.rank

    def forward(self, x: Tensor) -> Tensor:
        low = self._low(x, self.down.to(x.dtype))
        up = (self.scale * self.up).to(x.dtype)
        return F.linear(low.movedim(1, -1), up).movedim(-1, 1) if self.down.ndim > 2 else F.linear(low, up)

    def merged(self) -> Tensor:
        """What it comes to as an addition to the layer's weight, in the weight's shape."""
        return (self.scale * self.up @ self.down.flatten(1)).view(len(self.up), *self.down.shape[1:])


class Lora(nn.Module):
    """`LowRank` for each of ``layers``, by name. ``generator``: of the starting weights, on the CPU.

    Raises ValueError for a rank below 1. One above a layer's own is no error: it holds no more than that.
    """

    def __init__(self, layers: dict[str, nn.Module], rank: int, alpha: float, generator: torch.Generator):
        super().__init__()
        if rank < 1:
            raise ValueError(f"the rank is at least 1, got {rank}")
        self.beside = list(layers.values())  # a list: the network's layers are no parts of this one
        self.layers = nn.ModuleDict(
            {name.replace(".", "/"): LowRank(layer, rank, alpha, generator) for name, layer in layers.items()}
        )

    def named(self) -> dict[str, LowRank]:
        """By the names of the layers in their network."""
        return {name.replace("/", "."): low for name, low in self.layers.items()}

    @contextmanager
    def added(self) -> Iterator[None]:
        """Within it the network's layers add what these make. Other hooks and wrappers of theirs stay."""
        handles = self.add()
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def add(self) -> list[RemovableHandle]:
        """`added` until the handles it gives are removed."""
        pairs = zip(self.beside, self.layers.values(), strict=True)
        return [layer.register_forward_hook(_adding(low)) for layer, low in pairs]


def _adding(low: LowRank) -> Callable:
    def hook(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return output + low(inputs[0]).to(output.dtype)

    return hook


def linear_map(layer: nn.Module) -> Callable[[Tensor, Tensor], Tensor]:
    """The layer's own linear map, with another weight and no bias."""
    if isinstance(layer, nn.Linear):
        return F.linear
    convolve = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[layer.weight.ndim - 2]
    if layer.padding_mode != "zeros":
        raise ValueError(
            f"nothing is trained beside a convolution whose padding is {layer.padding_mode!r}; choose other layers"
        )
    geometry = {"stride": layer.stride, "padding": layer.padding, "dilation": layer.dilation}
    return lambda x, weight: convolve(x, weight, **geometry)
