"""The node: equal to core on hosts that are known exactly, however it is wired; bridges; memory; bad input."""

import math

import pytest
import torch
from torch import Tensor

from aqueduct.core.bridges import bridge_gmax, make_bridge, sample_bridge
from aqueduct.core.guidance import (
    Guidance,
    GuidedDenoiser,
    bridge_schedule,
    full,
    previous_frame,
    sample_warped_diffusion,
    x0,
)
from aqueduct.core.motion import MotionField
from aqueduct.tests.comfy import bridge_files
from aqueduct.tests.comfy.bridge_files import VARIANTS
from aqueduct.tests.comfy.exact_host import CONDITIONING, exact_host, mixture_mean
from aqueduct.tests.comfy.graph import FixedNoise, bridge_times, run, run_one, sample_bridge_graph, sample_stock
from aqueduct.tests.comfy.guided_hosts import clip_latent, error_along, guided, motion_of, sample, state_of
from aqueduct.tests.comfy.hosts import HOSTS, Host, normal

GMAX = bridge_gmax()
NODE = "AqueductEquivarianceGuidance"


@pytest.fixture(scope="module")
def image_host(comfy) -> Host:
    return HOSTS["sd15"]()


@pytest.fixture(scope="module")
def video_host(comfy) -> Host:
    return HOSTS["ltxv"]()


def sampled(guider, noise: Tensor, sigmas: Tensor) -> Tensor:
    """Euler from this very noise."""
    outputs = run(
        "SamplerCustomAdvanced", noise=FixedNoise(noise), guider=guider, sigmas=sigmas,
        sampler=run_one("KSamplerSelect", sampler_name="euler"), latent_image={"samples": torch.zeros_like(noise)},
    )  # fmt: skip
    return outputs[0]["samples"]


# --- against core -----------------------------------------------------------------------------------------------------


def exact_clip(frames: int = 3, size: int = 12) -> tuple[MotionField, Tensor]:
    """Sub-pixel motion that varies from place to place, at the LATENT's own size; noise ``[F, 4, h, w]``."""
    flow = 0.7 + 0.3 * torch.sin(normal(frames - 1, 2, size, size, seed=4))
    return MotionField(flow).bidirectional(), normal(frames, 4, size, size, seed=6)


@pytest.mark.parametrize("mode", ["x0", "full"])
@pytest.mark.parametrize("kind", ["FLOW", "V_PREDICTION_EDM"])
def test_guided_euler_is_warped_diffusions_algorithm(comfy, kind, mode):
    motion, noise = exact_clip()
    sigmas = torch.tensor([0.9, 0.6, 0.35, 0.1, 0.0]) * (1 if kind == "FLOW" else 5)

    def denoiser(z, sigma, frames):
        return mixture_mean(z, 1 - float(sigma) if kind == "FLOW" else 1.0, float(sigma)).to(z)

    guidance = Guidance(previous_frame(motion), 0.8, {"x0": x0, "full": full}[mode], bounded=True)
    expected = sample_warped_diffusion(denoiser, sigmas[0].double() * noise.double(), sigmas.double(), guidance)
    model = run_one(NODE, model=exact_host(kind), motion=motion, mode=mode, strength=0.8)
    guider = run_one("CFGGuider", model=model, positive=CONDITIONING, negative=CONDITIONING, cfg=1.0)
    found = sampled(guider, noise, sigmas)
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("order", ["guidance first", "alignment first"])
@pytest.mark.parametrize("mode", ["x0", "full"])
def test_a_guided_aligned_host_is_the_guided_bridge(comfy, mode, order):
    """Whichever wraps the MODEL first, guidance acts on the bridge's state, with its solver's weights."""
    motion, noise = exact_clip()
    prior, times = {"samples": normal(3, 4, 12, 12, seed=7)}, bridge_times(GMAX, 5, "karras")
    z_T = prior["samples"].double()

    def denoiser(z, t):
        a, b, c = (float(value) for value in GMAX.coefficients(t))
        return mixture_mean(z - b * z_T, a, c) if c else mixture_mean(noise, 0.0, 1.0) + 0 * z

    guidance = Guidance(previous_frame(motion), 0.8, {"x0": x0, "full": full}[mode], bounded=True)
    schedule = bridge_schedule(GMAX, times, "dbim-2")
    steered = GuidedDenoiser(denoiser, guidance, schedule)
    expected = sample_bridge(steered, z_T, times, GMAX, "dbim-2", None, lambda *_: noise.double())

    def guide(model):
        return run_one(NODE, model=model, motion=motion, mode=mode, strength=0.8)

    def align(model):
        return run_one("AqueductSNRAlign", model=model, bridge=GMAX)

    model = exact_host("FLOW")
    model = align(guide(model)) if order == "guidance first" else guide(align(model))
    found = sample_bridge_graph(
        model, GMAX, prior, CONDITIONING, times=times, solver="dbim-2", eta=0.0, noise=FixedNoise(noise)
    )
    torch.testing.assert_close(found.double(), expected, rtol=2e-3, atol=2e-3)


