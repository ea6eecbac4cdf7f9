"""Mode outer: the gradient of a U-Net's outermost level, on ComfyUI's own networks and on the restoration models."""

import pytest
import torch

from aqueduct.tests.comfy import restoration_files
from aqueduct.tests.comfy.graph import run, run_one
from aqueduct.tests.comfy.guided_hosts import error_along, guided, motion_of, sample, sampling
from aqueduct.tests.comfy.hosts import HOSTS, Host, normal, random_state, text


@pytest.fixture(scope="module")
def two_levels(comfy) -> Host:
    """SD1.5's network with two narrow levels."""
    import comfy.ldm.modules.diffusionmodules.openaimodel as openai
    import comfy.model_management as mm
    import comfy.model_patcher
    import comfy.supported_models

    config = comfy.supported_models.SD15(
        {
            **comfy.supported_models.SD15.unet_config, "image_size": 32, "in_channels": 4, "out_channels": 4,
            "model_channels": 32, "num_res_blocks": [1, 1], "channel_mult": [1, 2], "transformer_depth": [1, 1],
            "transformer_depth_output": [1, 1, 1, 1], "transformer_depth_middle": 1, "context_dim": 64, "num_heads": 4,
            "use_spatial_transformer": True, "legacy": False,
        }
    )  # fmt: skip
    config.set_inference_dtype(torch.float32, None)
    with torch.inference_mode():
        model = config.get_model({}, "", device="cpu")
        state = random_state(model.diffusion_model, 0)
        model.load_model_weights({key: value * (1 if "norm" in key else 4) for key, value in state.items()}, "")
    assert isinstance(model.diffusion_model, openai.UNetModel)
    patcher = comfy.model_patcher.ModelPatcher(model, mm.get_torch_device(), mm.unet_offload_device())
    return Host(patcher, *text(8, 64), normal(1, 4, 8, 8, seed=2), 2, 1, flow=False)


def pulled(guider, x, level, options, mode: str):
    """``(h(x), J^T v)`` as a mode has it."""
    from aqueduct.nodes._comfy.gradients import gradients_through
    from aqueduct.nodes._comfy.guidance import MODES

    asked = MODES[mode].options(guider.inner_model.diffusion_model, options)
    with gradients_through(guider) as usable, torch.enable_grad():
        entering = x.detach().clone().requires_grad_(True)
        predicted = guider(entering, level.clone(), usable(asked), 0)
        return predicted.detach(), torch.autograd.grad(predicted, entering, normal(*x.shape, seed=9))[0]


def test_outer_is_a_detach_before_the_first_downsampling(two_levels):
    """By hand: a hook on the module that halves the size, which everything deeper hangs on."""
    import comfy.ldm.modules.diffusionmodules.openaimodel as openai

    (down,) = (m for m in two_levels.model.model.diffusion_model.modules() if isinstance(m, openai.Downsample))
    with_full, with_outer = (sampling(two_levels, lambda *call, mode=m: pulled(*call, mode)) for m in ("full", "outer"))
    hook = down.register_forward_pre_hook(lambda module, args: (args[0].detach(), *args[1:]))
    try:
        by_hand = sampling(two_levels, lambda *call: pulled(*call, "full"))
    finally:
        hook.remove()
    assert torch.equal(with_outer[0], with_full[0])
    assert torch.equal(with_outer[1], by_hand[1])
    assert (with_outer[1] - with_full[1]).norm() > 1e-3 * with_full[1].norm()


def test_on_a_network_of_one_level_outer_is_full(comfy):
    host = HOSTS["sd15"]()
    with_full, with_outer = (sampling(host, lambda *call, mode=m: pulled(*call, mode)) for m in ("full", "outer"))
    assert torch.equal(with_outer[1], with_full[1])


@pytest.mark.parametrize("sampler", ["euler", "dpmpp_2m", "uni_pc"])
def test_the_error_falls(two_levels, sampler):
    plain = sample(two_levels, sampler=sampler)
    steered = sample(two_levels, guided(two_levels, strength=10.0, mode="outer"), sampler=sampler)
    assert error_along(steered) < 0.7 * error_along(plain)
    assert torch.equal(sample(two_levels, sampler=sampler), plain)


def test_other_patches_of_the_same_place_still_run(two_levels):
    places = []
    model = two_levels.model.clone()
    model.set_model_patch(lambda h, at: places.append(at["block"]) or h, "input_block_patch_after_skip")
    given = len(model.model_options["transformer_options"]["patches"]["input_block_patch_after_skip"])
    steered = run_one("AqueductEquivarianceGuidance", model=model, mode="outer", motion=motion_of(two_levels))
    sample(two_levels, steered)
    assert ("input", 1) in places
    assert len(model.model_options["transformer_options"]["patches"]["input_block_patch_after_skip"]) == given


def test_restoration_models_know_the_outermost_level(comfy, tmp_path):
    """The network's own way (`UNet.forward`), asked for through the options."""
    from aqueduct.nodes._comfy.restoration import load_restoration_model

    restoration_files.write(tmp_path, "superres")
    with torch.inference_mode():
        model, _ = load_restoration_model(str(tmp_path / "superres.safetensors"))
    small = torch.rand(2, 4, 4, 3, generator=torch.Generator().manual_seed(0))
    positive, negative, latent = run("AqueductRestorationCondition", model=model, images=small)
    host = Host(model, positive, negative, latent["samples"][:1], 2, 1, flow=False)
    found = {mode: sampling(host, lambda *call, mode=mode: pulled(*call, mode)) for mode in ("full", "outer")}
    assert torch.equal(found["outer"][0], found["full"][0])
    assert (found["outer"][1] - found["full"][1]).norm() > 1e-3 * found["full"][1].norm()
