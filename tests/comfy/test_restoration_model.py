"""A restoration file as a ComfyUI MODEL: it computes what core computes, in stock guiders, samplers and schedules."""

import pytest
import torch

from aqueduct.core.guidance import Guidance, full, outer, previous_frame, sample_warped_diffusion, x0
from aqueduct.core.motion import MotionField
from aqueduct.tests.comfy import restoration_files
from aqueduct.tests.comfy.graph import run, run_one, sample_stock
from aqueduct.tests.comfy.restoration_files import (
    CLOSE,
    FRAMES,
    HEIGHT,
    LEVELS,
    PROBLEMS,
    SIZES,
    WIDTH,
    core_denoiser,
    damaged,
    images,
    levels,
    load,
    noise,
    predictions,
    sampled,
    write_all,
)


@pytest.fixture(scope="module")
def folder(comfy, tmp_path_factory):
    return write_all(tmp_path_factory.mktemp("aqueduct"))


@pytest.fixture(scope="module", params=PROBLEMS)
def loaded(folder, request):
    """(name, MODEL)"""
    return request.param, load(request.param)


# --- the same numbers as core -----------------------------------------------------------------------------------------


def test_prediction_equals_core_at_every_level(folder, loaded):
    name, model = loaded
    *conditioning, latent, condition = damaged(name, model)
    sigmas = [LEVELS["maximum"], 2.0, 0.5, 0.1, LEVELS["minimum"]]
    got = predictions(model, *conditioning, latent, sigmas)
    denoise = core_denoiser(folder / f"{name}.safetensors", condition)
    for level, sigma in enumerate(sigmas):
        wanted = denoise(noise(), torch.tensor(sigma, dtype=torch.float64), slice(None))
        torch.testing.assert_close(got[level], wanted, **CLOSE)
    assert (got[0] - got[1]).abs().mean() > 0.01


def test_every_frame_has_its_own_condition(folder, loaded):
    name, model = loaded
    *conditioning, latent, condition = damaged(name, model)
    same = noise()[:1].expand(FRAMES, -1, -1, -1)
    got = predictions(model, *conditioning, latent, [1.0], z=same)[0]
    assert (got[0] - got[1]).abs().mean() > 0.01


def test_cfg_changes_nothing(loaded):
    name, model = loaded
    *conditioning, latent, _ = damaged(name, model)
    runs = [predictions(model, *conditioning, latent, [1.0], cfg) for cfg in (1.0, 4.0)]
    torch.testing.assert_close(*runs, **CLOSE)


def test_euler_equals_cores_own_loop(folder, loaded):
    """At strength 0, and from below sigma_max: there ComfyUI scales noise by sqrt(1 + sigma^2) instead of sigma."""
    name, model = loaded
    *conditioning, latent, condition = damaged(name, model)
    sigmas = levels(model)[1:]
    still = MotionField(torch.zeros(FRAMES - 1, 2, HEIGHT, WIDTH), torch.zeros(FRAMES - 1, 2, HEIGHT, WIDTH))
    denoise = core_denoiser(folder / f"{name}.safetensors", condition)
    guidance = Guidance(previous_frame(still), strength=0.0)
    start = sigmas[0] * noise() + latent["samples"]
    wanted = sample_warped_diffusion(denoise, start, sigmas, guidance)
    torch.testing.assert_close(sampled(model, *conditioning, latent, sigmas), wanted, **CLOSE)


def test_outer_option_reaches_the_network(folder, loaded):
    """The gradient of a prediction through the MODEL, in both modes, is core's; and the two are not the same."""
    from aqueduct.nodes._comfy.options import OUTER_KEY
    from aqueduct.nodes._comfy.restoration import load_restoration_model

    name, model = loaded
    *_, condition = damaged(name, model)
    path, gradients = folder / f"{name}.safetensors", []
    fresh, _ = load_restoration_model(str(path))  # outside inference mode, in which the node ran
    for part in (False, True):
        z, sigma = noise().requires_grad_(True), torch.ones(FRAMES)
        options = {OUTER_KEY: True} if part else {}
        prediction = fresh.model.apply_model(z, sigma, c_concat=condition, transformer_options=options)
        gradients += torch.autograd.grad(prediction.square().sum(), z)
        z = noise().requires_grad_(True)
        wanted = core_denoiser(path, condition, part)(z, torch.tensor(1.0), slice(None))
        torch.testing.assert_close(gradients[-1], *torch.autograd.grad(wanted.square().sum(), z), **CLOSE)
    assert (gradients[0] - gradients[1]).abs().mean() > 1e-3


