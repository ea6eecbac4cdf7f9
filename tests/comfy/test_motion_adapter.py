"""Motion adapters on real MODELs: what they add and where, that they leave no trace, and what is refused."""

import pytest
import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from aqueduct.core import checkpoints
from aqueduct.core.bridges import sample_bridge
from aqueduct.core.motion import MotionField
from aqueduct.core.motion.carry import carry
from aqueduct.core.networks.video_bridge import VideoBridge
from aqueduct.tests.comfy import adapter_files, bridge_files
from aqueduct.tests.comfy.adapter_files import BRIDGE, FRAMES, HEIGHT, WIDTH, picture, sliding
from aqueduct.tests.comfy.graph import bridge_times, run, run_one, sample_bridge_graph
from aqueduct.tests.comfy.guided_hosts import error_along, motion_of, sample, state_of
from aqueduct.tests.comfy.hosts import HOSTS, Host

CLOSE = {"rtol": 1e-4, "atol": 1e-4}


@pytest.fixture(scope="module")
def folder(comfy, tmp_path_factory):
    folder = tmp_path_factory.mktemp("adapters")
    adapter_files.write_all(folder)
    bridge_files.write(folder, "shipped")
    bridge_files.offer(folder)
    return folder


@pytest.fixture(scope="module", params=["svd", "wan-t2v", "wan-i2v"])
def host(request, folder) -> Host:
    return HOSTS[request.param]()


def kind(host: Host) -> str:
    """Of its adapters."""
    return "svd" if host.latent.dim() == 4 else "wan"


@pytest.fixture(scope="module")
def backbone(folder) -> tuple:
    """(MODEL, bridge) of our own."""
    model, _, bridge, _ = run("AqueductLoadBridgeModel", file="backbone.safetensors")
    return model, bridge


def loaded(name: str):
    return run_one("AqueductLoadMotionAdapter", file=f"{name}.safetensors")


def applied(model, name: str, motion: MotionField, **inputs):
    image = picture(motion.height, motion.width)
    return run_one(
        "AqueductApplyMotionAdapter", model=model, adapter=loaded(name), motion=motion, image=image, **inputs
    )


def on_host(host: Host, name: str = "0", model=None, **inputs):
    model = host.model if model is None else model
    return applied(model, f"{kind(host)}-{name}", inputs.pop("motion", motion_of(host)), **inputs)


def on_own(backbone: tuple, name: str = "unet-0", **inputs):
    return applied(backbone[0], name, inputs.pop("motion", sliding(FRAMES, HEIGHT, WIDTH, 2.0)), **inputs)


def still(clips: int = 1, height: int = HEIGHT, width: int = WIDTH) -> dict:
    """z_T: pictures, repeated."""
    images = torch.randn(clips, 3, height, width, generator=torch.Generator().manual_seed(4))
    return run_one("AqueductReplicatePrior", latent={"samples": images}, frames=FRAMES)


def sample_own(backbone: tuple, model=None, prior=None, **inputs) -> Tensor:
    conditioning = [[torch.zeros(1, 1, 1), {}]]
    model = backbone[0] if model is None else model
    return sample_bridge_graph(model, backbone[1], still() if prior is None else prior, conditioning, **inputs)


# --- what is added, and where -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("cfg", [1.0, 2.0])
def test_our_backbone_gets_what_core_computes(folder, backbone, cfg):
    """Two clips; under CFG, which asks for twice as many rows at once, equal conditions give the same again."""
    motion, prior = sliding(FRAMES, HEIGHT, WIDTH, 2.0), still(2)
    times = bridge_times(backbone[1], 3)
    found = sample_own(backbone, on_own(backbone, strength=0.7), prior, times=times, cfg=cfg)
    network = checkpoints.load(folder / "backbone.safetensors")[0]
    adapter = checkpoints.load(folder / "unet-0.safetensors", "adapter")[0]
    image = picture(HEIGHT, WIDTH).movedim(-1, 1)
    carried = [features.repeat(2, 1, 1, 1) for features in adapter.carried(image, carry(motion))]

    def adapted(x, t, y):
        entering = F.pixel_unshuffle(rearrange(x, "b c f h w -> (b f) c h w"), 2)
        return network(x, t, control=[0.7 * residual for residual in adapter(entering, t, carried)])

    z_T = rearrange(prior["samples"], "(b f) c h w -> b c f h w", f=FRAMES)
    noises = [run_one("RandomNoise", noise_seed=0).generate_noise(prior)]
    later = torch.Generator().manual_seed(1)

    def noise(s, t):
        draw = noises.pop() if noises else torch.randn(prior["samples"].shape, generator=later)
        return rearrange(draw, "(b f) c h w -> b c f h w", f=FRAMES)

    denoiser = VideoBridge.from_config(BRIDGE).denoiser(adapted, z_T, z_T[:, :, 0], None)
    expected = sample_bridge(denoiser, z_T, times, backbone[1], noise_sampler=noise)
    torch.testing.assert_close(found, rearrange(expected, "b c f h w -> (b f) c h w"), **CLOSE)
    assert not torch.allclose(found, sample_own(backbone, None, prior, times=times), atol=0.01)


