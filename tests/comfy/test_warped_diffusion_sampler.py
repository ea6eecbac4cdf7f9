"""Warped Diffusion's SAMPLER in ComfyUI: core's lockstep loop on real MODELs, in parts, with all they are shown."""

import logging

import pytest
import torch

from aqueduct.core.guidance import Guidance, full, previous_frame, sample_warped_diffusion, x0
from aqueduct.core.motion import MotionField
from aqueduct.tests.comfy.exact_host import exact_host
from aqueduct.tests.comfy.graph import FixedNoise, run, run_one, sample_stock
from aqueduct.tests.comfy.hosts import normal, sd15, svd, text, wan
from aqueduct.tests.unit.shift_worlds import DATA_STD, ShiftWorld

WORLD = ShiftWorld(frames=4, channels=4, height=8, width=8, step=(2, -1))
NOISE = WORLD.noise(dtype=torch.float32)
FRAMES = WORLD.frames
KINDS = ["EPS", "V_PREDICTION_EDM", "EDM", "FLOW"]


# --- a host that is exactly right, on frames that differ --------------------------------------------------------------


def posterior_mean(y, signal, noise, picture):
    """``E[z_0 | signal z_0 + noise eps = y]`` for independent Gaussian pixels around ``picture``."""
    gain = DATA_STD**2 * signal / (DATA_STD**2 * signal**2 + noise**2)
    return picture + gain * (y - signal * picture)


PICTURES = 0.7 * normal(FRAMES, 4, 8, 8, seed=5)
SEES_PICTURES = [[torch.zeros(1, 1, 8), {"noise_concat": PICTURES}]]


@pytest.fixture(scope="module", params=KINDS)
def exact(request, comfy):
    """Each frame's picture comes in on channels."""
    return exact_host(request.param, posterior_mean)


@pytest.fixture(scope="module")
def host(comfy):
    """SD1.5 whose random weights say more, so that what they are shown shows in the result."""
    found = sd15()
    with torch.inference_mode():
        found.model.model.diffusion_model.out[-1].weight.mul_(20)
    return found


# --- the graph --------------------------------------------------------------------------------------------------------


def levels(model, steps=6, scheduler="simple"):
    return run_one("BasicScheduler", model=model, scheduler=scheduler, steps=steps, denoise=1.0)


def late(model):
    """Two steps at levels where noise does not drown the rest."""
    return levels(model, 6)[-3:]


def warped(motion=None, strength=1.0, mode="x0", **widgets):
    motion = WORLD.motion() if motion is None else motion
    return run_one("AqueductWarpedDiffusionSampler", motion=motion, strength=strength, mode=mode, **widgets)


def euler():
    return run_one("KSamplerSelect", sampler_name="euler")


def sample(model, sampler, positive, negative=None, *, sigmas=None, latent=None, cfg=1.0, noise=None, output=0):
    latent = {"samples": torch.zeros(FRAMES, 4, 8, 8)} if latent is None else latent
    outputs = run(
        "SamplerCustomAdvanced",
        noise=noise or FixedNoise(NOISE),
        guider=run_one("CFGGuider", model=model, positive=positive, negative=negative or positive, cfg=cfg),
        sampler=sampler,
        sigmas=levels(model) if sigmas is None else sigmas,
        latent_image=latent,
    )
    return outputs[output]["samples"]


