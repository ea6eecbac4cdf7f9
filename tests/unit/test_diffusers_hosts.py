"""Hosts of the diffusers library: sizes, conventions, and SNR alignment at the start of a fine-tuning.

Oracles: the library's own schedulers, parameter counts added up by hand, closed forms.
"""

import math

import pytest
import torch

from aqueduct.core.bridges import PARAMETERISATIONS, PRECONDITIONS, NetworkDenoiser, bridge_gmax, host_levels
from aqueduct.core.bridges.alignment import host_input
from aqueduct.core.bridges.spacing import time_of_half_log_snr
from aqueduct.core.networks.diffusers_hosts import CogVideo, SdxlUNet
from aqueduct.core.training.jobs.gp_noise import OUTPUTS

diffusers = pytest.importorskip("diffusers")

COG = {
    "in_channels": 4, "out_channels": 4, "num_attention_heads": 2, "attention_head_dim": 16, "num_layers": 2,
    "time_embed_dim": 16, "text_embed_dim": 8, "max_text_seq_length": 3, "sample_width": 4, "sample_height": 4,
    "sample_frames": 5,
}  # fmt: skip
SDXL = {
    "in_channels": 4, "out_channels": 4, "sample_size": 8, "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"], "block_out_channels": [32, 64], "layers_per_block": 1,
    "transformer_layers_per_block": [1, 1], "attention_head_dim": [2, 4], "cross_attention_dim": 16,
    "use_linear_projection": True, "addition_embed_type": "text_time", "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 56,
}  # fmt: skip
# The released scheduler settings of CogVideoX-2B and of Stable Diffusion XL.
SCHEDULES = {
    "aligned_cogvideox": (
        host_levels.cogvideox, "CogVideoXDDIMScheduler", {"rescale_betas_zero_snr": True, "snr_shift_scale": 3.0}, "v"
    ),
    "aligned_stable_diffusion": (
        host_levels.stable_diffusion, "DDIMScheduler",
        {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}, "eps",
    ),
}  # fmt: skip


def seeded(build):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build()
        for parameter in network.parameters():  # zero-initialised layers would hide what reaches them
            torch.nn.init.normal_(parameter, std=0.1)
    return network.eval()


