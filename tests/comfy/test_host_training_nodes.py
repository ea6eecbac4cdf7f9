"""AqueductTrainBridge, AqueductTrainGPNoise and AqueductLoadBridgeLoRA as ComfyUI's executor calls them."""

import logging
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from aqueduct.core.bridges import bridge_gmax, brownian
from aqueduct.core.training.objectives import uniform_weight
from aqueduct.tests.comfy.graph import bridge_times, run, run_one, sample_bridge_graph, sample_stock
from aqueduct.tests.comfy.guided_hosts import clip_latent, state_of
from aqueduct.tests.comfy.host_training import asking, clips_like, close, data_of, write_clips
from aqueduct.tests.comfy.hosts import HOSTS, Host

BRIDGE, GP = "AqueductTrainBridge", "AqueductTrainGPNoise"
SMALL = {"steps": 3, "batch": 1, "learning_rate": 1e-2, "sample_every": 0, "rank": 4, "alpha": 4.0}


@pytest.fixture
def places(comfy, tmp_path, monkeypatch) -> Path:
    """The folder of this test's LoRAs; models and output are its own, too."""
    import folder_paths

    for kind in ("loras", "aqueduct"):
        folder = tmp_path / kind
        folder.mkdir()
        monkeypatch.setitem(folder_paths.folder_names_and_paths, kind, ([str(folder)], {".safetensors"}))
    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path / "output"))
    return tmp_path / "loras"


@pytest.fixture(scope="module", params=["wan-t2v", "ltxv"])
def host(request, comfy) -> Host:
    return HOSTS[request.param]()


@pytest.fixture(scope="module")
def clips(host, tmp_path_factory):
    return clips_like(host, tmp_path_factory.mktemp("clips"))


def train(host: Host, clips, node: str = BRIDGE, **inputs) -> tuple:
    given = {"model": host.model, "dataset": data_of(clips, [host.positive] * len(clips))}
    return run(node, **{**given, **SMALL, **inputs})


def sample(host: Host, model, bridge, clips) -> torch.Tensor:
    still = clips.tensor(0, "latent")[:, :1].expand_as(clips.tensor(0, "latent"))
    prior = {"samples": still[None] if clip_latent(host).dim() == 5 else still.movedim(1, 0)}
    return sample_bridge_graph(model, bridge, prior, host.positive, times=bridge_times(bridge, 2))


def probe(host: Host, clips, patched, weight=uniform_weight, rows: int = 8) -> float:
    """The loss of one fixed batch: the same clips, times and noise each time."""
    from aqueduct.nodes._comfy.host_loss import BridgeLoss

    def body(asked) -> float:
        loss = BridgeLoss(asked, bridge_gmax(), weight)
        batch = loss.draw(torch.arange(rows) % len(clips), torch.Generator().manual_seed(1))
        with torch.no_grad():
            return float(loss(batch))

    return asking(host, clips, body, patched)


def stopped_after(monkeypatch, steps: int) -> None:
    """The stop button is pressed as that step has been made."""
    from comfy.model_management import InterruptProcessingException

    from aqueduct.nodes._comfy.training_report import Report

    told = Report.__call__

    def pressed(self, step, progress):
        told(self, step, progress)
        if step + 1 == steps:
            raise InterruptProcessingException()

    monkeypatch.setattr(Report, "__call__", pressed)


