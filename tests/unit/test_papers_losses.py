"""The losses of `configs/papers` against the papers' formulas, written out here: FrameBridge eqs. 6, 12 and 24."""

import math

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from aqueduct.core.data.shards import Clip, write_dataset
from aqueduct.core.networks.diffusers_hosts import CogVideo
from aqueduct.core.training.clip_tasks import noise
from aqueduct.core.training.config import CONFIGS, Files, read

BETA_0, BETA_1 = 0.01, 50.0


def normal(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def var(t: torch.Tensor) -> torch.Tensor:
    return (BETA_1 - BETA_0) * t**2 / 2 + BETA_0 * t


def pinned(t: torch.Tensor, z_0: torch.Tensor, z_T: torch.Tensor, eps: torch.Tensor):
    """``z_t`` and its coefficients, shaped to multiply clips."""
    t = t[:, None, None, None, None]
    m = var(t) / var(torch.ones(()))
    a, b, c = 1 - m, m, (var(t) * (1 - m)).sqrt()
    return a * z_0 + b * z_T + c * eps, (a, b, c)


def started(recipe, files: Files):
    """The task with weights that are not zero anywhere, and a batch."""
    task = recipe.job.make(recipe, files)
    for n, parameter in enumerate(task.parameters):
        nn.init.normal_(parameter, std=0.05, generator=torch.Generator().manual_seed(n))
    return task, task.draw(torch.Generator().manual_seed(3), 0)


def test_framebridge_from_scratch_is_equation_6(tmp_path):
    raw = normal(4, 4, 4, 8, 8, seed=1)
    clips = ((Clip(f"{n}.mp4", label=n), {"latent": 5 * raw[n]}) for n in range(4))
    write_dataset(tmp_path / "ucf101_latents", clips, {})
    sizes = ("height=8", "width=8", "hidden=32", "depth=2", "heads=2", "classes=4", "frames=5")
    changes = [*(f"network.arguments.{size}" for size in sizes), "data.batch=4"]
    task, drawn = started(read(CONFIGS / "papers" / "framebridge_ucf101.toml", changes), Files(tmp_path))
    drawn["dropped"] = torch.tensor([True, False, True, False])

    z_0 = 5 * raw[drawn["clip"]] * 0.18215
    first = z_0[:, :, :1]
    t = drawn["time"] / 1001
    z_t, _ = pinned(t, z_0, first.expand_as(z_0), noise(drawn["noise"], z_0))
    y = torch.where(drawn["dropped"], 4, drawn["clip"])
    with torch.no_grad():
        psi = task.parts["model"](torch.cat([first, z_t], 2), drawn["time"].float() - 1, y)[:, :, 1:]
        expected = (psi - (z_t - z_0) / var(t).sqrt()[:, None, None, None, None]).square().mean()
        assert float(task.loss(drawn)) == pytest.approx(float(expected), rel=1e-4)


def test_framebridge_out_of_cogvideox_is_the_hosts_own_loss_on_aligned_input(tmp_path):
    diffusers = pytest.importorskip("diffusers")
    raw, context = normal(4, 16, 2, 4, 4, seed=1), normal(4, 3, 8, seed=2)
    clips = ((Clip(f"{n}.mp4"), {"latent": raw[n], "context": context[n]}) for n in range(4))
    write_dataset(tmp_path / "webvid_t5", clips, {})
    save_file({"context": torch.zeros(3, 8)}, tmp_path / "webvid_t5" / "null.safetensors")
    sizes = ("num_attention_heads=2", "attention_head_dim=16", "num_layers=1", "time_embed_dim=16", "text_embed_dim=8",
             "max_text_seq_length=3", "sample_height=4", "sample_width=4", "sample_frames=5")  # fmt: skip
    changes = [*(f"network.arguments.{size}" for size in sizes), "data.batch=4", "data.dropout=0"]
    recipe = read(CONFIGS / "papers" / "framebridge_webvid_cogvideox.toml", changes)
    host = CogVideo(**{**recipe.job.network.arguments, "in_channels": 16})
    host.network.save_pretrained(tmp_path / recipe.job.start.released)
    task, drawn = started(recipe, Files(tmp_path))

    z_0 = raw[drawn["clip"]] * 1.15258426
    z_T, eps = z_0[:, :, :1].expand_as(z_0), noise(drawn["noise"], z_0)
    z_t, (a, b, c) = pinned(drawn["time"] / 1001, z_0, z_T, eps)
    n = torch.hypot(a, c)
    aligned, v = (z_t - b * z_T) / n, a / n * eps - c / n * z_0
    scheduler = diffusers.CogVideoXDDIMScheduler(rescale_betas_zero_snr=True)
    levels = scheduler.alphas_cumprod.sqrt().clamp(max=1).acos()
    indices = [_index(levels, math.atan2(float(y), float(x))) for y, x in zip(c.flatten(), a.flatten(), strict=True)]
    with torch.no_grad():
        told = {"context": context[drawn["clip"]]}
        answer = task.parts["model"](torch.cat([aligned, z_T], 1), torch.tensor(indices), told)
        assert float(task.loss(drawn)) == pytest.approx(float((answer - v).square().mean()), rel=2e-3)


def _index(levels: torch.Tensor, angle: float) -> float:
    above = int((levels < angle).sum())
    if above == 0:
        return 0.0
    low, high = float(levels[above - 1]), float(levels[min(above, 999)])
    return above - 1 + (angle - low) / (high - low)