def normal(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# --- levels and alignment ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SCHEDULES)
def test_levels_are_the_librarys(name):
    angles, scheduler, settings, _ = SCHEDULES[name]
    alpha_bar = getattr(diffusers, scheduler)(**settings).alphas_cumprod.double()
    torch.testing.assert_close(angles().cos().square(), alpha_bar, rtol=1e-4, atol=1e-9)
    assert bool((angles().diff() > 0).all())


def test_the_last_level_of_cogvideox_is_pure_noise_and_of_sdxl_is_not():
    assert host_levels.cogvideox()[-1] == math.pi / 2
    assert host_levels.stable_diffusion()[-1].tan() == pytest.approx(14.6146, rel=1e-4)  # k-diffusion's sigma_max


@pytest.mark.parametrize("name", SCHEDULES)
def test_aligned_input_is_that_of_hosts_by_bisection(name):
    """`host_input` finds the level by bisection, one time after the other, and clamps at the last."""
    bridge, angles, kind = bridge_gmax(), SCHEDULES[name][0](), PRECONDITIONS[name]
    z_t, z_T = normal(2, 3), normal(2, 3, seed=2)
    for t in (1e-3, 0.02, 0.3, 0.7, 0.95, 0.999, 1 - 1e-9):
        found = host_input(bridge, t, lambda angle: (angle.cos(), angle.sin()), float(angles[-1]))
        entering = kind.input(z_t.double(), z_T.double(), t, bridge)
        torch.testing.assert_close(entering, found.input(z_t.double(), z_T.double(), torch.zeros(2, 3)))
        index = float(kind.timestep(bridge, torch.tensor(t, dtype=torch.float64)))
        low, high = int(index), min(int(index) + 1, 999)
        between = angles[low] + (index - low) * (angles[high] - angles[low])
        assert float(between) == pytest.approx(max(float(found.level), float(angles[0])), abs=1e-9)
    at_T = torch.ones((), dtype=torch.float64)
    assert kind.vanishes(at_T, bridge) and kind.timestep(bridge, at_T) == 999


def test_what_a_host_is_trained_to_answer():
    """Input, eps and v of `gp_noise`, by the scheduler of Stable Diffusion."""
    _, scheduler, settings, _ = SCHEDULES["aligned_stable_diffusion"]
    theirs, z_0, eps = getattr(diffusers, scheduler)(**settings), normal(2, 3), normal(2, 3, seed=2)
    at = torch.tensor([10, 900])
    angle = host_levels.stable_diffusion()[at].float()[:, None]
    signal, level = angle.cos(), angle.sin()
    torch.testing.assert_close(signal * z_0 + level * eps, theirs.add_noise(z_0, eps, at), rtol=1e-4, atol=1e-5)
    velocity = theirs.get_velocity(z_0, eps, at)
    torch.testing.assert_close(OUTPUTS["v"](z_0, eps, signal, level), velocity, rtol=1e-4, atol=1e-5)
    assert OUTPUTS["eps"](z_0, eps, signal, level) is eps and OUTPUTS["x0"](z_0, eps, signal, level) is z_0


# --- the network ------------------------------------------------------------------------------------------------------


def test_cogvideo_is_the_librarys_network_with_frames_behind_channels():
    network, x, context = seeded(lambda: CogVideo(**COG)), normal(2, 4, 2, 4, 4), normal(2, 3, 8, seed=2)
    t = torch.tensor([3.0, 700.25])
    with torch.no_grad():
        theirs = network.network(x.permute(0, 2, 1, 3, 4), context, t).sample.permute(0, 2, 1, 3, 4)
        ours = network(x, t, {"context": context})
    assert torch.equal(ours, theirs) and ours.shape == x.shape
    with torch.no_grad():
        assert not torch.allclose(network(x, t + 50, {"context": context}), ours)
        assert not torch.allclose(network(x, t, {"context": -context}), ours)


def test_sdxl_is_told_its_size_in_pixels():
    network, x, told = seeded(lambda: SdxlUNet(**SDXL)), normal(2, 4, 8, 16), {"context": normal(2, 5, 16)}
    told["pooled"] = normal(2, 8, seed=3)
    t = torch.tensor([3.0, 700.25])
    size = torch.tensor([[64.0, 128, 0, 0, 64, 128]]).expand(2, -1)
    with torch.no_grad():
        added = {"text_embeds": told["pooled"], "time_ids": size}
        theirs = network.network(x, t, told["context"], added_cond_kwargs=added).sample
        ours = network(x, t, told)
    assert torch.equal(ours, theirs) and ours.shape == x.shape


@pytest.mark.parametrize(
    ("conditions", "says"),
    [
        ({}, r"'context' \[2, 3, 8\], which is missing"),
        ({"context": normal(2, 4, 8)}, r"which is \[2, 4, 8\]"),
        ({"context": normal(1, 3, 8)}, r"which is \[1, 3, 8\]"),
    ],
)
def test_conditions_that_do_not_fit(conditions, says):
    with pytest.raises(ValueError, match=says):
        CogVideo(**COG)(normal(2, 4, 2, 4, 4), torch.zeros(2), conditions)


def test_arguments_of_nobody():
    with pytest.raises(ValueError, match="num_layer"):
        CogVideo(num_layer=3)


def test_weights_of_a_folder(tmp_path):
    network = seeded(lambda: CogVideo(**COG))
    network.network.save_pretrained(tmp_path / "transformer")
    state = CogVideo.released(tmp_path / "transformer")
    assert state.keys() == network.state_dict().keys()
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    with pytest.raises(FileNotFoundError, match="folder of the network itself"):
        CogVideo.released(tmp_path)


# --- SNR-aligned fine-tuning at its start -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", SCHEDULES)
def test_an_aligned_host_predicts_what_it_did(name):
    """At the time at which the bridge has the SNR of index i, the bridge's z_0 is the one that the library's scheduler
    makes of the host's answer at the aligned input (FrameBridge section 4.3)."""
    angles, scheduler, settings, output = SCHEDULES[name]
    kind = "v_prediction" if output == "v" else "epsilon"
    theirs = getattr(diffusers, scheduler)(prediction_type=kind, clip_sample=False, **settings)
    theirs.set_timesteps(1000)
    bridge = bridge_gmax()
    z_t, z_T = normal(1, 4, 2, 4, 4), normal(1, 4, 2, 4, 4, seed=2)
    if name == "aligned_cogvideox":
        network, told = seeded(lambda: CogVideo(**COG)), {"context": normal(1, 3, 8, seed=3)}
    else:
        network, told = seeded(lambda: SdxlUNet(**SDXL)), {"context": normal(1, 5, 16), "pooled": normal(1, 8)}
        z_t, z_T = z_t[:, :, 0], z_T[:, :, 0]
    denoiser = NetworkDenoiser(
        lambda x, at: network(x, at, told), bridge, PARAMETERISATIONS[output], PRECONDITIONS[name], z_T
    )
    for index in (1, 250, 998):
        half_log_snr = -angles()[index].tan().log()
        t = time_of_half_log_snr(bridge, half_log_snr)
        a, b, c = (float(x) for x in bridge.coefficients(t))
        aligned = (z_t - b * z_T) / math.hypot(a, c)
        with torch.no_grad():
            answer = network(aligned, torch.tensor([float(index)]), told)
            expected = theirs.step(answer, index, aligned).pred_original_sample
            torch.testing.assert_close(denoiser(z_t, t), expected, rtol=2e-3, atol=2e-3 * float(expected.std()))