# --- the algorithm ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [x0, full])
@pytest.mark.parametrize("steps", [6, 20])
def test_the_graph_is_cores_loop_with_the_same_denoiser(exact, steps, mode):
    """Through noise scaling, network input and output of each kind of model; the loop itself in float64."""
    kind = exact.model.model_type.name
    sigmas = levels(exact, steps, "simple" if kind == "EPS" else "karras")  # EPS networks know 1000 levels
    found = sample(exact, warped(strength=0.5, mode=mode.__name__, bounded=False), SEES_PICTURES, sigmas=sigmas)

    def denoiser(z, sigma, part):
        return posterior_mean(z, 1 - sigma if kind == "FLOW" else 1.0, sigma, PICTURES[part].double())

    top = float(sigmas[0])
    start = NOISE.double() * (top if kind == "FLOW" else (1 + top**2) ** 0.5)
    guidance = Guidance(previous_frame(WORLD.motion()), 0.5, mode)
    expected = sample_warped_diffusion(denoiser, start, sigmas, guidance)
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("cut", [slice(None), slice(2, None), slice(None, -2)], ids=["all", "late start", "early end"])
def test_strength_zero_is_cores_own_euler(exact, cut):
    """From pure noise, from a noisy picture, and stopping while noisy."""
    sigmas = levels(exact)[cut]
    latent = {"samples": torch.zeros(FRAMES, 4, 8, 8) if cut.start is None else normal(FRAMES, 4, 8, 8, seed=9)}
    if cut.stop is not None and exact.model.model_type.name == "FLOW":
        assert sigmas[-1] < 1  # else core divides by zero
    for output in (0, 1):
        expected = sample(exact, euler(), SEES_PICTURES, sigmas=sigmas, latent=latent, output=output)
        found = sample(exact, warped(strength=0.0), SEES_PICTURES, sigmas=sigmas, latent=latent, output=output)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=2e-5)
    guided = sample(exact, warped(), SEES_PICTURES, sigmas=sigmas, latent=latent)
    assert (guided - expected).abs().max() > 0.05


@pytest.mark.parametrize("mode", ["x0", "full"])
@pytest.mark.parametrize("bounded", [True, False])
def test_the_other_route_to_the_same_algorithm(exact, mode, bounded):
    """A guided MODEL under core's own Euler: it corrects the prediction by as much as this corrects the state."""
    widgets = {"mode": mode, "bounded": bounded, "reference": "both", "share": 0.5, "end_percent": 0.9}
    guided, _ = run("AqueductEquivarianceGuidance", model=exact, motion=WORLD.motion(), **widgets)
    expected = sample(guided, euler(), SEES_PICTURES)
    found = sample(exact, warped(frames_at_once=3, **widgets), SEES_PICTURES)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
    assert (expected - sample(exact, euler(), SEES_PICTURES)).abs().max() > 0.05


@pytest.mark.parametrize("mode", ["x0", "outer", "full"])
def test_the_other_route_through_a_real_network(host, mode):
    guided, _ = run("AqueductEquivarianceGuidance", model=host.model, motion=WORLD.motion(), mode=mode)
    expected = sample(guided, euler(), host.positive, host.negative, sigmas=late(host.model), cfg=2.0)
    found = sample(host.model, warped(mode=mode), host.positive, host.negative, sigmas=late(host.model), cfg=2.0)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_guidance_lowers_the_self_warping_error(exact):
    sigmas = levels(exact, 20)
    plain = WORLD.moved(sample(exact, warped(strength=0.0), SEES_PICTURES, sigmas=sigmas)).mean()
    guided = WORLD.moved(sample(exact, warped(), SEES_PICTURES, sigmas=sigmas)).mean()
    assert guided < 0.1 * plain


def test_the_same_seed_gives_the_same_result(exact):
    first, second, other = (
        sample(exact, warped(), SEES_PICTURES, noise=run_one("AqueductGPNoise", motion=WORLD.motion(), seed=seed))
        for seed in (3, 3, 4)
    )
    assert torch.equal(first, second) and (first - other).abs().max() > 0.01


def test_motion_and_mask_at_the_videos_size_are_brought_to_the_latents(exact):
    """Shrunk with antialiasing, what counts loses one latent pixel to what leaves the frame."""
    large = ShiftWorld(frames=FRAMES, height=64, width=64, step=(16, -8)).motion()
    counts = torch.zeros(1, 8, 8)
    counts[:, 2:, :5] = 1
    found = sample(exact, warped(large), SEES_PICTURES)
    torch.testing.assert_close(found, sample(exact, warped(mask=counts), SEES_PICTURES), rtol=0, atol=1e-4)
    assert (found - sample(exact, warped(), SEES_PICTURES)).abs().max() > 0.01
    nowhere = sample(exact, warped(large, mask=torch.zeros(1, 32, 32)), SEES_PICTURES)
    torch.testing.assert_close(nowhere, sample(exact, euler(), SEES_PICTURES), rtol=1e-5, atol=2e-5)


