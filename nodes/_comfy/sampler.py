"""Our SAMPLER: core's bridge loop behind ComfyUI's sampler interface.

A stock sampler starts from ``noise * sigma + latent``; a bridge starts from the latent itself, z_T. So this is a
`comfy.samplers.Sampler` of its own. The guider it drives is core's, untouched.
"""

import comfy.model_management
import comfy.samplers
import torch
from tqdm.auto import tqdm

from ...core.bridges import Bridge, checked_times, sample_bridge
from ...core.bridges.solvers import choose_solver

# Keys in transformer_options: what a bridge MODEL needs to know of the run, and the bridge a host was aligned to.
STATE_KEY = "aqueduct_bridge"
ALIGNED_KEY = "aqueduct_aligned_bridge"


class BridgeSampler(comfy.samplers.Sampler):
    """SIGMAS are bridge times, the LATENT is z_T, NOISE feeds the first stochastic step; later ones use its seed."""

    def __init__(self, bridge: Bridge, solver: str, eta: float | None):
        self.bridge, self.solver, self.eta = bridge, solver, eta

    def sample(
        self, model_wrap, sigmas, extra_args, callback, noise, latent_image=None, denoise_mask=None, disable_pbar=False
    ):
        times = checked_times(sigmas)
        prior = _checked_prior(latent_image, noise)
        check_bridge(model_wrap, self.bridge)
        _check_start(times, model_wrap, self.solver, self.eta)
        seed = extra_args.get("seed") or 0
        state = {"bridge": self.bridge, "prior": prior, "noise": noise, "times": times, "mask": denoise_mask}
        state |= {"solver": self.solver, "eta": self.eta}
        extra_args["model_options"].setdefault("transformer_options", {})[STATE_KEY] = state
        fresh = step_noise(noise, seed)

        def denoiser(z, t):
            comfy.model_management.throw_exception_if_processing_interrupted()
            if denoise_mask is not None:
                z = z * denoise_mask + self._kept(prior, noise, t) * (1 - denoise_mask)
            z_0 = model_wrap(z, t.to(z).expand(z.shape[0]), **extra_args)
            return z_0 if denoise_mask is None else z_0 * denoise_mask + prior * (1 - denoise_mask)

        steps = len(times) - 1
        with tqdm(total=steps, disable=disable_pbar) as bar:

            def report(step):
                bar.update()
                if callback is not None:
                    callback(step["i"], step["denoised"], step["x"], steps)

            return sample_bridge(denoiser, prior, times, self.bridge, self.solver, self.eta, fresh, report)

    def _kept(self, prior, noise, t):
        """The bridge's state where the mask keeps the latent: z_0 is the latent there, so both ends are known."""
        a, b, c = (value.to(prior) for value in self.bridge.coefficients(t))
        return (a + b) * prior + c * noise


def to_sigmas(times: torch.Tensor) -> torch.Tensor:
    """Bridge times as float32 SIGMAS that still descend: nearly noiseless bridges have times closer to T than float32
    resolves; those move down to the next values there are."""
    sigmas = times.to(torch.float32)
    for i in range(1, len(sigmas)):
        sigmas[i] = torch.minimum(sigmas[i], torch.nextafter(sigmas[i - 1], sigmas.new_zeros(())))
    return sigmas


def step_noise(noise: torch.Tensor, seed: int):
    """``noise_sampler`` of a run: first the NOISE it was given, then white noise drawn on the CPU from ``seed + 1``
    (the NOISE of core's RandomNoise is the draw of ``seed`` itself), so that every device gives the same result."""
    generator = torch.Generator().manual_seed((seed + 1) % 2**64)
    given = [noise]

    def draw(t, t_next):
        if given:
            return given.pop()
        return torch.randn(noise.shape, generator=generator, dtype=torch.float32).to(noise)

    return draw


def check_bridge(model_wrap, bridge: Bridge) -> None:
    """Raises ValueError unless the guider's MODEL was trained for, or aligned to, this very bridge."""
    aligned = model_wrap.model_options.get("transformer_options", {}).get(ALIGNED_KEY)
    own = aligned or getattr(model_wrap.inner_model, "bridge", None)
    if own is None:
        raise ValueError(
            "this MODEL is not a bridge: wire it through AqueductSNRAlign, or load a bridge with "
            "AqueductLoadBridgeModel"
        )
    if own != bridge:
        raise ValueError(f"the MODEL belongs to {own}, the sampler to {bridge}: wire the same AQUEDUCT_BRIDGE to both")


def _check_start(times, model_wrap, solver: str, eta: float | None) -> None:
    """A schedule that starts below T (trailing, inclusive) begins without noise.

    Raises ValueError where none would ever come.
    """
    if times[0] == 1:
        return
    aligned = model_wrap.model_options.get("transformer_options", {}).get(ALIGNED_KEY) is not None
    if aligned or choose_solver(solver, eta)[1] == 0:
        reason = "an SNR-aligned MODEL needs the noise of T" if aligned else f"solver {solver!r} adds no noise"
        raise ValueError(
            f"the schedule starts at t = {times[0].item():.4g}, below the prior at 1, where {reason}: choose the "
            f"spacing uniform, half_log_snr or karras in AqueductBridgeTimes"
        )


def _checked_prior(latent, noise):
    if latent is None:
        raise ValueError("a bridge starts from a LATENT (z_T); wire AqueductReplicatePrior or a neural prior")
    if getattr(latent, "is_nested", False):
        raise ValueError("nested audio and video latents are not supported by bridge sampling; split them first")
    if not bool(torch.isfinite(latent).all()):
        raise ValueError("the LATENT (z_T) holds NaN or infinite values; check the VAE and its precision")
    if latent.shape != noise.shape:
        raise ValueError(f"NOISE {list(noise.shape)} and LATENT {list(latent.shape)} differ in shape")
    return latent
