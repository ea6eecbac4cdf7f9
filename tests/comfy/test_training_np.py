"""FrameBridge-NP: bridges trained from a neural prior's guess, from scratch and beside a core MODEL."""

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from aqueduct.core import checkpoints
from aqueduct.core.bridges import bridge_gmax
from aqueduct.core.training.objectives import psi_weight
from aqueduct.scripts._server import ComfyServer
from aqueduct.tests.comfy.graph import bridge_times, run, run_one, sample_bridge_graph
from aqueduct.tests.comfy.guided_hosts import clip_latent
from aqueduct.tests.comfy.host_training import asking, clips_like, close, data_of, write_clips
from aqueduct.tests.comfy.hosts import HOSTS, Host
from aqueduct.tests.comfy.own_models import server_with
from aqueduct.tests.comfy.test_host_training_nodes import places  # noqa: F401
from aqueduct.tests.comfy.test_server_bridge import node, saved

PRIOR, BRIDGE = "AqueductTrainNeuralPrior", "AqueductTrainBridge"
FEW = {"steps": 3, "batch": 1, "learning_rate": 1e-2, "sample_every": 0}
LOW = {"rank": 4, "alpha": 4.0}
WARNING = "was trained to start from a neural prior (neural prior of FrameBridge, trained on clips of a test)"


def small(folder: Path):
    """Four clips of pixels, one class."""
    return write_clips(folder / "clips", (3, 4, 16, 16), count=4, first_size=16, label=1)


def trained_prior(data, **inputs):
    return run_one(PRIOR, dataset=data, **{**FEW, **inputs})


# --- from scratch -----------------------------------------------------------------------------------------------------


def test_from_scratch_the_file_holds_both(places, tmp_path):  # noqa: F811
    clips = small(tmp_path)
    data = data_of(clips)
    prior = trained_prior(data)
    model, bridge, file, _, samples = run(BRIDGE, dataset=data, prior=prior, **{**FEW, "sample_every": 3})
    loaded, _, again, own = run("AqueductLoadBridgeModel", file=Path(file).name)
    assert again == bridge and samples.shape[-1] == 3
    config = checkpoints.read_config(file)
    assert config["about"].startswith("FrameBridge-NP") and set(config["parts"]) == {"model", "prior"}
    words = run_one("AqueductMotionClass", motion="two")
    image = {"samples": clips.tensor(0, "latent")[None, :, 0]}
    guesses = [
        run_one("AqueductNeuralPrior", prior=one, latent=image, conditioning=words) for one in (prior, own)
    ]
    assert torch.equal(guesses[0]["samples"], guesses[1]["samples"])
    assert torch.equal(guesses[0]["samples"][:1], image["samples"])
    made = [sample_bridge_graph(one, bridge, guesses[1], words) for one in (model, loaded)]
    assert torch.equal(*made) and made[0].shape == (4, 3, 16, 16)


def test_another_prior_is_another_training(places, tmp_path, monkeypatch):  # noqa: F811
    """The same is found again; one of other weights, or none, is not, nor is it gone on with."""
    from comfy.model_management import InterruptProcessingException

    from aqueduct.tests.comfy.test_host_training_nodes import stopped_after

    data = data_of(small(tmp_path))
    priors = [trained_prior(data, seed=seed) for seed in (0, 1)]
    files = [run(BRIDGE, dataset=data, prior=one, **FEW)[2] for one in (priors[0], priors[0], priors[1], None)]
    assert files[0] == files[1] and len(set(files)) == 3
    with monkeypatch.context() as patch, pytest.raises(InterruptProcessingException):
        stopped_after(patch, 2)
        run(BRIDGE, dataset=data, prior=priors[0], **{**FEW, "filename_prefix": "stopped"})
    with pytest.raises(ValueError, match="is of another training: first weights is"):
        run(BRIDGE, dataset=data, prior=priors[1], **{**FEW, "filename_prefix": "stopped"})
    run(BRIDGE, dataset=data, prior=priors[0], **{**FEW, "filename_prefix": "stopped"})


def test_a_prior_of_other_clips_is_refused_with_both_named(places, tmp_path):  # noqa: F811
    prior = trained_prior(data_of(small(tmp_path)))
    for name, shape, first, label, told in (
        ("longer", (3, 6, 16, 16), 16, 1, r"pixels \[3, 4, 16, 16\] .* of the classes one, two, .*\[3, 6, 16, 16\]"),
        ("latents", (4, 4, 16, 16), 128, 1, r"guesses pixels .*are latents of the kind sd15 \[4, 4, 16, 16\]"),
        ("unknown", (3, 4, 16, 16), 16, None, r"of the classes one, two, .* \[3, 4, 16, 16\] of no classes: train a"),
    ):
        clips = write_clips(tmp_path / name, shape, first_size=first, label=label)
        with pytest.raises(ValueError, match=told):
            run(BRIDGE, dataset=data_of(clips), prior=prior, **FEW)
    assert not list((places.parent / "aqueduct").glob("bridge_*"))