def test_frames_with_an_axis_of_time_of_one(comfy):
    """Image models of the video families (Qwen-Image, Wan for stills) take [F,C,1,h,w]."""
    tiny = wan("t2v")
    latent, noise = {"samples": torch.zeros(3, 16, 1, 8, 8)}, FixedNoise(normal(3, 16, 1, 8, 8))
    motion = ShiftWorld(3, height=8, width=8).motion()

    def made(sampler):
        return sample(tiny.model, sampler, tiny.positive, latent=latent, noise=noise, sigmas=levels(tiny.model, 3))

    expected = made(euler())
    assert expected.shape == latent["samples"].shape
    torch.testing.assert_close(made(warped(motion, 0.0)), expected, rtol=1e-5, atol=1e-5)
    guided = made(warped(motion))
    torch.testing.assert_close(made(warped(motion, frames_at_once=1)), guided, rtol=1e-4, atol=1e-4)
    assert (guided - expected).abs().max() > 0.01


# --- in parts ---------------------------------------------------------------------------------------------------------


def tiny_control(hint):
    """Core's ControlNet around a network that only shows its hint to the host."""
    import comfy.controlnet

    class Hints(torch.nn.Module):
        dtype = torch.float32

        def forward(self, x, hint, timesteps, context, **_):
            return {"input": [], "middle": [hint.mean(1, keepdim=True).expand(-1, 320, -1, -1).clone()], "output": []}

    net = comfy.controlnet.ControlNet(Hints(), compression_ratio=1, load_device=torch.device("cpu"))
    return net.set_cond_hint(hint, 3.0)


def conditioned(what):
    """(positive, negative) with something for every frame of its own."""
    own_prompts = normal(FRAMES, 8, 768, seed=11)
    (prompt, negative) = text(8, 768)
    if what == "prompts":
        return [[own_prompts, {}]], negative
    if what == "fewer prompts than frames":
        return [[own_prompts[:3], {}]], negative
    if what == "more prompts than frames":
        return [[normal(FRAMES + 2, 8, 768, seed=11), {}]], negative
    if what == "masks":
        halves = (torch.arange(FRAMES)[:, None, None] + torch.arange(8)).remainder(2).expand(FRAMES, 8, 8).float()
        return [[own_prompts, {"mask": halves, "mask_strength": 1.0}], [prompt[0][0], {"strength": 0.5}]], negative
    if what == "areas":
        return [[own_prompts, {"area": (4, 4, 2, 3), "strength": 1.0}], prompt[0]], negative
    control = tiny_control(normal(FRAMES, 3, 8, 8, seed=12))
    if what == "two control nets":
        control.set_previous_controlnet(tiny_control(normal(1, 3, 8, 8, seed=13)))
        control = tiny_control(normal(1, 3, 8, 8, seed=14)).set_previous_controlnet(control)
    hinted = {"control": control, "control_apply_to_uncond": True}
    return [[prompt[0][0], hinted]], negative


CONDITIONS = ["prompts", "fewer prompts than frames", "more prompts than frames", "masks", "areas", "control net",
              "two control nets"]  # fmt: skip


@pytest.mark.parametrize("what", CONDITIONS)
def test_parts_are_conditioned_as_the_whole(host, what):
    """Every frame meets its own conditioning whatever the part it is in; without that the parts would differ."""
    positive, negative = conditioned(what)
    whole, parts, plain = (
        sample(host.model, warped(frames_at_once=size), given, negative, sigmas=late(host.model), cfg=2.0)
        for size, given in ((0, positive), (3, positive), (0, host.positive))
    )
    torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-4)
    assert (plain - whole).abs().max() > 0.01


