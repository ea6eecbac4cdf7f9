"""The VAE of a bridge model: nothing but scaling for pixel-space models, else one that the file or the user has."""

import comfy.sd
import comfy.utils
import folder_paths
import torch

from .files import model_path, vae_path
from .vqgan import VqganVAE, vqgan_beside, vqgan_names

FROM_FILE = "from the model file"

# what a configuration calls a VAE -> the file it is published as
PUBLISHED = {
    "sd-vae-ft-ema": "vae-ft-ema-560000-ema-pruned.safetensors",
    "vq-f4": "latent diffusion's VQ-f4, the model.ckpt of vq-f4.zip",
}


def vae_choices() -> list[str]:
    return [FROM_FILE, *folder_paths.get_filename_list("vae")]


def load_vae(choice: str, config: dict, file: str) -> comfy.sd.VAE:
    """The chosen VAE. Raises ValueError naming file and folder if the model needs one of its own."""
    if choice != FROM_FILE:
        return _from_folder(choice)
    needed = config["latent"].get("vae")
    if needed == "pixel_space":
        return comfy.sd.VAE(sd={"pixel_space_vae": torch.tensor(1.0)})
    beside = vqgan_beside(model_path(file))
    if beside:
        return VqganVAE(beside, file)
    folders = "\n  ".join(folder_paths.get_folder_paths("vae"))
    raise ValueError(
        f"{file} works on latents of {needed} and does not hold it: put that VAE ({PUBLISHED.get(needed, needed)}) "
        f"into\n  {folders}\nand choose it as `vae`"
    )


def _from_folder(choice: str) -> comfy.sd.VAE:
    tensors = comfy.utils.load_torch_file(vae_path(choice))
    names = vqgan_names(tensors)
    if names:
        return VqganVAE({ours: tensors[theirs] for ours, theirs in names.items()}, choice)
    vae = comfy.sd.VAE(sd=tensors)
    if vae.first_stage_model is None:
        raise ValueError(f"{choice} is no VAE that ComfyUI knows; choose another as `vae`")
    return vae