def test_any_size_of_whole_steps(backbone):
    """Our backbone takes them, and the adapter's picture and motion are scaled to them."""
    prior = still(1, 2 * HEIGHT, 2 * WIDTH)
    found = sample_own(backbone, on_own(backbone), prior)
    twice = sliding(FRAMES, 2 * HEIGHT, 2 * WIDTH, 4.0)
    image = F.interpolate(picture(HEIGHT, WIDTH).movedim(-1, 1), (2 * HEIGHT, 2 * WIDTH), mode="bilinear")
    expected = run_one(
        "AqueductApplyMotionAdapter", model=backbone[0], adapter=loaded("unet-0"), motion=twice,
        image=image.movedim(1, -1),
    )  # fmt: skip
    torch.testing.assert_close(found, sample_own(backbone, expected, prior), **CLOSE)
    with pytest.raises(ValueError, match=r"takes a LATENT \[clips x 4, 3, height, width \(multiples of 4\)\]"):
        sample_own(backbone, None, still(1, HEIGHT + 2, WIDTH))


class Spy:
    """A DIFFUSION_MODEL wrapper outside of all adapters: what the network was given, and the answer."""

    def __init__(self, model):
        import comfy.patcher_extension as extension

        self.calls = []
        self.model = model.clone()
        self.model.add_wrapper_with_key(extension.WrappersMP.DIFFUSION_MODEL, "spy", self)

    def __call__(self, executor, *args, **kwargs):
        own = [a.clone() if isinstance(a, Tensor) else a for a in args]
        self.calls.append((own, dict(kwargs), executor(*args, **kwargs).clone()))
        return self.calls[-1][-1]


def residuals_of(folder, host: Host, name: str, call) -> list[Tensor]:
    """From the file, by core: of both halves of a CFG batch."""
    (x, t, context, *others), options, _ = call
    adapter = checkpoints.load(folder / f"{kind(host)}-{name}.safetensors", "adapter")[0]
    whole = motion_of(host)
    motion = {"svd": whole, "wan": sliding(2, *whole.size, 4 * 1.25, 4 * -0.5)}[kind(host)].resized(64, 64)
    image = F.interpolate(picture(*whole.size).movedim(-1, 1), (64, 64), mode="bilinear")
    carried = [torch.cat([features] * 2) for features in adapter.carried(image, carry(motion))]
    own = {"svd": {"context": context, "added": others[0], "frames": 3}, "wan": {}}[kind(host)]
    return adapter(x, t, carried, **own)


def with_hooks(host: Host, residuals: list[list[Tensor]], call) -> Tensor:
    """The host's answer, residuals added by hooks of PyTorch's in place of ComfyUI's ways to hand them in."""
    network = host.model.model.diffusion_model
    args, kwargs, _ = call
    total = [sum(parts) for parts in zip(*residuals, strict=True)]
    hooks = []
    if kind(host) == "svd":  # each decoder block is given its skip, joined behind its own channels
        for block, skip in zip(network.output_blocks, reversed(total[:-1]), strict=True):
            first = block[0]

            def joined(module, inputs, skip=skip):
                own = inputs[0].clone()
                own[:, -skip.shape[1] :] += skip
                return (own, *inputs[1:])

            hooks.append(first.register_forward_pre_hook(joined))
        hooks.append(network.middle_block[-1].register_forward_hook(lambda module, inputs, out: out + total[-1]))
    else:
        tokens = total[0].unflatten(0, (2, 2)).permute(0, 1, 3, 4, 2).flatten(1, 3)
        hooks.append(network.blocks[0].register_forward_hook(lambda module, inputs, out: out + tokens))
    try:
        clean = {name: value for name, value in args[-1].items() if name != "wrappers"}
        with torch.inference_mode():
            return type(network)._forward(network, *args[:-1], clean, **kwargs)
    finally:
        for hook in hooks:
            hook.remove()


