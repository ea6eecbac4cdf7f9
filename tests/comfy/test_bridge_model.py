"""A bridge file as a ComfyUI MODEL: the graph computes what core computes, and the MODEL behaves like any other."""

import numpy
import pytest
import torch

from aqueduct.core.bridges import SOLVERS, guided, sample_bridge
from aqueduct.tests.comfy import bridge_files
from aqueduct.tests.comfy.bridge_files import FRAMES, NULL, VARIANTS, Core
from aqueduct.tests.comfy.graph import FixedNoise, bridge_times, run, run_one, sample_bridge_graph

SEED = 6
CLOSE = {"rtol": 1e-4, "atol": 2e-5}


@pytest.fixture(scope="module")
def folder(comfy, tmp_path_factory):
    folder = tmp_path_factory.mktemp("aqueduct")
    for variant in VARIANTS:
        bridge_files.write(folder, variant)
    bridge_files.write(folder, "shipped", torch.float16)
    bridge_files.offer(folder)
    return folder


def load(name: str) -> tuple:
    """(MODEL, bridge). VAEs of latent models are stood in for: their files are hundreds of megabytes."""
    from aqueduct.nodes import model

    with pytest.MonkeyPatch.context() as patch:
        if not name.startswith(("shipped", "aligned", "no-class")):
            patch.setattr(model, "load_vae", lambda *_: None)
        loaded, _, bridge, _ = run("AqueductLoadBridgeModel", file=f"{name}.safetensors")
    return loaded, bridge


@pytest.fixture(scope="module")
def shipped(folder):
    return load("shipped-float32")


def replicated(images: torch.Tensor) -> dict:
    return run_one("AqueductReplicatePrior", latent={"samples": images}, frames=FRAMES)


def motion(words: str, **inputs):
    return run_one("AqueductMotionClass", motion=words, **inputs)


def noises(core: Core, noise: torch.Tensor, seed: int = SEED):
    """The draws of a run, for core: NOISE first, then those of its seed."""
    from aqueduct.nodes._comfy.sampler import step_noise

    draw = step_noise(noise, seed)
    return lambda s, t: core.clips(draw(s, t))


def random_noise(latent: dict, seed: int = SEED) -> torch.Tensor:
    return run_one("RandomNoise", noise_seed=seed).generate_noise(latent)


# --- the same numbers as core -----------------------------------------------------------------------------------------


def compare(folder, variant: str, solver: str, eta: float, y=1, spacing="uniform", cfg: float = 1.0):
    model, bridge = load(f"{variant}-float32")
    images = bridge_files.image(variant)
    names, takes_image = VARIANTS[variant][5:7]
    prior = replicated(images * 0.9 if takes_image else images)
    given = {"image": {"samples": images}} if takes_image else {}
    positive, negative = motion(str(y), **given), motion("none", **given)
    times = bridge_times(bridge, 5, spacing)
    graph = sample_bridge_graph(
        model, bridge, prior, positive, negative, cfg=cfg, seed=SEED, times=times, solver=solver, eta=eta
    )
    core = Core.load(folder / f"{variant}-float32.safetensors")
    noise = random_noise(prior)

    def denoiser(index):
        y = [index] if names else None
        return core.denoiser(prior["samples"], y, noise, images if takes_image else None)

    both = denoiser(y) if cfg == 1 else guided(denoiser(y), denoiser(NULL), cfg)
    z_T = core.clips(prior["samples"]) * core.scale
    expected = sample_bridge(both, z_T, times, bridge, solver, eta, noises(core, noise))
    assert graph.shape == prior["samples"].shape
    torch.testing.assert_close(graph, core.latents(expected), **CLOSE)
    assert (graph - prior["samples"]).abs().mean() > 0.01


@pytest.mark.parametrize("solver", SOLVERS)
def test_graph_equals_core_for_every_solver(folder, solver):
    compare(folder, "shipped", solver, SOLVERS[solver].eta)


@pytest.mark.parametrize("solver", ["dbim-1", "bbdm"])
def test_graph_equals_core_in_between(folder, solver):
    compare(folder, "shipped", solver, 0.5, spacing="half_log_snr")


@pytest.mark.parametrize("variant", VARIANTS)
def test_graph_equals_core_for_every_kind_of_file(folder, variant):
    compare(folder, variant, "sde", 1.0, spacing="trailing" if variant == "released" else "uniform")


@pytest.mark.parametrize("variant", ["shipped", "with-image", "aligned"])
def test_guidance_equals_core(folder, variant):
    """Core's `guided`: the negative drops the class and keeps image and prior."""
    compare(folder, variant, "sde", 1.0, cfg=3.0)


