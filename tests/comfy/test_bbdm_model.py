"""BBDM's released latent bridge through the nodes: its VQGAN as a VAE, and the bridge between that VAE's latents.

Names and layout of the files are the released ones, widths are small. The released shapes themselves are checked in
`tests/unit/test_released_bbdm.py`.
"""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from aqueduct.core import released
from aqueduct.core.bridges import PARAMETERISATIONS, PRECONDITIONS, NetworkDenoiser, brownian, sample_bridge
from aqueduct.core.networks import UNet
from aqueduct.core.released_bbdm import LBBDM
from aqueduct.core.tensor_file import shapes_of
from aqueduct.tests.comfy import bridge_files
from aqueduct.tests.comfy.graph import bridge_times, run, sample_bridge_graph
from aqueduct.tests.comfy.vqgan_reference import Reference
from aqueduct.tests.unit.test_released_bbdm import denoiser_shapes, vqgan_shapes

CODES = 50
WIDTHS = {128: 32, 256: 64, 512: 128, 8192: CODES}
CODEBOOK = "quantize.embedding.weight"
TINY = {**LBBDM.arguments, "channels": 8, "multipliers": [1, 2, 2], "blocks": 1, "head_channels": 4, "groups": 4}


def tiny_vqgan() -> dict[str, Tensor]:
    """VQ-f4 with a quarter of the channels and few codes; weights that keep values near one."""
    generator = torch.Generator().manual_seed(5)
    state = {}
    for key, shape in vqgan_shapes().items():
        shape = tuple(WIDTHS.get(size, size) for size in shape)
        value = torch.randn(shape, generator=generator)
        if len(shape) == 4:
            value = value * math.prod(shape[1:]) ** -0.5
        elif key.endswith("weight") and "quantize" not in key:
            value = 1 + 0.1 * value
        state[key.removeprefix("vqgan.")] = value if "quantize" in key or len(shape) > 1 else value * 0.5
    return state


def tiny_unet() -> UNet:
    generator = torch.Generator().manual_seed(6)
    network = UNet(**TINY).requires_grad_(False)
    for parameter in network.parameters():
        spread = parameter[0].numel() ** -0.5 if parameter.dim() > 1 else 0.3
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * spread)
    return network


@pytest.fixture(scope="module")
def folder(comfy, tmp_path_factory) -> Path:
    """Files in the released layout, and a pack that takes the small network for the released one."""
    import folder_paths

    folder = tmp_path_factory.mktemp("bbdm")
    denoiser = {f"denoise_fn.{key}": value for key, value in tiny_unet().state_dict().items()}
    state = tiny_vqgan()
    vqgan = {f"vqgan.{key}": value for key, value in state.items()}
    stale = {key: value + 1 for key, value in denoiser.items()}  # not the averages
    torch.save({"model": {**stale, **vqgan}, "ema": denoiser, "step": 1, "epoch": 1}, folder / "last_model.pth")
    torch.save({"model": stale, "ema": denoiser, "step": 1, "epoch": 1}, folder / "bare.pth")
    extra = {"loss.discriminator.main.0.weight": torch.zeros(2, 3, 4, 4)}
    torch.save({"state_dict": {**state, **extra}, "global_step": 3}, folder / "vq-f4.ckpt")
    torch.save(vqgan, folder / "prefixed.ckpt")
    torch.save({key: value for key, value in state.items() if key != "quant_conv.bias"}, folder / "broken.ckpt")
    torch.save({CODEBOOK: state[CODEBOOK]}, folder / "cut.ckpt")
    folder_paths.add_model_folder_path("vae", str(folder))
    bridge_files.offer(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(released, "RELEASED", (replace(LBBDM, arguments=TINY),))
        yield folder


@pytest.fixture(scope="module")
def vae(folder):
    from aqueduct.nodes._comfy.vae import load_vae

    return load_vae("vq-f4.ckpt", {}, "")


def picture(height: int = 32, width: int = 48, count: int = 2) -> Tensor:
    return torch.rand(count, height, width, 3, generator=torch.Generator().manual_seed(1))


def latents(height: int = 8, width: int = 12) -> Tensor:
    return 1.5 * torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(2))


# --- the VAE, written out ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def reference() -> Reference:
    return Reference(tiny_vqgan())