def test_a_control_net_of_some_frames_forgets_the_hint_made_ready_for_others(comfy):
    """As after memory ran out with all frames: the hint of all was ready. One object serves all prompts."""
    from aqueduct.nodes._comfy.frame_conds import conds_of_frames

    hints = normal(FRAMES, 3, 8, 8, seed=12)
    net, single = tiny_control(hints), tiny_control(hints[:1])
    net.cond_hint = single.cond_hint = ready = torch.zeros(2, 3, 8, 8)
    prompts = [{"model_conds": {}, "control": net}, {"model_conds": {}, "control": single}]
    found = conds_of_frames({"positive": prompts, "negative": prompts[:1]}, range(1, 3))
    own = found["positive"][0]["control"]
    assert own is found["negative"][0]["control"] and own.cond_hint is None
    assert torch.equal(own.cond_hint_original, hints[1:3]) and own.control_model is net.control_model
    assert net.cond_hint is ready and net.cond_hint_original is hints
    assert found["positive"][1]["control"] is single


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_parts_of_a_model_with_channels_of_condition(exact, size):
    whole = sample(exact, warped(), SEES_PICTURES)
    torch.testing.assert_close(sample(exact, warped(frames_at_once=size), SEES_PICTURES), whole, rtol=0, atol=1e-5)


def test_memory_running_out_halves_the_part_for_good(exact, monkeypatch, caplog):
    import comfy.model_management as mm

    asked, emptied = [], []
    network = type(exact.model.diffusion_model)
    forward = network.forward

    def small(self, entering, *rest, **more):
        asked.append(len(entering))
        if len(entering) > 2:
            raise torch.cuda.OutOfMemoryError("out of memory")
        return forward(self, entering, *rest, **more)

    whole = sample(exact, warped(), SEES_PICTURES, sigmas=levels(exact, 2))
    monkeypatch.setattr(network, "forward", small)
    monkeypatch.setattr(mm, "soft_empty_cache", lambda *_: emptied.append(True))
    with caplog.at_level(logging.INFO):
        found = sample(exact, warped(), SEES_PICTURES, sigmas=levels(exact, 2))
    torch.testing.assert_close(found, whole, rtol=0, atol=1e-5)
    assert asked == [4, 2, 2, 2, 2] and emptied
    assert "2 frames at once" in caplog.text

    monkeypatch.setattr(network, "forward", lambda *_, **__: (_ for _ in ()).throw(MemoryError("out of memory")))
    with pytest.raises(MemoryError):
        sample(exact, warped(), SEES_PICTURES)


def test_the_gradient_goes_through_the_network_of_each_part(host):
    """Inference weights and conditioning included; afterwards the MODEL samples as before, bit for bit."""
    import comfy.model_management as mm

    positive, negative = conditioned("control net")
    before = sample_stock(host.model, torch.zeros(2, 4, 8, 8), host.positive)
    whole, parts, straight = (
        sample(host.model, warped(mode=mode, frames_at_once=size), positive, negative, sigmas=late(host.model))
        for mode, size in (("full", 0), ("full", 3), ("x0", 0))
    )
    torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-4)
    assert (straight - whole).abs().max() > 0.01
    assert torch.equal(before, sample_stock(host.model, torch.zeros(2, 4, 8, 8), host.positive))
    assert not getattr(mm, "in_training", False)


def test_no_memory_for_the_gradient_of_one_frame_has_the_blocks_computed_twice(exact, monkeypatch, caplog):
    from aqueduct.nodes._comfy import guided_model

    whole = sample(exact, warped(mode="full"), SEES_PICTURES, sigmas=levels(exact, 2))
    tried, network, own = [], type(exact.model.diffusion_model), guided_model.gradients_through
    forward = network.forward

    def noting(guider, checkpointed=False):
        tried.append(checkpointed)
        return own(guider, checkpointed)

    def small(self, *arguments, **more):
        if torch.is_grad_enabled() and not tried[-1]:
            raise torch.cuda.OutOfMemoryError("out of memory")
        return forward(self, *arguments, **more)

    monkeypatch.setattr(guided_model, "gradients_through", noting)
    monkeypatch.setattr(network, "forward", small)
    found = sample(exact, warped(mode="full"), SEES_PICTURES, sigmas=levels(exact, 2))
    torch.testing.assert_close(found, whole, rtol=0, atol=1e-5)
    assert tried == [False, True] and "computed twice" in caplog.text

    monkeypatch.setattr(network, "forward", lambda *_, **__: int("x"))
    with pytest.raises(ValueError, match="invalid literal"):
        sample(exact, warped(mode="full"), SEES_PICTURES)
    assert tried == [False, True, False]