def test_a_batch_of_clips_is_its_clips(shipped):
    model, bridge = shipped
    images = bridge_files.image("shipped", clips=2)
    noise = random_noise(replicated(images))

    def sample(chosen: slice, words: str):
        frames = slice(chosen.start * FRAMES, chosen.stop * FRAMES)
        return sample_bridge_graph(
            model, bridge, replicated(images[chosen]), motion(words), motion("none"), cfg=2.0,
            noise=FixedNoise(noise[frames]), solver="dbim-2", eta=0.0,
        )  # fmt: skip

    together = sample(slice(0, 2), "down, left")
    torch.testing.assert_close(together[:FRAMES], sample(slice(0, 1), "down"), **CLOSE)
    torch.testing.assert_close(together[FRAMES:], sample(slice(1, 2), "left"), **CLOSE)


def test_the_image_is_taken_from_the_conditioning_where_there_is_one(folder):
    model, bridge = load("with-image-float32")
    images = bridge_files.image("with-image")
    prior = replicated(images)
    runs = [
        sample_bridge_graph(model, bridge, prior, motion("1", image={"samples": image}), seed=SEED)
        for image in (images, images + 0.5)
    ]
    assert (runs[0] - runs[1]).abs().mean() > 1e-3


# --- as any sampler of ComfyUI's --------------------------------------------------------------------------------------


def sample(model_and_bridge, latent: dict | None = None, **options) -> torch.Tensor:
    latent = replicated(bridge_files.image("shipped")) if latent is None else latent
    options = {"seed": SEED, **options}
    return sample_bridge_graph(*model_and_bridge, latent, motion("down"), motion("none"), **options)


def test_same_seed_same_result(shipped):
    assert torch.equal(sample(shipped), sample(shipped))
    assert not torch.allclose(sample(shipped), sample(shipped, seed=SEED + 1))


def test_basic_guider(shipped):
    model, bridge = shipped
    out = run(
        "SamplerCustomAdvanced",
        noise=run_one("RandomNoise", noise_seed=SEED),
        guider=run_one("BasicGuider", model=model, conditioning=motion("down")),
        sampler=run_one("AqueductBridgeSampler", bridge=bridge),
        sigmas=bridge_times(bridge),
        latent_image=replicated(bridge_files.image("shipped")),
    )[0]
    torch.testing.assert_close(out["samples"], sample(shipped), **CLOSE)


def test_noise_mask_keeps_its_part_exactly(shipped):
    latent = replicated(bridge_files.image("shipped"))
    mask = torch.zeros(1, 8, 8)
    mask[:, 4:] = 1
    out = sample(shipped, {**latent, "noise_mask": mask}) - latent["samples"]
    assert (out[:, :, :4] == 0).all()
    assert (out[:, :, 4:].abs().mean(dim=(1, 2, 3)) > 0.01).all()
    assert torch.equal(sample(shipped, {**latent, "noise_mask": torch.ones(1, 8, 8)}), sample(shipped))


def test_other_entries_of_the_latent_stay(shipped):
    model, bridge = shipped
    latent = {**replicated(bridge_files.image("shipped")), "note": "kept"}
    out = run(
        "SamplerCustomAdvanced",
        noise=run_one("RandomNoise"),
        guider=run_one("CFGGuider", model=model, positive=motion("0"), negative=motion("none")),
        sampler=run_one("AqueductBridgeSampler", bridge=bridge),
        sigmas=bridge_times(bridge),
        latent_image=latent,
    )
    assert [o["note"] for o in out] == ["kept", "kept"]
    assert torch.equal(out[0]["samples"], out[1]["samples"])  # the denoised output is the last prediction


def with_callback(model_and_bridge, callback, steps: int = 4) -> torch.Tensor:
    model, bridge = model_and_bridge
    latent = replicated(bridge_files.image("shipped"))
    guider = run_one("CFGGuider", model=model, positive=motion("down"), negative=motion("none"), cfg=1.0)
    sampler = run_one("AqueductBridgeSampler", bridge=bridge)
    with torch.inference_mode():
        return guider.sample(
            random_noise(latent), latent["samples"], sampler, bridge_times(bridge, steps), callback=callback, seed=SEED
        )


def test_every_step_reports_its_prediction(shipped):
    calls = []
    out = with_callback(shipped, lambda *call: calls.append(call))
    assert [(step, total) for step, _, _, total in calls] == [(i, 4) for i in range(4)]
    assert torch.equal(calls[-1][1], out)
    assert torch.equal(calls[0][2], replicated(bridge_files.image("shipped"))["samples"])  # z_T, where the walk begins
    assert not torch.equal(calls[0][1], calls[1][1])


def test_previews_show_the_prediction(shipped, monkeypatch):
    import comfy.utils
    import latent_preview

    shown = []
    monkeypatch.setattr(latent_preview.args, "preview_method", latent_preview.LatentPreviewMethod.Latent2RGB)
    monkeypatch.setattr(
        comfy.utils.ProgressBar, "update_absolute", lambda self, value, total, preview: shown.append((value, preview))
    )
    out = sample(shipped)
    assert [value for value, _ in shown] == [1, 2, 3, 4]
    pixels = torch.from_numpy(numpy.array(shown[-1][1][1]).astype("float32"))
    first_frame = ((out[0].permute(1, 2, 0).clamp(-1, 1) + 1) * 127.5).round()
    assert (pixels - first_frame).abs().max() <= 1.5


