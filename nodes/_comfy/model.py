"""A bridge network as a real ComfyUI MODEL: its layers, dtypes, offloading, LoRA and conditioning.

Frames lie in the batch axis, as in SVD and AnimateDiff: a LATENT of B clips is ``[B * frames, channels, h, w]``, so
that image VAEs decode it. The prior z_T is the LATENT given to the sampler; the image the model is conditioned on is
its first frame, unless the conditioning brings one. A model of pictures is one whose clips have one frame.
"""

import comfy.conds
import comfy.model_base
import comfy.supported_models_base
import torch
from einops import rearrange, repeat

from ...core.networks.video_bridge import VideoBridge
from .classes import class_indices
from .exemplar_model import READER_KEY, load_reader, takes_exemplars
from .hosted import HOSTED
from .loading import load_model
from .sampler import STATE_KEY

CLASS_KEY, IMAGE_KEY = "aqueduct_class", "aqueduct_image"


class BridgeTimes(torch.nn.Module):
    """`model_sampling` of a bridge: its "sigma" is bridge time. Refuses stock samplers, which start from noise."""

    sigma_min, sigma_max = torch.tensor(0.001), torch.tensor(1.0)  # the ends of `sigmas`; schedulers take logarithms

    def __init__(self):
        super().__init__()
        self.register_buffer("sigmas", torch.linspace(0.001, 1, 1000), persistent=False)

    def timestep(self, sigma):
        return sigma

    def sigma(self, timestep):
        return timestep

    def percent_to_sigma(self, percent):
        return 1.0 - min(max(percent, 0.0), 1.0)

    def noise_scaling(self, *args, **kwargs):
        raise ValueError(
            "a bridge MODEL starts from its prior, not from noise: sample it with SamplerCustomAdvanced, "
            "AqueductBridgeSampler and AqueductBridgeTimes instead of KSampler"
        )


class BridgeConfig(comfy.supported_models_base.BASE):
    """What ComfyUI's model loading asks of a family of models."""

    unet_config = {"image_model": "aqueduct_bridge"}
    unet_extra_config = {}
    supported_inference_dtypes = [torch.float16, torch.bfloat16, torch.float32]


