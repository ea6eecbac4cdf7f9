"""Reference attention written out: a host whose self-attentions are replaced by softmax in float64, told what to keep.

Nothing of ComfyUI's attention, its patches or options takes part; the exemplar is shown by asking the MODEL for a
prediction, as any picture is.
"""

import contextlib
from collections.abc import Iterator

import comfy.samplers
import torch
from torch import Tensor

from aqueduct.tests.comfy.guided_hosts import sampling
from aqueduct.tests.comfy.hosts import HOSTS, Host, normal, random_state, text

LOUD = ("attn1.", "self_attn.", "proj_out")  # what leads to, through and out of self-attention
ONE_LEVEL = {
    "num_heads": 2, "num_res_blocks": [1], "channel_mult": [1], "transformer_depth": [1],
    "transformer_depth_output": [1, 1], "transformer_depth_middle": -1,
}  # fmt: skip


def _narrow(name: str, conditioning: tuple[list, list], **sizes) -> Host:
    """A host of one of ComfyUI's classes of Stable Diffusion, which its own detection knows at full width only."""
    import comfy.model_management as mm
    import comfy.model_patcher
    import comfy.supported_models

    kind = getattr(comfy.supported_models, name)
    common = {"image_size": 32, "in_channels": 4, "out_channels": 4, "model_channels": 64, "context_dim": 64}
    config = kind({**kind.unet_config, **common, "use_spatial_transformer": True, "legacy": False, **sizes})
    config.set_inference_dtype(torch.float32, None)
    with torch.inference_mode():
        model = config.get_model({}, "", device="cpu")
        model.load_model_weights(random_state(model.diffusion_model, 0), "")
    patcher = comfy.model_patcher.ModelPatcher(model, mm.get_torch_device(), mm.unet_offload_device())
    return Host(patcher, *conditioning, normal(1, 4, 8, 8, seed=2), 2, 1, False)


def sd15() -> Host:
    """One level, one self-attention on the way down, two on the way up."""
    return _narrow("SD15", text(8, 64), **ONE_LEVEL)


def inpainting() -> Host:
    """SD1.5's, which joins a mask and what is known of the picture to its input."""
    known = {"concat_latent_image": normal(1, 4, 8, 8, seed=3), "concat_mask": (normal(1, 1, 8, 8, seed=6) > 0).float()}
    host = _narrow("SD15", text(8, 64, **known), **ONE_LEVEL, in_channels=9)
    host.model.model.set_inpaint()
    return host


def sdxl() -> Host:
    """Two levels, of which the lower attends, two transformers deep."""
    return _narrow(
        "SDXL", text(8, 64, pooled_output=normal(1, 1280, seed=4)), num_head_channels=32, num_res_blocks=[1, 1],
        channel_mult=[1, 2], transformer_depth=[0, 2], transformer_depth_output=[0, 0, 2, 2],
        transformer_depth_middle=1, num_classes="sequential",
    )  # fmt: skip


U_NETS = {"sd15": sd15, "inpainting": inpainting, "sdxl": sdxl}


def sharp_host(name: str) -> Host:
    """A host of `U_NETS` or `HOSTS` whose self-attention tells keys apart, and is heard: with small weights it averages
    evenly and comes to nothing."""
    host = {**HOSTS, **U_NETS}[name]()
    with torch.inference_mode():
        for key, weight in host.model.model.diffusion_model.named_parameters():
            if any(part in key for part in LOUD) and weight.dim() > 1:
                weight.mul_(8)
    return host


def self_attentions(network) -> list:
    """Modules, in the order they are asked; those over time are not among them."""
    parts = [network]
    if hasattr(network, "input_blocks"):
        parts = [network.input_blocks, network.middle_block or torch.nn.Identity(), network.output_blocks]
    named = [pair for part in parts for pair in part.named_modules()]
    return [module for name, module in named if name.endswith(("attn1", "self_attn")) and "time_stack" not in name]


def _projected(module, x: Tensor, position: Tensor | None) -> list[Tensor]:
    """Queries, keys and values ``[rows, tokens, heads, d]``, float64."""
    if hasattr(module, "o"):  # Wan: normed as a whole, turned head by head
        heads, q, k, v = module.num_heads, module.norm_q(module.q(x)), module.norm_k(module.k(x)), module.v(x)
    else:
        heads, q, k, v = module.heads, module.to_q(x), module.to_k(x), module.to_v(x)
        if hasattr(module, "q_norm"):  # LTXV: turned as a whole
            # Newer versions have the matrices by heads, and say beside them how the pairs lie.
            position = position[0].flatten(2, 3) if isinstance(position, tuple) else position[:, 0]
            q, k = (_turned(norm(y)[:, :, None], position[:, :, None])[:, :, 0] for norm, y in
                    ((module.q_norm, q), (module.k_norm, k)))  # fmt: skip
    q, k, v = (y.double().unflatten(-1, (heads, -1)) for y in (q, k, v))
    return [_turned(q, position), _turned(k, position), v] if hasattr(module, "o") else [q, k, v]


