"""What trainings on prepared clips share: the tables of their files, conditions, and networks to begin with."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ... import checkpoints
from ...data.dataset import LatentDataset
from ...data.joined import joined
from ...networks.diffusers_hosts import DiffusersHost
from ...networks.latte import LatteVideo
from ...tables import unknown
from ..config import Files, Recipe
from ..task import Batch


@dataclass(frozen=True)
class Clips:
    """``folder`` of a prepared data set, or a list of several (see `joined`), relative to the folder of runs.

    ``batch``: over all processes together.

    ``dropout``: share of the rows that are told nothing: a class becomes "no class", tensors those of ``null``, a
    safetensors file in the (first) folder with the conditions of an empty prompt; without it zeros.
    """

    folder: str | tuple[str, ...]
    batch: int
    dropout: float = 0.0
    null: str | None = None

    def __post_init__(self):
        if self.batch < 1 or not 0 <= self.dropout <= 1:
            raise ValueError(f"batch is 1 or more and dropout 0 to 1, got {self.batch} and {self.dropout}")

    def open(self, files: Files, latent: "Latent") -> LatentDataset:
        """Raises ValueError if ``latent`` has another scale than the VAE that the clips were prepared with."""
        clips = open_prepared(files, self.folder)
        std = clips.index.settings.get("latents", {}).get("std")
        if isinstance(std, float) and abs(std * latent.scale - 1) > 1e-3:
            raise ValueError(
                f"{folders_named(self.folder)} holds latents of a VAE with the scale {1 / std:.6g}, and [latent] says "
                f"{latent.scale:g}"
            )
        return clips

    def nothing(self, files: Files) -> dict[str, Tensor]:
        return {} if self.null is None else load_file(files.folder / _listed(self.folder)[0] / self.null)


def open_prepared(files: Files, folder: str | tuple[str, ...]) -> LatentDataset:
    """Raises as `joined`."""
    return joined([files.folder / one for one in _listed(folder)])


def folders_named(folder: str | tuple[str, ...]) -> str:
    """For descriptions and errors."""
    return " and ".join(_listed(folder))


def _listed(folder: str | tuple[str, ...]) -> tuple[str, ...]:
    return (folder,) if isinstance(folder, str) else folder


@dataclass(frozen=True)
class Latent:
    """What the data are latents of, as in ``docs/formats.md``; networks have ``(raw - shift) * scale``."""

    format: str = "pixel"
    vae: str = "pixel_space"
    scale: float = 1.0
    shift: float = 0.0

    def enter(self, raw: Tensor) -> Tensor:
        return (raw - self.shift) * self.scale


@dataclass(frozen=True)
class Network:
    """``arguments`` of a network in `checkpoints.ARCHITECTURES`."""

    architecture: str
    arguments: dict[str, object] = field(default_factory=dict)

    def __post_init__(self):
        if self.architecture not in checkpoints.ARCHITECTURES:
            raise ValueError(unknown("architecture", self.architecture, list(checkpoints.ARCHITECTURES)))

    def build(self, **factory) -> nn.Module:
        """Without weights; ``factory``: ``dtype``, ``device``. Raises ValueError for arguments it does not take."""
        try:
            return checkpoints.ARCHITECTURES[self.architecture](**self.arguments, **factory)
        except TypeError as error:
            raise ValueError(f"{self.architecture}: {error}") from error

    def fresh(self, seed: int) -> nn.Module:
        """As a training from scratch begins: the network's own `initialise`, else its layers' own weights."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = self.build()
        inner = getattr(network, "network", network)  # a neural prior's
        if isinstance(inner, LatteVideo):
            inner.initialise(torch.Generator().manual_seed(seed))
        return network

    @property
    def part(self) -> dict:
        return {"architecture": self.architecture, "arguments": self.arguments}


