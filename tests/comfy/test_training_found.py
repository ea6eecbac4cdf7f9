"""A finished training is found again, and only where all that its result depends on was the same."""

import threading

import pytest
import torch
from safetensors.torch import save_file

from aqueduct.tests.comfy import exemplar_files, sd_host
from aqueduct.tests.comfy.graph import run
from aqueduct.tests.comfy.host_training import clips_like, data_of
from aqueduct.tests.comfy.hosts import HOSTS, normal
from aqueduct.tests.comfy.test_host_training_nodes import places, stopped_after, train  # noqa: F401
from aqueduct.tests.comfy.training_files import Clips, write_clips

BESIDE = {"steps": 1, "layers": "self_attn", "rank": 2}
ALONE = {"steps": 1, "batch": 2, "sample_every": 0}


@pytest.fixture(scope="module")
def host(comfy):
    return HOSTS["wan-t2v"]()


@pytest.fixture(scope="module")
def clips(host, tmp_path_factory):
    return clips_like(host, tmp_path_factory.mktemp("clips"), count=1)


def made(host, clips, **others) -> str:
    return train(host, clips, **{**BESIDE, **others})[2]


def with_lora(host):
    """On a layer that nothing is trained beside."""
    weight = host.model.model.diffusion_model.blocks[0].ffn[0].weight
    patched = host.model.clone()
    patched.add_patches({"diffusion_model.blocks.0.ffn.0.weight": (normal(*weight.shape, seed=3),)}, 1.0)
    return patched


def with_other_levels(host, shift: float = 3.0):
    from comfy_extras.nodes_model_advanced import ModelSamplingSD3

    return ModelSamplingSD3().patch(host.model, shift=shift)[0]


def halved(host, output: float = 0.5):
    patched = host.model.clone()
    patched.set_model_attn1_output_patch(lambda n, options: output * n)
    return patched


@pytest.mark.parametrize("other", [with_lora, with_other_levels, halved])
def test_what_lies_on_the_model_counts(places, host, clips, other):  # noqa: F811
    """Put there anew, as by a second run of the graph."""
    first = made(host, clips)
    assert made(host, clips) == first
    another = made(host, clips, model=other(host))
    assert another != first
    assert made(host, clips, model=other(host)) == another and made(host, clips) == first


def test_another_shift_is_another_training_and_is_named(places, host, clips, monkeypatch):  # noqa: F811
    import comfy.model_management as mm

    files = [made(host, clips, model=with_other_levels(host, shift)) for shift in (3.0, 8.0, 3.0, 8.0)]
    assert files[0] != files[1] and files[:2] == files[2:]
    long = {"steps": 3, "filename_prefix": "long"}
    with monkeypatch.context() as patch, pytest.raises(mm.InterruptProcessingException):
        stopped_after(patch, 1)
        made(host, clips, model=with_other_levels(host, 3.0), **long)
    with pytest.raises(ValueError, match="another training: .*on the model .* shift is 3.0 there and 8.0 here"):
        made(host, clips, model=with_other_levels(host, 8.0), **long)
    assert made(host, clips, model=with_other_levels(host, 3.0), **long)


def test_what_cannot_be_compared_is_never_the_same(places, host, clips, monkeypatch, caplog):  # noqa: F811
    import comfy.model_management as mm

    locked = host.model.clone()
    lock = threading.Lock()
    locked.set_model_attn1_output_patch(lambda n, options: n if lock else n)
    assert made(host, clips, model=locked) != made(host, clips, model=locked)
    assert "_thread.lock on this MODEL or its CONDITIONING cannot be compared" in caplog.text
    long = {"steps": 3, "filename_prefix": "long"}
    with monkeypatch.context() as patch, pytest.raises(mm.InterruptProcessingException):
        stopped_after(patch, 1)
        made(host, clips, model=locked, **long)
    with pytest.raises(ValueError, match=r"what cannot be compared is _thread.lock \(run \w+\) there and _thread.lock"):
        made(host, clips, model=locked, **long)


def test_all_that_is_told_counts(places, host, clips):  # noqa: F811
    """Not the embedding alone: numbers and tensors lie beside it."""
    [[embedded, values]] = host.positive
    told = [[[embedded, {**values, **more}]] for more in ({}, {"guidance": 2.0}, {"pooled_output": torch.ones(1, 4)})]
    files = [made(host, clips, dataset=data_of(clips, [one])) for one in (*told, *told)]
    assert len(set(files[:3])) == 3 and files[:3] == files[3:]


@pytest.mark.parametrize("prefix", ["prior", "prior [1]"])
def test_broken_records_are_passed_over(places, tmp_path, prefix):  # noqa: F811
    """As a full disk or a crash leaves them, newer than the whole one."""
    given = {"dataset": Clips(write_clips(tmp_path / "clips", count=2)), "filename_prefix": prefix, **ALONE}
    _, file, _, _ = run("AqueductTrainNeuralPrior", **given)
    (whole,) = (tmp_path / "output/aqueduct/training").iterdir()
    whole.with_name(f"{prefix}_00002.safetensors").write_bytes(whole.read_bytes()[:100])
    save_file({"losses": torch.zeros(1)}, whole.with_name(f"{prefix}_00003.safetensors"))
    assert run("AqueductTrainNeuralPrior", **given)[1] == file


def test_other_encoders_of_pictures_are_another_training(places, tmp_path):  # noqa: F811
    """Of the same kind and size: only their weights tell them apart."""
    import comfy.sd
    import comfy.utils

    sd_host.write_tiny_vae(tmp_path / "vae.safetensors")

    def vae(change: float):
        state = comfy.utils.load_torch_file(str(tmp_path / "vae.safetensors"))
        return comfy.sd.VAE(sd={key: value * (1 + change) for key, value in state.items()})

    images = exemplar_files.picture(40, 40, batch=2)
    given = {"images": images, "resolution": 32, "size": "tiny", "ema": 0.0, **ALONE}
    files = [run("AqueductTrainExemplar", vae=vae(change), **given)[1] for change in (0.0, 1e-3, 0.0)]
    assert files[0] != files[1] and files[0] == files[2]
