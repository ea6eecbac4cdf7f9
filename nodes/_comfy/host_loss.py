"""Losses through a core MODEL, asked while a sampler runs it, so that conditioning, devices and wrappers are core's.

One row of a batch after the other: each has its own time and its own text, and for Stable Video Diffusion the frames of
one clip are the batch already.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import comfy.model_base
import comfy.sampler_helpers
import comfy.samplers
import torch
from torch import Tensor

from ...core.bridges import Bridge, times
from ...core.data.dataset import LatentDataset
from ...core.noise.draws import FIRST, drawn
from ...core.training.clip_tasks import draw_seeds
from ...core.training.objectives import Weight, draw_bridge, draw_times, psi_weight, uniform_weight, z0_loss
from ...core.training.task import Batch
from .alignment import level_of_share
from .gradients import usable
from .host_conds import Told
from .sampler import STATE_KEY, BridgeSampler, to_sigmas

TIMES = 1000  # FrameBridge's, and the timesteps of most hosts
WEIGHTS: dict[str, Weight] = {"eq. 6 (FrameBridge)": psi_weight, "even": uniform_weight}
NoiseOf = Callable[[int, Tensor], Tensor]  # (seed, like) -> standard normal


def white(seed: int, like: Tensor) -> Tensor:
    return drawn(like.shape, seed, FIRST).to(like)


@dataclass(eq=False)
class Asked:
    """A guider while it samples, asked about clips of ``clips`` at will; ``options``: the run's model_options."""

    guider: Any
    options: dict
    clips: LatentDataset
    told: Told

    @property
    def model(self):
        return self.guider.inner_model

    @property
    def device(self) -> torch.device:
        return self.guider.model_patcher.load_device

    def state(self, latent: Tensor) -> Tensor:
        """A clip ``[c, f, h, w]`` of raw latents as the MODEL has it: ``[1, c, f, h, w]`` or ``[f, c, h, w]``."""
        return self.model.process_latent_in(self.laid_out(latent.to(self.device)))

    def laid_out(self, latent: Tensor) -> Tensor:
        return latent[None] if self.model.latent_format.latent_dimensions == 3 else latent.movedim(1, 0)

    def clip(self, state: Tensor) -> Tensor:
        """The inverse of `state`."""
        latent = self.model.process_latent_out(state)
        return latent[0] if latent.ndim == 5 else latent.movedim(0, 1)

    def z_T(self, latent: Tensor) -> Tensor:
        """The first latent frame, repeated, as AqueductReplicatePrior has it."""
        return self.state(latent[:, :1].expand_as(latent))

    def about(self, i: int, like: Tensor, latent_image: Tensor | None = None, seed: int = 0) -> None:
        """From here on the guider is asked about clip ``i``, as core prepares what it is told of a LATENT like that."""
        with torch.no_grad():
            conds = {"positive": comfy.sampler_helpers.convert_cond(usable(self.told(i)))}
            latent_image = torch.zeros_like(like) if latent_image is None else latent_image
            made = comfy.samplers.process_conds(
                self.model, torch.zeros_like(like), conds, self.device, latent_image, seed=seed
            )
        self.guider.conds = usable(made)

    def predict(self, x: Tensor, level: Tensor, seed: int, **state) -> Tensor:
        """``z0_hat``; ``state`` goes into transformer_options."""
        return self.guider(x, level.to(x).expand(len(x)), self.run_options(**state), seed)

    def run_options(self, **state) -> dict:
        """model_options of one call or one run, to be written into, with ``state`` in transformer_options."""
        return {**self.options, "transformer_options": {**self.options.get("transformer_options", {}), **state}}


def rows_of(batch: Batch) -> list[dict[str, Tensor]]:
    return [dict(zip(batch, row, strict=True)) for row in zip(*batch.values(), strict=True)]


