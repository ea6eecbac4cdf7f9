"""VAEs of diffusers as encoders: shapes as announced, frames of an image VAE on their own, and statistics."""

import json

import pytest
import torch

from aqueduct.core.data.buckets import SizeSettings
from aqueduct.core.data.clips import find
from aqueduct.core.data.dataset import LatentDataset
from aqueduct.core.data.encoders import DiffusersVae, Pixels, file_digest, statistics
from aqueduct.core.data.prepare import PrepareSettings, prepare
from aqueduct.core.data.survey import ClipSettings
from aqueduct.tests.unit.data_videos import write_video

diffusers = pytest.importorskip("diffusers")

HALVING = {"down_block_types": ["DownEncoderBlock2D"] * 2, "up_block_types": ["UpDecoderBlock2D"] * 2}
CAUSAL = {"down_block_types": ["CogVideoXDownBlock3D"] * 4, "up_block_types": ["CogVideoXUpBlock3D"] * 4}
# class -> (arguments of a tiny one, pixels of a cell, frames of a cell)
TINY = {
    "AutoencoderKL": ({"block_out_channels": [8, 8], "norm_num_groups": 4, "latent_channels": 4, **HALVING}, 2, 1),
    "AutoencoderKLCogVideoX": ({
        "block_out_channels": [8] * 4, "norm_num_groups": 2, "latent_channels": 4, "layers_per_block": 1, **CAUSAL,
    }, 8, 4),
    "AutoencoderKLWan": ({
        "base_dim": 4, "z_dim": 4, "dim_mult": [1, 1, 1, 1], "num_res_blocks": 1,
        "temperal_downsample": [False, True, True], "latents_mean": [0.1, 0.2, 0.3, 0.4],
        "latents_std": [1.0, 2.0, 3.0, 4.0],
    }, 8, 4),
    "AutoencoderKLLTXVideo": ({
        "latent_channels": 8, "block_out_channels": [8, 8, 8, 8], "decoder_block_out_channels": [8, 8, 8, 8],
        "layers_per_block": [1] * 5, "decoder_layers_per_block": [1] * 5, "patch_size": 4,
    }, 32, 8),
}  # fmt: skip


@pytest.fixture(scope="module", params=TINY)
def tiny(request, tmp_path_factory):
    """(folder of a random VAE, the network, pixels of a cell, frames of a cell)"""
    arguments, spatial, temporal = TINY[request.param]
    torch.manual_seed(0)
    network = getattr(diffusers, request.param)(**arguments).eval()
    folder = tmp_path_factory.mktemp(request.param)
    network.save_pretrained(folder)
    return folder, network, spatial, temporal


def test_latents_have_the_announced_shape(tiny):
    folder, network, spatial, temporal = tiny
    encode = DiffusersVae(str(folder), device="cpu")
    assert (encode.multiple, encode.temporal) == (spatial, temporal)
    frames = 2 * temporal + 1
    video = torch.rand(1, 3, frames, 2 * spatial, 3 * spatial, generator=torch.Generator().manual_seed(1)) * 2 - 1
    latents = encode(video)
    assert tuple(latents.shape) == (1, *encode.shape(frames, 2 * spatial, 3 * spatial))
    assert latents.shape[2:] == (3, 2, 3) and latents.dtype == torch.float32
    assert torch.equal(encode(video), latents)
    with torch.no_grad():
        parts = video[0].movedim(1, 0) if temporal == 1 else video
        alone = network.encode(parts).latent_dist.mean
    expected = alone.movedim(0, 1)[None] if temporal == 1 else alone
    torch.testing.assert_close(latents, expected, atol=1e-4, rtol=1e-4)


def test_one_frame_is_one_latent(tiny):
    folder, _, spatial, _ = tiny
    encode = DiffusersVae(str(folder), device="cpu")
    assert encode(torch.zeros(1, 3, 1, spatial, spatial)).shape[1:] == encode.shape(1, spatial, spatial)


