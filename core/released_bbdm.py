"""BBDM's latent Brownian bridge LBBDM-f4 as published: `.pth` files, the denoiser under `ema`, the VQGAN under `model`.

Settings are those of its configuration template: Brownian bridge of variance 1, the objective 'grad' (our residual),
linear m_t, 200 steps, eta 1, latents of the VQGAN unquantised, unscaled and not normalised.
"""

from .networks import UNet
from .networks.layout import InputLayout
from .released_layout import Released

LBBDM = Released(
    "BBDM's latent bridge (LBBDM-f4)", "model", UNet,
    {
        "in_channels": 3, "out_channels": 3, "channels": 128, "multipliers": [1, 4, 8], "blocks": 2, "attention": [],
        "head_channels": 64,
    },
    {
        "bridge": {"kind": "brownian", "constants": {"variance": 1.0}},
        "parameterisation": "residual",
        "precondition": "bbdm_index",
        "layout": vars(InputLayout()),
        "image_condition": "first frame of the prior",
        "class_names": [],
        "latent": {"format": "vq-f4", "channels": 3, "vae": "vq-f4"},
        "sampling": {"solver": "bbdm", "spacing": "bbdm", "steps": 200},
    },
    renamed=(("denoise_fn.", ""),),
    beside=("vqgan.",),
    refused={"ori_latent_mean": "latents normalised by the statistics of its training images"},
)  # fmt: skip