def test_hosts_get_residuals_where_the_published_ones_go(folder, host):
    """One adapter, then two; under CFG."""
    spy = Spy(host.model)
    once = on_host(host, model=spy.model)
    twice = on_host(host, "1", model=once)
    for model, names in ((once, ["0"]), (twice, ["0", "1"])):
        spy.calls.clear()
        sample(host, model)
        call = spy.calls[1]
        expected = with_hooks(host, [residuals_of(folder, host, name, call) for name in names], call)
        torch.testing.assert_close(call[-1], expected, **CLOSE)
        plain = with_hooks(host, [[torch.zeros_like(one) for one in residuals_of(folder, host, "0", call)]], call)
        assert not torch.allclose(call[-1], plain, atol=1e-3)


def test_other_residuals_and_replacements_are_kept():
    """A ControlNet's lists may be shorter, and hold None; they end where ours end."""
    from aqueduct.nodes._comfy.backbones import with_residuals

    one, two = torch.ones(1), 2 * torch.ones(1)
    before = {"output": [one, None], "middle": [], "input": [one]}
    found = with_residuals(before, {"output": [two, two, two], "middle": [two]})
    assert found == {"output": [two, one + two, two], "middle": [two], "input": [one]}
    assert before == {"output": [one, None], "middle": [], "input": [one]}
    assert all(found[name] is not before[name] for name in before)


def test_a_replaced_block_stays_replaced(folder):
    host, numbers = HOSTS["wan-t2v"](), []

    def patch(inputs, extra):
        numbers.append(len(inputs["img"]))
        return {"img": 0.5 * extra["original_block"](inputs)["img"]}

    patched = host.model.clone()
    patched.set_model_patch_replace(patch, "dit", "double_block", 0)
    plain, zero = sample(host, patched), sample(host, on_host(host, "zero", patched))
    assert len(numbers) == 8 and torch.equal(zero, plain)
    assert not torch.equal(sample(host, on_host(host, "0", patched)), plain)


# --- without a trace --------------------------------------------------------------------------------------------------


def test_zero_is_the_host_and_detaching_leaves_nothing(host):
    before, plain = state_of(host.model), sample(host)
    for adapted in (on_host(host, "zero"), on_host(host, strength=0.0), on_host(host, start_percent=1.0)):
        assert torch.equal(sample(host, adapted), plain)
    moved = sample(host, on_host(host))
    assert torch.isfinite(moved).all() and not torch.allclose(moved, plain, atol=1e-3)
    assert torch.equal(sample(host), plain) and state_of(host.model) == before


def test_our_backbone_keeps_nothing_either(backbone):
    before, plain = state_of(backbone[0]), sample_own(backbone)
    for adapted in (on_own(backbone, "unet-zero"), on_own(backbone, strength=0.0), on_own(backbone, start_percent=1.0)):
        assert torch.equal(sample_own(backbone, adapted), plain)
    assert not torch.allclose(sample_own(backbone, on_own(backbone)), plain, atol=1e-3)
    assert torch.equal(sample_own(backbone), plain) and state_of(backbone[0]) == before


def calls(network: torch.nn.Module) -> tuple[list, callable]:
    """A list that grows by one entry with each call, and what ends that."""
    found = []
    return found, network.register_forward_hook(lambda *_: found.append(None)).remove


def test_features_are_made_once_a_run_and_residuals_within_the_window(backbone):
    """Times 1, 0.75, 0.5, 0.25: bridge time is 1 - percent."""
    for start, end, expected in ((0.0, 1.0, 4), (0.0, 0.5, 3), (0.3, 0.5, 1), (0.3, 0.4, 0)):
        adapter = loaded("unet-0")
        model = run_one(
            "AqueductApplyMotionAdapter", model=backbone[0], adapter=adapter, image=picture(HEIGHT, WIDTH),
            motion=sliding(FRAMES, HEIGHT, WIDTH, 2.0), start_percent=start, end_percent=end,
        )  # fmt: skip
        (features, _), (branch, _) = calls(adapter.network.features), calls(adapter.network.branch)
        sample_own(backbone, model)
        assert (len(features), len(branch)) == (min(expected, 1), expected)


def test_comfy_loads_and_frees_the_adapter_with_the_model(backbone):
    import comfy.model_management as mm

    model = on_own(backbone)
    first = sample_own(backbone, model)
    held = [one.model.model for one in mm.current_loaded_models]
    attachment = next(iter(model.wrappers["diffusion_model"].values()))[0]
    assert any(one is attachment.adapter.network for one in held)
    with torch.inference_mode():
        mm.unload_all_models()
    assert torch.equal(sample_own(backbone, model), first)


