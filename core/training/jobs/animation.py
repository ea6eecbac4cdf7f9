"""Image-to-video bridges in pixels, and the motion adapters that make a frozen one follow a motion (EMG).

The backbone learns to animate a picture, anyhow. Then it is frozen, and an adapter learns to make it follow a motion:
of worlds of photographs (`Worlds`, the models that ship and EMG's Table 3), or of one's own clips (`Prepared`).
"""

from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from ... import checkpoints
from ...bridges.process import bridge_gmax
from ...networks.layout import InputLayout
from ...networks.video_bridge import VideoBridge
from ...networks.video_unet import VideoMotionAdapter, VideoUNet, start_from
from ..clip_tasks import Adapted, AdapterObjective
from ..config import Files, Recipe
from ..task import Batch, Task
from .animation_clips import Prepared, PreparedClips
from .animation_loss import bridge_loss, with_carried
from .animation_worlds import WorldClips, Worlds


@dataclass(frozen=True)
class Network:
    """Sizes of a `VideoUNet`; what it takes in and gives follows from the clips."""

    channels: int = 48
    multipliers: tuple[int, ...] = (1, 2)
    fold: int = 4
    groups: int = 8

    def arguments(self, latent_channels: int = 3, frames: int = 16) -> dict:
        """All of `VideoUNet`'s and `VideoMotionAdapter`'s; the prior comes beside the latent, on channels."""
        own = {**asdict(self), "multipliers": list(self.multipliers)}
        return {"in_channels": 2 * latent_channels, "out_channels": latent_channels, "frames": frames} | own


@dataclass(frozen=True)
class Start:
    """``backbone``: the run, or the file, that is frozen. ``adapter``: what the adapter goes on from, None for a new
    one."""

    backbone: str
    adapter: str | None = None


@dataclass(frozen=True)
class AnimationJob:
    """The bridge itself.

    ``carried``: share of the clips whose prior is the picture carried along the motion instead of the repeated one, as
    FrameBridge's coarse priors.
    """

    data: Worlds | Prepared
    network: Network = Network()
    carried: float = 0.0

    def make(self, recipe: Recipe, files: Files) -> Task:
        clips, video = self.data.open(recipe, files), video_bridge()
        arguments = self.network.arguments(clips.channels, clips.frames)
        network = VideoUNet(**arguments).initialise(torch.Generator().manual_seed(recipe.seed))
        network.train().to(files.device)

        def predict(x: Tensor, timesteps: Tensor, y: None) -> Tensor:
            return network(x, timesteps).float()

        def draw(generator: torch.Generator, n: int) -> Batch:
            return with_carried(clips.draw(generator, n), self.carried, generator)

        def loss(drawn: Batch) -> Tensor:
            denoiser = lambda z_T, first: video.denoiser(predict, z_T, first, None)  # noqa: E731
            return bridge_loss(video.bridge, denoiser, *clips.read(drawn, files.device), drawn)[0]

        told = {"carried_priors": self.carried, "loss": "mean squared error in z_0, uniform weight"}
        parts = {"model": {"architecture": "VideoUNet", "arguments": arguments}}
        config = described(recipe, parts, clips, told, bridge_config())
        return Task({"model": network}, list(network.parameters()), draw, loss, config, largest=clips.largest)


@dataclass(frozen=True)
class MotionAdapterJob:
    """A motion adapter on a frozen backbone."""

    start: Start
    data: Worlds | Prepared
    objective: AdapterObjective = AdapterObjective()

    def make(self, recipe: Recipe, files: Files) -> Task:
        clips = self.data.open(recipe, files)
        backbone, found = checkpoints.load(files.model(self.start.backbone))
        if not isinstance(backbone, VideoUNet):
            raise ValueError(f"{self.start.backbone} is a {type(backbone).__name__}: this adapter is a VideoUNet's")
        backbone, arguments = backbone.float(), found["parts"]["model"]["arguments"]
        adapter = self._adapter(recipe, files, backbone, arguments).train()
        adapted = Adapted(backbone.to(files.device), adapter.to(files.device), VideoBridge.from_config(found))
        draw, loss = clips.adapter(adapted, self.objective, files.device)
        told = {
            "start": self.start.backbone, "adapter": self.start.adapter, "carried_priors": self.objective.carried,
            "mask": self.objective.mask, "lambda_geo": self.objective.weight,
            "loss": "mean squared error in z_0, uniform weight, and EMG eq. 10",
        }  # fmt: skip
        parts = {"adapter": {"architecture": "VideoMotionAdapter", "arguments": arguments}}
        config = described(recipe, parts, clips, told, {key: found[key] for key in bridge_config()})
        networks = [adapted.backbone]
        return Task({"adapter": adapter}, list(adapter.parameters()), draw, loss, config, networks, clips.largest)

    def _adapter(self, recipe: Recipe, files: Files, backbone: VideoUNet, arguments: dict) -> VideoMotionAdapter:
        if self.start.adapter is None:
            generator = torch.Generator().manual_seed(recipe.seed)
            return start_from(VideoMotionAdapter(**arguments), backbone, generator)
        adapter, _ = checkpoints.load(files.model(self.start.adapter), part="adapter")
        return adapter.float().requires_grad_(True)


def described(recipe: Recipe, parts: dict, clips: WorldClips | PreparedClips, told: dict, bridge: dict) -> dict:
    """The configuration that goes into the file's metadata."""
    training = {**clips.told, **recipe.training(), **told}
    config = {"about": recipe.about, "class_names": [], "latent": clips.latent, "parts": parts, "training": training}
    return config | bridge


def video_bridge() -> VideoBridge:
    """Process, input and output of the networks here."""
    return VideoBridge.from_config(bridge_config())


def bridge_config() -> dict:
    process = bridge_gmax()
    return {
        "bridge": {"kind": process.kind, "constants": dict(process.constants)},
        "parameterisation": "prior_residual",
        "precondition": "unit_noise",
        "layout": vars(InputLayout(concat_prior=True)),
        "image_condition": "first frame of the prior",
    }
