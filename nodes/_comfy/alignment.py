"""A host MODEL as a bridge, by SNR alignment or without, and the posterior mean a host already knows.

The host's levels are read from its own `model_sampling.noise_scaling`, never re-derived: whatever ``x = signal z_0 +
noise eps`` a host was trained with (eps, v, EDM, flow, Cosmos), probing it with ones and zeros gives both numbers.
"""

from collections.abc import Callable
from dataclasses import dataclass

import comfy.patcher_extension
import comfy.sample
import comfy.samplers
import comfy.utils
import torch

from ...core.bridges import Bridge, HostInput, host_input
from .sampler import ALIGNED_KEY, STATE_KEY

WRAPPER_KEY = "aqueduct_snr_align"


# (bridge, its time, the host's model_sampling) -> how a bridge state enters the host
Entry = Callable[[Bridge, torch.Tensor, object], HostInput]


def by_snr(bridge: Bridge, t: torch.Tensor, sampling) -> HostInput:
    """Where the host's signal-to-noise ratio is the state's. Source: FrameBridge Proposition 2 (SAF)."""
    return host_input(bridge, t.cpu().double(), probe_levels(sampling), float(sampling.sigma_max))


def as_it_is(bridge: Bridge, t: torch.Tensor, sampling) -> HostInput:
    """Without SAF: the network is given z_t itself, at the time t of its own schedule.

    ``t`` is the share of the host's timesteps, counted from clean, as FrameBridge's t times 1000 is the timestep of a
    fine-tuned model; ``z_t`` is scaled such that the host's own scaling of its input gives it back. What the host makes
    of that is read as ever.
    """
    t = t.cpu().double()
    level = torch.tensor(level_of_share(sampling, float(t)), dtype=torch.float64)
    scaling = sampling.calculate_input(level.reshape(1), torch.ones(1, dtype=torch.float64)).reshape(())
    zero = torch.zeros_like(t)
    return HostInput(level, 1 / scaling, zero, zero, clamped=False)


def level_of_share(sampling, share: float) -> float:
    """The host's level at a share of its schedule, from 0, clean, to 1, its noisiest."""
    return float(sampling.sigma_max) if share >= 1 else float(sampling.percent_to_sigma(1 - share))


def align_model(model, bridge: Bridge, entry: Entry = by_snr):
    """A clone of ``model`` that answers (z_t, bridge time) with z0_hat; ``entry``: how it is shown z_t."""
    check_host(model)
    aligned = model.clone()
    options = aligned.model_options.setdefault("transformer_options", {})
    options[ALIGNED_KEY] = bridge
    wrappers = comfy.patcher_extension.WrappersMP
    aligned.add_wrapper_with_key(wrappers.PREDICT_NOISE, WRAPPER_KEY, Aligned(entry))
    return aligned


def check_host(model) -> None:
    """Raises ValueError for a MODEL that is a bridge, or aligned to one."""
    if getattr(model.model, "bridge", None) is not None:
        raise ValueError("this MODEL is a bridge already; wire it to the guider directly, without AqueductSNRAlign")
    options = model.model_options.get("transformer_options", {})
    if options.get(ALIGNED_KEY) is not None:
        raise ValueError(f"this MODEL is aligned to {options[ALIGNED_KEY]} already; align the original MODEL")