class BridgeModel(comfy.model_base.BaseModel):
    """z0_hat from (z_t, t): input layout, network, and what its output means, all from the file's configuration."""

    def __init__(self, model_config, description: dict, device=None):
        network = HOSTED[description["parts"]["model"]["architecture"]]
        super().__init__(model_config, comfy.model_base.ModelType.FLOW, device=device, unet_model=network)
        self.model_sampling = BridgeTimes()
        self.memory_usage_factor = self.diffusion_model.memory_usage_factor
        self.video = VideoBridge.from_config(description)
        self.bridge = self.video.bridge
        self.class_names = description["class_names"]
        self.takes_image = description["image_condition"] == "image"
        self.frames = self.diffusion_model.clip_frames - self.video.layout.prepend_first_frame

    def extra_conds(self, **kwargs):
        """Prior, image and class, each repeated to one entry per frame of the batch."""
        prior = kwargs["latent_image"]
        self._check_latent(prior)
        clips = prior.shape[0] // self.frames
        image = self._image(kwargs.get(IMAGE_KEY), prior, clips)
        per_frame = {
            "prior": prior,
            "image": repeat(image, "b ... -> (b r f) ...", f=self.frames, r=clips // image.shape[0]),
        }
        if self.class_names:
            wanted = class_indices(kwargs.get(CLASS_KEY), self.class_names, clips)
            per_frame["motion_class"] = repeat(wanted, "b -> (b f)", f=self.frames)
        return {name: comfy.conds.CONDRegular(value.to(kwargs["device"])) for name, value in per_frame.items()}

    def _check_latent(self, latent):
        network = self.diffusion_model
        batch, told = (f"clips x {self.frames}", " (frames in the batch axis)") if self.frames > 1 else ("pictures", "")
        expected = f"[{batch}, {network.out_channels}, {network.sizes}]"
        if latent.dim() != 4 or latent.shape[1] != network.out_channels:
            raise ValueError(
                f"this bridge model takes a LATENT {expected}{told}, got {list(latent.shape)}; "
                f"encode an image of the right size with the model's own VAE (scale it with ImageScale first)"
            )
        height, width = latent.shape[2:]
        if not network.takes(height, width):
            near = network.nearest(height, width)
            raise ValueError(
                f"this bridge model takes a LATENT {expected}{told}, got {list(latent.shape)}; the nearest it takes is "
                f"{near[1]} wide and {near[0]} high: scale the image by {near[1] / width:.4g} across and "
                f"{near[0] / height:.4g} down (ImageScale), then encode it with the model's own VAE"
            )
        if latent.shape[0] % self.frames:
            raise ValueError(
                f"this bridge model makes clips of {self.frames} frames, got a LATENT of {latent.shape[0]}: "
                f"set frames = {self.frames} in AqueductReplicatePrior, or window = {self.frames} in "
                f"AqueductEulerianChain, or make the motion of the carried picture {self.frames} frames long "
                f"(AqueductTrackEditor, AqueductCameraMotion)"
            )

    def _image(self, given, prior, clips: int):
        """Latents ``[images, c, h, w]`` the clips start from: those given, else the prior's first frames."""
        if given is None and self.takes_image:
            raise ValueError(
                "this model's prior does not begin with the image itself, and the CONDITIONING holds none: wire the "
                "image's LATENT to AqueductMotionClass, for positive and negative alike"
            )
        image = prior[:: self.frames] if given is None else self.process_latent_in(given)
        if image.shape[1:] != prior.shape[1:] or clips % image.shape[0]:
            raise ValueError(
                f"the image condition {list(image.shape)} does not fit {clips} clips of latents {list(prior.shape[1:])}"
            )
        return image

    def _apply_model(
        self, x, t, c_concat=None, c_crossattn=None, control=None, transformer_options=None,
        prior=None, image=None, motion_class=None, **_,
    ):  # fmt: skip
        _check_whole(x, prior)
        z_t, z_T = self._clips(x, x), self._clips(prior, x)
        state = (transformer_options or {}).get(STATE_KEY)
        noise = self._clips(state["noise"], x) if state else None
        dtype = self.manual_cast_dtype or self.get_dtype()

        def network(entering, timesteps, y):
            out = self.diffusion_model(entering.to(dtype), timesteps, transformer_options=transformer_options, y=y)
            return out.float()

        first = image.to(x)[:: self.frames]
        classes = None if motion_class is None else motion_class[:: self.frames]
        time = t[0].cpu().double()  # samplers ask for one time at once
        z_0 = self.video.denoiser(network, z_T, first, classes, noise)(z_t, time)
        return rearrange(z_0, "b c f h w -> (b f) c h w")

    def _clips(self, frames, x):
        """Frames in the batch axis -> clips, as many as in ``x``: the branches of CFG share the run's noise."""
        clips = rearrange(frames.to(x), "(b f) c h w -> b c f h w", f=self.frames)
        return clips.repeat(x.shape[0] // frames.shape[0], 1, 1, 1, 1)


def _check_whole(x, prior) -> None:
    """ValueError unless ``x`` is all of what is made, once for each branch of CFG."""
    if x.shape[1:] != prior.shape[1:] or len(x) % len(prior):
        raise ValueError(
            f"a bridge MODEL is asked for all of its LATENT {list(prior.shape)} at once, got {list(x.shape)}: leave "
            f"out what takes it apart (context windows, tiles, ConditioningSetArea: ConditioningSetMask will do)"
        )


def load_bridge_model(path: str):
    """MODEL and configuration of a bridge file; a MODEL that takes exemplars has what reads them attached."""
    model, config = load_model(path, BridgeConfig, BridgeModel)
    if takes_exemplars(model):
        model.set_attachments(READER_KEY, load_reader(path))
    return model, config
