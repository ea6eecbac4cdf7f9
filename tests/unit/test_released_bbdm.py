"""BBDM's released latent bridge: recognised by its tensors, and sampled step for step as its authors sample it.

The files here have the released names and shapes (`tests/data/bbdm_*.txt`); every tensor is one number, repeated.
"""

import json
import math
from pathlib import Path

import pytest
import torch

from aqueduct.core import checkpoints
from aqueduct.core.bridges import PARAMETERISATIONS, PRECONDITIONS, NetworkDenoiser, brownian, sample_bridge, times
from aqueduct.core.networks import UNet
from aqueduct.core.released_bbdm import LBBDM
from aqueduct.core.tensor_file import open_tensors
from aqueduct.tests.unit.test_released_mofa import sparse_file

DATA = Path(__file__).resolve().parents[1] / "data"
CODES = {  # of a VQGAN beside its encoder and decoder: LDM's VQ-f4
    "quantize.embedding.weight": (8192, 3), "quant_conv.weight": (3, 3, 1, 1), "quant_conv.bias": (3,),
    "post_quant_conv.weight": (3, 3, 1, 1), "post_quant_conv.bias": (3,),
}  # fmt: skip


def listed(name: str) -> dict[str, tuple[int, ...]]:
    lines = (DATA / f"bbdm_{name}.txt").read_text(encoding="ascii").splitlines()
    return {key: tuple(json.loads(shape.replace("(", "[").replace(",)", "]").replace(")", "]")))
            for key, shape, _ in (line.split("\t") for line in lines)}  # fmt: skip


def filled(shapes: dict[str, tuple[int, ...]], first: float = 0.0) -> dict[str, torch.Tensor]:
    """The n-th tensor holds ``first + n / 1024``; none takes room."""
    return {key: torch.full((1,), first + n / 1024).expand(shape) for n, (key, shape) in enumerate(shapes.items())}


def denoiser_shapes() -> dict[str, tuple[int, ...]]:
    return listed("lbbdm_f4_denoise_fn")


def vqgan_shapes() -> dict[str, tuple[int, ...]]:
    around = {f"vqgan.{key}": shape for key, shape in CODES.items()}
    return {**listed("vqgan_f4_encoder"), **listed("vqgan_f4_decoder"), **around}


def released(**entries) -> dict:
    """The content of a released `.pth`: `ema` shadows what was trained, `model` is everything."""
    denoiser = denoiser_shapes()
    content = {"step": 1, "epoch": 2, "model": {**filled(denoiser), **filled(vqgan_shapes())}}
    return {**content, "ema": filled(denoiser, first=1.0), **entries}


def saved(content: dict, path: Path) -> Path:
    torch.save(content, path)
    return path


# --- recognition ------------------------------------------------------------------------------------------------------


def test_the_averaged_weights_are_taken(tmp_path):
    checkpoint = checkpoints.open_checkpoint(saved(released(), tmp_path / "last_model.pth"))
    state = checkpoint.state("model")
    assert len(state) == 248
    for n, key in enumerate(denoiser_shapes()):
        assert state[key.removeprefix("denoise_fn.")].flatten()[0] == 1 + n / 1024


def test_without_averages_the_model_is_taken_and_its_vqgan_left(tmp_path):
    content = released()
    del content["ema"]
    state = checkpoints.open_checkpoint(saved(content, tmp_path / "last_model.pth")).state("model")
    assert len(state) == 248 and state["time_embed.0.weight"].flatten()[0] == 0


def test_its_settings_are_a_configuration_like_ours(tmp_path):
    config = checkpoints.read_config(sparse_file(tmp_path / "converted.safetensors", denoiser_shapes()))
    assert config["bridge"] == {"kind": "brownian", "constants": {"variance": 1.0}}
    assert config["parts"]["model"]["architecture"] == "UNet" and "BBDM" in config["about"]
    assert not any(config["layout"].values())  # nothing but z_t enters
    json.dumps(config)
    built = checkpoints.build(config, device="meta")
    assert {f"denoise_fn.{key}": tuple(value.shape) for key, value in built.state_dict().items()} == denoiser_shapes()


def test_the_vqgan_is_found_beside_the_averages(tmp_path):
    path = saved(released(), tmp_path / "last_model.pth")
    assert not any(key.startswith("vqgan.") for key in open_tensors(path).shapes)
    found = open_tensors(path, ("model",))
    assert found.shapes == {**denoiser_shapes(), **vqgan_shapes()}
    assert found.entries == {"step", "epoch", "model", "ema"}