def test_videos_become_latents(tiny, tmp_path):
    folder, _, spatial, temporal = tiny
    write_video(tmp_path / "videos" / "a.mp4", frames=temporal + 1, size=(32, 48))
    encode = DiffusersVae(str(folder), device="cpu")
    settings = PrepareSettings(ClipSettings((temporal + 1,)), SizeSettings(32, 32), dtype="float32")
    index = prepare(find(tmp_path / "videos"), settings, encode, tmp_path / "out")
    assert index.settings["latents"] == encode.describe() and str(folder) not in json.dumps(index.settings)
    sample = LatentDataset.open(tmp_path / "out")[0]
    video = sample["first"].float()[:, None] / 127.5 - 1
    if temporal == 1:
        torch.testing.assert_close(sample["latent"][:, :1], encode(video[None])[0], atol=1e-5, rtol=1e-4)
    with pytest.raises(ValueError, match="needs a multiple of" if spatial > 4 else "at least"):
        SizeSettings(36 if spatial > 4 else 0, 32).sizes(encode.multiple)
    if temporal > 1:
        with pytest.raises(ValueError, match=f"take {1 + temporal} or {1 + 2 * temporal}"):
            prepare([], PrepareSettings(ClipSettings((temporal + 2,))), encode, tmp_path / "out")


def test_statistics_are_those_that_diffusers_pipelines_use(tiny):
    folder, network, *_ = tiny
    said = DiffusersVae(str(folder)).describe()
    raw = torch.randn(1, network.config.get("z_dim") or network.config.latent_channels, 1, 1, 1)
    mean, std = (torch.as_tensor(said[name]).view(1, -1, 1, 1, 1) for name in ("mean", "std"))
    kind = type(network).__name__
    shape = (1, -1, 1, 1, 1)
    if kind == "AutoencoderKLWan":  # pipeline_wan_i2v: (latents - mean) * (1 / std)
        config = network.config
        expected = (raw - torch.tensor(config.latents_mean).view(shape)) / torch.tensor(config.latents_std).view(shape)
    elif kind == "AutoencoderKLLTXVideo":  # pipeline_ltx: (latents - mean) * scaling / std, of its buffers
        unit = network.config.scaling_factor / network.latents_std.view(shape)
        expected = (raw - network.latents_mean.view(shape)) * unit
    else:
        expected = (raw - (network.config.get("shift_factor") or 0)) * network.config.scaling_factor
    torch.testing.assert_close((raw - mean) / std, expected)


def test_statistics_by_hand(tmp_path):
    assert statistics({"scaling_factor": 0.25, "shift_factor": 0.1}, str(tmp_path)) == {"mean": 0.1, "std": 4.0}
    assert statistics({"scaling_factor": 0.5, "latents_mean": [1, 2], "latents_std": [3, 4]}, "") == {
        "mean": [1, 2], "std": [6, 8],
    }  # fmt: skip


def test_another_file_of_weights_is_another_digest(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(bytes(3 * 2**20))
    before = file_digest(path)
    assert file_digest(path) == before
    for place in (0, 3 * 2**20 // 2 + 5, 3 * 2**20 - 1):
        content = bytearray(3 * 2**20)
        content[place] = 1
        path.write_bytes(content)
        assert file_digest(path) != before
    path.write_bytes(bytes(3 * 2**20 + 1))
    assert file_digest(path) != before


def test_what_is_no_vae_says_what_is(tmp_path):
    with pytest.raises(FileNotFoundError, match="config.json does not exist: folder is where diffusers saved a VAE"):
        DiffusersVae(str(tmp_path)).multiple  # noqa: B018
    (tmp_path / "config.json").write_text('{"_class_name": "UNet2DModel"}')
    with pytest.raises(ValueError, match="of class UNet2DModel; known are AutoencoderKL, "):
        DiffusersVae(str(tmp_path)).multiple  # noqa: B018
    with pytest.raises(ValueError, match="precision is float32"):
        DiffusersVae(str(tmp_path), precision="int8")


def test_pixels_are_their_own_latents():
    video = torch.rand(1, 3, 2, 4, 4)
    assert torch.equal(Pixels()(video), video) and Pixels().shape(2, 4, 4) == (3, 2, 4, 4)