@dataclass(frozen=True)
class Aligned:
    """PREDICT_NOISE wrapper: bridge state and time in, the host's state and level on, z0_hat back."""

    entry: Entry

    def __call__(self, executor, x, timestep, model_options=None, seed=None):
        guider = executor.class_obj
        state = (model_options or {}).get("transformer_options", {}).get(STATE_KEY)
        if state is None:
            raise ValueError(
                "this MODEL is aligned to a bridge; sample it with AqueductBridgeSampler and AqueductBridgeTimes"
            )
        entering = self._entering(state, timestep.flatten()[0], x, guider.inner_model.model_sampling)
        host_x = entering.input(x, state["prior"], state["noise"])
        options = dict(model_options)
        levels = _host_levels(state, x)
        options["transformer_options"] = {**model_options["transformer_options"], "sample_sigmas": levels}
        level = entering.level.to(host_x).expand(host_x.shape[0])
        if state["mask"] is not None:
            host_x = _with_kept(guider.inner_model, host_x, level, state)
        return executor(host_x, level, options, seed)

    def _entering(self, state: dict, t: torch.Tensor, x: torch.Tensor, sampling) -> HostInput:
        bridge = state["bridge"]
        if "host_inputs" not in state:
            state["host_inputs"] = {float(t): self.entry(bridge, t, sampling) for t in state["times"][:-1].to(x)}
        return state["host_inputs"].get(float(t)) or self.entry(bridge, t, sampling)


def _with_kept(host, host_x: torch.Tensor, level: torch.Tensor, state: dict) -> torch.Tensor:
    """What the noise mask keeps, as this host was trained to see it: LTXV and others want it clean, and say so."""
    mask, latent = state["mask"], state["prior"]
    kept = host.scale_latent_inpaint(x=host_x, sigma=level, noise=state["noise"], latent_image=latent)
    return host_x * mask + kept * (1 - mask)


def _host_levels(state: dict, like: torch.Tensor) -> torch.Tensor:
    """The schedule in the host's own levels, for whatever reads `sample_sigmas` in the host."""
    levels = [entering.level for entering in state["host_inputs"].values()]
    return torch.stack([*levels, torch.zeros((), dtype=torch.float64)]).to(like)


def probe_levels(sampling):
    """``levels(level) -> (signal, noise)`` of a host, as float64 scalars, from its own `noise_scaling`."""

    def levels(level: torch.Tensor):
        one, zero = torch.ones(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
        at = level.reshape(1)
        signal = sampling.noise_scaling(at, zero.clone(), one.clone())
        noise = sampling.noise_scaling(at, one.clone(), zero.clone())
        return signal.reshape(()), noise.reshape(())

    return levels


class PosteriorMean(comfy.samplers.Sampler):
    """One evaluation of a host at its noisiest level, where the input says nothing: E[z_0 | conditions]."""

    def sample(
        self, model_wrap, sigmas, extra_args, callback, noise, latent_image=None, denoise_mask=None, disable_pbar=False
    ):
        x = model_wrap.inner_model.model_sampling.noise_scaling(sigmas[0], noise, torch.zeros_like(noise), True)
        z_0 = model_wrap(x, sigmas[0].expand(x.shape[0]), **extra_args)
        if callback is not None:
            callback(0, z_0, x, 1)
        return z_0


def posterior_mean(model, positive, latent: torch.Tensor, seed: int, draws: int) -> torch.Tensor:
    """Mean over ``draws`` of the host's x0-prediction at maximum noise, in LATENT space (as a VAE decodes it)."""
    if getattr(model.model, "bridge", None) is not None:
        raise ValueError("AqueductPosteriorMeanPrior takes a diffusion or flow MODEL; this one is a bridge already")
    if model.model_options.get("transformer_options", {}).get(ALIGNED_KEY) is not None:
        raise ValueError(
            "AqueductPosteriorMeanPrior takes the MODEL as it was before AqueductSNRAlign; this one is aligned"
        )
    guider = comfy.samplers.CFGGuider(model)
    guider.inner_set_conds({"positive": positive})
    level = float(model.get_model_object("model_sampling").sigma_max)
    latent = comfy.sample.fix_empty_latent_channels(model, latent)
    total = torch.zeros_like(latent, dtype=torch.float32)
    progress = comfy.utils.ProgressBar(draws)
    for i in range(draws):
        draw = (seed + i) % 2**64
        noise = comfy.sample.prepare_noise(latent, draw)
        total += guider.sample(
            noise, latent, PosteriorMean(), torch.tensor([level, 0.0]), disable_pbar=True, seed=draw
        ).to(total)  # fmt: skip
        progress.update(1)
    return total / draws