def test_every_tensor_of_the_released_vqgan_has_a_place(comfy):
    from aqueduct.nodes._comfy.vqgan import Vqgan, vqgan_names

    discriminator = {"vqgan.loss.discriminator.main.0.weight": (64, 3, 4, 4)}
    names = vqgan_names({**denoiser_shapes(), **vqgan_shapes(), **discriminator})
    shapes = {ours: vqgan_shapes()[theirs] for ours, theirs in names.items()}
    assert len(shapes) == len(vqgan_shapes())
    with torch.device("meta"):
        assert shapes_of(Vqgan(shapes).state_dict()) == shapes


def test_encoding_is_that_of_the_encoder_and_its_convolution(vae, reference):
    image = picture()
    found = vae.encode(image)
    assert found.shape == (2, 3, 8, 12)
    torch.testing.assert_close(found.double(), reference.encode(image), rtol=1e-4, atol=1e-4)
    assert (found - vae.first_stage_model.quantize(found)).abs().mean() > 0.01  # between the codes, not on them


def test_decoding_begins_with_the_nearest_codes(vae, reference):
    z = latents()
    found = vae.decode(z)
    assert found.shape == (2, 32, 48, 3) and found.std() > 0.1
    torch.testing.assert_close(found.double(), reference.decode(z), rtol=1e-4, atol=1e-4)


def test_codes_decode_to_what_their_neighbourhood_decodes_to(vae):
    """Exactly: a code is its own nearest."""
    z = latents()
    codes = vae.first_stage_model.quantize(z)
    assert not torch.equal(codes, z) and torch.equal(vae.first_stage_model.quantize(codes), codes)
    assert torch.equal(vae.decode(codes), vae.decode(z))
    table = vae.first_stage_model.quantize.embedding.weight
    assert (codes.movedim(1, -1).reshape(-1, 1, 3) == table).all(-1).any(-1).all()


def test_crowded_codes_are_told_apart(comfy):
    """Codes a thousandth apart, far from 0, where products of float32 numbers would mix them up."""
    from aqueduct.nodes._comfy.vqgan import CHUNK, Codebook

    generator = torch.Generator().manual_seed(0)
    book = Codebook(40, 3)
    book.embedding.weight.data = 100 + 1e-3 * torch.randn(40, 3, generator=generator)
    z = 100 + 1e-3 * torch.randn(1, 3, 80, 60, generator=generator)
    assert z[0, 0].numel() > CHUNK
    expected = Reference({"quantize.embedding.weight": book.embedding.weight.detach()}).quantise(z)
    assert torch.equal(book(z).double(), expected)


def test_gradients_pass_the_codes(comfy):
    from aqueduct.nodes._comfy.vqgan import Codebook

    book = Codebook(5, 3)
    book.embedding.weight.data = torch.randn(5, 3)
    z = torch.randn(1, 3, 2, 2, requires_grad=True)
    (gradient,) = torch.autograd.grad((3 * book(z)).sum(), z)
    assert torch.equal(gradient, torch.full_like(z, 3))


def test_it_is_a_vae_of_comfyui(vae):
    import comfy.sd

    import nodes as core_nodes

    assert isinstance(vae, comfy.sd.VAE)
    assert (vae.spacial_compression_encode(), vae.spacial_compression_decode(), vae.latent_channels) == (4, 4, 3)
    assert vae.vae_dtype == torch.float32
    image = picture(33, 50)  # cut to multiples of 4, as ComfyUI does
    latent = core_nodes.VAEEncode().encode(vae, image)[0]
    assert latent["samples"].shape == (2, 3, 8, 12)
    assert core_nodes.VAEDecode().decode(vae, latent)[0].shape == (2, 32, 48, 3)
    small, large = (vae.memory_used_decode((1, 3, side, side), torch.float32) for side in (64, 128))
    assert large == 4 * small > 64**2 * 16 * 640 * 4
    assert vae.memory_used_encode((1, 3, 256, 256), torch.float32) > 256**2 * 384 * 4
    assert vae.model_size() == sum(value.numel() * 4 for value in tiny_vqgan().values())
    assert {key: tuple(value.shape) for key, value in vae.get_sd().items()} == {
        key: tuple(value.shape) for key, value in tiny_vqgan().items()
    }