# --- noise masks ------------------------------------------------------------------------------------------------------


def masked_latent():
    mask = torch.ones(FRAMES, 1, 8, 8)
    for frame in range(FRAMES):
        mask[frame, :, frame : frame + 3] = 0  # kept: another stripe in every frame
    mask[:, :, :, -1] = 0.5
    return {"samples": normal(FRAMES, 4, 8, 8, seed=9), "noise_mask": mask}


@pytest.mark.parametrize("mode", ["x0", "full"])
@pytest.mark.parametrize("size", [0, 3])
def test_a_noise_mask_keeps_the_latent(exact, size, mode):
    latent = masked_latent()
    kept = (latent["noise_mask"] == 0).expand(-1, 4, -1, -1)
    expected = sample(exact, euler(), SEES_PICTURES, latent=latent)
    found = sample(exact, warped(strength=0.0, frames_at_once=size), SEES_PICTURES, latent=latent)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=2e-5)
    guided = sample(exact, warped(mode=mode, frames_at_once=size), SEES_PICTURES, latent=latent)
    torch.testing.assert_close(guided[kept], latent["samples"][kept])
    assert (guided - expected)[~kept].abs().max() > 0.05
    whole = sample(exact, warped(mode=mode), SEES_PICTURES, latent=latent)
    torch.testing.assert_close(guided, whole, rtol=0, atol=1e-5)


def test_the_network_alone_is_taken_for_the_identity_under_a_noise_mask(exact):
    """Of the mixed denoiser m h(m z + ...) + ... the slope is m J m: on a soft mask guidance weighs m^2."""
    from aqueduct.nodes._comfy.warped_diffusion import within_mask

    class Mixed:
        mask_used = torch.tensor([0.0, 0.5, 1.0]).reshape(1, 1, 1, 3)

    _, pull = within_mask(Mixed)(lambda z, t: z, torch.zeros(1, 2, 1, 3), torch.tensor(1.0))
    assert pull(torch.ones(1, 2, 1, 3))[0, 0, 0].tolist() == [0.0, 0.25, 1.0]


def test_differential_diffusion_works_in_parts(exact):
    """It turns the mask into another at every level; parts have to have theirs."""
    changed = exact.clone()
    changed.set_model_denoise_mask_function(lambda sigma, mask, extra_options: (mask > 0.4).to(mask) * mask)
    latent = masked_latent()
    expected = sample(changed, euler(), SEES_PICTURES, latent=latent)
    found = sample(changed, warped(strength=0.0, frames_at_once=2), SEES_PICTURES, latent=latent)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=2e-5)


# --- beside the result ------------------------------------------------------------------------------------------------


def test_every_step_is_shown_and_the_end_is_told(exact, monkeypatch, caplog):
    import latent_preview

    seen = []

    def watching(model, steps, outputs):
        def callback(step, prediction, x, total):
            outputs["x0"] = prediction
            seen.append((step, tuple(prediction.shape), tuple(x.shape), total))

        return callback

    monkeypatch.setattr(latent_preview, "prepare_callback", watching)
    with caplog.at_level(logging.INFO):
        clip = sample(exact, warped(start_percent=0.5, frames_at_once=2), SEES_PICTURES)
    assert seen == [(step, (FRAMES, 4, 8, 8), (FRAMES, 4, 8, 8), 6) for step in range(6)]
    told = [line for line in caplog.messages if line.startswith("Warped Diffusion")]
    assert len(told) == 1 and "3 of 6 steps guided, 2 frames at once" in told[0]
    error = float(told[0].split("error ")[1].split(" ")[0])
    assert error == pytest.approx(WORLD.moved(clip).mean().item(), rel=0.01)