def test_a_guided_aligned_host_moves_along(video_host):
    def error(model):
        aligned = run_one("AqueductSNRAlign", model=model, bridge=GMAX)
        prior = {"samples": clip_latent(video_host)}
        return error_along(sample_bridge_graph(aligned, GMAX, prior, video_host.positive, video_host.negative, cfg=2.0))

    plain = error(video_host.model)
    for mode in ("x0", "full"):
        assert error(guided(video_host, strength=10.0, mode=mode)) < 0.8 * plain


@pytest.mark.parametrize("mode", ["x0", "full"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_guided_bridge_model_is_the_guided_bridge(comfy, tmp_path, variant, mode):
    """Every way a bridge network is fed and read, from the boot step on, where its input may not hold the state."""
    from aqueduct.nodes._comfy.model import load_bridge_model

    path, frames = tmp_path / bridge_files.write(tmp_path, variant), bridge_files.FRAMES
    with torch.inference_mode():
        model, config = load_bridge_model(str(path))
    bridge = make_bridge(config["bridge"]["kind"], **config["bridge"]["constants"])
    motion = MotionField(torch.tensor([1.25, -0.5])[:, None, None].expand(frames - 1, 2, 8, 8).clone()).bidirectional()
    images, times = bridge_files.image(variant), bridge_times(bridge, 3)
    prior = run_one("AqueductReplicatePrior", latent={"samples": images}, frames=frames)
    noise = normal(*prior["samples"].shape, seed=8)

    core, (_, _, _, _, _, names, takes_image, _) = bridge_files.Core.load(path), VARIANTS[variant]
    of_class, of_image = [bridge_files.NULL] if names else None, images if takes_image else None
    network = core.denoiser(prior["samples"], of_class, noise, of_image)
    guidance = Guidance(previous_frame(motion), 0.8, {"x0": x0, "full": full}[mode], bounded=True)
    steered = GuidedDenoiser(
        lambda z, t: network(core.clips(z), t)[0].movedim(1, 0), guidance, bridge_schedule(bridge, times, "ode")
    )
    z_T = prior["samples"] * core.scale
    expected = sample_bridge(steered, z_T, times, bridge, "ode", None, lambda *_: noise) / core.scale

    given = {"image": {"samples": images}} if takes_image else {}
    found = sample_bridge_graph(
        run_one(NODE, model=model, motion=motion, strength=0.8, mode=mode), bridge, prior, noise=FixedNoise(noise),
        positive=run_one("AqueductMotionClass", motion="none", **given), times=times, solver="ode", eta=0.0,
    )  # fmt: skip
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3 * float(expected.std()))


# --- wiring -----------------------------------------------------------------------------------------------------------


def guider_of(host: Host, kind: str, model):
    positive, negative = host.positive, host.negative
    if kind == "DualCFGGuider":
        return run_one(kind, model=model, cond1=positive, cond2=negative, negative=negative, cfg_conds=2.0,
                       cfg_cond2_negative=1.5, style="regular")  # fmt: skip
    if kind == "BasicGuider":
        return run_one(kind, model=model, conditioning=positive)
    return run_one(kind, model=model, positive=positive, negative=negative, cfg=2.0)


@pytest.mark.parametrize("kind", ["CFGGuider", "BasicGuider", "DualCFGGuider"])
def test_a_guided_guider_equals_the_guider_of_a_guided_model(video_host, kind):
    given = guider_of(video_host, kind, video_host.model)
    plain = sample(video_host, guider=given)
    _, steered = run(NODE, guider=given, motion=motion_of(video_host), strength=5.0)
    expected = sample(video_host, guider=guider_of(video_host, kind, guided(video_host, strength=5.0)))
    assert type(steered) is type(given)
    assert torch.equal(sample(video_host, guider=steered), expected)
    assert torch.equal(sample(video_host, guider=given), plain)
    assert not torch.equal(plain, expected)


def test_the_output_that_was_not_wired_is_blocked(video_host):
    from comfy_execution.graph_utils import ExecutionBlocker

    model, guider = run(NODE, model=video_host.model, motion=motion_of(video_host))
    assert isinstance(guider, ExecutionBlocker) and not isinstance(model, ExecutionBlocker)
    both = run(NODE, model=video_host.model, guider=guider_of(video_host, "BasicGuider", video_host.model),
               motion=motion_of(video_host))  # fmt: skip
    assert not any(isinstance(out, ExecutionBlocker) for out in both)


@pytest.mark.parametrize("sampler", ["heun", "dpm_2", "euler_ancestral", "dpmpp_sde", "lcm"])
def test_samplers_that_evaluate_elsewhere_or_add_noise(video_host, sampler):
    plain = error_along(sample(video_host, sampler=sampler))
    assert error_along(sample(video_host, guided(video_host, strength=10.0, mode="x0"), sampler=sampler)) < 0.8 * plain


def test_window_and_share_guide_so_many_steps(video_host):
    """A backward pass for each guided step; unguided ones see the untouched model."""
    from comfy.patcher_extension import WrappersMP

    def pulled(**inputs):
        training = []

        def watch(executor, *args, **kwargs):
            training.append(not torch.is_inference_mode_enabled())
            return executor(*args, **kwargs)

        model = guided(video_host, **inputs)
        model.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, "watch", watch)
        sample(video_host, model)
        return training

    assert pulled() == [True] * 4
    assert pulled(start_percent=0.25, end_percent=0.75) == [False, True, True, False]
    assert pulled(share=0.5) == [False, True, False, True]
    assert pulled(strength=0.0) == [False] * 4


