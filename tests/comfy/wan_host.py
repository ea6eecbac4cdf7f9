"""A Wan with tiny random weights under the names that shipped workflows ask for, and text that needs no encoder."""

from pathlib import Path

import torch

from aqueduct.scripts._server import ComfyServer
from aqueduct.scripts._workflow import find_nodes


def write_tiny_wan(
    folder: Path, kind: str = "i2v", model_name: str = "wan2.1_i2v_480p_14B_fp8_scaled.safetensors"
) -> None:
    """Image to video (``i2v``) or text to video (``t2v``), and the VAE of both."""
    import comfy.ldm.wan.model
    import comfy.ldm.wan.vae
    import comfy.ops
    from safetensors.torch import save_file

    network = comfy.ldm.wan.model.WanModel(
        model_type=kind, in_dim=36 if kind == "i2v" else 16, dim=128, ffn_dim=64, num_heads=1, num_layers=1,
        text_dim=4096, dtype=torch.float32, operations=comfy.ops.disable_weight_init,
    )  # fmt: skip
    vae = comfy.ldm.wan.vae.WanVAE(
        dim=8, z_dim=16, dim_mult=[1, 2, 4, 4], num_res_blocks=2, attn_scales=[],
        temperal_downsample=[False, True, True], dropout=0.0,
    )  # fmt: skip
    save_file(_random(network), folder / model_name)
    save_file(_random(vae), folder / "wan_2.1_vae.safetensors")


def _random(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    ones = ("norm", "gamma")
    return {
        key: torch.ones(value.shape)
        if any(word in key for word in ones) and not key.endswith("bias")
        else torch.randn(value.shape, generator=generator) * 0.05
        for key, value in network.state_dict().items()
    }


def stand_in_text(prompt: dict, server: ComfyServer, width: int = 4096, loader: str = "CLIPLoader") -> None:
    """Random conditioning of the right width in place of the text encoder, Wan's only size of which is 11 GB.

    Image embedding: none was wired.
    """
    texts = random_texts(server, width)
    for title in ("Positive", "Negative"):
        (node,) = find_nodes(prompt, title)
        prompt[node] |= {"class_type": "LoadTrainingDataset", "inputs": {"folder_name": texts}}
        for entry in prompt.values():
            for name, value in entry["inputs"].items():
                if isinstance(value, list) and value[0] == node:
                    entry["inputs"][name] = [node, 1]
    (of_text,) = find_nodes(prompt, loader)
    del prompt[of_text]


def random_texts(server: ComfyServer, width: int) -> str:
    """The folder of a random conditioning for core's own LoadTrainingDataset, so that no other pack is needed."""
    context = torch.randn(1, 8, width, generator=torch.Generator().manual_seed(1))
    return write_texts(server, f"texts_{width}", [[context, {}]])


def write_texts(server: ComfyServer, name: str, conditioning: list) -> str:
    """``name`` again, under which core's LoadTrainingDataset gives the CONDITIONING."""
    folder = server.folder / "output" / name
    folder.mkdir(parents=True, exist_ok=True)
    latent = {"samples": torch.zeros(1, 16, 1, 8, 8)}
    with open(folder / "shard_0000.pkl", "wb") as file:
        torch.save({"latents": [latent], "conditioning": [conditioning]}, file)
    (folder / "metadata.json").write_text("{}")  # by which newer versions know a dataset
    return name
