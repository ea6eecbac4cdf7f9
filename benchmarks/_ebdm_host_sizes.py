"""Stable Diffusion 1.5, its ControlNet, image encoders and autoencoders without numbers, from ComfyUI's own classes."""
# ruff: noqa: TID251 - this file alone looks at ComfyUI, and only to count

import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from aqueduct.scripts._comfyui import fetched_comfyui, find_comfyui
from aqueduct.scripts._places import cache_root

SD15 = {
    "image_size": 32, "in_channels": 4, "model_channels": 320, "num_res_blocks": [2, 2, 2, 2],
    "channel_mult": (1, 2, 4, 4), "num_heads": 8, "use_spatial_transformer": True, "context_dim": 768,
    "legacy": False, "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0], "transformer_depth_middle": 1,
}  # fmt: skip
SD15_OUTPUT = {"out_channels": 4, "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0]}
VQ_F4 = {"ch": 128, "ch_mult": (1, 2, 4), "z_channels": 3, "resolution": 256}
KL_F8 = {"ch": 128, "ch_mult": (1, 2, 4, 4), "z_channels": 4, "resolution": 512}
CLIP_B32 = {
    "num_hidden_layers": 12, "hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072,
    "hidden_act": "quick_gelu", "model_type": "clip_vision_model", "num_channels": 3, "patch_size": 32,
    "image_size": 224, "projection_dim": 512,
}  # fmt: skip
DINO_B14 = {
    "num_hidden_layers": 12, "hidden_size": 768, "num_attention_heads": 12, "layer_norm_eps": 1e-6,
    "use_swiglu_ffn": False,
}  # fmt: skip

Run = Callable[[], object]


def comfyui() -> Path | None:
    """The user's, else the one that the tests have fetched, else None."""
    folder = find_comfyui() or fetched_comfyui(cache_root())
    return folder if folder.is_dir() else None


def host_networks(folder: Path) -> dict[str, tuple[nn.Module, Run]]:
    """What the paper builds on and compares with: each on the meta device, with one run of it for one
    picture: of 512 x 512 with Stable Diffusion unless it says 256, of 256 x 256 with the VQ autoencoder."""
    _import_comfy(str(folder))
    import comfy.ops
    from comfy.cldm.cldm import ControlNet
    from comfy.clip_model import CLIPVisionModelProjection
    from comfy.image_encoders.dino2 import Dinov2Model
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

    plain = {"dtype": torch.float32, "device": "meta", "operations": comfy.ops.disable_weight_init}
    with torch.device("meta"):
        unet = UNetModel(**SD15, **SD15_OUTPUT, **plain)
        control = ControlNet(**SD15, hint_channels=3, **plain)
        clip, dino = CLIPVisionModelProjection(CLIP_B32, **plain), Dinov2Model(DINO_B14, **plain)
        (_, kl), vq = _autoencoder(KL_F8), _autoencoder(VQ_F4)
        z, small = (torch.zeros(1, 4, side, side) for side in (64, 32))
        t, text = torch.zeros(1), torch.zeros(1, 77, 768)
        large, seen, photo = (torch.zeros(1, 3, side, side) for side in (512, 224, 256))
        latent = torch.zeros(1, 3, 64, 64)
    return {
        "SD1.5 U-Net": (unet, lambda: unet(z, t, text)),
        "ControlNet": (control, lambda: control(z, large, t, text)),
        "SD1.5 U-Net at 256": (unet, lambda: unet(small, t, text)),
        "ControlNet at 256": (control, lambda: control(small, photo, t, text)),
        "KL-f8 decoder at 256": (kl, lambda: kl(small)),
        "CLIP ViT-B/32": (clip, lambda: clip(seen)),
        "DINOv2 ViT-B/14": (dino, lambda: _at_224(dino)(seen)),
        "KL-f8 decoder": (kl, lambda: kl(z)),
        "VQ-f4 encoder": (vq[0], lambda: vq[0](photo)),
        "VQ-f4 decoder": (vq[1], lambda: vq[1](latent)),
    }


def _at_224(dino: nn.Module) -> nn.Module:
    """Positions of 16 x 16 patches and the token in place of those of 518 pixels, which it does not resample."""
    dino.embeddings.position_embeddings = nn.Parameter(torch.empty(1, 1 + 16**2, 768, device="meta"))
    return dino


def _autoencoder(sizes: dict) -> tuple[nn.Module, nn.Module]:
    from comfy.ldm.modules.diffusionmodules.model import Decoder, Encoder

    common = {"in_channels": 3, "out_ch": 3, "num_res_blocks": 2, "attn_resolutions": [], "dropout": 0.0}
    return Encoder(**sizes, **common, double_z=False), Decoder(**sizes, **common)


def _import_comfy(folder: str) -> None:
    """On the CPU, with PyTorch's attention; ComfyUI reads its flags from the command line when it is imported."""
    if "comfy" in sys.modules:
        return
    sys.path.insert(0, folder)
    given, sys.argv = sys.argv, ["main.py", "--cpu", "--use-pytorch-cross-attention"]
    try:
        import comfy.options

        comfy.options.enable_args_parsing()
        import comfy.cli_args  # noqa: F401
    finally:
        sys.argv = given
