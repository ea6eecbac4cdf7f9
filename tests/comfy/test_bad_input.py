"""Wrong input is refused with what was got, what was expected, and the way out."""

import re

import pytest
import torch

from aqueduct.core.bridges import bridge_gmax, brownian
from aqueduct.tests.comfy import bridge_files
from aqueduct.tests.comfy.bridge_files import FRAMES
from aqueduct.tests.comfy.graph import (
    FixedNoise,
    bridge_times,
    node_class,
    run,
    run_one,
    sample_bridge_graph,
    sample_stock,
)
from aqueduct.tests.comfy.hosts import Host, sd15, wan

GMAX = bridge_gmax()


@pytest.fixture(scope="module")
def folder(comfy, tmp_path_factory):
    folder = tmp_path_factory.mktemp("aqueduct")
    for variant in ("shipped", "with-image"):
        bridge_files.write(folder, variant)
    bridge_files.write_prior(folder)
    bridge_files.offer(folder)
    return folder


@pytest.fixture(scope="module")
def bridge_model(folder):
    return run_one("AqueductLoadBridgeModel", file="shipped-float32.safetensors")


@pytest.fixture(scope="module")
def host(comfy) -> Host:
    return wan("t2v")


def motion(words: str = "down", **inputs):
    return run_one("AqueductMotionClass", motion=words, **inputs)


def latent(*shape: int) -> dict:
    return {"samples": torch.randn(shape or (FRAMES, 3, 8, 8), generator=torch.Generator().manual_seed(0))}


def refused(*parts: str, by: type[Exception] = ValueError):
    """A context in which exactly ``by`` is raised, with each of ``parts`` in its message."""
    return pytest.raises(by, match="(?s)" + "".join(f"(?=.*{re.escape(part)})" for part in parts))


def sample(model, z_T: dict | None = None, **options) -> torch.Tensor:
    options = {"bridge": GMAX, "positive": motion(), **options}
    return sample_bridge_graph(model, prior=latent() if z_T is None else z_T, **options)


# --- latents ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "shape, told",
    [
        ((FRAMES, 4, 8, 8), "encode an image of the right size with the model's own VAE"),
        ((FRAMES, 3, 16, 8), "the nearest it takes is 8 wide and 8 high: scale the image by 1 across and 0.5 down"),
        ((1, 3, FRAMES, 8, 8), "frames in the batch axis"),
        ((FRAMES + 2, 3, 8, 8), f"set frames = {FRAMES} in AqueductReplicatePrior"),
    ],
    ids=["channels", "size", "time axis", "frames"],
)
def test_latents_that_do_not_fit_the_model(bridge_model, shape, told):
    got = str(list(shape)) if shape[0] != FRAMES + 2 else f"got a LATENT of {FRAMES + 2}"
    with refused(got, told):
        sample(bridge_model, latent(*shape))


def test_an_empty_latent_of_another_model(bridge_model):
    """Core gives empty latents the right channels, but not the right size."""
    with refused(f"[clips x {FRAMES}, 3, 8, 8]", f"got [{FRAMES}, 3, 64, 64]"):
        sample(bridge_model, {"samples": torch.zeros(FRAMES, 4, 64, 64)})


def test_no_frames(folder):
    [frames] = [field for field in node_class("AqueductReplicatePrior").GET_SCHEMA().inputs if field.id == "frames"]
    assert frames.min == 1  # the server refuses less before anything runs; a caller from Python gets here:
    with refused("frames must be 1 plus a multiple", "got 0"):
        run("AqueductReplicatePrior", latent=latent(1, 3, 8, 8), frames=0)


def test_frames_that_the_video_vae_cannot_make(folder):
    with refused("1 plus a multiple of the temporal compression 4", "got 8"):
        run("AqueductReplicatePrior", latent=latent(1, 16, 1, 8, 8), frames=8, temporal_compression=4)


