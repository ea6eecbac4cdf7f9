"""A host that is exactly right: its prediction is a posterior mean that is known, so the result's law is known too.

It is a real MODEL (a subclass of `comfy.model_base.BaseModel` in a ModelPatcher): core asks it in its own coordinates,
for eps (SD-like, 1000 discrete levels), v (SVD-like), EDM's own output or velocity (rectified flow).
"""

from collections.abc import Callable

import torch
from torch import Tensor

from aqueduct.tests.unit.oracles import APART

CHANNELS = 4
CONDITIONING = [[torch.zeros(1, 1, 8), {}]]


def mixture_mean(y: Tensor, signal: float | Tensor, noise: float | Tensor) -> Tensor:
    """``E[z_0 | signal z_0 + noise eps = y]``, value by value, for the mixture `APART`; one level for all of ``y``."""
    flat, one_level = y.double().flatten(), (float(torch.as_tensor(value).flatten()[0]) for value in (signal, noise))
    return APART.posterior_mean(flat, torch.zeros_like(flat), *one_level).reshape(y.shape)


def exact_host(kind: str, posterior_mean: Callable[..., Tensor] = mixture_mean):
    """A MODEL of ``kind``, a name of comfy's ``ModelType``: ``EPS``, ``V_PREDICTION_EDM``, ``EDM`` or ``FLOW``.

    ``posterior_mean(y, signal, noise, *given)`` is asked in float64, with levels ``[N, 1, 1, 1]``; ``given`` is what
    came in on further channels, as in inpainting models.
    """
    import comfy.latent_formats
    import comfy.model_base
    import comfy.model_management as mm
    import comfy.model_patcher
    import comfy.supported_models_base

    class Exact(torch.nn.Module):
        """The network: what a perfectly trained one would output for input ``entering`` and timestep ``t``."""

        dtype = torch.float32

        def __init__(self, sampling):
            super().__init__()
            self.sampling = [sampling]  # in a list: a part of the model, not of this module
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def forward(self, entering, t, context=None, **_):
            seen, *given = entering.double().split(CHANNELS, 1)
            level = self.sampling[0].sigma(t).double().reshape(-1, 1, 1, 1)
            if kind == "FLOW":
                return ((seen - posterior_mean(seen, 1 - level, level, *given)) / level).to(entering)
            data = self.sampling[0].sigma_data
            total = (level**2 + data**2).sqrt()
            z = seen * total
            z_0 = posterior_mean(z, torch.ones_like(level), level, *given)
            if kind == "EPS":
                return ((z - z_0) / level).to(entering)
            velocity = (z * data**2 / total**2 - z_0) * total / (level * data)
            return (velocity if kind == "V_PREDICTION_EDM" else -velocity).to(entering)

    class Config(comfy.supported_models_base.BASE):
        unet_config = {"disable_unet_model_creation": True}
        unet_extra_config = {}
        latent_format = comfy.latent_formats.LatentFormat
        memory_usage_factor = 1.0
        sampling_settings = {"shift": 1.0} if kind == "FLOW" else {}

    class ExactModel(comfy.model_base.BaseModel):
        def __init__(self):
            super().__init__(Config(dict(Config.unet_config)), comfy.model_base.ModelType[kind])
            self.diffusion_model = Exact(self.model_sampling)

    return comfy.model_patcher.ModelPatcher(ExactModel(), mm.get_torch_device(), mm.unet_offload_device())