def test_an_interrupt_leaves_everything_usable(backbone):
    import comfy.model_management as mm

    from aqueduct.nodes._comfy.runs import RUN_KEY

    model, seen, options = on_own(backbone), [], []
    expected = sample_own(backbone, model)

    def watch(executor, guider, sigmas, extra_args, *others):
        options.append(extra_args["model_options"]["transformer_options"])
        assert RUN_KEY in options[-1]
        return executor(guider, sigmas, extra_args, *others)

    watched = model.clone()
    watched.add_wrapper_with_key("sampler_sample", "watch", watch)
    attachment = next(iter(model.wrappers["diffusion_model"].values()))[0]

    def stop(module, inputs, out):
        seen.append(None)
        mm.interrupt_current_processing(len(seen) == 2)

    remove = attachment.adapter.network.branch.register_forward_hook(stop).remove
    with pytest.raises(mm.InterruptProcessingException):
        sample_own(backbone, watched)
    remove()
    mm.interrupt_current_processing(False)
    assert len(seen) == 2 and RUN_KEY not in options[0]
    assert torch.equal(sample_own(backbone, model), expected)


# --- together with others ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["x0", "full"])
def test_guidance_comes_on_top(host, mode):
    adapted = on_host(host, strength=0.1)
    guided = run_one(
        "AqueductEquivarianceGuidance", model=adapted, motion=motion_of(host), strength=10.0, mode=mode
    )  # fmt: skip
    assert error_along(sample(host, guided)) < 0.8 * error_along(sample(host, adapted))


def test_windows_of_a_long_motion(host):
    """Aimed at some frames, it is the adapter of those frames, however often it was aimed before."""
    from aqueduct.nodes._comfy.adapters import reattached
    from aqueduct.nodes._comfy.guided_model import rewindowed

    short, other = motion_of(host), picture(16, 16, seed=9)
    longer = MotionField(*(torch.cat([torch.zeros_like(part[:2]), part]) for part in (short.forward, short.backward)))
    whole, stop = on_host(host, motion=longer), 2 + short.frames
    aimed = reattached(reattached(whole, 0, 3, picture(8, 8)), 2, stop, other)
    plain = run_one(
        "AqueductApplyMotionAdapter", model=host.model, adapter=loaded(f"{kind(host)}-0"), motion=short, image=other
    )
    expected = sample(host, plain)
    assert torch.equal(sample(host, aimed), expected)
    assert torch.equal(sample(host, rewindowed(aimed, 2, stop)), expected)
    with pytest.raises(ValueError, match="frames 2 to 99"):
        reattached(whole, 2, 99, other)
    assert reattached(host.model, 0, 2, other) is host.model


def test_an_aligned_host_takes_it(folder):
    host, bridge = HOSTS["svd"](), run_one("AqueductBridge")
    prior = run_one("AqueductReplicatePrior", latent={"samples": host.latent}, frames=host.frames)
    plain, zero, moved = (
        sample_bridge_graph(
            run_one("AqueductSNRAlign", model=model, bridge=bridge),
            bridge,
            prior,
            host.positive,
            host.negative,
            cfg=2.0,
        )
        for model in (host.model, on_host(host, "zero"), on_host(host))
    )
    assert torch.equal(zero, plain) and not torch.allclose(moved, plain, atol=1e-3)


def test_published_sizes_are_those_of_svd(comfy):
    """Residuals of MOFA-Video's adapter against the states they are added to, in ComfyUI's SVD; without weights."""
    import comfy.ldm.modules.diffusionmodules.openaimodel as openai
    import comfy.model_base
    import comfy.ops
    import comfy.supported_models

    from aqueduct.core.released_mofa import MOFA
    from aqueduct.nodes._comfy.backbones import BACKBONES

    known = comfy.supported_models.SVD_img2vid
    settings = known.unet_config | known.unet_extra_config | {
        "image_size": 32, "out_channels": 4, "num_res_blocks": [2] * 4, "channel_mult": [1, 2, 4, 4],
        "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0], "transformer_depth_output": [1] * 9 + [0] * 3,
        "transformer_depth_middle": 1, "num_classes": "sequential", "use_spatial_transformer": True, "legacy": False,
        "extra_ff_mix_layer": True, "use_spatial_context": True, "merge_strategy": "learned_with_images",
        "merge_factor": 0.0, "video_kernel_size": [3, 1, 1], "disable_temporal_crossattention": False,
    }  # fmt: skip
    network = openai.UNetModel(**settings, operations=comfy.ops.disable_weight_init, device="meta")
    adapter = checkpoints.build(MOFA.config, "adapter", device="meta")
    svd = next(backbone for backbone in BACKBONES if backbone.host is comfy.model_base.SVD_img2vid)
    assert svd.has(network) == svd.wants(adapter)
    found = []
    for block in (*network.input_blocks, network.middle_block):
        block[-1].register_forward_hook(lambda module, inputs, out: found.append(tuple(out.shape)))
    with torch.device("meta"):
        x, t, context, y = torch.empty(2, 8, 9, 16), torch.empty(2), torch.empty(2, 1, 1024), torch.empty(2, 768)
        network(x, t, context, y, num_video_frames=2)
        carried = adapter.features(torch.empty(2, 3, 72, 128))
        added = adapter(x, t, carried, context=context, added=y, frames=2)
    assert [tuple(one.shape) for one in added] == found