@pytest.mark.parametrize("shape", [(1, 16, 3, 8, 8), (4, 8, 8)])
def test_a_prior_from_something_that_is_no_image(folder, shape):
    with refused("expected the latent of single images", f"got {list(shape)}"):
        run("AqueductReplicatePrior", latent=latent(*shape), frames=5)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_latents_with_holes(bridge_model, host, bad):
    z_T = latent()
    z_T["samples"][1, 0, 3, 3] = bad
    with refused("z_T", "NaN or infinite", "check the VAE"):
        sample(bridge_model, z_T)
    clip = latent(1, 16, 2, 8, 8)
    clip["samples"][0, 0, 0, 0, 0] = bad
    with refused("z_T", "NaN or infinite"):
        sample(run_one("AqueductSNRAlign", model=host.model, bridge=GMAX), clip, positive=host.positive)
    image = latent(1, 3, 8, 8)
    image["samples"][0, 0, 0, 0] = bad
    prior = run_one("AqueductLoadNeuralPrior", file="prior.safetensors")
    with refused("NaN or infinite", "check the VAE"):
        run("AqueductNeuralPrior", prior=prior, latent=image, conditioning=motion())


def test_noise_of_another_shape(bridge_model):
    with refused(f"NOISE [2, 3, 8, 8] and LATENT [{FRAMES}, 3, 8, 8] differ in shape"):
        sample(bridge_model, noise=FixedNoise(torch.randn(2, 3, 8, 8)))


def test_nested_latents(host):
    """What LTX's audio-and-video latents are."""
    from aqueduct.nodes._comfy.sampler import _checked_prior

    class Nested:
        is_nested = True

    with refused("nested audio and video latents are not supported", "split them"):
        _checked_prior(Nested(), None)


@pytest.mark.parametrize("shape", [(1, 3, 16, 16), (1, 4, 8, 8), (1, 3, 2, 8, 8)])
def test_an_image_that_does_not_fit_the_neural_prior(folder, shape):
    prior = run_one("AqueductLoadNeuralPrior", file="prior.safetensors")
    with refused("[images, 3, 8, 8]", f"got {list(shape)}", "scale the image"):
        run("AqueductNeuralPrior", prior=prior, latent=latent(*shape), conditioning=motion())


def test_a_prior_of_another_shape(bridge_model, folder):
    """z_T of a neural prior made for longer clips."""
    with refused(f"clips of {FRAMES} frames", "got a LATENT of 6"):
        sample(bridge_model, run_one("AqueductReplicatePrior", latent=latent(1, 3, 8, 8), frames=6))


# --- times ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "times, parts",
    [
        ([0.2, 0.6, 0.0], ("must descend", "0.2, 0.6, 0")),
        ([1.0, 1.0, 0.0], ("must descend",)),
        ([1.0, 0.5, 0.1], ("must end in 0", "do not split or trim")),
        ([1.0, float("nan"), 0.0], ("not finite",)),
        ([1.0, 0.5, -0.1], ("[0, 1]", "AqueductBridgeTimes")),
        ([1.0], ("at least two times", "[1]")),
    ],
    ids=["rising", "repeated", "split", "nan", "negative", "one"],
)
def test_times_that_are_no_schedule(bridge_model, times, parts):
    with refused(*parts):
        sample(bridge_model, times=torch.tensor(times))


def test_sigmas_of_another_scheduler(bridge_model, comfy):
    import comfy.samplers

    sampling = sd15().model.get_model_object("model_sampling")
    sigmas = comfy.samplers.calculate_sigmas(sampling, "karras", 5)
    with refused("got values up to 14.6", "noise scheduler", "AqueductBridgeTimes"):
        sample(bridge_model, times=sigmas)


@pytest.mark.parametrize("solver", ["ode", "dbim-2"])
def test_a_start_without_noise_where_none_would_come(bridge_model, solver):
    times = bridge_times(GMAX, 4, "trailing")
    with refused("below the prior", solver, "choose the spacing"):
        sample(bridge_model, times=times, solver=solver, eta=0.0)


def test_an_aligned_host_without_the_noise_of_T(host):
    aligned = run_one("AqueductSNRAlign", model=host.model, bridge=GMAX)
    with refused("below the prior", "SNR-aligned MODEL", "choose the spacing"):
        sample(aligned, latent(1, 16, 2, 8, 8), positive=host.positive, times=bridge_times(GMAX, 4, "trailing"))


# --- files ------------------------------------------------------------------------------------------------------------


LOADERS = ["AqueductLoadBridgeModel", "AqueductLoadNeuralPrior"]


@pytest.mark.parametrize("loader", LOADERS)
def test_a_missing_file(folder, loader):
    with refused("'gone.safetensors' is missing", "press R", str(folder), "prior.safetensors", by=FileNotFoundError):
        run(loader, file="gone.safetensors")