def _turned(y: Tensor, position: Tensor) -> Tensor:
    """Pairs of channels turned by rotary positions, matrices ``[1, tokens, 1, d / 2, 2, 2]``."""
    return torch.einsum("...ij,...j->...i", position.double(), y.double().unflatten(-1, (-1, 2))).flatten(-2)


def _attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    scores = torch.einsum("bnhd,bmhd->bhnm", q, k) / q.shape[-1] ** 0.5
    return torch.einsum("bhnm,bmhd->bnhd", scores.softmax(-1), v).flatten(2)


class Plain:
    """Replaces the self-attentions of a network for as long as it is entered.

    It remembers keys and values while ``watching``; else it joins those of ``tokens`` (bool, one per token, or all),
    for ``weight`` (a number, or one per query).
    """

    def __init__(self, network, weight=1.0, tokens: Tensor | None = None):
        self.modules, self.weight, self.tokens = self_attentions(network), weight, tokens
        self.watching, self.seen = True, {}

    @contextlib.contextmanager
    def entered(self) -> Iterator["Plain"]:
        for module in self.modules:
            module.forward = self._forward(module)
        try:
            yield self
        finally:
            for module in self.modules:
                del module.forward

    def _forward(self, module):
        def forward(x, *args, pe=None, **kwargs):
            q, k, v = _projected(module, x, args[0] if args else pe)
            if self.watching:
                self.seen[module] = k, v
                out = _attention(q, k, v)
            else:
                own, (keys, values) = _attention(q, k, v), self.seen[module]
                if self.tokens is not None:
                    keys, values = keys[:, self.tokens], values[:, self.tokens]
                joint = _attention(q, torch.cat([k, keys], 1), torch.cat([v, values], 1))
                out = own + self.weight * (joint - own)
            last = module.o if hasattr(module, "o") else module.to_out
            return last(out.to(x))

        return forward


def predicted(host: Host, model=None, branches=("positive", "negative"), together: bool = True) -> list[Tensor]:
    """Of a stock run's first step: what the network says in each branch, eps or velocity."""

    def inside(guider, x, level, options):
        conds = [guider.conds[name] for name in branches]
        batches = [conds] if together else [[cond] for cond in conds]
        found = [comfy.samplers.calc_cond_batch(guider.inner_model, batch, x, level, options) for batch in batches]
        return [(x - out) / level[0] for outs in found for out in outs]

    return sampling(host, inside, model)


def plain_prediction(host: Host, scaled: Tensor, percent: float | None = 1.0, weight=1.0, tokens=None) -> list[Tensor]:
    """What `predicted` should be with an exemplar whose latent is ``scaled [1, c, (1,) h, w]`` as the MODEL has it;
    ``percent`` None: shown at the level of the step."""
    noise = torch.randn(scaled[:1].shape, generator=torch.Generator().manual_seed(0))

    def inside(guider, x, level, options):
        sampling = guider.inner_model.model_sampling
        shown_at = level[0] if percent is None else torch.tensor(sampling.percent_to_sigma(percent))
        shown_at = torch.maximum(shown_at, sampling.sigma_min)
        shown = (1 - shown_at) * scaled + shown_at * noise if host.flow else scaled + shown_at * noise
        shown = shown.expand(len(x), *scaled.shape[1:]).contiguous()
        found = []
        for conds in (guider.conds["positive"], guider.conds["negative"]):
            with Plain(guider.inner_model.diffusion_model, weight, tokens).entered() as plain:
                of_shown = [[_first_frame(cond, scaled) for cond in conds]]
                comfy.samplers.calc_cond_batch(guider.inner_model, of_shown, shown, shown_at.expand(len(x)), options)
                plain.watching = False
                out = comfy.samplers.calc_cond_batch(guider.inner_model, [conds], x, level, options)[0]
            found.append((x - out) / level[0])
        return found

    return sampling(host, inside)


def _first_frame(cond: dict, scaled: Tensor) -> dict:
    """The same, with the channels that it joins to a clip as they are in the first frame, at the exemplar's size: each
    cell takes what lies under its middle."""
    if "c_concat" not in cond["model_conds"]:
        return cond
    joined = cond["model_conds"]["c_concat"]
    for axis in (-2, -1):
        there, wanted = joined.cond.shape[axis], scaled.shape[axis]
        nearest = ((torch.arange(wanted) + 0.5) * there / wanted).long()
        joined = joined._copy_with(joined.cond.index_select(axis, nearest))
    if joined.cond.dim() == 5:
        joined = joined._copy_with(joined.cond[:, :, :1])
    return {**cond, "model_conds": {**cond["model_conds"], "c_concat": joined}}
