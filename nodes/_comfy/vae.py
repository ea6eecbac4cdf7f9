"""The VAE of a bridge model: nothing but scaling for pixel-space models, else a file the user has."""

import comfy.sd
import comfy.utils
import folder_paths
import torch

from .files import vae_path

FROM_FILE = "from the model file"


def vae_choices() -> list[str]:
    return [FROM_FILE, *folder_paths.get_filename_list("vae")]


def load_vae(choice: str, config: dict, file: str) -> comfy.sd.VAE:
    """The chosen VAE. Raises ValueError naming file and folder if the model needs one of its own."""
    if choice != FROM_FILE:
        vae = comfy.sd.VAE(sd=comfy.utils.load_torch_file(vae_path(choice)))
        if vae.first_stage_model is None:
            raise ValueError(f"{choice} is no VAE that ComfyUI knows; choose another as `vae`")
        return vae
    needed = config["latent"].get("vae")
    if needed != "pixel_space":
        folders = "\n  ".join(folder_paths.get_folder_paths("vae"))
        raise ValueError(
            f"{file} works on latents of {needed}: put that VAE (vae-ft-ema-560000-ema-pruned.safetensors) into\n"
            f"  {folders}\nand choose it as `vae`"
        )
    return comfy.sd.VAE(sd={"pixel_space_vae": torch.tensor(1.0)})
