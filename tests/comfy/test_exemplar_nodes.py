"""Exemplars and controls from pictures: what a VAE and a DINOv2 make of them, and what is refused."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from aqueduct.scripts._client import PromptError
from aqueduct.scripts._server import ComfyServer
from aqueduct.tests.comfy import exemplar_files
from aqueduct.tests.comfy.exemplar_files import SIDE, WIDTH, picture, vision
from aqueduct.tests.comfy.graph import run, run_one, sample_stock
from aqueduct.tests.comfy.hosts import sd15
from aqueduct.tests.comfy.own_models import server_with
from aqueduct.tests.comfy.test_server_bridge import node, saved


class StrideVAE:
    """A VAE of images with a stride of 8, as ComfyUI's are: means of cells; what does not fill one is cut off."""

    latent_dim, stride = 2, 8

    def spacial_compression_encode(self) -> int:
        return self.stride

    def encode(self, image: Tensor) -> Tensor:
        return torch.nn.functional.avg_pool2d(image.movedim(-1, 1), self.stride)


class VideoVAE(StrideVAE):
    """A VAE of clips: a batch of images is one clip."""

    latent_dim = 3

    def encode(self, image: Tensor) -> Tensor:
        return super().encode(image).movedim(1, 0)[None]


@pytest.fixture(scope="module")
def vae(comfy):
    """The pixel-space one: twice the colour, less 1."""
    import comfy.sd

    return comfy.sd.VAE(sd={"pixel_space_vae": torch.tensor(1.0)})