# --- beside a core MODEL ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["wan-t2v", "sd15"])
def host(request, comfy) -> Host:
    return HOSTS[request.param]()


@pytest.fixture
def clips(host, tmp_path):
    return clips_like(host, tmp_path / "clips")


def still_and_guess(host: Host, clips, prior) -> tuple[dict, dict]:
    """LATENTs of the first clip's first frame, from the nodes that make z_T."""
    first, frames = clips.tensor(0, "latent")[None, :, :1], clips.tensor(0, "latent").shape[1]
    image = {"samples": first if clip_latent(host).dim() == 5 else first[:, :, 0]}
    guess = run_one("AqueductNeuralPrior", prior=prior, latent=image, conditioning=host.positive)
    return run_one("AqueductReplicatePrior", latent=image, frames=frames), guess


def test_a_host_starts_from_the_guess(places, host, clips):  # noqa: F811
    """z_T is what AqueductNeuralPrior gives to the sampler, and the loss, by hand, that of the bridge from there."""
    from aqueduct.nodes._comfy.alignment import align_model
    from aqueduct.nodes._comfy.host_loss import BridgeLoss
    from aqueduct.nodes._comfy.prior_start import Guesses

    prior, bridge = trained_prior(data_of(clips)), bridge_gmax()
    _, guess = still_and_guess(host, clips, prior)
    t = torch.tensor(0.4, dtype=torch.float64)

    def body(asked):
        loss = BridgeLoss(asked, bridge, psi_weight, Guesses.of(prior, clips, asked.device))
        z_0, z_T, eps = loss.ends(0, 5)
        a, b, c = (float(x) for x in bridge.coefficients(t.float().double()))
        prediction = loss.predict(0, a * z_0 + b * z_T + c * eps, t.float().double(), z_T, eps, 5).detach()
        of_row = loss.of_row(torch.tensor(0), t, torch.tensor(5)).detach()
        latent = asked.model.process_latent_out(z_T)
        return latent, float(of_row), float((prediction - z_0).square().mean())

    latent, loss, error = asking(host, clips, body, lambda clone: align_model(clone, bridge))
    assert close(latent, guess["samples"], 1e-5)
    assert loss == pytest.approx(error / (0.5 * (50 - 0.01) * 0.4**2 + 0.01 * 0.4), rel=1e-4)


def test_a_lora_says_that_it_starts_from_a_prior(places, host, clips, caplog):  # noqa: F811
    """In its file, and in the log when it is sampled from a still; another prior is another training."""
    data = data_of(clips, [host.positive] * len(clips))
    priors = [trained_prior(data_of(clips), seed=seed) for seed in (0, 1)]
    given = {"model": host.model, "dataset": data, **FEW, **LOW}
    model, bridge, file, *_ = run(BRIDGE, prior=priors[0], **given)
    others = [run(BRIDGE, prior=one, **given)[2] for one in (*priors, None)]
    assert others[0] == file and len({file, *others}) == 3
    own, theirs = (load_file(one) for one in (file, others[2]))
    assert own.keys() == theirs.keys() and not all(torch.equal(own[key], theirs[key]) for key in own)
    loaded, _ = run("AqueductLoadBridgeLoRA", model=host.model, file=Path(file).name)
    plain, _ = run("AqueductLoadBridgeLoRA", model=host.model, file=Path(others[2]).name)
    still, guess = still_and_guess(host, clips, priors[0])
    listed = bridge_times(bridge, 1)
    for one, latent, warned in ((model, guess, 0), (loaded, guess, 0), (loaded, still, 1), (plain, still, 0)):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            sample_bridge_graph(one, bridge, latent, host.positive, times=listed)
        assert caplog.text.count(WARNING) == warned


def test_a_host_refuses_a_prior_of_other_latents(places, host, clips, tmp_path):  # noqa: F811
    prior = trained_prior(data_of(small(tmp_path / "other")))
    with pytest.raises(ValueError, match=r"this neural prior guesses pixels .*the clips of the dataset are latents of"):
        run(BRIDGE, model=host.model, dataset=data_of(clips, [host.positive] * 2), prior=prior, **FEW, **LOW)