def test_interrupt_stops_the_run_and_the_next_one_works(shipped):
    import comfy.model_management as mm

    expected, seen = with_callback(shipped, None), []

    def interrupt(step, *_):
        seen.append(step)
        if step == 1:
            mm.interrupt_current_processing()

    with pytest.raises(mm.InterruptProcessingException):
        with_callback(shipped, interrupt)
    assert seen == [0, 1]
    assert torch.equal(with_callback(shipped, None), expected)


# --- as any MODEL of ComfyUI's ----------------------------------------------------------------------------------------


def test_sampling_leaves_no_trace_in_the_model(shipped):
    model, _ = shipped
    sample(shipped)
    assert not any(key.startswith("aqueduct") for key in model.model_options.get("transformer_options", {}))


def test_lora_changes_the_output_and_is_undone(folder, shipped):
    import comfy.sd

    model, bridge = shipped
    before = sample(shipped)
    up, down = (torch.randn(shape, generator=torch.Generator().manual_seed(4)) for shape in ((48, 2), (2, 16)))
    key = "diffusion_model.blocks.0.attn.qkv"
    lora = {f"{key}.lora_up.weight": up, f"{key}.lora_down.weight": down, f"{key}.alpha": torch.tensor(2.0)}
    with torch.inference_mode():
        patched, _ = comfy.sd.load_lora_for_models(model, None, lora, 0.5, 0)
    changed = sample((patched, bridge))
    core = Core.load(folder / "shipped-float32.safetensors")
    core.network.blocks[0].attn.qkv.weight.data += 0.5 * up @ down
    prior = replicated(bridge_files.image("shipped"))
    noise = random_noise(prior)
    expected = sample_bridge(
        core.denoiser(prior["samples"], [1], noise), core.clips(prior["samples"]), bridge_times(bridge), bridge,
        noise_sampler=noises(core, noise),
    )  # fmt: skip
    torch.testing.assert_close(changed, core.latents(expected), **CLOSE)
    assert (changed - before).abs().mean() > 1e-3
    assert torch.equal(sample(shipped), before)


def test_half_precision_files_are_computed_in_float_on_the_cpu(folder, shipped):
    half = load("shipped-float16")
    model = half[0].model
    assert model.get_dtype() == torch.float32 and model.manual_cast_dtype is None
    torch.testing.assert_close(sample(half), sample(shipped), rtol=0.02, atol=0.02)


def test_half_precision_weights_are_cast_as_they_are_used(folder, monkeypatch):
    """What a GPU without fast fp16 does: weights stay fp16, arithmetic is fp32."""
    import comfy.model_management as mm

    expected = sample(load("shipped-float16"))
    monkeypatch.setattr(mm, "unet_dtype", lambda *_, **__: torch.float16)
    cast = load("shipped-float16")
    model = cast[0].model
    assert model.get_dtype() == torch.float16 and model.manual_cast_dtype == torch.float32
    assert {p.dtype for p in model.diffusion_model.parameters()} == {torch.float16}
    torch.testing.assert_close(sample(cast), expected, **CLOSE)


def test_partly_loaded_models_give_the_same(folder, shipped):
    """Low-VRAM mode: some layers are loaded, the others bring their weights along at each call."""
    partly, whole = load("shipped-float32")[0], shipped[0]
    partly.load(partly.load_device, lowvram_model_memory=1)
    network = partly.model.diffusion_model
    assert {layer.comfy_cast_weights for layer in network.modules() if hasattr(layer, "comfy_cast_weights")} == {True}
    x, t, y = torch.randn(1, 6, FRAMES, 8, 8), torch.tensor([500.0]), torch.tensor([1])
    with torch.inference_mode():
        torch.testing.assert_close(network(x, t, y=y), whole.model.diffusion_model(x, t, y=y))


def test_every_layer_is_one_comfyui_can_manage(shipped):
    """Layers from `comfy.ops` cast and offload themselves; a plain torch layer would stay where it is."""
    model, _ = shipped
    plain = [
        name
        for name, layer in model.model.diffusion_model.named_modules()
        if list(layer.parameters(recurse=False)) and not hasattr(layer, "comfy_cast_weights")
    ]
    assert plain == [""]  # the position tables, which follow their input


def test_wrappers_around_the_network_are_called(shipped):
    import comfy.patcher_extension as extension

    model, bridge = shipped
    calls = []

    def wrapper(executor, x, timesteps, *others):
        calls.append(x.shape)
        return executor(x, timesteps, *others)

    wrapped = model.clone()
    wrapped.add_wrapper_with_key(extension.WrappersMP.DIFFUSION_MODEL, "test", wrapper)
    assert torch.equal(sample((wrapped, bridge)), sample(shipped))
    assert calls == [(1, 6, FRAMES, 8, 8)] * 4