def test_each_clip_of_a_batch_is_guided_by_itself(video_host):
    noise, sigmas = normal(2, *clip_latent(video_host).shape[1:], seed=11), torch.tensor([0.9, 0.4, 0.0])
    guider = guider_of(video_host, "BasicGuider", guided(video_host, strength=5.0))
    apart = torch.cat([sampled(guider, clip, sigmas) for clip in noise.split(1)])
    torch.testing.assert_close(sampled(guider, noise, sigmas), apart, rtol=1e-4, atol=1e-4)


def test_what_the_mask_leaves_out_is_not_guided(image_host):
    """With x0 the correction is local: beyond a pixel of the mask's border the first step is the plain one."""
    mask = torch.zeros(1, 32, 32)
    mask[:, :, :16] = 1
    sigmas = torch.tensor([3.0, 0.0])
    plain = sample(image_host, sigmas=sigmas)
    steered = sample(image_host, guided(image_host, strength=10.0, mode="x0", mask=mask), sigmas=sigmas)
    assert torch.equal(steered[..., 6:], plain[..., 6:]) and not torch.equal(steered[..., :3], plain[..., :3])


# --- what it leaves behind --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["x0", "full"])
def test_an_interrupt_at_any_step_leaves_the_model_as_it_was(video_host, mode):
    from comfy.model_management import InterruptProcessingException
    from comfy.patcher_extension import WrappersMP

    host, latent = video_host, clip_latent(video_host)
    before, state = sample_stock(host.model, latent, host.positive, host.negative), state_of(host.model)
    for step in (0, 2):
        calls = []

        def stop(executor, *args, step=step, calls=calls, **kwargs):
            calls.append(1)
            if len(calls) > step:
                raise InterruptProcessingException
            return executor(*args, **kwargs)

        model = guided(host, mode=mode)
        model.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "stop", stop)
        with pytest.raises(InterruptProcessingException):
            sample(host, model)
        assert state_of(host.model) == state
        assert torch.equal(sample_stock(host.model, latent, host.positive, host.negative), before)


def test_the_given_model_and_later_runs_are_as_before(video_host):
    host, latent = video_host, clip_latent(video_host)
    before, state = sample_stock(host.model, latent, host.positive, host.negative), state_of(host.model)
    model = guided(host)
    first = sample(host, model)
    assert torch.equal(sample(host, model), first)
    assert state_of(host.model) == state
    assert torch.equal(sample_stock(host.model, latent, host.positive, host.negative), before)


# --- memory -----------------------------------------------------------------------------------------------------------


def running_out(host: Host, times: int):
    """A guided MODEL whose network runs out of memory so many times, at its second step."""
    from comfy.patcher_extension import WrappersMP

    calls = []

    def network(executor, *args, **kwargs):
        calls.append(1)
        if 1 < len(calls) <= 1 + times:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")
        return executor(*args, **kwargs)

    model = guided(host, strength=5.0)
    model.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, "memory", network)
    return model


def test_out_of_memory_goes_on_with_checkpointed_blocks(video_host, caplog, monkeypatch):
    from aqueduct.nodes._comfy import guided_model

    asked, through = [], guided_model.gradients_through

    def noted(guider, checkpointed):
        asked.append(checkpointed)
        return through(guider, checkpointed)

    monkeypatch.setattr(guided_model, "gradients_through", noted)
    expected = sample(video_host, guided(video_host, strength=5.0))
    asked.clear()
    found = sample(video_host, running_out(video_host, 1))
    assert asked == [False, False, True, True, True]
    assert "out of memory" in caplog.text
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_out_of_memory_twice_says_what_to_lower(video_host):
    import comfy.model_management as mm

    host, latent = video_host, clip_latent(video_host)
    before, state = sample_stock(host.model, latent, host.positive, host.negative), state_of(host.model)
    with pytest.raises(mm.OOM_EXCEPTION, match="shorter or smaller, or use mode outer or x0"):
        sample(host, running_out(host, 2))
    assert state_of(host.model) == state
    assert torch.equal(sample_stock(host.model, latent, host.positive, host.negative), before)


