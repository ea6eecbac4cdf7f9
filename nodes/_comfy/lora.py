"""LoRA of a core MODEL: under the names that core and other tools read, onto the MODEL by core's own loader.

- Stable Diffusion 1 and 2: ``lora_unet_down_blocks_0_...``, diffusers' names in kohya's layout.
- Stable Diffusion XL: ``lora_unet_input_blocks_4_...``, its own names in kohya's layout. Both are read by core, kohya's
  scripts, diffusers and other interfaces.
- Every other: ``diffusion_model.blocks.0...``, lora_A and lora_B, PEFT's layout, read by core and diffusers.

In kohya's layout ``alpha`` stands beside the weights. In PEFT's it does not, and not all that read it look for one: the
scale is multiplied into lora_B.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import comfy.lora
import comfy.sd
import comfy.supported_models as families
import comfy.utils
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ...core.networks.lora import Lora, LowRank
from ...core.whole_file import replaced

NETWORK = "diffusion_model."
METADATA_KEY = "aqueduct_lora"


@dataclass(frozen=True)
class Naming:
    """``stem(model, layer)``: what the tensors of a layer of this MODEL begin with."""

    stem: Callable[[nn.Module, str], str]
    down: str
    up: str
    alpha: str | None


def _by_diffusers(model: nn.Module, layer: str) -> str:
    theirs = {ours: name for name, ours in comfy.utils.unet_to_diffusers(model.model_config.unet_config).items()}
    name = theirs.get(f"{layer}.weight", f"{layer}.weight").removesuffix(".weight")
    return f"lora_unet_{name.replace('.', '_')}"


def _by_kohya(model: nn.Module, layer: str) -> str:
    return f"lora_unet_{layer.replace('.', '_')}"


def _by_core(model: nn.Module, layer: str) -> str:
    return NETWORK + layer


KOHYA = ("lora_down.weight", "lora_up.weight", "alpha")
# The first whose families the MODEL's configuration belongs to.
NAMINGS: tuple[tuple[tuple[type, ...], Naming], ...] = (
    ((families.SDXL, families.SDXLRefiner), Naming(_by_kohya, *KOHYA)),
    ((families.SD15, families.SD20), Naming(_by_diffusers, *KOHYA)),
    ((object,), Naming(_by_core, "lora_A.weight", "lora_B.weight", None)),
)


def naming_of(model: nn.Module) -> Naming:
    return next(naming for kinds, naming in NAMINGS if isinstance(model.model_config, kinds))


def lora_tensors(lora: Lora, model: nn.Module) -> dict[str, Tensor]:
    """What the file holds; ``model``: the `BaseModel` it was trained on."""
    naming = naming_of(model)
    tensors = {}
    for layer, low in lora.named().items():
        stem = naming.stem(model, layer)
        tensors[f"{stem}.{naming.down}"] = low.down
        tensors[f"{stem}.{naming.up}"] = _up(low, 1.0 if naming.alpha else low.scale)
        if naming.alpha:
            tensors[f"{stem}.{naming.alpha}"] = low.down.new_tensor(float(low.alpha))
    return tensors


def _up(low: LowRank, scale: float) -> Tensor:
    return (scale * low.up).view(*low.up.shape, *[1] * (low.down.ndim - 2))


def write_lora(path: Path, tensors: dict[str, Tensor], description: dict) -> None:
    """A safetensors file, whole or not at all; ``description``: JSON, of what it is."""
    ready = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    with replaced(path) as beside:
        save_file(ready, beside, metadata={METADATA_KEY: json.dumps(description), "format": "pt"})


def read_lora(path: Path) -> tuple[dict, dict[str, Tensor]]:
    """What a file says of itself, nothing if it is not of this pack, and its tensors. Raises ValueError for no such
    file."""
    try:
        with safe_open(path, "pt") as file:
            told = (file.metadata() or {}).get(METADATA_KEY)
            return json.loads(told) if told else {}, {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{Path(path).name} is no safetensors file ({error})") from error


def with_lora(patcher, tensors: dict[str, Tensor], strength: float, name: str, host: str):
    """A clone of the MODEL with the LoRA on it, by core's own loader. ``name`` of the file, ``host`` it was made for.

    Raises ValueError, naming both, for one that was made for another MODEL.
    """
    misfits = _misfits(patcher.model, tensors)
    if misfits:
        more = f" and {len(misfits) - 3} more" if len(misfits) > 3 else ""
        raise ValueError(
            f"{name} was trained on {host}, this MODEL is {host_name(patcher.model)}: {'; '.join(misfits[:3])}{more}"
        )
    return comfy.sd.load_lora_for_models(patcher, None, tensors, strength, 0)[0]


def host_name(model: nn.Module) -> str:
    """As ``WAN21 (WanModel)``."""
    return f"{type(model).__name__} ({type(model.diffusion_model).__name__})"


def _misfits(model: nn.Module, tensors: dict[str, Tensor]) -> list[str]:
    """Tensors that core would find no weight for, or one of another shape."""
    known = comfy.lora.model_lora_keys_unet(model, {})
    weights = dict(model.named_parameters())
    found = []
    for stem in sorted({name.split(".lora_")[0] for name in tensors if ".lora_" in name}):
        target = known.get(stem)
        if target is None:
            found.append(f"it has no {stem.removeprefix(NETWORK)}")
            continue
        down, up = (next(tensors[f"{stem}.{end}"] for end in ends if f"{stem}.{end}" in tensors) for ends in ENDS)
        have, theirs = list(weights[target].shape), [len(up), *down.shape[1:]]
        if have != theirs:
            found.append(f"{target.removeprefix(NETWORK)} is {have}, in the file {theirs}")
    return found


ENDS = (("lora_A.weight", "lora_down.weight"), ("lora_B.weight", "lora_up.weight"))