@pytest.mark.parametrize("mode", ["x0", "outer", "full"])
def test_warped_diffusion_equals_core(folder, mode):
    """Algorithm 1 through the MODEL, a frame at a time, each with its own condition; core takes all frames at once."""
    model = load("superres")
    *conditioning, latent, condition = damaged("superres", model)
    sigmas, still = levels(model, 3)[1:], torch.zeros(FRAMES - 1, 2, HEIGHT, WIDTH)
    motion, path = MotionField(still + 0.3, still - 0.3), folder / "superres.safetensors"
    inputs = {"strength": 5.0, "bounded": False, "reference": "previous frame"}
    sampler = run_one("AqueductWarpedDiffusionSampler", motion=motion, mode=mode, frames_at_once=1, **inputs)
    got = sampled(model, *conditioning, latent, sigmas, sampler=sampler)

    def in_core(way, strength: float = 5.0) -> torch.Tensor:
        denoise, guidance = core_denoiser(path, condition), Guidance(previous_frame(motion), strength, way)
        return sample_warped_diffusion(denoise, sigmas[0] * noise(), sigmas, guidance)

    part = core_denoiser(path, condition, outer=True)
    ways = {"x0": x0, "outer": outer(lambda _: lambda z, t: part(z, t, slice(None))), "full": full}
    wanted = in_core(ways.pop(mode))
    torch.testing.assert_close(got, wanted, rtol=1e-3, atol=1e-3)
    others = [in_core(way) for way in ways.values()] + [in_core(full, strength=0.0)]
    assert min((wanted - other).abs().max() for other in others) > 0.01


# --- as any MODEL of ComfyUI's ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheduler", ["karras", "exponential", "simple", "normal", "sgm_uniform", "beta"])
def test_schedules_keep_to_the_files_levels(folder, scheduler):
    sigmas = levels(load("superres"), 6, scheduler)
    assert len(sigmas) == 7 and sigmas[-1] == 0 and (sigmas.diff() < 0).all()
    torch.testing.assert_close(float(sigmas[0]), LEVELS["maximum"], rtol=1e-4, atol=0)
    lowest = LEVELS["minimum"]
    assert sigmas[-2] >= lowest * (1 - 1e-4)
    if scheduler in ("karras", "exponential", "normal"):
        torch.testing.assert_close(float(sigmas[-2]), lowest, rtol=1e-4, atol=0)


@pytest.mark.parametrize("sampler", ["heun", "dpmpp_2m", "euler_ancestral", "uni_pc"])
def test_stock_samplers_run(loaded, sampler):
    name, model = loaded
    *conditioning, latent, _ = damaged(name, model)
    out = sampled(model, *conditioning, latent, levels(model), sampler)
    assert out.shape == (FRAMES, 3, HEIGHT, WIDTH) and out.isfinite().all()


def test_ksampler_runs(loaded):
    name, model = loaded
    positive, negative, latent, _ = damaged(name, model)
    out = sample_stock(model, latent["samples"], positive, negative, steps=3)
    assert out.shape == (FRAMES, 3, HEIGHT, WIDTH) and out.isfinite().all()


def test_one_condition_serves_several_draws(folder):
    """RepeatLatentBatch of a single picture: frames that differ in their noise alone."""
    model = load("superres")
    positive, negative, latent = run("AqueductRestorationCondition", model=model, images=images(1, 4, 6, 3))
    latent = {"samples": latent["samples"].repeat(FRAMES, 1, 1, 1)}
    together = sampled(model, positive, negative, latent, levels(model))
    alone = sampled(model, positive, negative, {"samples": latent["samples"][:1]}, levels(model), source=noise()[1:2])
    torch.testing.assert_close(together[1:2], alone, **CLOSE)


def test_files_precision_and_the_users(folder, monkeypatch):
    """Weights of 16 bits are computed with in 32, unless the user starts ComfyUI with --bf16-unet."""
    import comfy.cli_args

    *_, condition = damaged("superres", load("superres"))
    wanted = core_denoiser(folder / "superres.safetensors", condition)(noise(), torch.tensor(1.0), slice(None))
    restoration_files.write(folder, "superres", torch.float16, "superres-half")
    model = load("superres-half")
    assert model.model.get_dtype() == torch.float32
    *conditioning, latent, _ = damaged("superres", model)
    torch.testing.assert_close(predictions(model, *conditioning, latent, [1.0])[0], wanted, rtol=0, atol=5e-3)
    monkeypatch.setattr(comfy.cli_args.args, "bf16_unet", True)
    model = load("superres-half")
    assert model.model.get_dtype() == torch.bfloat16
    got = predictions(model, *conditioning, latent, [1.0])[0]
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, wanted, rtol=0, atol=5e-2)


def test_wrappers_of_the_diffusion_model_run(folder):
    """What other packs put around networks sees this one, options last, as in ComfyUI's own."""
    import comfy.patcher_extension as extension

    model, seen = load("superres").clone(), []
    *conditioning, latent, _ = damaged("superres", model)

    def spy(executor, *args, **kwargs):
        seen.append((args[0].shape, args[-1]["cond_or_uncond"]))
        return executor(*args, **kwargs) * 0

    model.add_wrapper_with_key(extension.WrappersMP.DIFFUSION_MODEL, "spy", spy)
    got = predictions(model, *conditioning, latent, [1.0])[0]
    assert seen == [((FRAMES, 6, HEIGHT, WIDTH), [0])]
    enlarged = conditioning[0][0][1]["aqueduct_condition"]
    torch.testing.assert_close(got, enlarged + (noise() - enlarged) * 0.2, **CLOSE)  # guess and c_skip, without network


def test_memory_is_estimated_by_pixels(folder):
    """Between what a forward pass holds at least and a few times as much."""
    model = load("superres").model
    numbers = model.memory_required([1, 3, 64, 64]) / 4 / 64**2
    widest = 3 * SIZES["channels"] / SIZES["fold"] ** 2  # what the last convolution is given and gives
    assert widest < numbers < 100 * widest
    assert model.memory_required([2, 3, 64, 64]) == 2 * model.memory_required([1, 3, 64, 64])