# --- bad input --------------------------------------------------------------------------------------------------------


def broken(motion: MotionField) -> MotionField:
    forward = motion.forward.clone()
    forward[0, 0, 3, 3] = math.nan
    return MotionField(forward, motion.backward)


BAD = {
    "negative strength": ({"strength": -1.0}, "0 .off. or more, got -1"),
    "infinite strength": ({"strength": math.inf}, "got inf"),
    "start after end": ({"start_percent": 0.6, "end_percent": 0.4}, "ends at 0.4, before it starts at 0.6"),
    "share": ({"share": 1.5}, "0 to 1, got 1.5"),
    "mask": ({"mask": torch.ones(4, 8, 8)}, "the motion has 9 frames, the guidance mask 4"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_at_once(video_host, case):
    inputs, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        guided(video_host, **inputs)


def test_nothing_to_guide(video_host):
    with pytest.raises(ValueError, match="MODEL or a GUIDER"):
        run(NODE, motion=motion_of(video_host))


def test_motion_that_is_not_finite(video_host):
    with pytest.raises(ValueError, match="not finite"):
        guided(video_host, motion=broken(motion_of(video_host)))


def test_a_second_guidance(video_host):
    with pytest.raises(ValueError, match="guided along a motion already"):
        run(NODE, model=guided(video_host), motion=motion_of(video_host))


def test_motion_of_another_number_of_frames(video_host, image_host):
    eight = MotionField(torch.zeros(7, 2, 16, 16), torch.zeros(7, 2, 16, 16))
    with pytest.raises(ValueError, match="8 frames, the LATENT 3 latent frames; motion for it has 2 . 1, 8 . 1"):
        guider = guider_of(video_host, "BasicGuider", guided(video_host, motion=eight))
        sampled(guider, normal(1, 128, 3, 4, 4), torch.tensor([0.9, 0.0]))
    with pytest.raises(ValueError, match="8 frames, the LATENT 2"):
        sample(image_host, guided(image_host, motion=eight))


def test_a_latent_of_several_parts(video_host):
    from comfy.nested_tensor import NestedTensor

    latent = NestedTensor([clip_latent(video_host), torch.zeros(1, 8, 4, 4)])
    with pytest.raises(ValueError, match="separate them first"), torch.inference_mode():
        guider = guider_of(video_host, "BasicGuider", guided(video_host))
        sampler = run_one("KSamplerSelect", sampler_name="euler")
        guider.sample(latent, latent, sampler, torch.tensor([0.9, 0.0]), disable_pbar=True, seed=0)


def test_outer_needs_levels(video_host):
    with pytest.raises(ValueError, match="LTXVModel has no levels: use mode full or x0"):
        guided(video_host, mode="outer")


def test_a_patch_that_has_no_gradient_is_named(video_host):
    """Another pack's tensor of inference mode, where nobody can reach it."""
    from comfy.patcher_extension import WrappersMP

    with torch.inference_mode():
        theirs = torch.ones(1)
    model = guided(video_host)
    model.add_wrapper_with_key(
        WrappersMP.APPLY_MODEL, "theirs", lambda executor, *args, **kwargs: executor(*args, **kwargs) * theirs
    )
    with pytest.raises(ValueError, match="use mode x0.*Inference tensors cannot be saved"):
        sample(video_host, model)


def test_a_mask_of_nothing_changes_nothing_and_says_so(video_host, caplog):
    plain = sample(video_host)
    assert torch.equal(sample(video_host, guided(video_host, mode="x0", mask=torch.zeros(1, 8, 8))), plain)
    assert "no pixel counts" in caplog.text


def test_quantised_weights_take_mode_x0(comfy):
    host = HOSTS["sd15"]()
    network = host.model.model.diffusion_model
    layer = network.time_embed[0]
    layer.weight = torch.nn.Parameter(layer.weight.detach().to(torch.float8_e4m3fn), requires_grad=False)
    layer.comfy_cast_weights = True
    for mode in ("full", "outer"):
        with pytest.raises(ValueError, match="time_embed.0.weight is float8_e4m3fn.*mode x0"):
            guided(host, mode=mode)
    plain = error_along(sample(host))
    assert error_along(sample(host, guided(host, mode="x0", strength=10.0))) < plain
    assert torch.isfinite(sample(host, guided(host, mode="full", strength=0.0))).all()