@dataclass(frozen=True, eq=False)
class BridgeLoss:
    """FrameBridge algorithm 1 with a host aligned to ``bridge`` (`alignment.align_model`): squared error in z_0 of
    what the aligned MODEL predicts, exactly as it is asked in sampling, times ``weight``.

    ``guess``: a neural prior's for a clip, as raw latents ``[c, f, h, w]``, to start from in place of the repeated
    first frame. Called with a batch of `draw`; the mean over its rows.
    """

    asked: Asked
    bridge: Bridge
    weight: Weight
    guess: Callable[[int], Tensor] | None = None

    def draw(self, rows: Tensor, generator: torch.Generator) -> Batch:
        seeds = draw_seeds(len(rows), generator)
        return {"clip": rows, "time": draw_times(len(rows), TIMES, generator), "seed": seeds}

    def __call__(self, batch: Batch) -> Tensor:
        return torch.stack([self.of_row(**row) for row in rows_of(batch)]).mean()

    def of_row(self, clip: Tensor, time: Tensor, seed: Tensor) -> Tensor:
        t = time.float().double()  # a guider is told float32
        z_0, z_T, eps = self.ends(int(clip), int(seed))
        z_t = draw_bridge(self.bridge, z_0[None], z_T[None], t[None], eps[None])[0]
        prediction = self.predict(int(clip), z_t, t, z_T, eps, int(seed))
        return z0_loss(prediction[None], z_0[None], self.weight(self.bridge, t[None]))

    def ends(self, clip: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
        """``z_0, z_T, eps``"""
        z_0 = self.asked.state(self.asked.clips.tensor(clip, "latent"))
        return z_0, self.z_T(clip), white(seed, z_0)

    def z_T(self, clip: int) -> Tensor:
        if self.guess is not None:
            return self.asked.state(self.guess(clip))
        return self.asked.z_T(self.asked.clips.tensor(clip, "latent"))

    def predict(self, clip: int, z_t: Tensor, t: Tensor, z_T: Tensor, eps: Tensor, seed: int) -> Tensor:
        """``z0_hat`` of the aligned MODEL."""
        self.asked.about(clip, z_t, z_T, seed)
        span = torch.stack([t, torch.zeros_like(t)])
        state = {"bridge": self.bridge, "prior": z_T, "noise": eps, "times": span, "mask": None}
        return self.asked.predict(z_t, t, seed, **{STATE_KEY: {**state, "solver": "sde", "eta": None}})

    def sample(self, clip: int, steps: int, seed: int) -> Tensor:
        """A clip ``[c, f, h, w]`` of raw latents, as AqueductBridgeSampler makes it from the first frame of that."""
        z_T = self.z_T(clip)
        self.asked.about(clip, z_T, z_T, seed)
        sampler, sigmas = BridgeSampler(self.bridge, "sde", None), to_sigmas(times(self.bridge, steps)).to(z_T.device)
        given = {"model_options": self.asked.run_options(), "seed": seed}
        made = sampler.sample(self.asked.guider, sigmas, given, None, white(seed, z_T), z_T, None, True)
        return self.asked.clip(made)


@dataclass(frozen=True, eq=False)
class OwnLoss:
    """A host's own objective, under another noise: the mean squared error of what its network puts out, at levels drawn
    evenly from its own schedule.

    What the network puts out enters ``z0_hat`` by a factor that depends on the level alone, read from the MODEL's
    `calculate_denoised`. ``noise(seed, like)``. Source: Warped Diffusion section 4.1.
    """

    asked: Asked
    noise: NoiseOf

    def draw(self, rows: Tensor, generator: torch.Generator) -> Batch:
        seeds = draw_seeds(len(rows), generator)
        frame = torch.rand(len(rows), generator=generator)
        return {"clip": rows, "share": draw_times(len(rows), TIMES, generator), "seed": seeds, "frame": frame}

    def __call__(self, batch: Batch) -> Tensor:
        return torch.stack([self.of_row(**row) for row in rows_of(batch)]).mean()

    def of_row(self, clip: Tensor, share: Tensor, seed: Tensor, frame: Tensor) -> Tensor:
        z_0 = self.data(int(clip), float(frame))
        sampling = self.asked.model.model_sampling
        level = torch.tensor([level_of_share(sampling, float(share))], dtype=torch.float32, device=z_0.device)
        x = sampling.noise_scaling(level, self.drawn(int(clip), int(seed), z_0), z_0.clone())
        self.asked.about(int(clip), z_0, seed=int(seed))
        prediction = self.asked.predict(x, level[0], int(seed))
        return ((prediction - z_0) / output_factor(sampling, level)).square().mean()

    def drawn(self, clip: int, seed: int, like: Tensor) -> Tensor:
        """The noise of a clip."""
        return self.noise(seed, like)

    def data(self, clip: int, frame: float) -> Tensor:
        """The clip as the MODEL has it; for a MODEL of pictures one frame of it, at that share of its length."""
        latent = self.asked.clips.tensor(clip, "latent")
        if makes_pictures(self.asked.model):
            latent = latent[:, [min(int(frame * latent.shape[1]), latent.shape[1] - 1)]]
        return self.asked.state(latent)

    def sample(self, clip: int, steps: int, seed: int) -> Tensor:
        """A clip ``[c, f, h, w]`` of raw latents, told what that one is, from this noise, by core's Euler sampler."""
        like = self.asked.state(self.asked.clips.tensor(clip, "latent"))
        self.asked.about(clip, like, seed=seed)
        sigmas = comfy.samplers.calculate_sigmas(self.asked.model.model_sampling, "simple", steps).to(like.device)
        given = {"model_options": self.asked.run_options(), "seed": seed}
        sampler, empty = comfy.samplers.sampler_object("euler"), torch.zeros_like(like)
        return self.asked.clip(
            sampler.sample(self.asked.guider, sigmas, given, None, self.drawn(clip, seed, like), empty, None, True)
        )


def makes_pictures(model) -> bool:
    """Whether a `BaseModel` is one of pictures, and not of video."""
    return model.latent_format.latent_dimensions == 2 and not isinstance(model, comfy.model_base.SVD_img2vid)


def output_factor(sampling, level: Tensor) -> Tensor:
    """By how much ``z0_hat`` changes with what the network puts out."""
    level = level.double()
    one, zero = torch.ones_like(level), torch.zeros_like(level)
    return sampling.calculate_denoised(level, one, zero).float()