@pytest.fixture(scope="module")
def visions(comfy, tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp("visions")
    return {kind: vision(folder, kind) for kind in ("dinov2", "clip_vision_model", "siglip_vision_model")}


def encoded(vae, image: Tensor | None = None, **inputs):
    return run_one("AqueductExemplarEncode", image=picture() if image is None else image, vae=vae, **inputs)


def prior(vae, image: Tensor | None = None, **inputs) -> tuple[Tensor, Tensor]:
    latent, control = run("AqueductControlPrior", image=picture() if image is None else image, vae=vae, **inputs)
    return latent["samples"], control


def refused(message: str):
    return pytest.raises(ValueError, match=f"(?s){message}")


# --- exemplars --------------------------------------------------------------------------------------------------------


def test_a_picture_and_its_latent(vae):
    image = picture(12, 20, batch=2)
    exemplar = encoded(vae, image)
    assert len(exemplar) == 2 and exemplar.cls is None and exemplar.keep is None
    torch.testing.assert_close(exemplar.image.movedim(1, -1), image)
    torch.testing.assert_close(exemplar.latent, 2 * exemplar.image - 1)


def test_one_channel_is_three_alike(vae):
    grey = picture(channels=1)
    exemplar = encoded(vae, grey)
    torch.testing.assert_close(exemplar.image, encoded(vae, grey.expand(-1, -1, -1, 3)).image)
    assert exemplar.image.shape[1] == 3


def test_what_a_vae_would_cut_off_is_cut_off_around_the_middle_of_picture_and_mask_alike(comfy):
    image, mask = picture(19, 29), torch.zeros(19, 29)
    mask[1:17, 2:4] = 1
    exemplar = encoded(StrideVAE(), image, mask=mask)
    torch.testing.assert_close(exemplar.image.movedim(1, -1), image[:, 1:17, 2:26])
    assert exemplar.latent.shape[2:] == (2, 3)
    assert torch.equal(exemplar.keep, mask[None, 1:17, 2:26].bool())
    with refused("the exemplar is 29 x 7 pixels; this VAE needs 8 x 8 at least"):
        encoded(StrideVAE(), picture(7, 29))


def test_the_whole_cells_are_those_of_comfyui(vae):
    """ComfyUI's own cut, of its own VAE class with a stride."""
    import copy

    strided = copy.copy(vae)
    strided.downscale_ratio, strided.crop_input = 8, True
    image = picture(21, 30)
    kept = strided.vae_encode_crop_pixels(image)
    assert kept.shape != image.shape
    torch.testing.assert_close(encoded(StrideVAE(), image).image.movedim(1, -1), kept)


def test_a_video_vae_sees_each_exemplar_as_a_clip_of_its_own(comfy):
    image = picture(batch=3)
    torch.testing.assert_close(encoded(VideoVAE(), image).latent, encoded(StrideVAE(), image).latent)


def test_alpha_is_not_dropped_unless_it_says_nothing(vae):
    image = picture(channels=4)
    with refused("the exemplar has an alpha channel.*SplitImageWithAlpha.*InvertMask.*ImageCompositeMasked"):
        encoded(vae, image)
    image[..., 3] = 1
    torch.testing.assert_close(encoded(vae, image).image, encoded(vae, image[..., :3]).image)


def test_the_part_of_it_that_counts(vae):
    mask = torch.zeros(2 * SIDE, 2 * SIDE)
    mask[:, SIDE:] = 1
    exemplar = encoded(vae, picture(batch=2), mask=mask)
    assert exemplar.keep.dtype == torch.bool and exemplar.keep.shape == (2, SIDE, SIDE)
    assert exemplar.keep[:, :, SIDE // 2 :].all() and not exemplar.keep[:, :, : SIDE // 2].any()
    of_each = torch.stack([mask, 1 - mask])
    exemplar = encoded(vae, picture(batch=2), mask=of_each)
    assert torch.equal(exemplar.keep[0], ~exemplar.keep[1])


def test_what_an_encoder_is_shown_of_a_part(vae):
    """The rectangle around it, what does not belong to it in its mean colour."""
    image, mask = picture(batch=2), torch.zeros(2, SIDE, SIDE)
    mask[0, 2:5, 3:9] = 1
    mask[0, 2, 3] = 0
    mask[1, 10, 10] = 1
    first, second = encoded(vae, image, mask=mask).shown()
    assert first.shape == (1, 3, 3, 6) and second.shape == (1, 3, 1, 1)
    torch.testing.assert_close(first[0, :, 0, 0], image[0][mask[0].bool()].mean(0))
    torch.testing.assert_close(first[0, :, 1], image[0, 3, 3:9].T)
    torch.testing.assert_close(second[0, :, 0, 0], image[1, 10, 10])


def test_cells_of_a_part(vae):
    mask = torch.zeros(SIDE, SIDE)
    mask[0:8, 0:5] = 1
    exemplar = encoded(vae, mask=mask)
    kept = exemplar.kept(4, 4)  # 4 x 4 pixels each: the second column is a quarter in it
    assert kept[0].tolist() == [[n < 2 and m < 1 for m in range(4)] for n in range(4)]
    assert exemplar.kept(1, 1).all() and encoded(vae).kept(4, 4) is None


def test_masks_that_do_not_fit(vae):
    for mask in (torch.zeros(1, 64, 64), torch.full((SIDE, SIDE), 0.49)):
        with refused("the mask marks nothing of exemplar 1.*LoadImage gives an empty MASK"):
            encoded(vae, mask=mask)
    ones = torch.ones(2, SIDE, SIDE)
    ones[1] = 0
    with refused("the mask marks nothing of exemplar 2"):
        encoded(vae, picture(batch=2), mask=ones)
    with refused("there are 3 exemplars and 2 masks: give one mask, or as many"):
        encoded(vae, picture(batch=3), mask=torch.ones(2, SIDE, SIDE))
    with refused("the mask is 32 x 16 pixels, the exemplar 16 x 16, another aspect ratio"):
        encoded(vae, mask=torch.ones(16, 32))


# --- the global token -------------------------------------------------------------------------------------------------


def test_the_token_is_dinov2s_first_behind_its_last_norm(vae, visions):
    """Against ComfyUI's network called by itself, on the picture squeezed to its square and normalised."""
    dino, image = visions["dinov2"], picture(28, 42, batch=2)
    exemplar = encoded(vae, image, clip_vision=dino)
    squeezed = torch.nn.functional.interpolate(image.movedim(-1, 1), (518, 518), mode="bicubic", antialias=True)
    squeezed = (255 * squeezed).clip(0, 255).round() / 255
    mean, deviation = (torch.tensor(v)[:, None, None] for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    with torch.inference_mode():
        tokens = dino.model.encoder(dino.model.embeddings((squeezed - mean) / deviation))[0]
        expected = dino.model.layernorm(tokens)[:, 0]
    assert exemplar.cls.shape == (2, WIDTH) and exemplar.cls.dtype == torch.float32
    torch.testing.assert_close(exemplar.cls, expected, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(exemplar.cls[0], exemplar.cls[1], atol=1e-3)


def test_the_token_is_of_the_part(vae, visions):
    image, mask = picture(batch=2), torch.zeros(SIDE, SIDE)
    image[1, 8:] = image[0, 8:]
    mask[8:] = 1
    exemplar = encoded(vae, image, clip_vision=visions["dinov2"], mask=mask)
    torch.testing.assert_close(exemplar.cls[0], exemplar.cls[1])
    whole = encoded(vae, image, clip_vision=visions["dinov2"])
    assert not torch.allclose(whole.cls[0], whole.cls[1], atol=1e-3)


@pytest.mark.parametrize(("kind", "told"), [("clip_vision_model", "CLIP"), ("siglip_vision_model", "SigLIP")])
def test_another_clip_vision(vae, visions, kind, told):
    with refused(f"DINOv2's, this CLIP_VISION is a {told} .*DINOv2 file from models/clip_vision"):
        encoded(vae, clip_vision=visions[kind])


# --- MODELs not made for exemplars ------------------------------------------------------------------------------------


def test_another_model_attends_by_itself(vae):
    """Through the same node; `test_reference_attention` tells what it does."""
    from aqueduct.nodes._comfy.exemplar import Exemplar

    host = sd15()
    exemplar = Exemplar(torch.rand(1, 3, 64, 64), host.latent.flip(3))
    applied = [
        run_one("AqueductApplyExemplar", model=host.model, exemplar=exemplar, strength=strength, blocks="input 1")
        for strength in (0.0, 1.0)
    ]
    bare, zero, styled = (
        sample_stock(model, host.latent, host.positive, host.negative) for model in (host.model, *applied)
    )
    assert torch.equal(zero, bare) and not torch.equal(styled, bare)
    with refused("names none of this MODEL's self-attentions"):
        run("AqueductApplyExemplar", model=host.model, exemplar=exemplar, blocks="output 99")


# --- controls ---------------------------------------------------------------------------------------------------------


def test_a_control_is_the_prior_as_it_is(vae):
    image = picture(12, 20, batch=2)
    latent, control = prior(vae, image)
    torch.testing.assert_close(latent, 2 * image.movedim(-1, 1) - 1)
    torch.testing.assert_close(control, image)


def test_a_control_of_one_channel_is_three_alike(vae):
    grey = picture(channels=1)
    for image in (grey, grey.expand(-1, -1, -1, 3)):
        latent, control = prior(vae, image)
        torch.testing.assert_close(control, grey.expand(-1, -1, -1, 3))
        torch.testing.assert_close(latent, 2 * control.movedim(-1, 1) - 1)


def test_canny_finds_where_a_square_ends(vae):
    """Only cells beside a step of brightness are marked, all around it, and all channels alike."""
    image = torch.full((1, 32, 32, 3), 0.2)
    image[:, 8:24, 8:24] = 0.9
    latent, control = prior(vae, image, canny=True)
    edges = control[0, ..., 0]
    assert set(edges.unique().tolist()) == {0.0, 1.0} and torch.equal(
        control, edges[None, ..., None].expand_as(control)
    )
    apart = [[max(min(abs(n - 7.5), abs(n - 23.5)) if 6 <= m <= 25 else 99, 0) for m in range(32)] for n in range(32)]
    distance = torch.minimum(torch.tensor(apart), torch.tensor(apart).T)
    assert float(distance[edges > 0].max()) <= 1.5
    middle = slice(11, 21)
    for line in (edges[middle], edges[:, middle].T):  # two edges on each line across it
        assert ((line > 0).sum(1) == 2).all()
    torch.testing.assert_close(latent, 2 * control.movedim(-1, 1) - 1)


def test_thresholds_are_grey_levels(vae):
    """A step of h levels has a Sobel gradient of 4 h, less once it is smoothed."""
    image = torch.full((1, 32, 32, 3), 0.2)
    image[:, :, 16:] = 0.4  # 51 levels: 204 at most
    assert prior(vae, image, canny=True, high_threshold=80.0)[1].any()
    with refused("the control has one colour everywhere.*no edge was found, lower the thresholds .high is 210"):
        prior(vae, image, canny=True, high_threshold=210.0)
    with refused("0 <= low <= high, got low=60"):
        prior(vae, image, canny=True, low_threshold=60.0, high_threshold=50.0)


def test_controls_that_say_nothing_or_do_not_fit(vae):
    with refused("the control has one colour everywhere, and so says nothing: check what is wired"):
        prior(vae, torch.zeros(1, SIDE, SIDE, 3))
    with refused("one colour everywhere"):
        prior(vae, torch.stack([torch.zeros(SIDE, SIDE, 3), torch.ones(SIDE, SIDE, 3)]))
    fading = picture(batch=2)
    fading[1] = 0
    assert not prior(vae, fading)[1][1].any()
    with refused("the control has an alpha channel"):
        prior(vae, picture(channels=4))
    with refused("the control is 29 x 19 pixels, and this VAE takes multiples of 8: scale it to 32 x 16 .ImageScale"):
        prior(StrideVAE(), picture(19, 29))
    assert prior(StrideVAE(), picture(16, 24))[0].shape == (1, 3, 2, 3)


# --- in the server ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server(comfyui_path, tmp_path_factory) -> Iterator[ComfyServer]:
    folder = tmp_path_factory.mktemp("models")
    for name in ("own", "bare"):
        exemplar_files.write(folder, name)
    pixels = np.random.default_rng(1).integers(0, 256, (2, SIDE, SIDE, 3), dtype=np.uint8)
    with server_with(comfyui_path, folder, {"aqueduct": "."}) as running:
        for name, one in zip(("control", "style"), pixels, strict=True):
            Image.fromarray(one).save(folder / f"{name}.png")
            running.upload_image(folder / f"{name}.png")
        yield running


def prompt_of(strengths: dict[str, float], file: str = "own", **control) -> dict:
    """LoadImage to pictures: one run for each strength, and one without an exemplar."""
    canny = {"canny": False, "low_threshold": 25.5, "high_threshold": 51.0, **control}
    prompt = {
        "load": node("AqueductLoadBridgeModel", file=f"{file}.safetensors", vae="from the model file"),
        "control": node("LoadImage", image="control.png"),
        "style": node("LoadImage", image="style.png"),
        "prior": node("AqueductControlPrior", image=["control", 0], vae=["load", 1], **canny),
        "exemplar": node("AqueductExemplarEncode", image=["style", 0], vae=["load", 1]),
        "text": node("AqueductMotionClass", motion="none"),
        "noise": node("RandomNoise", noise_seed=2),
        "sampler": node("AqueductBridgeSampler", bridge=["load", 2], solver="sde", eta=1.0),
        "times": node("AqueductBridgeTimes", bridge=["load", 2], steps=3, spacing="uniform"),
    }
    for name, strength in {"plain": None, **strengths}.items():
        model = ["load", 0]
        if strength is not None:
            prompt[f"apply {name}"] = node(
                "AqueductApplyExemplar", model=model, exemplar=["exemplar", 0], strength=strength, start_percent=0.0,
                end_percent=1.0, blocks="", reference_percent=1.0, each_step=False, positive_only=False,
            )  # fmt: skip
            model = [f"apply {name}", 0]
        prompt[f"guider {name}"] = node("BasicGuider", model=model, conditioning=["text", 0])
        prompt[f"sample {name}"] = node(
            "SamplerCustomAdvanced", noise=["noise", 0], guider=[f"guider {name}", 0], sampler=["sampler", 0],
            sigmas=["times", 0], latent_image=["prior", 0],
        )  # fmt: skip
        prompt[name] = node("SaveLatent", samples=[f"sample {name}", 0], filename_prefix=name)
        prompt[f"decode {name}"] = node("VAEDecode", samples=[f"sample {name}", 0], vae=["load", 1])
        prompt[f"picture {name}"] = node("SaveImage", images=[f"decode {name}", 0], filename_prefix=name)
    return prompt


def test_an_exemplar_changes_the_picture_and_no_strength_does_not(server, tmp_path):
    outputs = server.run(prompt_of({"styled": 1.0, "zero": 0.0}))["outputs"]
    found = {name: saved(server, outputs, name, tmp_path) for name in ("plain", "styled", "zero")}
    assert torch.equal(found["zero"], found["plain"]) and found["plain"].shape == (1, 3, SIDE, SIDE)
    assert found["styled"].isfinite().all() and not torch.allclose(found["styled"], found["plain"], atol=1e-2)
    assert all(outputs[f"picture {name}"]["images"] for name in found)


def test_what_is_wrong_is_told_and_the_server_goes_on(server, tmp_path):
    with pytest.raises(PromptError, match="node apply s .*bare.safetensors holds no exemplar network"):
        server.run(prompt_of({"s": 1.0}, "bare"))
    with pytest.raises(PromptError, match="node prior .*no edge was found"):
        server.run(prompt_of({"s": 1.0}, canny=True, high_threshold=2000.0))
    again = server.run(prompt_of({"s": 1.0}, canny=True))["outputs"]
    assert saved(server, again, "s", tmp_path).isfinite().all()
