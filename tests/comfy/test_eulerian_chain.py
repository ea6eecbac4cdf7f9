"""Eulerian Chain on real MODELs: what each window is sampled with, what is left untouched, and what is refused."""

import gc

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from aqueduct.core.motion import advect
from aqueduct.tests.comfy import adapter_files, bridge_files
from aqueduct.tests.comfy.adapter_files import picture, sliding
from aqueduct.tests.comfy.graph import FixedNoise, bridge_times, run, run_one
from aqueduct.tests.comfy.hosts import HOSTS, Host, normal
from aqueduct.tests.comfy.test_server_bridge import node
from aqueduct.tests.comfy.wan_host import write_tiny_wan

SIDE = 64  # pixels of the hosts' clips; their latents are 8 x 8
# host -> frames of the clip, of a window, and common
LENGTHS = {"svd": (7, 3, 1), "wan-t2v": (9, 5, 2), "wan-i2v": (9, 5, 2)}


class MeanVae:
    """SVD's in miniature: a latent pixel is the mean of 8 x 8 pixels, and their mean over colours."""

    latent_dim = 2

    def spacial_compression_encode(self):
        return 8

    def temporal_compression_decode(self):
        return None

    def encode(self, images: Tensor) -> Tensor:
        small = F.avg_pool2d(images.movedim(-1, 1), 8)
        return torch.cat([small, small.mean(1, keepdim=True)], 1)

    def decode(self, samples: Tensor) -> Tensor:
        return F.interpolate(samples[:, :3], scale_factor=8).clamp(0, 1).movedim(1, -1)


@pytest.fixture(scope="module")
def folder(comfy, tmp_path_factory):
    folder = tmp_path_factory.mktemp("chain")
    adapter_files.write(folder, "backbone.safetensors", "model", "VideoUNet", adapter_files.UNET, 1)
    for kind, (architecture, arguments) in adapter_files.KINDS.items():
        adapter_files.write(folder, f"{kind}-0.safetensors", "adapter", architecture, arguments, 10)
    write_tiny_wan(folder)
    bridge_files.offer(folder)
    return folder


@pytest.fixture(scope="module")
def wan_vae(folder):
    import comfy.sd
    import comfy.utils

    with torch.inference_mode():
        return comfy.sd.VAE(sd=comfy.utils.load_torch_file(str(folder / "wan_2.1_vae.safetensors")))


