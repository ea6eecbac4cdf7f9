"""Short clips, a motion for them, and guided runs of stock samplers on the tiny hosts."""

import copy

import torch
from torch import Tensor

from aqueduct.core.motion import MotionField, warp
from aqueduct.tests.comfy.graph import run, run_one
from aqueduct.tests.comfy.hosts import Host, normal

STEPS = 4


def clip_latent(host: Host) -> Tensor:
    """A LATENT of a short clip, in the host's own layout."""
    channels, size = host.latent.shape[1], host.latent.shape[-2:]
    if host.latent.dim() == 4:
        return normal(host.frames, channels, *size, seed=5)
    steps = (host.frames - 1) // host.compression + 1
    return normal(1, channels, steps, *size, seed=5)


def motion_of(host: Host, across: float = 1.25, down: float = -0.5) -> MotionField:
    """All moves alike: by so many latent pixels from one latent frame to the next, given at four times the size."""
    height, width = (4 * side for side in host.latent.shape[-2:])
    step = torch.tensor([across, down])[:, None, None] * 4 / host.compression
    flow = step.expand(host.frames - 1, 2, height, width).clone()
    return MotionField(flow, -flow)


def error_along(samples: Tensor, across: float = 1.25, down: float = -0.5) -> float:
    """Mean square of what differs between each frame and the next one, moved back, where both are seen."""
    frames = samples if samples.dim() == 4 else samples[0].movedim(1, 0)
    flow = torch.tensor([across, down])[None, :, None, None].expand(len(frames) - 1, 2, *frames.shape[-2:])
    return float((warp(frames[1:], flow) - frames[:-1])[..., 1:, :-2].square().mean())


def sigmas_of(host: Host, steps: int = STEPS) -> Tensor:
    top = 0.95 if host.flow else 6.0
    return torch.linspace(1, 0, steps + 1) ** (1 if host.flow else 2) * top


def sample(host: Host, model=None, guider=None, sampler: str = "euler", sigmas=None, seed: int = 3) -> Tensor:
    """A stock sampler on the host's clip."""
    model = host.model if model is None else model
    if guider is None:
        guider = run_one("CFGGuider", model=model, positive=host.positive, negative=host.negative, cfg=2.0)
    latent = {"samples": torch.zeros_like(clip_latent(host))}
    outputs = run(
        "SamplerCustomAdvanced", noise=run_one("RandomNoise", noise_seed=seed), guider=guider,
        sampler=run_one("KSamplerSelect", sampler_name=sampler),
        sigmas=sigmas_of(host) if sigmas is None else sigmas.clone(), latent_image=latent,
    )  # fmt: skip
    return outputs[0]["samples"]


def guided(host: Host, **inputs):
    return run_one("AqueductEquivarianceGuidance", model=host.model, **{"motion": motion_of(host), **inputs})


def sampling(host: Host, inside, model=None):
    """``inside(guider, x, level, model_options)`` once, at the first step of a stock run."""
    from comfy.samplers import KSAMPLER

    found = []

    def sampler(model, x, sigmas, extra_args=None, callback=None, disable=None):
        found.append(inside(model.inner_model, x, sigmas[:1].expand(len(x)), extra_args["model_options"]))
        return x

    model = host.model if model is None else model
    guider = run_one("CFGGuider", model=model, positive=host.positive, negative=host.negative, cfg=2.0)
    sigmas = torch.tensor([0.6, 0.0]) if host.flow else torch.tensor([2.0, 0.0])
    run(
        "SamplerCustomAdvanced", noise=run_one("RandomNoise", noise_seed=3), guider=guider, sampler=KSAMPLER(sampler),
        sigmas=sigmas, latent_image={"samples": clip_latent(host)},
    )  # fmt: skip
    return found[0]


def state_of(model) -> dict:
    """All that a gradient could have left changed."""
    import comfy.model_management as mm

    modules = list(model.model.modules())
    return {
        "training": mm.__dict__.get("in_training", "absent"),
        "weights": [(id(p), p.requires_grad, p.is_inference()) for p in model.model.parameters()],
        "order": [tuple(m._parameters) for m in modules],
        "buffers": [id(b) for m in modules for b in m._buffers.values()],
        "own forwards": [m for m in modules if "forward" in m.__dict__],
        "options": copy.deepcopy(model.model_options),
        "wrappers": {kind: {key: list(w) for key, w in keyed.items()} for kind, keyed in model.wrappers.items()},
    }  # fmt: skip