@pytest.mark.parametrize("loader", LOADERS)
def test_files_that_are_no_model(folder, loader):
    import json

    from safetensors.torch import save_file

    whole = (folder / "shipped-float32.safetensors").read_bytes()
    (folder / "short.safetensors").write_bytes(whole[: len(whole) // 2])
    (folder / "page.safetensors").write_text("<!DOCTYPE html><html>not found</html>")
    (folder / "empty.safetensors").write_bytes(b"")
    save_file({"conv.weight": torch.zeros(3, 3)}, folder / "foreign.safetensors")
    save_file({"model.x": torch.zeros(1)}, folder / "newer.safetensors", {"aqueduct": json.dumps({"format": 9})})
    told = {
        "short": ("short.safetensors is not a readable safetensors file", "cut short"),
        "page": ("page.safetensors is neither a safetensors file nor a PyTorch checkpoint", "download it again"),
        "empty": ("empty.safetensors is empty",),
        "foreign": ("foreign.safetensors is no checkpoint known here", "conv.weight", "Understood are"),
        "newer": ("newer.safetensors has format 9, this version reads format 1", "update the pack"),
    }
    for name, parts in told.items():
        with refused(*parts):
            run(loader, file=f"{name}.safetensors")


@pytest.mark.parametrize("loader", LOADERS)
def test_pickles_with_code_are_not_run(folder, loader):
    import pickle

    class Payload:
        def __reduce__(self):
            return (open, (str(folder / "it-ran"), "w"))

    with open(folder / "evil.pt", "wb") as file:
        pickle.dump({"model": Payload()}, file, protocol=2)
    with refused("evil.pt"):
        run(loader, file="evil.pt")
    assert not (folder / "it-ran").exists()


def test_a_prior_is_no_bridge_and_a_bridge_no_prior(folder):
    with refused("prior.safetensors holds only a prior", "load it with AqueductLoadNeuralPrior"):
        run("AqueductLoadBridgeModel", file="prior.safetensors")
    with refused("holds a bridge model", "load it with AqueductLoadBridgeModel"):
        run("AqueductLoadNeuralPrior", file="with-image-float32.safetensors")
    with refused("no neural prior", "AqueductLoadNeuralPrior"):
        run("AqueductNeuralPrior", prior=None, latent=latent(1, 3, 8, 8), conditioning=motion())


def test_a_latent_model_without_its_vae(folder):
    import folder_paths

    places = folder_paths.get_folder_paths("vae")
    with refused("works on latents of sd-vae-ft-ema", "vae-ft-ema-560000-ema-pruned", *places, "choose it as `vae`"):
        run("AqueductLoadBridgeModel", file="with-image-float32.safetensors")
    with refused("'gone.pt' is missing", *places, by=FileNotFoundError):
        run("AqueductLoadBridgeModel", file="with-image-float32.safetensors", vae="gone.pt")


def test_a_vae_that_is_none(folder):
    import folder_paths

    folder_paths.add_model_folder_path("vae", str(folder))
    with refused("prior.safetensors is no VAE that ComfyUI knows", "choose another"):
        run("AqueductLoadBridgeModel", file="with-image-float32.safetensors", vae="prior.safetensors")


# --- conditioning -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["3", "17", "-1", "sideways", "1.5"])
def test_classes_the_model_does_not_have(bridge_model, word):
    with refused(f"class '{word}' is unknown", "0 to 2", "right, down, left", "'none'"):
        sample(bridge_model, positive=motion(word))


def test_more_classes_than_clips(bridge_model):
    with refused("2 classes for 1 clips", "one class, or one per clip"):
        sample(bridge_model, positive=motion("left, right"))


def test_guidance_without_a_class_in_the_negative(bridge_model):
    text = [[torch.randn(1, 8, 768), {}]]
    with refused("the CONDITIONING holds none", "AqueductMotionClass", "'none' to negative"):
        sample(bridge_model, negative=text, cfg=2.0)


def test_a_neural_prior_needs_a_class(folder):
    prior = run_one("AqueductLoadNeuralPrior", file="prior.safetensors")
    inputs = {"prior": prior, "latent": latent(1, 3, 8, 8)}
    with refused("the CONDITIONING holds none", "AqueductMotionClass"):
        run("AqueductNeuralPrior", **inputs, conditioning=[[torch.randn(1, 8, 768), {}]])
    with refused("name one, not 'none'"):
        run("AqueductNeuralPrior", **inputs, conditioning=motion("none"))


def test_the_image_beside_a_prior(folder, monkeypatch):
    from aqueduct.nodes import model

    monkeypatch.setattr(model, "load_vae", lambda *_: None)
    loaded = run_one("AqueductLoadBridgeModel", file="with-image-float32.safetensors")
    z_T = latent(FRAMES, 4, 8, 8)
    with refused("does not begin with the image", "AqueductMotionClass"):
        sample(loaded, z_T)
    with refused("[1, 4, 16, 16] does not fit 1 clips of latents [4, 8, 8]"):
        sample(loaded, z_T, positive=motion(image=latent(1, 4, 16, 16)))
    with refused("[3, 4, 8, 8] does not fit 1 clips"):
        sample(loaded, z_T, positive=motion(image=latent(3, 4, 8, 8)))


# --- models and samplers that do not belong together ------------------------------------------------------------------


def test_a_bridge_in_a_stock_sampler(bridge_model):
    import comfy.samplers

    with refused("starts from its prior, not from noise", "AqueductBridgeSampler", "instead of KSampler"):
        sample_stock(bridge_model, latent()["samples"], motion(), motion("none"))
    for scheduler in comfy.samplers.SCHEDULER_NAMES:
        sampler = comfy.samplers.KSampler(bridge_model, 4, "cpu", "dpmpp_2m", scheduler)
        with refused("starts from its prior"), torch.inference_mode():
            sampler.sample(latent()["samples"], motion(), motion("none"), 1.0, latent()["samples"])


def test_a_bridge_in_a_stock_sampler_on_our_times(bridge_model):
    import comfy.samplers

    with refused("starts from its prior"):
        run(
            "SamplerCustomAdvanced", noise=run_one("RandomNoise"),
            guider=run_one("BasicGuider", model=bridge_model, conditioning=motion()),
            sampler=comfy.samplers.sampler_object("euler"), sigmas=bridge_times(GMAX), latent_image=latent(),
        )  # fmt: skip


def test_the_sampler_of_another_bridge(bridge_model, host):
    with refused("bridge-gmax", "brownian", "wire the same AQUEDUCT_BRIDGE to both"):
        sample(bridge_model, bridge=brownian())
    with refused("beta_max 50)", "beta_max 20)", "wire the same"):
        sample(bridge_model, bridge=bridge_gmax(beta_max=20.0))
    aligned = run_one("AqueductSNRAlign", model=host.model, bridge=brownian())
    with refused("bridge-gmax", "brownian", "wire the same"):
        sample(aligned, latent(1, 16, 2, 8, 8), positive=host.positive)


def test_a_host_that_is_not_aligned(host):
    with refused("this MODEL is not a bridge", "AqueductSNRAlign", "AqueductLoadBridgeModel"):
        sample(host.model, latent(1, 16, 2, 8, 8), positive=host.positive)


def test_aligning_what_is_aligned(host, bridge_model):
    aligned = run_one("AqueductSNRAlign", model=host.model, bridge=GMAX)
    with refused("aligned to", "bridge-gmax", "align the original MODEL"):
        run("AqueductSNRAlign", model=aligned.clone(), bridge=brownian())
    with refused("a bridge already", "without AqueductSNRAlign"):
        run("AqueductSNRAlign", model=bridge_model, bridge=GMAX)


def test_an_aligned_host_in_a_stock_sampler(host):
    aligned = run_one("AqueductSNRAlign", model=host.model, bridge=GMAX)
    with refused("aligned to a bridge", "AqueductBridgeSampler and AqueductBridgeTimes"):
        sample_stock(aligned, latent(1, 16, 2, 8, 8)["samples"], host.positive)


def test_the_posterior_mean_of_a_bridge(host, bridge_model):
    inputs = {"conditioning": motion(), "latent": latent()}
    with refused("takes a diffusion or flow MODEL", "bridge already"):
        run("AqueductPosteriorMeanPrior", model=bridge_model, **inputs)
    aligned = run_one("AqueductSNRAlign", model=host.model, bridge=GMAX)
    with refused("as it was before AqueductSNRAlign"):
        run("AqueductPosteriorMeanPrior", model=aligned, **inputs)
