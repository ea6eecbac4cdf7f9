"""What one row costs a network of the papers' sizes: parameters, FLOPs, and what is kept for the backward pass.

FLOPs on the meta device, which has shapes and no numbers; what is kept under fake tensors of the CPU, whose attention
keeps no matrix of weights, as that of an accelerator. Latte, which looks at its classes' numbers, is run.
"""

from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from aqueduct.core.networks.exemplar_unet import Style
from aqueduct.core.training.config import CONFIGS, read
from aqueduct.core.training.recompute import around, blocks, tensors

Call = Callable[[nn.Module], Tensor]


def latte(network: nn.Module) -> Tensor:
    x = torch.zeros(1, network.in_channels, *network.size)
    return network(x, torch.zeros(1), torch.zeros(1, dtype=torch.long))


def prior(network: nn.Module) -> Tensor:
    _, height, width = network.network.size
    return network(torch.zeros(1, network.network.in_channels, height, width), torch.zeros(1, dtype=torch.long))


def cogvideo(network: nn.Module) -> Tensor:
    return network(torch.zeros(1, 32, 5, 32, 32), torch.zeros(1), {"context": torch.zeros(1, 226, 4096)})


def sdxl(network: nn.Module) -> Tensor:
    told = {"context": torch.zeros(1, 77, 2048), "pooled": torch.zeros(1, 1280)}
    return network(torch.zeros(1, 8, 128, 128), torch.zeros(1), told)


def ebdm(network: nn.Module) -> Tensor:
    return network(torch.zeros(1, 3, 64, 64), torch.zeros(1), [Style(network.token(torch.zeros(1, 768)))])


NETWORKS: dict[str, Call] = {
    "framebridge_ucf101": latte,
    "framebridge_ucf101_prior": prior,
    "framebridge_webvid_cogvideox": cogvideo,
    "warped_diffusion_sdxl": sdxl,
    "ebdm_f4_stage1": ebdm,
}
RUN = {"framebridge_ucf101", "framebridge_ucf101_prior"}


def costs(name: str) -> dict:
    build, call = read(CONFIGS / "papers" / f"{name}.toml").job.network.build, NETWORKS[name]
    if name in RUN:
        network = build()
        forward, both = flops(network, call)
        kept = {key: kept_bytes(network, call, again) for key, again in (("kept", False), ("recomputed", True))}
    else:
        with torch.device("meta"):
            network = build(device="meta")
            forward, both = flops(network, call)
        with FakeTensorMode(allow_non_fake_inputs=True):
            fake = build()
            kept = {key: kept_bytes(fake, call, again) for key, again in (("kept", False), ("recomputed", True))}
    parameters = sum(p.numel() for p in network.parameters() if p.requires_grad)
    return {"parameters": parameters, "flops_forward": forward, "flops_both": both, **kept}


def shares() -> dict[str, dict]:
    """Parameters of the largest block and of what lies in none, which is how FSDP takes networks apart; and FLOPs of
    EBDM's convolutions, which float32 does faster than its matrix products."""
    found = {}
    for name in NETWORKS:
        network = read(CONFIGS / "papers" / f"{name}.toml").job.network.build(device="meta")
        sizes = [sum(p.numel() for p in block.parameters()) for block in blocks(network)]
        whole = sum(p.numel() for p in network.parameters())
        found[name] = {"block": max(sizes), "rest": whole - sum(sizes)}
        if name == "ebdm_f4_stage1":
            with torch.device("meta"):
                found[name] |= _by_kind(lambda network=network: NETWORKS["ebdm_f4_stage1"](network))
    return found


def _by_kind(run: Callable[[], object]) -> dict:
    """FLOPs of a forward pass: all, and those of convolutions."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        run()
    kinds = counter.get_flop_counts()["Global"]
    convolutions = sum(count for kind, count in kinds.items() if "convolution" in str(kind))
    return {"flops": counter.get_total_flops(), "convolutions": convolutions}


def flops(network: nn.Module, call: Call) -> tuple[int, int]:
    """Forward, and with the backward pass. Two for a multiplication with its addition; convolutions and matrix products
    alone. Where a network is run, the CPU's attention is taken apart, so that it is counted."""
    attention = torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH)
    with attention, FlopCounterMode(display=False) as counter:
        output = call(network)
        forward = counter.get_total_flops()
        output.sum().backward()
    network.zero_grad(set_to_none=True)
    return forward, counter.get_total_flops()


class Kept:
    """Storages that autograd keeps, each once."""

    def __init__(self, known: set[int]):
        self.known, self.found = known, {}

    def keep(self, x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        if storage._cdata not in self.known:
            self.found[storage._cdata] = (storage, storage.nbytes())
        return x

    @property
    def bytes(self) -> int:
        return sum(size for _, size in self.found.values())

    def hooks(self):
        return torch.autograd.graph.saved_tensors_hooks(self.keep, lambda x: x)


def kept_bytes(network: nn.Module, call: Call, recompute: bool) -> int:
    """In float32; with ``recompute`` of each block its input, and the most that one block keeps."""
    known = {p.untyped_storage()._cdata for p in network.parameters()}
    outside, largest = Kept(known), 0

    def measured(forward: Callable) -> Callable:
        def run(*args, **kwargs):
            nonlocal largest
            for x in tensors((args, kwargs)):
                outside.keep(x)
            inside = Kept(known)
            with inside.hooks():
                result = forward(*args, **kwargs)
            largest = max(largest, inside.bytes)
            return result

        return run

    with around(blocks(network), measured) if recompute else nullcontext(), outside.hooks():
        call(network)
    return outside.bytes + largest


def encoders() -> dict[str, dict]:
    """FLOPs of encoding: a frame of 256 x 256 and a picture of 1024 x 1024 by Stable Diffusion's VAE, a clip of 17
    frames of 256 x 256 by CogVideoX's; a caption of 226 tokens by T5-XXL, and of 77 by SDXL's two encoders."""
    import diffusers
    import transformers

    down = ["DownEncoderBlock2D"] * 4
    with torch.device("meta"):
        picture = diffusers.AutoencoderKL(
            down_block_types=down, up_block_types=["UpDecoderBlock2D"] * 4, block_out_channels=[128, 256, 512, 512],
            layers_per_block=2,
        )  # fmt: skip
        video = diffusers.AutoencoderKLCogVideoX()
        shapes = {
            "frame_256": (picture, (1, 3, 256, 256)), "picture_1024": (picture, (1, 3, 1024, 1024)),
            "clip_17_256": (video, (1, 3, 17, 256, 256)),
        }  # fmt: skip
        found = {}
        for name, (vae, shape) in shapes.items():
            found[name] = _by_kind(lambda vae=vae, shape=shape: vae.encode(torch.zeros(*shape)))
        t5 = transformers.T5Config(
            d_model=4096, d_ff=10240, d_kv=64, num_heads=64, num_layers=24, feed_forward_proj="gated-gelu"
        )
        wide = transformers.CLIPTextConfig(
            hidden_size=1280, intermediate_size=5120, num_hidden_layers=32, num_attention_heads=20, projection_dim=1280
        )
        narrow = transformers.CLIPTextConfig(
            hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12
        )
        texts = {"caption_226": [transformers.T5EncoderModel(t5)]}
        texts["caption_77"] = [transformers.CLIPTextModel(narrow), transformers.CLIPTextModelWithProjection(wide)]
        for name, networks in texts.items():
            words = torch.ones(1, int(name.split("_")[1]), dtype=torch.long)
            each = [_by_kind(lambda network=network, words=words: network(words)) for network in networks]
            found[name] = {key: sum(one[key] for one in each) for key in each[0]}
    return found