# --- files and mistakes -----------------------------------------------------------------------------------------------


def test_the_loader_says_what_a_file_lacks_and_which_loader_to_take(folder):
    from comfy_execution.graph_utils import ExecutionBlocker

    adapter, densifier = run("AqueductLoadMotionAdapter", file="unet-0.safetensors")
    assert isinstance(densifier, ExecutionBlocker) and densifier.message == "unet-0.safetensors holds no densifier"
    blocked, densifier = run("AqueductLoadMotionAdapter", file="dense.safetensors")
    assert isinstance(blocked, ExecutionBlocker) and callable(densifier.densifier())
    for file, right in (("backbone", "AqueductLoadBridgeModel"), ("shipped-float32", "AqueductLoadBridgeModel")):
        with pytest.raises(ValueError, match=f"{file}.safetensors holds a bridge model: load it with {right}"):
            run("AqueductLoadMotionAdapter", file=f"{file}.safetensors")
    with pytest.raises(ValueError, match="holds a motion adapter: load it with AqueductLoadMotionAdapter"):
        run("AqueductLoadBridgeModel", file="unet-0.safetensors")
    with pytest.raises(FileNotFoundError, match=f"'gone.safetensors' is missing(?s:.*){folder}"):
        run("AqueductLoadMotionAdapter", file="gone.safetensors")


def test_an_adapter_of_another_backbone(backbone, host):
    with pytest.raises(ValueError, match="is for the small video U-Net of this pack, the MODEL is (Stable|Wan)"):
        applied(host.model, "unet-0", motion_of(host))
    with pytest.raises(ValueError, match="is for Wan, the MODEL is the small video U-Net of this pack"):
        on_own(backbone, "wan-0")
    with pytest.raises(ValueError, match="is for Wan, the MODEL is BaseModel around a UNetModel"):
        applied(HOSTS["sd15"]().model, "wan-0", motion_of(host))
    with pytest.raises(ValueError, match="with input channels 24, states .'32 at 1/2.*the MODEL has.*'16 at 1/2"):
        on_own(backbone, "wide")


@pytest.mark.parametrize("frames", [FRAMES - 1, FRAMES + 3])
def test_a_motion_of_another_length(backbone, frames):
    model = on_own(backbone, motion=sliding(frames, HEIGHT, WIDTH, 1.0))
    with pytest.raises(ValueError, match=f"the motion has {frames} frames, the clip 4: make them equal"):
        sample_own(backbone, model)


def test_latent_frames_are_told_with_the_frames_they_stand_for(folder):
    host = HOSTS["wan-t2v"]()
    model = on_host(host, motion=sliding(6, 32, 32, 1.0))
    with pytest.raises(ValueError, match=r"the motion has 6 frames, the clip 5 \(2 latent ones\)"):
        sample(host, model)


def test_another_aspect_ratio(backbone):
    model = on_own(backbone, motion=sliding(FRAMES, 16, 48, 1.0))
    with pytest.raises(ValueError, match="48 x 16 pixels, the LATENT 24 x 16 cells, another aspect ratio"):
        sample_own(backbone, model)
    model = run_one(
        "AqueductApplyMotionAdapter", model=backbone[0], adapter=loaded("unet-0"), image=picture(32, 16),
        motion=sliding(FRAMES, HEIGHT, WIDTH, 1.0),
    )  # fmt: skip
    with pytest.raises(ValueError, match="the image is 16 x 32 pixels, the LATENT 24 x 16 cells, another aspect ratio"):
        sample_own(backbone, model)


def test_a_window_that_ends_before_it_starts(backbone):
    with pytest.raises(ValueError, match="start_percent 0.6 and end_percent 0.4"):
        on_own(backbone, start_percent=0.6, end_percent=0.4)
