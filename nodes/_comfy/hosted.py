"""Networks as ComfyUI calls diffusion models, by the name of their architecture in a file."""

from typing import Any

import comfy.patcher_extension

from ...core.networks import ExemplarUNet, LatteVideo, UNet, VideoUNet
from ...core.networks.exemplar_attention import shared
from .layers import with_weights

# Peak of a forward pass of VideoUNet, measured: 63 numbers a pixel with 48 channels at a quarter of the size, so 21 for
# each channel at the network's own full size; half as much again to be safe.
NUMBERS_PER_CHANNEL = 32
# The same of ExemplarUNet in the shape of EBDM's f4, counted without the matrices of attention: 47 for each channel at
# the network's own full size, 16 of them what it remembers of an exemplar.
NUMBERS_WITH_EXEMPLAR = 70
# The same of UNet as BBDM releases it: 3200 numbers a pixel with 128 channels, so 25.
NUMBERS_PER_UNET_CHANNEL = 38


class Hosted:
    """Mixed into a network: extra options in, DIFFUSION_MODEL wrappers honoured, and what sizes it takes.

    ``memory_usage_factor``: see ComfyUI's `BaseModel.memory_required`, which counts in units of 0.01 MiB a pixel.
    """

    memory_usage_factor = 2.0

    def __init__(self, image_model=None, **arguments):
        if "operations" in arguments:
            arguments["operations"] = with_weights(arguments["operations"])
        super().__init__(**arguments)
        self.dtype = arguments.get("dtype")  # ComfyUI asks networks for it

    def forward(self, x, timesteps=None, context=None, y=None, control=None, transformer_options=None, **_):
        """What wrappers get are these, in this order, as of ComfyUI's own U-Nets."""
        options = transformer_options or {}
        wrappers = comfy.patcher_extension.get_all_wrappers(comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL, options)
        run = comfy.patcher_extension.WrapperExecutor.new_class_executor(self.hosted, self, wrappers)
        return run.execute(x, timesteps, context, y, control, options)

    def hosted(self, x, timesteps, context, y, control, transformer_options):
        return super().forward(x, timesteps, y)


class HostedLatte(Hosted, LatteVideo):
    """`LatteVideo` has the one size it was trained at."""

    @property
    def clip_frames(self) -> int:
        return self.size[0]

    @property
    def sizes(self) -> str:
        return f"{self.size[1]}, {self.size[2]}"

    def takes(self, height: int, width: int) -> bool:
        return (height, width) == tuple(self.size[1:])

    def nearest(self, height: int, width: int) -> tuple[int, int]:
        return tuple(self.size[1:])


class Stepped(Hosted):
    """Mixed into a network that takes every height and width that are multiples of its ``step``."""

    @property
    def sizes(self) -> str:
        return f"height, width (multiples of {self.step})"

    def takes(self, height: int, width: int) -> bool:
        return height % self.step == 0 == width % self.step

    def nearest(self, height: int, width: int) -> tuple[int, int]:
        return tuple(self.step * max(1, round(side / self.step)) for side in (height, width))


class HostedVideoUNet(Stepped, VideoUNet):
    """`VideoUNet`, which takes residuals from a motion adapter: ``control["sites"]``, a list of one per site."""

    @property
    def clip_frames(self) -> int:
        return self.frames

    @property
    def memory_usage_factor(self) -> float:
        return 100 * NUMBERS_PER_CHANNEL * self.widths[0] / self.fold**2 / 2**20

    def hosted(self, x, timesteps, context, y, control, transformer_options):
        return VideoUNet.forward(self, x, timesteps, y, (control or {}).get("sites"))


class Pictures(Stepped):
    """Mixed into a network of single pictures, which are clips of one frame here.

    It has ``pictures(x [n, c, h, w], timesteps, control)``.
    """

    clip_frames = 1

    def hosted(self, x, timesteps, context, y, control, transformer_options):
        return self.pictures(x[:, :, 0], timesteps, control or {})[:, :, None]


class HostedExemplarUNet(Pictures, ExemplarUNet):
    """`ExemplarUNet`, which takes exemplars: ``control["styles"]``, a sequence of `Style`."""

    @property
    def memory_usage_factor(self) -> float:
        return 100 * NUMBERS_WITH_EXEMPLAR * self.unet.channels / self.fold**2 / 2**20

    def pictures(self, x, timesteps, control: dict):
        styles = control.get("styles", ())
        weights = shared([style.weight for style in styles]) if styles else ()
        styles = [style.weighted(weight) for style, weight in zip(styles, weights, strict=True)]
        return ExemplarUNet.forward(self, x, timesteps, styles)


class HostedUNet(Pictures, UNet):
    """`UNet` as it is: BBDM's released bridges."""

    @property
    def step(self) -> int:
        return 2 ** (self.levels - 1)

    @property
    def memory_usage_factor(self) -> float:
        return 100 * NUMBERS_PER_UNET_CHANNEL * self.channels / 2**20

    def pictures(self, x, timesteps, control: dict):
        return UNet.forward(self, x, timesteps)


HOSTED: dict[str, Any] = {
    "LatteVideo": HostedLatte, "VideoUNet": HostedVideoUNet, "ExemplarUNet": HostedExemplarUNet, "UNet": HostedUNet,
}  # fmt: skip
