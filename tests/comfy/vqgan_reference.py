"""A VQGAN of latent diffusion written out in float64, as the tests' oracle: no layer of anybody's is used."""

import math

import torch.nn.functional as F
from torch import Tensor


class Reference:
    """LDM's encoder and decoder as functions of their tensors, and the codebook by brute force; float64."""

    def __init__(self, state: dict[str, Tensor]):
        self.state = {key: value.double() for key, value in state.items()}

    def conv(self, x: Tensor, key: str, **how) -> Tensor:
        weight = self.state[key + ".weight"]
        return F.conv2d(x, weight, self.state[key + ".bias"], padding=how.pop("padding", weight.shape[-1] // 2), **how)

    def norm(self, x: Tensor, key: str) -> Tensor:
        """Group norm over 32 groups, eps 1e-6, by hand."""
        groups = x.unflatten(1, (32, -1))
        centred = groups - groups.mean((2, 3, 4), keepdim=True)
        scaled = (centred / (centred.square().mean((2, 3, 4), keepdim=True) + 1e-6).sqrt()).flatten(1, 2)
        return scaled * self.state[key + ".weight"][:, None, None] + self.state[key + ".bias"][:, None, None]

    def block(self, x: Tensor, key: str) -> Tensor:
        h = self.conv(F.silu(self.norm(x, key + ".norm1")), key + ".conv1")
        h = self.conv(F.silu(self.norm(h, key + ".norm2")), key + ".conv2")
        return h + (self.conv(x, key + ".nin_shortcut") if key + ".nin_shortcut.weight" in self.state else x)

    def attention(self, x: Tensor, key: str) -> Tensor:
        q, k, v = (self.conv(self.norm(x, key + ".norm"), f"{key}.{name}").flatten(2) for name in "qkv")
        weights = (q.transpose(1, 2) @ k / math.sqrt(q.shape[1])).softmax(-1)
        return x + self.conv((v @ weights.transpose(1, 2)).view_as(x), key + ".proj_out")

    def middle(self, x: Tensor, key: str) -> Tensor:
        return self.block(self.attention(self.block(x, key + ".block_1"), key + ".attn_1"), key + ".block_2")

    def end(self, x: Tensor, key: str) -> Tensor:
        return self.conv(F.silu(self.norm(x, key + ".norm_out")), key + ".conv_out")

    def encode(self, image: Tensor) -> Tensor:
        x = self.conv(image.double().movedim(-1, 1) * 2 - 1, "encoder.conv_in")
        for level in range(3):
            for n in range(2):
                x = self.block(x, f"encoder.down.{level}.block.{n}")
            if level < 2:  # padded at the right and at the bottom alone
                x = self.conv(F.pad(x, (0, 1, 0, 1)), f"encoder.down.{level}.downsample.conv", stride=2, padding=0)
        return self.conv(self.end(self.middle(x, "encoder.mid"), "encoder"), "quant_conv")

    def quantise(self, z: Tensor) -> Tensor:
        codes = self.state["quantize.embedding.weight"]
        cells = z.double().movedim(1, -1)
        nearest = (cells[..., None, :] - codes).square().sum(-1).argmin(-1)
        return codes[nearest].movedim(-1, 1)

    def decode(self, z: Tensor) -> Tensor:
        x = self.conv(self.conv(self.quantise(z), "post_quant_conv"), "decoder.conv_in")
        x = self.middle(x, "decoder.mid")
        for level in (2, 1, 0):
            for n in range(3):
                x = self.block(x, f"decoder.up.{level}.block.{n}")
            if level:
                x = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
                x = self.conv(x, f"decoder.up.{level}.upsample.conv")
        return ((self.end(x, "decoder") + 1) / 2).clamp(0, 1).movedim(1, -1)