@dataclass(frozen=True)
class Start:
    """Weights to begin with: ``model``, an earlier run, or ``released``, a folder that diffusers wrote, relative to the
    folder of runs; ``prior``: the neural prior's run. Input channels that they do not have begin with zeros."""

    model: str | None = None
    released: str | None = None
    prior: str | None = None

    def __post_init__(self):
        if self.model and self.released:
            raise ValueError(f"one start is enough, got model {self.model!r} and released {self.released!r}")

    def into(self, network: nn.Module, files: Files) -> list[str]:
        """Names of the weights that got more input channels."""
        if self.model is not None:
            return start_wider(network, checkpoints.load(files.model(self.model))[0].state_dict())
        if self.released is None:
            return []
        if not isinstance(network, DiffusersHost):
            raise ValueError(f"{type(network).__name__} is no network of diffusers: start from a model's file")
        return start_wider(network, type(network).released(files.folder / self.released))


def start_wider(network: nn.Module, state: dict[str, Tensor]) -> list[str]:
    """A host's weights; input channels that it did not have start at zero, so that the network first ignores them.

    Gives the names of the weights that have such. Raises ValueError naming what does not fit otherwise.
    """
    own, widened = network.state_dict(), []
    for name in own.keys() & state.keys():
        (mine, *own_rest), (theirs, *rest) = (_inputs_first(tensors[name].shape) for tensors in (own, state))
        if name.endswith(".weight") and own_rest == rest and mine > theirs:
            wider = torch.zeros_like(own[name])
            wider[:, :theirs] = state[name]
            state = {**state, name: wider}
            widened.append(name)
    checkpoints.load_strictly(network, state, "the start")
    return widened


def _inputs_first(shape: torch.Size) -> tuple[int, ...]:
    """Of a layer's weight ``[out, in, ...]``; of a bias, none."""
    return (shape[1], shape[0], *shape[2:]) if len(shape) > 1 else (0, *shape)


def condition_names(network: nn.Module) -> tuple[str, ...]:
    """Tensors of the data set that the network is told, by name."""
    if isinstance(network, DiffusersHost):
        return network.conditions
    return ("class",) if isinstance(network, LatteVideo) and network.classes else ()


def ask(network: nn.Module, x: Tensor, timesteps: Tensor, conditions: Batch) -> Tensor:
    """The network's output in float32, whatever it computes in: what follows subtracts close numbers."""
    if isinstance(network, DiffusersHost):
        return network(x, timesteps, conditions).float()
    return network(x, timesteps, *conditions.values()).float()


def without(conditions: Batch, dropped: Tensor, nothing: dict[str, Tensor], classes: int) -> Batch:
    """Nothing is told to the ``dropped`` rows (bool ``[n]``)."""

    def one(name: str, value: Tensor) -> Tensor:
        null = torch.tensor(classes) if name == "class" else nothing.get(name, torch.zeros(()))
        which = dropped.to(value.device).view(-1, *[1] * (value.dim() - 1))
        return torch.where(which, null.to(value), value)

    return {name: one(name, value) for name, value in conditions.items()}


def described(
    recipe: Recipe, data: Clips, latent: Latent, channels: int, loss: str, classes: Sequence[str] = ()
) -> dict:
    """What the files of these trainings say, but for parts and process."""
    settings = {
        "data": folders_named(data.folder),
        **recipe.training(),
        "batch": data.batch,
        "loss": loss,
        "dropout": data.dropout,
    }
    return {
        "about": recipe.about,
        "class_names": list(classes),
        "latent": {"channels": channels, **vars(latent)},
        "training": settings,
    }


def class_names(clips: LatentDataset) -> list[str]:
    return list(clips.index.settings.get("classes") or [])


def check_has(clips: LatentDataset, names: Sequence[str]) -> None:
    """ValueError unless every clip was prepared with what the network is told."""
    for clip in clips.index.clips:
        has = {*clip.tensors, *(["class"] if clip.label is not None else [])}
        if missing := [name for name in names if name not in has]:
            raise ValueError(
                f"{clip.path} was prepared without {', '.join(missing)}, which the network is told; it has "
                f"{', '.join(sorted(has))}"
            )
