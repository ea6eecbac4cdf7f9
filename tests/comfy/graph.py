"""Run nodes in this process as ComfyUI's executor would: by id, missing widgets at their defaults, in inference mode.

Needs the fixture `comfy` first: everything of ComfyUI is imported inside the functions.
"""

import asyncio
import functools
from typing import Any

import torch
from torch import Tensor

STEPS = 4


@functools.cache
def node_class(node_id: str) -> type:
    """A node of this pack, or one of core's custom-sampling nodes."""
    import comfy_extras.nodes_custom_sampler as core_nodes

    from aqueduct.nodes import extension

    async def listed():
        return await extension().get_node_list()

    own = {node.GET_SCHEMA().node_id: node for node in asyncio.run(listed())}
    return own.get(node_id) or getattr(core_nodes, node_id)


def defaults(node_id: str) -> dict[str, Any]:
    """What the editor puts into the widgets of a fresh node."""
    found = {}
    for field in node_class(node_id).GET_SCHEMA().inputs:
        value = getattr(field, "default", None)
        if value is None and getattr(field, "options", None):
            value = field.options[0]
        if value is not None:
            found[field.id] = value
    return found


def run(node_id: str, **inputs) -> tuple:
    """The outputs of one node."""
    with torch.inference_mode():
        return node_class(node_id).execute(**{**defaults(node_id), **inputs}).result


def run_one(node_id: str, **inputs) -> Any:
    """The first output of one node."""
    return run(node_id, **inputs)[0]


class FixedNoise:
    """A NOISE that gives what it was told to, whatever the LATENT."""

    def __init__(self, noise: Tensor, seed: int = 0):
        self.noise, self.seed = noise, seed

    def generate_noise(self, latent: dict) -> Tensor:
        return self.noise


def bridge_times(bridge, steps: int = STEPS, spacing: str = "uniform") -> Tensor:
    return run_one("AqueductBridgeTimes", bridge=bridge, steps=steps, spacing=spacing)


def sample_bridge_graph(
    model, bridge, prior: dict, positive, negative=None, *, cfg: float = 1.0, seed: int = 0, noise=None, times=None,
    solver: str = "sde", eta: float = 1.0, output: int = 0,
) -> Tensor:  # fmt: skip
    """The graph around a bridge MODEL: RandomNoise, CFGGuider, our SAMPLER and SIGMAS, SamplerCustomAdvanced."""
    negative = positive if negative is None else negative
    outputs = run(
        "SamplerCustomAdvanced",
        noise=noise or run_one("RandomNoise", noise_seed=seed),
        guider=run_one("CFGGuider", model=model, positive=positive, negative=negative, cfg=cfg),
        sampler=run_one("AqueductBridgeSampler", bridge=bridge, solver=solver, eta=eta),
        sigmas=bridge_times(bridge) if times is None else times,
        latent_image=prior,
    )
    return outputs[output]["samples"]


def sample_stock(
    model, latent: Tensor, positive, negative=None, *, cfg: float = 3.0, seed: int = 0, steps: int = 2
) -> Tensor:
    """Core's own KSampler."""
    import nodes

    with torch.inference_mode():
        negative = positive if negative is None else negative
        (out,) = nodes.common_ksampler(
            model, seed, steps, cfg, "euler", "simple", positive, negative, {"samples": latent}, disable_noise=False
        )
    return out["samples"]