@pytest.fixture(scope="module", params=LENGTHS)
def name(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def host(name, folder) -> Host:
    return HOSTS[name]()


@pytest.fixture
def vae(name, wan_vae):
    return MeanVae() if name == "svd" else wan_vae


def guider_of(host: Host, model=None):
    model = host.model if model is None else model
    return run_one("CFGGuider", model=model, positive=host.positive, negative=host.negative, cfg=2.0)


def wired(host: Host, vae, **changes) -> dict:
    top = 0.9 if host.flow else 6.0
    given = {
        "guider": guider_of(host), "sampler": run_one("KSamplerSelect", sampler_name="euler"), "vae": vae,
        "sigmas": torch.tensor([top, top / 3, 0.0]), "noise": run_one("RandomNoise", noise_seed=5),
    }  # fmt: skip
    return given | changes


def chained(name: str, **inputs) -> tuple[Tensor, Tensor]:
    frames, window, overlap = LENGTHS[name]
    fixed = {"image": picture(SIDE, SIDE), "motion": sliding(frames, SIDE, SIDE, 1.0), "window": window}
    return run("AqueductEulerianChain", **{**fixed, "overlap": overlap, **inputs})


@pytest.fixture
def spied(monkeypatch) -> list:
    """(window, the guider's copy) of every window."""
    from aqueduct.nodes._comfy import chain

    found, aimed = [], chain.aimed

    def noted(guider, window, encode):
        own = aimed(guider, window, encode)
        found.append((window, own))
        return own

    monkeypatch.setattr(chain, "aimed", noted)
    return found


def still_of(vae, window) -> Tensor:
    with torch.inference_mode():
        return vae.encode(window.first[None].movedim(1, -1))


# --- the warp alone ---------------------------------------------------------------------------------------------------


def test_without_a_model_it_is_the_warp(comfy):
    image, motion = picture(24, 40), sliding(30, 24, 40, 1.0, -0.5)
    images, seen = run("AqueductEulerianChain", image=image, motion=motion, window=8, overlap=2)
    expected, unseen = advect(image[0].movedim(-1, 0), motion)
    assert images.shape == (30, 24, 40, 3) and seen.shape == (30, 24, 40)
    assert torch.equal(seen.bool(), ~unseen)
    apart = (images - expected.movedim(1, -1)).abs().amax(-1)
    assert (apart[:, :9, 33:] * seen[:, :9, 33:]).max() < 1e-4 and seen[29, :9, 33:].all()


def test_a_hundred_frames_in_the_server(host_server, tmp_path):
    pixels = np.random.default_rng(1).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((64, 64), Image.BILINEAR).save(tmp_path / "chain.png")
    host_server.upload_image(tmp_path / "chain.png")
    motion = {
        "frames": 100, "width": 64, "height": 64, "pan_x": 0.25, "pan_y": 0.0, "zoom": 1.0, "roll": 0.0,
        "ease": "linear", "centre_x": 0.5, "centre_y": 0.5, "shake": 0.0, "shake_cycles": 4.0, "seed": 0,
        "keyframes": "",
    }  # fmt: skip
    chain = {"window": 16, "overlap": 4, "anchor": True, "structure": "repeated"}
    prompt = {
        "image": node("LoadImage", image="chain.png"), "motion": node("AqueductCameraMotion", **motion),
        "chain": node("AqueductEulerianChain", image=["image", 0], motion=["motion", 0], **chain),
        "save": node("SaveImage", images=["chain", 0], filename_prefix="chain"),
        "mask": node("MaskToImage", mask=["chain", 1]),
        "save_mask": node("SaveImage", images=["mask", 0], filename_prefix="chain_seen"),
    }  # fmt: skip
    outputs = host_server.run(prompt)["outputs"]
    frames, seen = (
        torch.stack([torch.from_numpy(pixels_of(host_server, one)) for one in outputs[name]["images"]])
        for name in ("save", "save_mask")
    )
    assert len(frames) == len(seen) == 100
    with Image.open(tmp_path / "chain.png") as image:
        first = torch.from_numpy(np.asarray(image.convert("RGB")).astype(np.int32))
    # A quarter of the width in 99 steps: 16 whole pixels at the last.
    moved = [x for x in (16, -16) if (frames[99] - first.roll(x, 1))[:, 20:40].abs().max() <= 3]
    assert len(moved) == 1 and 0.7 < (seen[99] > 127).float().mean() < 0.8 and (seen[0] > 127).all()


def pixels_of(server, entry: dict) -> np.ndarray:
    with Image.open(server.folder / "output" / entry["filename"]) as image:
        return np.asarray(image.convert("RGB")).astype(np.int32)


# --- hosts ------------------------------------------------------------------------------------------------------------


def test_conditioning_holds_the_windows_start(name, host, vae, spied):
    from comfy.samplers import KSAMPLER

    shown = []

    def sampler(model, x, sigmas, extra_args=None, callback=None, disable=None):
        conds = model.inner_model.conds["positive"] if name == "svd" else model.inner_model.conds["negative"]
        shown.append(conds[0]["model_conds"].get("c_concat"))
        return x / sigmas[0]

    given = wired(host, vae, sampler=KSAMPLER(sampler))
    before = {key: [dict(cond) for cond in group] for key, group in given["guider"].original_conds.items()}
    images, _ = chained(name, **given)
    assert torch.isfinite(images).all() and len(spied) == len(shown) > 1
    for (window, own), concat in zip(spied, shown, strict=True):
        start = still_of(vae, window)
        held = own.original_conds["positive"][0].get("concat_latent_image")
        if name == "svd":
            assert torch.equal(held, start)
            torch.testing.assert_close(concat.cond, start.expand_as(concat.cond), rtol=0, atol=1e-6)
            assert own.original_conds["positive"][0]["motion_bucket_id"] == 127
        elif name == "wan-i2v":
            grey = torch.full((window.stop - window.start - 1, SIDE, SIDE, 3), 0.5)
            with torch.inference_mode():
                film = vae.encode(torch.cat([window.first[None].movedim(1, -1), grey]))
                processed = host.model.model.process_latent_in(film)
            assert torch.equal(held, film) and not torch.equal(film, start.expand_as(film))
            mask = own.original_conds["positive"][0]["concat_mask"]
            assert mask.shape == (1, 1, 2, 8, 8) and mask[:, :, 0].max() == 0 and mask[:, :, 1:].min() == 1
            torch.testing.assert_close(concat.cond[:, 4:], processed, rtol=0, atol=1e-5)
            assert concat.cond[:, :4, 0].min() == 1 and concat.cond[:, :4, 1:].max() == 0
        else:
            assert held is None and concat is None
    firsts = [window.first for window, _ in spied]
    assert not torch.equal(firsts[0], firsts[1])
    after = given["guider"].original_conds
    for key, group in before.items():
        for cond, old in zip(after[key], group, strict=True):
            assert cond.keys() == old.keys() and all(cond[field] is old[field] for field in old)
    assert given["guider"].model_patcher is host.model


def test_what_svd_is_not_shown_stays_unshown(folder, spied):
    """Core's own negative holds zeros in the picture's place."""
    host = HOSTS["svd"]()
    zeros = {**host.negative[0][1], "concat_latent_image": torch.zeros(1, 4, 8, 8)}
    guider = run_one(
        "CFGGuider", model=host.model, positive=host.positive, negative=[[host.negative[0][0], zeros]], cfg=2.0
    )
    chained("svd", **wired(host, MeanVae(), guider=guider))
    assert all(not own.original_conds["negative"][0]["concat_latent_image"].any() for _, own in spied)
    assert all(own.original_conds["positive"][0]["concat_latent_image"].any() for _, own in spied)


def test_a_picture_that_svd_was_told_is_noisy_is_noisy(comfy):
    """The deviation that the conditioning states, in every window its own draw, the same at every run."""
    from aqueduct.core.animation import Window
    from aqueduct.nodes._comfy.chain import aimed_conds

    first = torch.full((3, 64, 64), 0.5)

    def shown(index: int, level: float) -> Tensor:
        window = Window(index, 2, 0, 2, first, first.expand(2, -1, -1, -1), None, None)
        conds = {"positive": [{"concat_latent_image": torch.ones(1, 3, 64, 64), "augmentation_level": level}]}
        return aimed_conds(conds, window, lambda pictures: pictures)["positive"][0]["concat_latent_image"]

    assert torch.equal(shown(0, 0.0), first[None])
    noisy = shown(0, 0.1) - first
    assert abs(noisy.std().item() - 0.1) < 0.005 and abs(noisy.mean().item()) < 0.005  # 5 deviations of 12288 draws
    assert torch.equal(shown(0, 0.1), shown(0, 0.1)) and not torch.equal(shown(0, 0.1), shown(1, 0.1))


def test_the_same_seed_gives_the_same_clip(name, host, vae):
    first, again = (chained(name, **wired(host, vae))[0] for _ in range(2))
    other = chained(name, **wired(host, vae, noise=run_one("RandomNoise", noise_seed=6)))[0]
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert first.shape == (LENGTHS[name][0], SIDE, SIDE, 3) and torch.isfinite(first).all()


@pytest.mark.parametrize("structure", ["repeated", "carried", "carried, start kept"])
def test_the_latent_is_what_structure_says(structure, name, host, vae, spied):
    from comfy.samplers import KSAMPLER

    found = []

    def sampler(model, x, sigmas, extra_args=None, callback=None, disable=None, denoise_mask=None, **_):
        found.append((model.latent_image, extra_args.get("denoise_mask")))
        return x

    chained(name, **wired(host, vae, sampler=KSAMPLER(sampler)), structure=structure)
    for (window, _), (latent, mask) in zip(spied, found, strict=True):
        pictures = window.first.expand_as(window.prior) if structure == "repeated" else window.prior
        with torch.inference_mode():
            expected = host.model.model.process_latent_in(vae.encode(pictures.movedim(1, -1)))
        torch.testing.assert_close(latent, expected, rtol=0, atol=1e-5)
        if not structure.endswith("kept"):
            assert mask is None
            continue
        frames = mask if name == "svd" else mask[0].movedim(1, 0)
        assert frames[0].max() == 0 and frames[1:].min() == 1


def test_guidance_and_adapters_are_aimed_at_each_window(name, host, vae, spied):
    from comfy.patcher_extension import WrappersMP

    from aqueduct.nodes._comfy.adapters import WRAPPER_KEY
    from aqueduct.nodes._comfy.guided_model import WRAPPER_KEY as GUIDED_KEY

    motion = sliding(LENGTHS[name][0], SIDE, SIDE, 1.0)
    adapter = run_one("AqueductLoadMotionAdapter", file=f"{'svd' if name == 'svd' else 'wan'}-0.safetensors")
    model = run_one(
        "AqueductApplyMotionAdapter", model=host.model, adapter=adapter, motion=motion, image=picture(SIDE, SIDE)
    )
    model = run_one("AqueductEquivarianceGuidance", model=model, motion=motion, strength=1.0, mode="x0")
    given = wired(host, vae, guider=guider_of(host, model))
    images, _ = chained(name, **given)
    plain, _ = chained(name, **wired(host, vae))
    assert torch.isfinite(images).all() and not torch.equal(images, plain)
    for window, own in spied[: len(spied) // 2]:
        (guidance,) = own.model_patcher.get_wrappers(WrappersMP.PREDICT_NOISE, GUIDED_KEY)
        (attached,) = own.model_patcher.get_wrappers(WrappersMP.DIFFUSION_MODEL, WRAPPER_KEY)
        assert guidance.motion.frames == window.motion.frames and attached.window == (window.start, window.stop)
        assert torch.equal(attached.image[0], window.first)
    (untouched,) = model.get_wrappers(WrappersMP.DIFFUSION_MODEL, WRAPPER_KEY)
    assert untouched.window is None and given["guider"].model_patcher is model


def test_an_interrupt_ends_it_and_the_next_run_is_as_ever(folder):
    import comfy.model_management as mm
    from comfy.samplers import KSAMPLER

    host, runs = HOSTS["svd"](), []

    def sampler(model, x, sigmas, extra_args=None, callback=None, disable=None):
        runs.append(len(runs))
        if len(runs) == 2:
            mm.interrupt_current_processing(True)
        callback({"i": 0, "x": x, "denoised": x, "sigma": sigmas[0]})
        return x

    with pytest.raises(mm.InterruptProcessingException):
        chained("svd", **wired(host, MeanVae(), sampler=KSAMPLER(sampler)))
    assert runs == [0, 1]
    assert torch.equal(*(chained("svd", **wired(host, MeanVae()))[0] for _ in range(2)))


# --- noise ------------------------------------------------------------------------------------------------------------


def test_every_window_has_a_seed_of_its_own(folder, spied):
    from aqueduct.nodes._comfy.chain import windowed_noise

    host, noise = HOSTS["svd"](), run_one("RandomNoise", noise_seed=2**64 - 1)
    chained("svd", **wired(host, MeanVae(), noise=noise))
    seeds = [windowed_noise(noise, window)[0].seed for window, _ in spied]
    assert seeds == [2**64 - 1, 0, 1] and noise.seed == 2**64 - 1
    still = run_one("AqueductGPNoise", seed=7)
    assert [windowed_noise(still, window)[0].seed for window, _ in spied] == [7, 8, 9] and still.seed == 7


@pytest.mark.parametrize("kind", ["AqueductWarpNoise", "AqueductGPNoise"])
def test_noise_that_follows_the_motion_goes_on(kind, folder):
    """Whole pixels a frame: what is noise of the first frame is bit for bit where it has got to, in every window."""
    motion = sliding(9, 16, 24, 1.0)
    noise = run_one(kind, motion=motion, seed=3)
    whole = noise.generate_noise({"samples": torch.zeros(9, 2, 16, 24)})
    for start, stop in ((0, 4), (3, 7), (5, 9)):
        part = noise.windowed(start, stop).generate_noise({"samples": torch.zeros(4, 2, 16, 24)})
        torch.testing.assert_close(part[..., 8:], whole[start:stop, ..., 8:], rtol=0, atol=1e-5)


# --- bridges ----------------------------------------------------------------------------------------------------------


def bridged(motion, *, adapter: bool = False, **inputs) -> tuple[Tensor, Tensor]:
    model, vae, bridge, _ = run("AqueductLoadBridgeModel", file="backbone.safetensors")
    image = picture(16, 24)
    if adapter:
        loaded = run_one("AqueductLoadMotionAdapter", file="unet-0.safetensors")
        model = run_one("AqueductApplyMotionAdapter", model=model, adapter=loaded, motion=motion, image=image)
    positive = run_one("AqueductMotionClass")
    given = {
        "guider": run_one("CFGGuider", model=model, positive=positive, negative=positive, cfg=1.0), "vae": vae,
        "sampler": run_one("AqueductBridgeSampler", bridge=bridge), "sigmas": bridge_times(bridge, 2),
        "noise": run_one("RandomNoise", noise_seed=1), "window": adapter_files.FRAMES, "overlap": 1,
    }  # fmt: skip
    return run("AqueductEulerianChain", image=image, motion=motion, **{**given, **inputs})


@pytest.mark.parametrize("adapter", [False, True])
def test_bridges_are_chained(adapter, folder, spied):
    motion = sliding(8, 16, 24, 1.0)
    images, seen = bridged(motion, adapter=adapter)
    assert images.shape == (8, 16, 24, 3) and torch.isfinite(images).all() and seen[-1, :, 7:].all()
    assert [(window.start, window.stop) for window, _ in spied] == [(0, 4), (3, 7), (4, 8)]
    assert torch.equal(images, bridged(motion, adapter=adapter)[0])
    assert not torch.equal(images, bridged(motion, adapter=adapter, structure="repeated")[0])


def test_memory_does_not_grow_with_the_clip(folder, monkeypatch):
    """Bytes in tensors alive when a late window has been sampled, less what goes in and comes out."""
    from aqueduct.nodes._comfy import chain

    sampled, alive = chain.WindowSampler.__call__, []

    def noted(self, window):
        clip = sampled(self, window)
        if window.index >= window.count - 2:
            alive.append(tensor_bytes())
        return clip

    monkeypatch.setattr(chain.WindowSampler, "__call__", noted)
    peaks = {}
    for frames in (25, 100):
        motion = sliding(frames, 16, 24, 0.1)
        alive.clear()
        before = tensor_bytes()
        noise = FixedNoise(normal(4, 3, 16, 24))
        images, seen = bridged(motion, noise=noise, sigmas=torch.tensor([1.0, 0.0]))
        peaks[frames] = max(alive) - before - images.nbytes - seen.nbytes
    assert 0 < peaks[100] < 1.2 * peaks[25], peaks


def tensor_bytes() -> int:
    gc.collect()
    storages = [one.untyped_storage() for one in gc.get_objects() if type(one) in (Tensor, torch.nn.Parameter)]
    return sum({one.data_ptr(): one.nbytes() for one in storages}.values())


# --- refused ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes, told",
    [
        ({"motion": sliding(4, SIDE, SIDE, 1.0)}, "window is 5 frames, the clip has 4"),
        ({"window": 10}, "window is 10 frames, the clip has 9"),
        ({"image": picture(SIDE, 2 * SIDE)}, "128 x 64 pixels, the motion 64 x 64, another aspect ratio"),
        ({"image": picture(32, 32)}, "32 x 32 pixels, the motion 64 x 64: take the motion to 32 x 32"),
        ({"overlap": 5}, "overlap by 1 to 4"),
        ({"vae": None}, "vae is not wired. Wire guider, sampler, sigmas, noise and vae, or none"),
        ({"guider": None, "noise": None}, "guider, noise is not wired"),
        ({"window": 6}, r"window of 6 frames is not 1 \+ a multiple of 4.*take 5 or 9"),
        ({"image": picture(60, 64), "motion": sliding(9, 60, 64, 1.0)}, "multiples of 8.*64 x 56"),
    ],
)
def test_what_does_not_fit_is_refused(changes, told, folder, wan_vae):
    with pytest.raises(ValueError, match=told):
        chained("wan-t2v", **{**wired(HOSTS["wan-t2v"](), wan_vae), **changes})


def test_a_window_that_a_bridge_does_not_make_is_refused(folder):
    with pytest.raises(ValueError, match="clips of 4 frames, got a LATENT of 3.*window = 4 in AqueductEulerianChain"):
        bridged(sliding(8, 16, 24, 1.0), window=3)


def test_noise_of_another_clip_is_refused(folder, wan_vae):
    noise = run_one("AqueductWarpNoise", motion=sliding(5, SIDE, SIDE, 1.0))
    with pytest.raises(ValueError, match="motion of 5 frames, the clip has 9"):
        chained("wan-t2v", **wired(HOSTS["wan-t2v"](), wan_vae, noise=noise))


def test_conditioning_with_an_end_image_is_refused(folder, wan_vae):
    host = HOSTS["wan-i2v"]()
    mask = host.positive[0][1]["concat_mask"].clone()
    mask[:, :, -1] = 0
    both = [[host.positive[0][0], {**host.positive[0][1], "concat_mask": mask}]]
    guider = run_one("CFGGuider", model=host.model, positive=both, negative=both, cfg=1.0)
    with pytest.raises(ValueError, match="more than a start image"):
        chained("wan-i2v", **wired(host, wan_vae, guider=guider))