# --- in the real server -----------------------------------------------------------------------------------------------

SIDE, FRAMES = 16, 4


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    """A folder for models, with clips of two classes to train on."""
    folder, generator = tmp_path_factory.mktemp("models"), np.random.default_rng(0)
    for label in ("left", "right"):
        for n in range(2):
            at = folder / "videos" / label / str(n)
            at.mkdir(parents=True)
            wide = generator.integers(0, 256, (SIDE, 2 * SIDE, 3), dtype=np.uint8)
            for frame in range(FRAMES):
                step = frame if label == "left" else FRAMES - frame
                Image.fromarray(wide[:, step : step + SIDE]).save(at / f"{frame:04}.png")
    return folder


@pytest.fixture(scope="module")
def server(comfyui_path, models) -> Iterator[ComfyServer]:
    with server_with(comfyui_path, models, {"aqueduct": "."}, saves=True) as running:
        yield running


def widgets(server: ComfyServer, node_id: str) -> dict:
    spec = server.object_info()[node_id]["input"]["required"]
    kept = {name: value for name, value in spec.items() if isinstance(value[0], list) or "default" in value[-1]}
    return {name: value[-1].get("default", value[0][0]) for name, value in kept.items()}


def test_in_the_server_the_trained_prior_is_loaded_with_the_bridge(server, models, tmp_path):
    few = {"steps": 2, "batch": 2, "sample_every": 2}
    clips = {"folder": str(models / "videos"), "width": SIDE, "height": SIDE, "frames": FRAMES}
    prompt = {
        "data": node("AqueductVideoDataset", **widgets(server, "AqueductVideoDataset") | clips),
        "prior": node(PRIOR, dataset=["data", 0], **widgets(server, PRIOR) | few),
        "train": node(BRIDGE, dataset=["data", 0], prior=["prior", 0], **widgets(server, BRIDGE) | few),
        "file": node("PreviewAny", source=["train", 2]),
        "samples": node("PreviewImage", images=["train", 4]),
    }
    outputs = server.run(prompt, timeout=600)["outputs"]
    assert outputs["file"]["text"] == [str(models / "bridge_00001.safetensors")]
    assert len(outputs["samples"]["images"]) == 1
    image = models / "videos/left/0/0000.png"
    server.upload_image(image)
    prompt = {
        "load": node("AqueductLoadBridgeModel", file="bridge_00001.safetensors", vae="from the model file"),
        "own": node("AqueductLoadNeuralPrior", file="neural_prior_00001.safetensors"),
        "image": node("LoadImage", image=image.name),
        "latent": node("VAEEncode", pixels=["image", 0], vae=["load", 1]),
        "words": node("AqueductMotionClass", motion="left"),
        "guider": node("BasicGuider", model=["load", 0], conditioning=["words", 0]),
        "noise": node("RandomNoise", noise_seed=1),
        "sampler": node("AqueductBridgeSampler", bridge=["load", 2], solver="sde", eta=1.0),
        "times": node("AqueductBridgeTimes", bridge=["load", 2], steps=2, spacing="uniform"),
        "sample": node(
            "SamplerCustomAdvanced", noise=["noise", 0], guider=["guider", 0], sampler=["sampler", 0],
            sigmas=["times", 0], latent_image=["z_T load", 0],
        ),
        "clip": node("SaveLatent", samples=["sample", 0], filename_prefix="clip"),
    }  # fmt: skip
    for name, output in {"load": 3, "own": 0}.items():
        prompt[f"z_T {name}"] = node(
            "AqueductNeuralPrior", prior=[name, output], latent=["latent", 0], conditioning=["words", 0],
            keep_image=True,
        )  # fmt: skip
        prompt[f"save {name}"] = node("SaveLatent", samples=[f"z_T {name}", 0], filename_prefix=name)
    outputs = server.run(prompt, timeout=600)["outputs"]
    clip, both, alone = (saved(server, outputs, name, tmp_path) for name in ("clip", "save load", "save own"))
    network = checkpoints.load(models / "neural_prior_00001.safetensors", part="prior")[0].float()
    first = torch.from_numpy(np.asarray(Image.open(image)).astype("float32") / 127.5 - 1).permute(2, 0, 1)[None]
    expected = network(first, torch.tensor([0]))[0].movedim(1, 0)
    expected[0] = first[0]
    torch.testing.assert_close(both, expected, rtol=1e-4, atol=1e-4)
    assert torch.equal(both, alone) and clip.shape == both.shape and torch.isfinite(clip).all()
