"""The models of `ebdm.py`, and how a picture is made with them; the settings of sampling are here and nowhere else."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from _model_files import ModelFiles
from torch import Tensor

from aqueduct.core.bridges import sample_bridge, times
from aqueduct.core.bridges.diffusion import CosineDiffusion, sample_diffusion
from aqueduct.core.networks.exemplar_unet import ExemplarNetwork, ExemplarUNet, Style, remember
from aqueduct.core.networks.video_bridge import VideoBridge
from aqueduct.core.training.jobs.exemplar_data import pooled_token

STEPS, SOLVER = 5, "bbdm"
DIFFUSION_STEPS = 50  # it begins at noise, and needs more
PAPER_STEPS = 50  # of its Table 6
BATCH = 32
SHIPPED, ENCODER = "exemplar_scenes", "exemplar_encoder"
# (output, z_t, alpha, sigma) -> z_0; "v" is ``alpha eps - sigma z_0``
DIFFUSION_OUTPUTS: dict[str, Callable[..., Tensor]] = {
    "x0": lambda output, z, alpha, sigma: output,
    "v": lambda output, z, alpha, sigma: alpha * z - sigma * output,
}
Encode = Callable[[Tensor], Tensor]  # pictures [n, 3, H, W] in -1..1 -> [n, features]


@dataclass(frozen=True)
class Row:
    """One of the compared models: its file, and which global encoder it is shown the exemplar by, if any."""

    file: str
    encoder: Callable[["Models"], Encode] | None
    others: tuple[str, ...] = ()  # files that its answers depend on besides
    steps: int = STEPS

    @property
    def files(self) -> tuple[str, ...]:
        return (self.file, *self.others)


def _shipped_encoder(models: "Models") -> Encode:
    return models.encoder()


OURS = "+ exemplar network and attention (ours)"
ROWS = {
    "baseline bridge, no exemplar": Row("exemplar_baseline", None),
    "+ pooled token": Row("exemplar_pooled", lambda models: pooled_token),
    "+ self-supervised token": Row("exemplar_global", _shipped_encoder, (SHIPPED, ENCODER)),
    OURS: Row(SHIPPED, _shipped_encoder),
    "conditional diffusion, control and token": Row(
        "exemplar_diffusion", _shipped_encoder, (SHIPPED, ENCODER), DIFFUSION_STEPS
    ),
}


@dataclass(frozen=True, eq=False)
class Models(ModelFiles):
    """Those of the ablation, and the one that ships."""

    def encoder(self) -> Encode:
        """The one that ships; it lies in a file of its own while the shipped model is not there."""
        return self.load(SHIPPED if self.path(SHIPPED) else ENCODER, "encoder")[0]

    def rows(self) -> dict[str, Row]:
        """Those whose files are there; the others are named."""
        for name, row in ROWS.items():
            if self.path(row.file) is None:
                print(f"no {row.file}.safetensors, so no row {name!r}", flush=True)
        return {name: row for name, row in ROWS.items() if self.path(row.file)}

    def translator(self, name: str) -> "Translator":
        row = ROWS[name]
        denoiser, config = self.load(row.file)
        network = self.load(row.file, "exemplar")[0] if "exemplar" in config["parts"] else None
        return Translator(denoiser, None if row.encoder is None else row.encoder(self), network, config)


@dataclass(frozen=True, eq=False)
class Translator:
    """Networks that turn a control into a picture in the style of an exemplar.

    ``encode`` None: no exemplar is looked at. ``network`` None: the exemplar is seen by its token alone.
    """

    denoiser: ExemplarUNet
    encode: Encode | None
    network: ExemplarNetwork | None
    config: dict

    @property
    def from_noise(self) -> bool:
        return "diffusion" in self.config

    @property
    def trained(self) -> str:
        """How, in a few words: of this file alone, not of what it started from."""
        of, how = self.config["training"], self.config.get("diffusion", self.config)["parameterisation"]
        start = f" after {of['start']}" if of.get("start") else ""
        constants = self.config.get("bridge", {}).get("constants", {})
        told = "".join(f", {name} {value:g}" for name, value in constants.items())
        return f"{of['steps']} steps{start}; output {how}{told}"

    def styles(self, exemplar: Tensor) -> tuple[Style, ...]:
        if self.encode is None:
            return ()
        cls = self.encode(exemplar)
        if self.network is None:
            return (Style(self.denoiser.token(cls)),)
        return (remember(self.denoiser, self.network, exemplar, cls),)

    @torch.no_grad()
    def __call__(
        self, control: Tensor, exemplar: Tensor, seeds: Iterable[int], steps: int = STEPS, solver: str = SOLVER
    ) -> Tensor:
        """``[n, 3, H, W]`` in 0..1 from ``control, exemplar`` alike in -1..1; one seed for each picture."""
        parts = zip(control.split(BATCH), exemplar.split(BATCH), _split(list(seeds)), strict=True)
        return torch.cat([self._made(*part, steps, solver) for part in parts])

    def _made(self, control: Tensor, exemplar: Tensor, seeds: Sequence[int], steps: int, solver: str) -> Tensor:
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]

        def noise(*moments: Tensor) -> Tensor:
            return torch.stack([torch.randn(control.shape[1:], generator=generator) for generator in generators])

        made = self._diffused if self.from_noise else self._bridged
        return (made(control, self.styles(exemplar), noise, steps, solver) / 2 + 0.5).clamp(0, 1)

    def _bridged(self, control: Tensor, styles: Sequence[Style], noise, steps: int, solver: str) -> Tensor:
        described = VideoBridge.from_config(self.config)
        denoiser = described.denoiser(
            lambda x, timesteps, y: self.denoiser(_by_pixel(x), timesteps, styles), control, control, None
        )
        moments = times(described.bridge, steps, self.config["sampling"]["spacing"])
        return sample_bridge(denoiser, control, moments, described.bridge, solver, noise_sampler=noise)

    def _diffused(self, control: Tensor, styles: Sequence[Style], noise, steps: int, solver: str) -> Tensor:
        """Ancestral sampling: there are no solvers to choose from."""
        process, read = CosineDiffusion(), DIFFUSION_OUTPUTS[self.config["diffusion"]["parameterisation"]]

        def denoiser(z: Tensor, t: Tensor) -> Tensor:
            alpha, _, sigma = (x.to(z) for x in process.coefficients(t))
            timesteps = torch.full((len(z),), 1000 * float(t))
            output = self.denoiser(_by_pixel(torch.cat([z, control], dim=1)), timesteps, styles)
            return read(output, z, alpha, sigma)

        moments = torch.linspace(1, 0, steps + 1, dtype=torch.float64)
        return sample_diffusion(denoiser, noise(), moments, process, 1.0, noise)


def _split(seeds: list[int]) -> list[list[int]]:
    return [seeds[n : n + BATCH] for n in range(0, len(seeds), BATCH)]


def _by_pixel(x: Tensor) -> Tensor:
    """Channels last in memory: convolutions on a processor take two thirds of the time."""
    return x.contiguous(memory_format=torch.channels_last)