@torch.inference_mode()
def test_tiles_of_the_whole_picture_are_the_picture(vae):
    """One tile holds everything, so the three passes that ComfyUI averages are the plain one."""
    z, image = latents(), picture()
    torch.testing.assert_close(vae.decode_tiled(z, tile_x=64, tile_y=64, overlap=8), vae.decode(z), rtol=0, atol=1e-4)
    tiled = vae.encode_tiled(image, tile_x=256, tile_y=256, overlap=32)
    torch.testing.assert_close(tiled, vae.encode(image), rtol=0, atol=1e-4)
    assert vae.decode_tiled(latents(12, 20), tile_x=12, tile_y=12, overlap=4).shape == (2, 48, 80, 3)  # in pieces


def test_the_same_vqgan_under_other_names(folder, vae):
    from aqueduct.nodes._comfy.vae import load_vae

    z = latents()
    assert torch.equal(load_vae("prefixed.ckpt", {}, "").decode(z), vae.decode(z))
    with pytest.raises(ValueError, match=r"broken.ckpt does not fit Vqgan: 1 missing \(quant_conv.bias\)"):
        load_vae("broken.ckpt", {}, "")
    with pytest.raises(ValueError, match="cut.ckpt holds a VQGAN without the tensor 'encoder.conv_in.weight'"):
        load_vae("cut.ckpt", {}, "")


# --- the bridge -------------------------------------------------------------------------------------------------------


def test_the_file_gives_model_vae_and_bridge(folder, vae):
    """One file: the averaged denoiser, and the VQGAN beside it."""
    model, own, bridge, prior = run("AqueductLoadBridgeModel", file="last_model.pth")
    assert bridge == brownian() and prior is None
    state = model.model.diffusion_model.state_dict()
    expected = tiny_unet().state_dict()
    assert state.keys() == expected.keys() and all(torch.equal(state[key], expected[key]) for key in expected)
    z = latents()
    with torch.inference_mode():
        assert torch.equal(own.decode(z), vae.decode(z))
    assert model.model.memory_required([1, 3, 64, 64]) > 0
    assert model.get_model_object("latent_format").latent_channels == own.latent_channels
    assert model.get_model_object("latent_format").spacial_downscale_ratio == own.spacial_compression_encode()


@pytest.mark.parametrize("eta", [1.0, 0.5])
def test_translation_equals_cores_sampler(folder, eta):
    """IMAGE to IMAGE: encoded, through the released sampler's steps, decoded."""
    import nodes as core_nodes

    model, vae, bridge, _ = run("AqueductLoadBridgeModel", file="last_model.pth")
    times = bridge_times(bridge, 6, "bbdm")
    with torch.inference_mode():
        z_T = core_nodes.VAEEncode().encode(vae, picture())[0]
    settings = LBBDM.settings
    y = z_T["samples"]
    first = torch.randn(y.shape, generator=torch.manual_seed(0))
    later = torch.Generator().manual_seed(1)
    noises = [first, *(torch.randn(y.shape, generator=later) for _ in range(4))]
    found = sample_bridge_graph(model, bridge, z_T, [[None, {}]], times=times, solver="bbdm", eta=eta)
    conventions = PARAMETERISATIONS[settings["parameterisation"]], PRECONDITIONS[settings["precondition"]]
    denoiser = NetworkDenoiser(tiny_unet(), bridge, *conventions, y)
    expected = sample_bridge(denoiser, y, times, bridge, "bbdm", eta, lambda t, s: noises.pop(0))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    with torch.inference_mode():
        assert core_nodes.VAEDecode().decode(vae, {"samples": found})[0].shape == (2, 32, 48, 3)


def test_a_file_without_its_vqgan_asks_for_it(folder, vae):
    message = r"(?s)bare.pth works on latents of vq-f4 .*vq-f4.zip.*choose it as `vae`"
    with pytest.raises(ValueError, match=message) as told:
        run("AqueductLoadBridgeModel", file="bare.pth")
    assert str(folder) in str(told.value)
    chosen = run("AqueductLoadBridgeModel", file="bare.pth", vae="vq-f4.ckpt")[1]
    with torch.inference_mode():
        assert torch.equal(chosen.decode(latents()), vae.decode(latents()))


def test_a_size_it_does_not_take_is_refused(folder):
    model, _, bridge, _ = run("AqueductLoadBridgeModel", file="last_model.pth")
    message = r"takes a LATENT \[pictures, 3, height, width \(multiples of 4\)\], got \[1, 3, 6, 8\]"
    with pytest.raises(ValueError, match=message):
        sample_bridge_graph(model, bridge, {"samples": torch.zeros(1, 3, 6, 8)}, [[None, {}]])