def test_a_host_learns_and_its_file_makes_the_same_bridge(places, host, clips):
    """The loss of a fixed batch falls by a tenth and more; measured: 1.18 to 0.95 (LTXV)."""
    from aqueduct.nodes._comfy.alignment import align_model
    from aqueduct.nodes._comfy.bridge_lora import load_bridge_lora

    before = probe(host, clips, lambda clone: align_model(clone, bridge_gmax()))
    state = state_of(host.model)
    model, bridge, file, losses, _ = train(host, clips, steps=25, batch=2, weight="even", layers="")
    assert state_of(host.model) == state and bridge == bridge_gmax()
    assert Path(file) == places / "bridge_00001.safetensors" and losses.shape == (1, 400, 640, 3)
    after = probe(host, clips, lambda clone: load_bridge_lora(clone, file, 1.0)[0])
    assert after < 0.9 * before
    loaded, again = run("AqueductLoadBridgeLoRA", model=host.model, file=Path(file).name)
    made = sample(host, model, bridge, clips)
    assert again == bridge and torch.equal(made, sample(host, loaded, bridge, clips))
    (none, _) = run("AqueductLoadBridgeLoRA", model=host.model, file=Path(file).name, strength=0.0)
    plain = sample(host, run_one("AqueductSNRAlign", model=host.model, bridge=bridge), bridge, clips)
    assert close(sample(host, none, bridge, clips), plain) and not close(made, plain, 1e-3)


@pytest.mark.parametrize("kind, steps, rate", [("sd15", 12, 0.01), ("svd", 25, 0.05)])
def test_u_nets_learn_too(places, comfy, tmp_path, kind, steps, rate):
    """Frames in the batch axis; SVD sees the first frame by its own conditioning besides. Measured: 11.90 to 10.88
    (SD1.5), 0.204 to 0.191 (SVD)."""
    from aqueduct.nodes._comfy.alignment import align_model
    from aqueduct.nodes._comfy.bridge_lora import load_bridge_lora

    host = HOSTS[kind]()
    clips = clips_like(host, tmp_path / "clips", count=1)
    before = probe(host, clips, lambda clone: align_model(clone, bridge_gmax()), rows=4)
    _, _, file, *_ = train(host, clips, steps=steps, weight="even", layers="", learning_rate=rate)
    after = probe(host, clips, lambda clone: load_bridge_lora(clone, file, 1.0)[0], rows=4)
    assert after < 0.97 * before


def test_a_plain_lora_is_for_cores_loader(places, host, clips, caplog):
    import nodes

    caplog.set_level(logging.WARNING)
    _, bridge, file, *_ = train(host, clips, prior_input=False)
    (patched,) = nodes.LoraLoaderModelOnly().load_lora_model_only(host.model, Path(file).name, 1.0)
    assert "not loaded" not in caplog.text.lower()
    latent = clip_latent(host)
    assert not close(*(sample_stock(one, latent, host.positive) for one in (patched, host.model)), 1e-4)
    caplog.clear()
    _, _, both, *_ = train(host, clips, filename_prefix="both")
    nodes.LoraLoaderModelOnly().load_lora_model_only(host.model, Path(both).name, 1.0)
    assert [record.message for record in caplog.records if "not loaded" in record.message.lower()] == [
        "lora key not loaded: aqueduct.prior_input.weight"
    ]


@pytest.mark.parametrize("recompute", [False, True])
def test_a_stopped_training_leaves_the_host_as_it_was_and_goes_on_exactly(
    places, host, clips, monkeypatch, recompute
):
    import comfy.model_management as mm

    *_, whole, _, _ = train(host, clips, steps=4, filename_prefix="whole", recompute=recompute)
    latent = clip_latent(host)
    before, state = sample_stock(host.model, latent, host.positive), state_of(host.model)
    with monkeypatch.context() as patch, pytest.raises(mm.InterruptProcessingException):
        stopped_after(patch, 2)
        train(host, clips, steps=4, recompute=recompute)
    assert state_of(host.model) == state and not any(m._forward_hooks for m in host.model.model.modules())
    assert torch.equal(sample_stock(host.model, latent, host.positive), before)
    assert (places.parent / "output/aqueduct/training/bridge.resume").exists() and not list(places.glob("bridge_*"))
    *_, file, _, _ = train(host, clips, steps=4, recompute=recompute)
    one, other = load_file(whole), load_file(file)
    assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_without_saf_it_is_loaded_without(places, host, clips):
    model, bridge, file, *_ = train(host, clips, saf=False, bridge=brownian())
    loaded, again = run("AqueductLoadBridgeLoRA", model=host.model, file=Path(file).name)
    assert again == bridge == brownian()
    assert torch.equal(sample(host, model, bridge, clips), sample(host, loaded, bridge, clips))


