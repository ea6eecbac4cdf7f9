"""The host of `saf.py` and the bridges fine-tuned from it, written to files at several iterations of each."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import torch

from aqueduct.core import checkpoints
from aqueduct.core.bridges.diffusion import CosineDiffusion
from aqueduct.core.bridges.process import Bridge, bridge_gmax
from aqueduct.core.networks.latte import LatteVideo
from aqueduct.core.networks.layout import InputLayout
from aqueduct.core.networks.neural_prior import make_prior
from aqueduct.core.networks.video_bridge import VideoBridge
from aqueduct.core.training.digits import DIRECTIONS, MovingDigits, load_glyphs
from aqueduct.core.training.loop import LoopSettings, Progress, train
from aqueduct.core.training.objectives import draw_bridge, drop_condition, uniform_weight, z0_loss

HOST = "class_diffusion_digits"  # as `train_small.py` names and trains it
SIZES = {"out_channels": 3, "frames": 8, "height": 32, "width": 32, "patch": 8, "hidden": 128, "depth": 6, "heads": 4}


@dataclass(frozen=True)
class Arm:
    """What is fine-tuned: what enters the network, in which process, from the host or not, and with which seeds.

    The network's output is an estimate of ``z_0`` in every arm and in the host: what it predicts never changes.
    """

    precondition: str
    process: Bridge | CosineDiffusion = field(default_factory=bridge_gmax)
    from_host: bool = True
    seeds: tuple[int, ...] = (0, 1, 2)


SAF, RAW, DIFFUSION, RESCALED = "with SAF", "without SAF", "I2V diffusion", "input rescaled only"
ARMS = {
    SAF: Arm("aligned_cosine"),
    RAW: Arm("raw"),
    DIFFUSION: Arm("raw", CosineDiffusion()),  # what the host is, with the first frame beside it
    RESCALED: Arm("unit_noise"),
    "with SAF, from scratch": Arm("aligned_cosine", from_host=False, seeds=(0,)),
}
BESIDE = InputLayout(concat_prior=True)  # the repeated first frame on channels that the host does not have


@dataclass(frozen=True)
class Plan:
    """Sizes of the trainings: the same for every arm. ``points``: iterations at which a bridge is written."""

    points: tuple[int, ...] = (0, 25, 50, 100, 200, 300, 400, 600, 800, 1000)
    batch: int = 16
    learning_rate: float = 1e-3  # the host's own
    warmup: int = 50
    host_steps: int = 1000
    host_batch: int = 32
    hidden: int = SIZES["hidden"]
    depth: int = SIZES["depth"]

    @property
    def steps(self) -> int:
        return self.points[-1]

    @property
    def settings(self) -> LoopSettings:
        return LoopSettings(self.steps, self.learning_rate, self.warmup)


QUICK = Plan(points=(0, 1, 2), batch=4, host_steps=2, host_batch=4, hidden=32, depth=2)


@dataclass(frozen=True)
class Trainings:
    """Files in ``folder``; whatever is missing is trained, and taken up where it stopped."""

    folder: Path
    plan: Plan

    def host(self) -> Path:
        """The class-to-video diffusion, as ``train_small.py class_diffusion_digits`` trains it."""
        path = self.folder / f"{HOST}.safetensors"
        if not path.exists():
            config = _config("class-to-video diffusion", CosineDiffusion(), "raw", InputLayout(), self.plan)
            network = checkpoints.build(config).initialise(torch.Generator().manual_seed(0))
            _train(network, config, self.plan.host_batch, LoopSettings(self.plan.host_steps), 1, path.with_suffix(""))
            checkpoints.save(network, path, config)
        return path

    def bridges(self, name: str, seed: int) -> dict[int, str]:
        """Names of one arm's files in `written`, by iteration. ``seed``: of clips, times, noise, and a new network."""
        arm, plan = ARMS[name], self.plan
        stem = f"{name.replace(' ', '_').replace(',', '').lower()}_{seed}"
        names = {point: f"{stem}_{point:04d}" for point in plan.points}
        if all((self.written / f"{one}.safetensors").exists() for one in names.values()):
            return names
        host, _ = checkpoints.load(self.host())
        config = _config(name, arm.process, arm.precondition, BESIDE, plan)
        network = checkpoints.build(config).initialise(torch.Generator().manual_seed(seed))
        if arm.from_host:
            start_from(network, host)

        def write(iteration: int) -> None:
            if iteration in names:
                path = self.written / f"{names[iteration]}.safetensors"
                checkpoints.save(network, path, config | {"iteration": iteration}, torch.float32)

        self.written.mkdir(parents=True, exist_ok=True)
        write(0)
        _train(network, config, plan.batch, plan.settings, 100 + seed, self.written / stem, write)
        return names

    @property
    def written(self) -> Path:
        """Named after the host and the plan: another host or plan does not go on with these files."""
        told = self.host().read_bytes() + repr(self.plan).encode()
        return self.folder / f"saf_{hashlib.sha256(told).hexdigest()[:12]}"


