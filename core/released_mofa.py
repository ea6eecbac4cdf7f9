"""MOFA-Video's trajectory control for Stable Video Diffusion: its Flow-ControlNet as published, 683 tensors."""

from .networks.mofa import SvdAdapter
from .released_layout import Released

MOFA = Released(
    "MOFA-Video's Flow-ControlNet for Stable Video Diffusion (trajectory control)", "adapter", SvdAdapter,
    {
        "stem": [16, 32, 96, 256], "in_channels": 8, "widths": [320, 640, 1280, 1280], "layers": 2,
        "heads": [5, 10, 10, 20], "attention": [True, True, True, False], "context": 1024, "added": 768, "groups": 32,
    },
    {"backbone": "svd"},
    renamed=(
        ("controlnet_cond_embedding.", "features.stem."),
        ("flow_encoder.", "features."),
        ("controlnet_down_blocks.", "projections."),
        ("controlnet_mid_block.", "projections.12."),
        ("", "branch."),
    ),
)  # fmt: skip
