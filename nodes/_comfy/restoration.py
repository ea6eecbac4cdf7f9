"""An image restoration network as a real ComfyUI MODEL that any stock sampler, guider and scheduler takes.

Its noise levels and preconditioning are ComfyUI's own EDM, around the problem's first guess instead of around zero:
that is `core.restoration.Precondition`, same scales, and ln(sigma)/4 for the time. Frames lie in the batch axis, one
picture each. What the network is shown of the damaged pictures goes in on channels beside the noisy ones (`c_concat`),
one entry per frame, and the guess is made of it.
"""

import comfy.conds
import comfy.model_base
import comfy.patcher_extension
import comfy.supported_models_base
import torch

from ...core.networks import Restorer
from ...core.restoration import Inpainting, SuperResolution, make_problem
from .images import fitted_mask, to_clip
from .loading import load_model
from .options import OUTER_KEY

CONDITION_KEY = "aqueduct_condition"
# Peak of a forward pass, measured: 102 numbers a pixel with 32 channels at half the size, so 12.75 for each channel at
# the network's own full size; half as much again to be safe. ComfyUI counts in units of 0.01 MiB a pixel.
NUMBERS_PER_CHANNEL = 20


class HostedRestorer(Restorer):
    """Restorer as ComfyUI calls diffusion models: extra options in, DIFFUSION_MODEL wrappers honoured."""

    def __init__(self, image_model=None, **arguments):
        super().__init__(**arguments)
        self.dtype = arguments.get("dtype")

    def forward(self, x, timesteps=None, context=None, y=None, control=None, transformer_options=None, **_):
        """``x``: noisy pictures and condition, one after the other on channels."""
        options = transformer_options or {}
        wrappers = comfy.patcher_extension.get_all_wrappers(comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL, options)
        run = comfy.patcher_extension.WrapperExecutor.new_class_executor(self._restore, self, wrappers)
        return run.execute(x, timesteps, context, y, control, options)

    def _restore(self, x, timesteps, context, y, control, options):
        noisy, condition = x[:, : -self.condition_channels], x[:, -self.condition_channels :]
        return super().forward(noisy, timesteps, condition, outer=bool(options.get(OUTER_KEY)))


class RestorationConfig(comfy.supported_models_base.BASE):
    """What ComfyUI's model loading asks of a family of models."""

    unet_config = {"image_model": "aqueduct_restorer"}
    unet_extra_config = {}
    # The network is small, and its rounding errors are pixels: 16 bits only where the user asks for them.
    supported_inference_dtypes = [torch.float32]


class RestorationModel(comfy.model_base.BaseModel):
    """z0_hat from (z, sigma, condition). ``problem``: what was lost; ``noise``: "gp" or "white", as trained."""

    def __init__(self, model_config, description: dict, device=None):
        levels = description["levels"]
        model_config.sampling_settings = {
            "sigma_min": levels["minimum"],
            "sigma_max": levels["maximum"],
            "sigma_data": description["precondition"]["std_data"],
        }
        super().__init__(model_config, comfy.model_base.ModelType.EDM, device=device, unet_model=HostedRestorer)
        network = self.diffusion_model
        self.memory_usage_factor = 100 * NUMBERS_PER_CHANNEL * network.unet.channels / network.fold**2 / 2**20
        self.problem, self.noise = make_problem(description["restoration"]), description["noise"]

    def _apply_model(self, x, t, c_concat=None, *arguments, **options):
        """The guess, and EDM's prediction of what it lacks; in 32 bits, whatever the network computes with."""
        condition = c_concat.to(x)
        guess = self.problem.guess(condition)
        lacking = super()._apply_model(x - guess, t, condition, *arguments, **options)
        return self.problem.known(guess + lacking, condition)

    def extra_conds(self, **kwargs):
        condition, noise = kwargs.get(CONDITION_KEY), kwargs["noise"]
        self._check(condition, noise)
        per_frame = condition.expand(len(noise), -1, -1, -1)
        return {"c_concat": comfy.conds.CONDNoiseShape(per_frame.to(kwargs["device"]))}

    def _check(self, condition, noise) -> None:
        if condition is None:
            raise ValueError(
                "the CONDITIONING says nothing of the damaged pictures: make positive and negative with "
                "AqueductRestorationCondition"
            )
        channels = self.problem.condition_channels
        if condition.shape[1] != channels:
            raise ValueError(
                f"this MODEL does {self.problem.kind} with {channels} channels of condition, and the CONDITIONING has "
                f"{condition.shape[1]}, for another problem: wire the same MODEL to AqueductRestorationCondition and "
                f"to the guider"
            )
        if noise.dim() != 4 or noise.shape[-2:] != condition.shape[-2:] or len(condition) not in (1, len(noise)):
            raise ValueError(
                f"the damaged pictures make {len(condition)} frames of {_size(condition)}, the LATENT has {len(noise)} "
                f"of {_size(noise)}: take the LATENT that AqueductRestorationCondition gives"
            )


def load_restoration_model(path: str):
    """MODEL and configuration of a restoration file."""
    return load_model(path, RestorationConfig, RestorationModel)


def restoration_of(patcher) -> RestorationModel:
    """The model inside a MODEL. Raises ValueError for any other kind."""
    model = patcher.model
    if not isinstance(model, RestorationModel):
        raise ValueError(
            f"expected the MODEL of AqueductLoadRestorationModel, got a {type(model).__name__}: wire that loader's"
        )
    return model


def damaged(model: RestorationModel, images: torch.Tensor, mask: torch.Tensor | None) -> tuple[torch.Tensor, dict]:
    """What the network is shown of ``images``, ``[F, c, H, W]``, and the LATENT to sample: what is kept, or nothing.

    For inpainting the LATENT holds the known pixels and its noise mask the holes. The model has the known pixels in its
    predictions anyway; the mask also keeps them from guidance, which corrects the state after the last of those.

    Raises ValueError for sizes the network cannot take, and for a mask that is missing or in the way.
    """
    make = {SuperResolution.kind: _small, Inpainting.kind: _holed}[model.problem.kind]
    condition = make(model.problem, to_clip(images) * 2 - 1, mask)
    step = model.diffusion_model.step
    if condition.shape[-2] % step or condition.shape[-1] % step:
        fits = " x ".join(str(max(step, side // step * step)) for side in (condition.shape[-1], condition.shape[-2]))
        raise ValueError(
            f"this model makes pictures whose width and height are multiples of {step}, and these would be "
            f"{_size(condition)}: scale or crop to {fits} first (ImageScale), the mask as well"
        )
    kept = {Inpainting.kind: _known}.get(model.problem.kind, _nothing)
    return condition, kept(condition)


def _small(problem: SuperResolution, pictures: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    if mask is not None:
        raise ValueError(
            "this model enlarges whole pictures and takes no mask: unwire it, or load an inpainting model to fill holes"
        )
    return problem.condition(pictures)


def _holed(problem: Inpainting, pictures: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    if mask is None:
        raise ValueError("this model fills holes: wire a MASK that says where they are (1 = missing)")
    return problem.condition(pictures, fitted_mask(mask, pictures))


def _nothing(condition: torch.Tensor) -> dict:
    return {"samples": torch.zeros_like(condition[:, :3])}


def _known(condition: torch.Tensor) -> dict:
    return {"samples": condition[:, :3].clone(), "noise_mask": condition[:, 3:].clone()}


def _size(pictures: torch.Tensor) -> str:
    return f"{pictures.shape[-1]} x {pictures.shape[-2]}"