def test_other_models_of_its_family_are_told_apart(tmp_path):
    """One with its condition on three more channels; and one trained on normalised latents, of the same shapes."""
    shapes = {**denoiser_shapes(), "denoise_fn.input_blocks.0.0.weight": (128, 6, 3, 3)}
    with pytest.raises(ValueError, match=r"LBBDM-f4\), but 1 of another shape \(input_blocks.0.0.weight: got \(128, 6"):
        checkpoints.read_config(saved({"ema": filled(shapes)}, tmp_path / "conditional.pth"))
    content = released(ori_latent_mean=torch.zeros(1, 3, 1, 1), ori_latent_std=torch.ones(1, 3, 1, 1))
    with pytest.raises(ValueError, match="trained on latents normalised by the statistics of its training images"):
        checkpoints.read_config(saved(content, tmp_path / "normalised.pth"))


# --- sampling ---------------------------------------------------------------------------------------------------------

M = [0.001 + 0.998 * i / 999 for i in range(1000)]  # BBDM's linear m_t


def indices(steps: int) -> list[int]:
    """The indices its sampler visits, by the float32 arithmetic it does that with."""
    return [*torch.arange(999, 1, step=-(999 / (steps - 2))).long().tolist(), 1, 0]


@pytest.mark.parametrize("steps", [3, 4, 5, 29, 50, 200, 335, 501])
def test_times_are_the_indices_its_sampler_visits(steps):
    made = times(brownian(), steps, "bbdm")
    expected = [M[i] for i in indices(steps)]
    assert len(made) == steps + 1 and made[-1] == 0
    torch.testing.assert_close(made[:-1], torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-15)
    given = PRECONDITIONS["bbdm_index"].timestep(brownian(), made[:-1])
    torch.testing.assert_close(given, torch.tensor(indices(steps), dtype=torch.float64), rtol=0, atol=1e-9)


def test_times_end_where_its_indices_repeat():
    """From 502 steps on, its own list visits index 1 twice."""
    assert indices(501).count(1) == 1 and indices(502).count(1) == 2
    with pytest.raises(ValueError, match="up to 501 steps; got 502"):
        times(brownian(), 502, "bbdm")


def bbdm_sample(network: UNet, y: torch.Tensor, steps: int, eta: float, noises: list[torch.Tensor]) -> torch.Tensor:
    """BBDM algorithm 2 with steps left out, and the start x_T = y: variances delta = 2 (m - m^2), objective 'grad'."""
    x, visited = y, indices(steps)
    for i, n in zip(visited, [*visited[1:], None], strict=True):
        x0 = x - network(x, torch.full((len(x),), i))
        if n is None:
            return x0
        m_t, m_s = M[i], M[n]
        delta_t, delta_s = 2 * (m_t - m_t**2), 2 * (m_s - m_s**2)
        between = delta_t - delta_s * (1 - m_t) ** 2 / (1 - m_s) ** 2
        posterior = between * delta_s / delta_t
        rest = x - (1 - m_t) * x0 - m_t * y
        x = (1 - m_s) * x0 + m_s * y + math.sqrt((delta_s - posterior) / delta_t) * rest
        x = x + eta * math.sqrt(posterior) * noises.pop(0)


@pytest.mark.parametrize(("steps", "eta"), [(200, 1.0), (20, 1.0), (20, 0.5)])
def test_sampler_equals_bbdms_own(steps, eta):
    """With the released model's class, conventions, solver and spacing: every step, to rounding."""
    settings = LBBDM.config
    generator = torch.Generator().manual_seed(3)
    network = UNet(3, 3, 8, (1, 2), 1, head_channels=4, groups=4, dtype=torch.float64).requires_grad_(False)
    for parameter in network.parameters():
        spread = parameter[0].numel() ** -0.5 if parameter.dim() > 1 else 0.3
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * spread)
    y = torch.randn(2, 3, 4, 4, generator=generator, dtype=torch.float64)
    noises = list(torch.randn(steps - 1, *y.shape, generator=generator, dtype=torch.float64))
    expected = bbdm_sample(network, y, steps, eta, list(noises))
    bridge = brownian(**settings["bridge"]["constants"])
    conventions = PARAMETERISATIONS[settings["parameterisation"]], PRECONDITIONS[settings["precondition"]]
    denoiser = NetworkDenoiser(network, bridge, *conventions, y)
    sampling = settings["sampling"]
    made = times(bridge, steps, sampling["spacing"])
    found = sample_bridge(denoiser, y, made, bridge, sampling["solver"], eta, lambda t, s: noises.pop(0))
    assert not noises and (expected - y).abs().max() > 0.1
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