def start_from(network: LatteVideo, host: LatteVideo) -> None:
    """The host's weights; channels that it does not have start at zero, so that the prior is first ignored."""
    state = host.float().state_dict()
    weight = torch.zeros_like(network.x_embedder.proj.weight)
    weight[:, : host.in_channels] = state["x_embedder.proj.weight"]
    network.load_state_dict(state | {"x_embedder.proj.weight": weight})


def bridge_loss(network: LatteVideo, video: VideoBridge, world: MovingDigits, batch: int):
    """``loss(generator)``: mean squared error in ``z_0`` at uniform times; a diffusion is the bridge with ``b = 0``."""

    def loss(generator: torch.Generator) -> torch.Tensor:
        clips = world.sample(batch, generator)
        z_0, first = clips.video, clips.video[:, :, 0]
        z_T = make_prior(None, first, clips.direction, z_0.shape[2])
        t = torch.rand(batch, generator=generator, dtype=torch.float64).clamp(1e-3, 1 - 1e-6)
        z_t = draw_bridge(video.bridge, z_0, z_T, t, torch.randn(z_0.shape, generator=generator))
        y = drop_condition(clips.direction, network.classes, 0.1, generator)
        return z0_loss(video.denoiser(network, z_T, first, y)(z_t, t), z_0, uniform_weight(video.bridge, t))

    return loss


def _train(network, config: dict, batch: int, settings: LoopSettings, data_seed: int, stem: Path, write=None) -> None:
    """Resumable at ``<stem>.resume.pt``; ``write(iterations so far)`` is called after every one."""
    process = CosineDiffusion() if config["bridge"]["kind"] == CosineDiffusion().kind else None
    world = MovingDigits(load_glyphs(held_out=False)[0])
    loss = bridge_loss(network, VideoBridge.from_config(config, process), world, batch)

    def report(step: int, progress: Progress) -> None:
        if write is not None:
            write(step + 1)
        if (step + 1) % 50 == 0:
            mean = sum(progress.losses[-50:]) / 50
            print(f"{stem.name} step {step + 1} loss {mean:.5f} {progress.seconds:.0f} s", flush=True)

    stem.parent.mkdir(parents=True, exist_ok=True)
    checkpoint = stem.with_name(f"{stem.name}.resume.pt")
    train(network.parameters(), loss, settings, torch.Generator().manual_seed(data_seed), checkpoint, report)


def _config(about: str, process, precondition: str, layout: InputLayout, plan: Plan) -> dict:
    """What a file says of itself (``docs/formats.md``)."""
    sizes = SIZES | {"hidden": plan.hidden, "depth": plan.depth}
    arguments = sizes | {"in_channels": layout.channels(3), "classes": len(DIRECTIONS)}
    return {
        "about": f"benchmarks/saf.py: {about}",
        "class_names": list(DIRECTIONS),
        "latent": {"format": "pixel", "channels": 3, "vae": "pixel_space"},
        "parts": {"model": {"architecture": "LatteVideo", "arguments": arguments}},
        "bridge": {"kind": process.kind, "constants": dict(getattr(process, "constants", ()))},
        "parameterisation": "x0",
        "precondition": precondition,
        "layout": vars(layout),
        "image_condition": "first frame of the prior",
    }