@pytest.mark.parametrize("mode", ["x0", "full"])
def test_an_interrupt_in_the_middle_of_a_step_leaves_the_model_as_it_was(host, mode):
    import comfy.model_management as mm

    positive, negative = conditioned("control net")
    sigmas = late(host.model)
    guider = run_one("CFGGuider", model=host.model, positive=positive, negative=negative, cfg=2.0)
    before = sample_stock(host.model, torch.zeros(2, 4, 8, 8), host.positive)
    sampler, calls = warped(mode=mode, frames_at_once=2), []
    options = host.model.model_options

    class Stopping(type(guider)):
        def predict_noise(self, *arguments, **more):
            calls.append(self.conds)
            if len(calls) == 4:
                mm.interrupt_current_processing()
            return super().predict_noise(*arguments, **more)

    guider.__class__ = Stopping
    latent = {"samples": torch.zeros(FRAMES, 4, 8, 8)}
    with pytest.raises(mm.InterruptProcessingException):
        run("SamplerCustomAdvanced", noise=FixedNoise(NOISE), guider=guider,
            sampler=sampler, sigmas=sigmas, latent_image=latent)  # fmt: skip
    assert len(calls) == 4 and host.model.model_options is options
    after = sample_stock(host.model, torch.zeros(2, 4, 8, 8), host.positive)
    assert torch.equal(before, after)
    prompts = {len(cond["model_conds"]["c_crossattn"].cond) for group in guider.conds.values() for cond in group}
    assert prompts == {1} and all(seen is not guider.conds for seen in calls)


# --- what is refused --------------------------------------------------------------------------------------------------


def test_previews_of_a_network_need_no_gradient(host, monkeypatch):
    """TAESD's weights come from a loader: inference tensors that ask for a gradient, within a backward run."""
    import latent_preview

    with torch.inference_mode():
        decoder = torch.nn.Conv2d(4, 3, 1)
    shown = []

    def previews(*_, **__):
        return lambda step, x0, x, total: shown.append(decoder(x0))

    monkeypatch.setattr(latent_preview, "prepare_callback", previews)
    out = sample(host.model, warped(mode="full"), host.positive, latent={"samples": torch.zeros(FRAMES, 4, 8, 8)})
    assert out.isfinite().all() and len(shown) == 6 and not any(picture.requires_grad for picture in shown)


def test_a_motion_of_another_length_is_refused_with_both_numbers(exact):
    with pytest.raises(ValueError, match="motion has 5 frames, the LATENT 4"):
        sample(exact, warped(ShiftWorld(5, height=8, width=8).motion()), SEES_PICTURES)


def test_a_model_that_is_guided_already_is_refused(exact):
    guided, _ = run("AqueductEquivarianceGuidance", model=exact, motion=WORLD.motion(), mode="x0")
    with pytest.raises(ValueError, match="take one of the two"):
        sample(guided, warped(), SEES_PICTURES)


def test_modes_the_model_does_not_have_are_refused(exact):
    with pytest.raises(ValueError, match="use mode full or x0"):
        sample(exact, warped(mode="outer"), SEES_PICTURES)
    sample(exact, warped(mode="outer", strength=0.0), SEES_PICTURES)


def test_a_motion_that_is_not_finite_is_refused(comfy):
    forward = torch.zeros(4, 2, 8, 8)
    forward[2, 0, 3, 3] = float("nan")
    with pytest.raises(ValueError, match="not finite"):
        warped(MotionField(forward, -forward))


def test_a_negative_strength_is_refused(comfy):
    with pytest.raises(ValueError, match="-1"):
        warped(strength=-1.0)


def test_sigmas_that_do_not_descend_are_refused(exact):
    with pytest.raises(ValueError, match="descend"):
        sample(exact, warped(), SEES_PICTURES, sigmas=levels(exact).flip(0))


def test_video_models_are_sent_to_the_node_for_them(comfy):
    tiny, film = wan("t2v"), svd()
    with pytest.raises(ValueError, match="AqueductEquivarianceGuidance"):
        sample(tiny.model, warped(), tiny.positive, latent={"samples": torch.zeros(1, 16, 5, 8, 8)},
               noise=FixedNoise(normal(1, 16, 5, 8, 8)))  # fmt: skip
    with pytest.raises(ValueError, match="AqueductEquivarianceGuidance"):
        sample(film.model, warped(), film.positive)