def test_what_cannot_be_trained_is_refused_before_anything_runs(places, host, clips, tmp_path):
    aligned = run_one("AqueductSNRAlign", model=host.model, bridge=bridge_gmax())
    with pytest.raises(ValueError, match="aligned to bridge-gmax .* already"):
        train(host, clips, model=aligned)
    with pytest.raises(ValueError, match="no layer's name holds 'nowhere'; of the .* layers of .* some are "):
        train(host, clips, layers="nowhere")
    with pytest.raises(ValueError, match="nothing tells the MODEL what the clips show"):
        train(host, clips, dataset=data_of(clips))
    with pytest.raises(ValueError, match=r"latents have 5 channels and those of this MODEL, \w+ \(\w+\), \d+: wire"):
        train(host, clips, dataset=data_of(write_clips(tmp_path / "others", (5, 2, 4, 4))))
    assert not list(places.iterdir())


def test_quantised_weights_are_refused(places, comfy, tmp_path):
    host = HOSTS["wan-t2v"]()
    layer = host.model.model.diffusion_model.blocks[0].ffn[0]
    layer.weight = torch.nn.Parameter(layer.weight.detach().to(torch.float8_e4m3fn), requires_grad=False)
    clips = clips_like(host, tmp_path / "clips")
    with pytest.raises(ValueError, match="blocks.0.ffn.0.weight is float8_e4m3fn.: load the model as float16"):
        train(host, clips)


def test_a_file_of_another_host_names_both(places, host, clips):
    *_, file, _, _ = train(host, clips)
    other = HOSTS["ltxv" if "Wan" in type(host.model.model.diffusion_model).__name__ else "wan-t2v"]()
    with pytest.raises(ValueError, match=r"bridge_00001.safetensors was trained on \w+ \(\w+\), this MODEL is \w+ \("):
        run("AqueductLoadBridgeLoRA", model=other.model, file=Path(file).name)


def test_gaussian_process_noise_is_learnt_as_a_plain_lora(places, host, clips, caplog):
    import nodes

    caplog.set_level(logging.WARNING)
    model, file, *_ = train(host, clips, GP, features=50)
    (patched,) = nodes.LoraLoaderModelOnly().load_lora_model_only(host.model, Path(file).name, 1.0)
    assert "not loaded" not in caplog.text.lower()
    noise = run_one("AqueductGPNoise", seed=1, features=50)
    latent = {"samples": torch.zeros_like(clip_latent(host))}
    made = noise.generate_noise(latent)
    results = [sample_stock(one, made, host.positive) for one in (model, patched, host.model)]
    assert torch.equal(results[0], results[1]) and not close(results[0], results[2], 1e-4)
    with pytest.raises(ValueError, match="was not made by AqueductTrainBridge"):
        run("AqueductLoadBridgeLoRA", model=host.model, file=Path(file).name)


def test_from_scratch(places, comfy, tmp_path):
    """A network of this pack, class by class, out of pixels; its own file is what the loader reads."""
    clips = write_clips(tmp_path / "clips", (3, 4, 16, 16), count=4, first_size=16, label=1)
    model, bridge, file, _, samples = run(BRIDGE, dataset=data_of(clips), **{**SMALL, "sample_every": 3})
    assert Path(file) == places.parent / "aqueduct" / "bridge_00001.safetensors"
    assert samples.shape[0] == 1 and samples.shape[-1] == 3
    loaded, _, again, _ = run("AqueductLoadBridgeModel", file=Path(file).name)
    assert model.model.class_names == ["one", "two"] and model.model.frames == 4 and again == bridge
    words = run_one("AqueductMotionClass", motion="two")
    prior = {"samples": clips.tensor(0, "latent")[:, :1].expand(-1, 4, -1, -1).movedim(1, 0)}
    made = [sample_bridge_graph(one, bridge, prior, words) for one in (model, loaded)]
    assert torch.equal(*made) and made[0].shape == (4, 3, 16, 16)
