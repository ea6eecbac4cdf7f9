"""LoRA beside real hosts: exactly the host at the start, and by core's loader what it was in training."""

import logging

import pytest
import torch

from aqueduct.core.networks.lora import Lora, chosen_layers
from aqueduct.tests.comfy.guided_hosts import sampling, state_of
from aqueduct.tests.comfy.hosts import HOSTS, Host, normal


@pytest.fixture(scope="module", params=HOSTS)
def host(request, comfy) -> Host:
    return HOSTS[request.param]()


def lora_of(host: Host, pattern: str = "attn|attention|ff|mlp", rank: int = 2, alpha: float = 3.0) -> Lora:
    network = host.model.model.diffusion_model
    return Lora(chosen_layers(network, pattern), rank, alpha, torch.Generator().manual_seed(0))


def trained(lora: Lora) -> Lora:
    """As after a training: nothing is zero any more."""
    for number, low in enumerate(lora.named().values()):
        low.up.data = 0.1 * normal(*low.up.shape, seed=number)
    return lora


def predict(host: Host, model=None) -> torch.Tensor:
    return sampling(host, lambda guider, x, level, options: guider(x, level, options, 0), model)


@pytest.fixture
def log(caplog) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.WARNING)
    return caplog


def test_the_start_is_the_host_to_the_bit(host):
    plain, lora = predict(host), lora_of(host)
    state = state_of(host.model)
    with lora.added():
        assert torch.equal(predict(host), plain)
    assert state_of(host.model) == state
    assert not any(module._forward_hooks for module in host.model.model.modules())


EVERYTHING = ""  # convolutions too, of every kind a host has


@pytest.mark.parametrize("pattern", ["attn|attention|ff|mlp", EVERYTHING])
def test_cores_loader_makes_what_was_trained(host, pattern, log, tmp_path):
    """No key is left over, and the MODEL that core patches predicts what the wrapped one did, to 1e-5."""
    import folder_paths

    import nodes
    from aqueduct.nodes._comfy.lora import lora_tensors, write_lora

    plain, lora = predict(host), trained(lora_of(host, pattern))
    with lora.added(), torch.no_grad():
        wrapped = predict(host)
    file = f"{tmp_path.name}.safetensors"
    write_lora(tmp_path / file, lora_tensors(lora, host.model.model), {})
    folder_paths.add_model_folder_path("loras", str(tmp_path))
    (patched,) = nodes.LoraLoaderModelOnly().load_lora_model_only(host.model, file, 1.0)
    assert "lora key not loaded" not in log.text and "NOT LOADED" not in log.text
    assert len(patched.patches) == len(lora.named())
    scale = wrapped.abs().max()
    torch.testing.assert_close(predict(host, patched) / scale, wrapped / scale, rtol=0, atol=1e-5)
    assert (wrapped - plain).abs().max() > 1e-3 * scale
    torch.testing.assert_close(predict(host), plain, rtol=0, atol=0)


def test_a_lora_of_another_host_is_refused_by_name(host):
    from aqueduct.nodes._comfy.lora import host_name, lora_tensors, with_lora

    tensors = lora_tensors(lora_of(host), host.model.model)
    own = host_name(host.model.model)
    for name in ("sd15", "ltxv"):
        other = HOSTS[name]()
        if host_name(other.model.model) != own:
            with pytest.raises(ValueError, match=r"made.safetensors was trained on .*, this MODEL is \w+ \(\w+\): "):
                with_lora(other.model, tensors, 1.0, "made.safetensors", own)


def test_sizes_of_the_same_kind_are_told_apart(comfy):
    from aqueduct.nodes._comfy.lora import lora_tensors, with_lora

    host = HOSTS["ltxv"]()
    tensors = lora_tensors(lora_of(host), host.model.model)
    tensors = {name: value[:, :-1] if "attn1.to_q.lora_A" in name else value for name, value in tensors.items()}
    with pytest.raises(ValueError, match=r"attn1.to_q.weight is \[64, 64\], in the file \[64, 63\]"):
        with_lora(host.model, tensors, 1.0, "made", "LTXV")


def test_names_that_other_tools_read(comfy):
    from aqueduct.nodes._comfy.lora import lora_tensors

    names = {kind: set(lora_tensors(lora_of(HOSTS[kind]()), HOSTS[kind]().model.model)) for kind in HOSTS}
    assert "diffusion_model.blocks.0.self_attn.q.lora_A.weight" in names["wan-t2v"]
    assert "diffusion_model.transformer_blocks.0.attn1.to_q.lora_B.weight" in names["ltxv"]
    stem = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
    assert {f"{stem}.lora_down.weight", f"{stem}.lora_up.weight", f"{stem}.alpha"} <= names["sd15"]
