"""Motion adapters on MODELs (the AQUEDUCT_ADAPTER socket).

An adapter sits on a clone of a MODEL as one wrapper around its network, which sees exactly what the network sees and
hands the adapter's residuals in with it. Nothing of the MODEL is changed; its weights are shared with the original.
"""

from dataclasses import dataclass, replace

import comfy.model_management as mm
import comfy.model_patcher
from comfy.patcher_extension import WrappersMP
from torch import Tensor
from torch.nn import functional as F

from ...core import checkpoints
from ...core.motion import MotionField
from ...core.motion.carry import carry
from ...core.networks import MotionAdapter
from ...core.noise.maps import latent_motion
from .backbones import Backbone, Seen, backbone_of
from .gradients import usable
from .images import check_aspect, to_clip
from .loading import load_beside
from .progress import reporter
from .runs import Span, bound, run_of, watch

PART = "adapter"
WRAPPER_KEY = "aqueduct_adapter"


@dataclass(frozen=True)
class LoadedAdapter:
    """A motion adapter in its patcher, with its file's configuration."""

    patcher: comfy.model_patcher.ModelPatcher
    config: dict

    @property
    def network(self) -> MotionAdapter:
        return self.patcher.model


def load_adapter(path: str) -> LoadedAdapter:
    """The adapter of a file of ours or a released one. Raises ValueError where it has none."""
    checkpoint = checkpoints.open_checkpoint(path)
    return LoadedAdapter(load_beside(checkpoint, PART), checkpoint.config)


@dataclass(frozen=True, eq=False)
class Attachment:
    """An adapter on a MODEL. Its instances are DIFFUSION_MODEL wrappers.

    ``motion`` in both directions; ``image [1, 3, H, W]`` in 0..1: what the first frame shows; ``strength`` multiplies
    the residuals, within ``span`` of the MODEL's levels.
    ``window``: start and stop, the frames of the motion that the clip is; None for all.

    Raises ValueError for what can be seen to be wrong before there is a LATENT.
    """

    adapter: LoadedAdapter
    backbone: Backbone
    motion: MotionField
    image: Tensor
    strength: float
    span: Span
    window: tuple[int, int] | None = None

    def __post_init__(self):
        self.clip_motion()

    def clip_motion(self) -> MotionField:
        return self.motion if self.window is None else self.motion.sliced(*self.window)

    def windowed(self, start: int, stop: int, image: Tensor | None = None) -> "Attachment":
        """The same for frames ``start`` to ``stop - 1`` of the whole motion, however it was aimed before.

        ``image``: IMAGE of the clip's new first frame, else the one it has. Raises ValueError for frames that are not
        there.
        """
        return replace(self, window=(start, stop), image=self.image if image is None else to_clip(image[:1]))

    def __call__(self, executor, *args, **kwargs):
        call = bound(executor, args, kwargs)
        options = call.arguments["transformer_options"]
        run = run_of(options, "a motion adapter")
        if not self.strength or not self.span.holds(run, options):
            return executor(*args, **kwargs)
        network = self.adapter.network
        seen = self.backbone.read(call.arguments, executor.class_obj, network)
        of_one = run.once((self, seen.frames, seen.film), lambda: self.carried(seen))
        carried = [features.repeat(seen.clips, 1, 1, 1) for features in of_one]
        residuals = network(seen.entering, seen.timesteps, carried, **seen.arguments)
        self.backbone.add(call.arguments, [self.strength * residual for residual in residuals], network)
        return executor(*call.args, **call.kwargs)

    def carried(self, seen: Seen) -> list[Tensor]:
        """The first frame's features in every frame of one clip; they do not depend on the step.

        Raises ValueError where motion, image and LATENT do not fit.
        """
        motion = self.clip_motion()
        self._check_frames(motion, seen)
        check_aspect("motion", motion.size, seen.cells, "take the motion of these frames, or AqueductResizeMotion")
        check_aspect("image", self.image.shape[-2:], seen.cells, "crop it first (ImageScale with crop center)")
        x = seen.entering
        motion = latent_motion(motion.to(x.device), self.backbone.compression, _stoppable).resized(*seen.film)
        image = F.interpolate(self.image.to(x.device), seen.film, mode="bilinear", antialias=True)
        return usable(self.adapter.network.carried(image.to(x.dtype), carry(motion, report=_stoppable)))

    def _check_frames(self, motion: MotionField, seen: Seen) -> None:
        needed = (seen.frames - 1) * self.backbone.compression + 1
        if motion.frames != needed:
            latent = f" ({seen.frames} latent ones)" if needed != seen.frames else ""
            raise ValueError(
                f"the motion has {motion.frames} frames, the clip {needed}{latent}: make them equal (frames of the "
                f"LATENT, or the pace of the motion in AqueductComposeMotion). A motion longer than the MODEL's clips "
                f"is for AqueductEulerianChain"
            )


def _stoppable(done: int, total: int) -> None:
    mm.throw_exception_if_processing_interrupted()


def attached(
    model, adapter: LoadedAdapter, motion: MotionField, image: Tensor, strength: float, start: float, end: float
):  # fmt: skip
    """A clone of the MODEL with the adapter on it, beside others that it has. ``image``: IMAGE, its first frame counts.

    Raises ValueError, naming both, for an adapter that is not for this MODEL.
    """
    backbone = backbone_of(model.model, adapter.network)
    motion, first = motion.bidirectional(reporter()), to_clip(image[:1])
    attachment = Attachment(adapter, backbone, motion, first, strength, Span(start, end))
    clone = model.clone()
    watch(clone)
    clone.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, WRAPPER_KEY, attachment)
    # Loaded and freed with the MODEL, by ComfyUI.
    clone.set_additional_models(WRAPPER_KEY, [*clone.get_additional_models_with_key(WRAPPER_KEY), adapter.patcher])
    return clone


def reattached(model, start: int, stop: int, image: Tensor):
    """A clone of the MODEL whose adapters are aimed at frames ``start`` to ``stop - 1`` of their whole motions, with
    ``image`` (IMAGE) as first frame; itself where there are none. Raises ValueError for frames that are not there."""
    wrappers = model.wrappers.get(WrappersMP.DIFFUSION_MODEL, {}).get(WRAPPER_KEY, [])
    if not wrappers:
        return model
    clone = model.clone()
    clone.wrappers[WrappersMP.DIFFUSION_MODEL][WRAPPER_KEY] = [one.windowed(start, stop, image) for one in wrappers]
    return clone
