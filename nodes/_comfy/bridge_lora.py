"""A core MODEL fine-tuned to a bridge: training it, its file, and the MODEL and process that the file makes."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from ...core.bridges import Bridge, make_bridge
from ...core.networks.prior_input import PriorInput
from .alignment import Entry, align_model, as_it_is, by_snr
from .host_loss import WEIGHTS, Asked, BridgeLoss
from .host_training import SAMPLE_STEPS, Host, Rank, sampled, trained_beside
from .lora import host_name, lora_tensors, read_lora, with_lora, write_lora
from .prior import LoadedPrior
from .prior_input import first_layer, prior_input, show_prior
from .prior_start import Guesses, check_prior, told_of_prior, watch_start
from .training import Common, Trained

PRIOR_KEY = "aqueduct.prior_input.weight"  # core's LoRA loader says that it does not know it, and takes the rest
ENTRIES: dict[str, Entry] = {"aligned": by_snr, "as it is": as_it_is}


@dataclass(frozen=True)
class Way:
    """How a host becomes a bridge: the process, how the state enters (a name in `ENTRIES`), the loss's weight (one in
    `WEIGHTS`), whether z_T is another input, the LoRA, and the neural prior that z_T is from, if any."""

    bridge: Bridge
    entry: str
    weight: str
    prior_input: bool
    lora: Rank
    neural_prior: LoadedPrior | None = None

    def config(self, host: str) -> dict:
        bridge = {"kind": self.bridge.kind, "constants": dict(self.bridge.constants)}
        lora = {"rank": self.lora.rank, "alpha": self.lora.alpha, "layers": self.lora.layers}
        start = {} if self.neural_prior is None else {"neural_prior": told_of_prior(self.neural_prior)}
        return {"kind": "bridge", "host": host, "bridge": bridge, "entry": self.entry, "weight": self.weight,
                "prior_input": self.prior_input, "lora": lora, **start}  # fmt: skip


def train_bridge_beside(host: Host, way: Way, given: Common) -> Trained:
    """FrameBridge's fine-tuning (its algorithm 1, with and without SAF) as a LoRA, and a prior input if asked for.

    Raises ValueError for a neural prior of other clips.
    """
    neural = way.neural_prior
    if neural is not None:
        check_prior(neural, host.clips)
    config = {**way.config(host.name), "training": {**given.told(), "data": host.data.about}}
    seen = prior_input(host.patcher.model) if way.prior_input else None

    def patched(clone):
        aligned = align_model(clone, way.bridge, ENTRIES[way.entry])
        if seen is not None:
            show_prior(aligned, seen)
        return aligned

    def body(asked: Asked) -> Trained:
        lora = way.lora.made(asked.model.diffusion_model, given.seed)
        guess = None if neural is None else Guesses.of(neural, host.clips, asked.device)
        loss = BridgeLoss(asked, way.bridge, WEIGHTS[way.weight], guess)
        parts: dict[str, nn.Module] = {"lora": lora}
        if seen is not None:
            # Made with the MODEL's weights, which may be of inference mode and elsewhere.
            seen.weight = nn.Parameter(torch.zeros(seen.weight.shape, device=asked.device))
            parts["prior_input"] = seen

        def save(path: Path) -> None:
            tensors = lora_tensors(lora, asked.model)
            write_lora(path, tensors if seen is None else {**tensors, PRIOR_KEY: seen.weight}, config)

        sample = sampled(asked, host, lambda: loss.sample(0, SAMPLE_STEPS, given.seed))
        return trained_beside(asked, host, given, loss, parts, config, save, sample)

    return host.running(given, patched, body)


def load_bridge_lora(patcher, path: str | Path, strength: float):
    """``(MODEL, bridge)``: the LoRA on a clone, its prior input, and the way that it was trained to see z_t.

    A MODEL that was trained to start from a neural prior says so when it is sampled from a still. Raises ValueError for
    a file of something else, and, naming both, for another MODEL than it was trained on.
    """
    name = Path(path).name
    config, tensors = read(path)
    bridge = make_bridge(config["bridge"]["kind"], **config["bridge"]["constants"])
    shown = tensors.pop(PRIOR_KEY, None)
    aligned = align_model(patcher, bridge, ENTRIES[config["entry"]])
    model = with_lora(aligned, tensors, strength, name, config["host"])
    if shown is not None:
        show_prior(model, _loaded_input(patcher.model, shown * strength, name, config["host"]))
    if "neural_prior" in config:
        watch_start(model, name, config["neural_prior"]["about"])
    return model, bridge


def read(path: str | Path) -> tuple[dict, dict]:
    """What a file says of itself, and its tensors. Raises ValueError for one that AqueductTrainBridge did not make."""
    config, tensors = read_lora(Path(path))
    if config.get("kind") != "bridge":
        raise ValueError(
            f"{Path(path).name} was not made by AqueductTrainBridge: load a plain LoRA with LoraLoaderModelOnly, and a "
            f"network of this pack with AqueductLoadBridgeModel"
        )
    return config, tensors


def _loaded_input(model: nn.Module, weight: torch.Tensor, name: str, host: str) -> PriorInput:
    network = prior_input(model)
    if network.weight.shape != weight.shape:
        raise ValueError(
            f"{name} was trained on {host}, this MODEL is {host_name(model)}: {first_layer(model)} takes a prior of "
            f"{list(network.weight.shape)}, in the file it is {list(weight.shape)}"
        )
    network.weight = nn.Parameter(weight, requires_grad=False)
    return network
