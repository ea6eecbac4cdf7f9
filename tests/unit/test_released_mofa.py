"""MOFA-Video's released Flow-ControlNet: recognised by its 683 tensors, loaded under our names.

The files here have the released names and shapes, in half precision, and hold zeros that take no room on the disk.
"""

import json
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from aqueduct.core import checkpoints
from aqueduct.core.networks.mofa import SvdAdapter
from aqueduct.core.released_mofa import MOFA
from aqueduct.core.tensor_file import shapes_of
from aqueduct.tests.unit.svd_reference import drawn, released_shapes


def sparse_file(path: Path, shapes: dict[str, tuple[int, ...]], known: dict[str, torch.Tensor] | None = None) -> Path:
    """A safetensors file of zeros, written as a hole; ``known`` tensors, float16, are written where they belong."""
    header, at = {}, 0
    for key, shape in shapes.items():
        size = 2 * torch.Size(shape).numel()
        header[key] = {"dtype": "F16", "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        start = file.tell()
        file.truncate(start + at)
        for key, value in (known or {}).items():
            file.seek(start + header[key]["data_offsets"][0])
            file.write(value.contiguous().numpy().tobytes())
    return path


def test_names_and_shapes():
    """All 683 tensors have a place, and no place is left."""
    shapes = released_shapes()
    names = MOFA.names(shapes)
    assert len(shapes) == len(names) == 683
    assert MOFA.shapes == {ours: shapes[theirs] for ours, theirs in names.items()}
    assert shapes_of(SvdAdapter(device="meta").state_dict()) == MOFA.shapes  # the defaults are the released sizes


def test_recognised(tmp_path):
    config = checkpoints.read_config(sparse_file(tmp_path / "mofa.safetensors", released_shapes()))
    assert config["parts"]["adapter"]["architecture"] == "SvdAdapter" and config["backbone"] == "svd"
    assert config["parts"]["adapter"]["arguments"]["heads"] == [5, 10, 10, 20]
    assert "MOFA-Video" in config["about"] and config["format"] == 1
    json.dumps(config)


def test_weights_arrive(tmp_path):
    """The whole 1.4 GB are named and shaped; those of a few tensors are read and stay what they are."""
    shapes = released_shapes()
    some = {
        "controlnet_mid_block.bias": "projections.12.bias",
        "controlnet_down_blocks.11.bias": "projections.11.bias",
        "controlnet_cond_embedding.blocks.3.weight": "features.stem.blocks.3.weight",
        "flow_encoder.zeroconvs.0.weight": "features.zeroconvs.0.weight",
        "flow_encoder.encoders.2.conv_in.bias": "features.encoders.2.conv_in.bias",
        "down_blocks.0.attentions.1.time_mixer.mix_factor": "branch.down_blocks.0.attentions.1.time_mixer.mix_factor",
        "conv_in.weight": "branch.conv_in.weight",
    }
    known = {key: value.half() for key, value in drawn({key: shapes[key] for key in some}).items()}
    file = checkpoints.open_checkpoint(sparse_file(tmp_path / "mofa.safetensors", shapes, known))
    state = file.state("adapter")
    assert shapes_of(state) == MOFA.shapes
    for theirs, ours in some.items():
        assert known[theirs].any() and torch.equal(state[ours], known[theirs])


def test_loads_and_goes_round(tmp_path):
    """The same path with a narrow network: our file, saved from what was loaded, loads again."""
    narrow = {"stem": [4, 8], "widths": [32, 32], "layers": 1, "heads": [2, 4], "attention": [True, False],
              "context": 8, "added": 8}  # fmt: skip
    network = SvdAdapter(**narrow, dtype=torch.float16)
    state = {key: value.half() for key, value in drawn(shapes_of(network.state_dict())).items()}
    network.load_state_dict(state)
    config = {**MOFA.config, "parts": {"adapter": {"architecture": "SvdAdapter", "arguments": narrow}}}
    checkpoints.save({"adapter": network}, tmp_path / "a.safetensors", config)
    again, read = checkpoints.load(tmp_path / "a.safetensors", part="adapter", dtype=torch.float16)
    assert type(again) is SvdAdapter and read == {"format": 1, **config} and not again.training
    assert all(torch.equal(value, state[key]) for key, value in again.state_dict().items())
    assert not any(weight.requires_grad for weight in again.parameters())


def test_near_misses_are_explained(tmp_path):
    shapes = released_shapes()
    shapes.pop("flow_encoder.zeroconvs.1.bias")
    shapes["conv_in.weight"] = (320, 4, 3, 3)
    with pytest.raises(ValueError) as caught:
        checkpoints.read_config(sparse_file(tmp_path / "a.safetensors", shapes))
    message = str(caught.value)
    assert "682 tensors" in message and "Closest: MOFA-Video's Flow-ControlNet" in message
    assert "1 missing (features.zeroconvs.1.bias)" in message
    assert "branch.conv_in.weight: got (320, 4, 3, 3), expected (320, 8, 3, 3)" in message


def test_understood_files_are_listed(tmp_path):
    save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match=r"Understood are .*MOFA-Video's Flow-ControlNet for Stable Video Diffusion"):
        checkpoints.read_config(tmp_path / "a.safetensors")


def test_no_other_part(tmp_path):
    with pytest.raises(ValueError, match="no 'model'; its parts are adapter"):
        checkpoints.load(sparse_file(tmp_path / "mofa.safetensors", released_shapes()))


def test_widths_that_no_carried_feature_fits_are_refused():
    with pytest.raises(ValueError, match=r"last two levels, of widths \[32, 64\]"):
        SvdAdapter(widths=(32, 64), heads=(1, 1), attention=(True, False), device="meta")
