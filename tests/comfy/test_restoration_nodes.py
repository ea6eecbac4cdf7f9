"""The nodes of restoration models: what they give, what they fit, and what they refuse."""

import re

import pytest
import torch

from aqueduct.core import checkpoints
from aqueduct.core.networks import Restorer
from aqueduct.core.training.config import CONFIGS, read
from aqueduct.tests.comfy import bridge_files
from aqueduct.tests.comfy.graph import run, run_one, sample_stock
from aqueduct.tests.comfy.restoration_files import (
    CLOSE,
    FRAMES,
    HEIGHT,
    PROBLEMS,
    WIDTH,
    damaged,
    holes,
    images,
    load,
    noise,
    predictions,
    write_all,
)


@pytest.fixture(scope="module")
def folder(comfy, tmp_path_factory):
    folder = write_all(tmp_path_factory.mktemp("aqueduct"))
    bridge_files.write(folder, "shipped")
    bridge_files.write_prior(folder)
    return folder


def test_model_says_what_it_was_trained_for(folder):
    model = load("superres").model
    assert (model.noise, model.problem.factor) == ("gp", 4)


def test_vae_is_the_pixel_space_one(folder):
    _, vae = run("AqueductLoadRestorationModel", file="superres.safetensors")
    pictures = images()
    torch.testing.assert_close(vae.encode(pictures), pictures.movedim(-1, 1) * 2 - 1)
    torch.testing.assert_close(vae.decode(pictures.movedim(-1, 1) * 2 - 1), pictures)


def test_super_resolution_starts_from_an_empty_latent_of_the_results_size(folder):
    _, _, latent, _ = damaged("superres", load("superres"))
    assert set(latent) == {"samples"}
    assert torch.equal(latent["samples"], torch.zeros(FRAMES, 3, HEIGHT, WIDTH))


def test_inpainting_starts_from_what_is_known(folder):
    _, _, latent, _ = damaged("inpaint", load("inpaint"))
    hole = holes()[:, None]
    assert torch.equal(latent["noise_mask"], hole)
    assert torch.equal(latent["samples"], (images().movedim(-1, 1) * 2 - 1) * (1 - hole))


@pytest.mark.parametrize("name", PROBLEMS)
def test_positive_and_negative_are_cores_condition(folder, name):
    positive, negative, _, condition = damaged(name, load(name))
    for conditioning in (positive, negative):
        ((_, given),) = conditioning
        torch.testing.assert_close(given["aqueduct_condition"], condition)


def test_masks_are_fitted(folder):
    """One for all frames; smaller ones are scaled, and whatever they touch is missing."""
    model = load("inpaint")

    def missing(mask):
        positive, *_ = run("AqueductRestorationCondition", model=model, images=images(), mask=mask)
        return positive[0][1]["aqueduct_condition"][:, 3:]

    assert torch.equal(missing(holes()[0]), holes()[:1, None].expand(FRAMES, -1, -1, -1))
    half = torch.zeros(1, HEIGHT // 2, WIDTH // 2)
    half[:, 2:4, 3:5] = 1
    large = missing(half)[0, 0]
    assert large[4:8, 6:10].all() and not large[:3].any() and not large[9:].any()


@pytest.mark.parametrize("name", ["superres_gp", "inpaint_white"])
def test_what_the_recipes_write_is_what_the_node_reads(folder, name):
    recipe = read(CONFIGS / "small" / f"{name}.toml")
    config, trained_on = recipe.job.describe(recipe), recipe.job.restoration
    network = Restorer(**config["parts"]["model"]["arguments"]).initialise(torch.Generator().manual_seed(0))
    checkpoints.save(network, folder / f"{name}.safetensors", config)
    model = load(name)
    assert (model.model.noise, model.model.problem) == (trained_on.noise, trained_on.problem())
    given, pictures, std = {}, images(2, 2, 2, 3), 0.2
    if name.startswith("inpaint"):
        given, pictures, std = {"mask": (images(1, 16, 16, seed=3) < 0.5).float()}, images(2, 16, 16, 3), 0.3
    *conditioning, latent = run("AqueductRestorationCondition", model=model, images=pictures, **given)
    z, condition = noise()[:2, :, :, :16], conditioning[0][0][1]["aqueduct_condition"]
    guess, problem = model.model.problem.guess(condition), model.model.problem
    wanted = guess + (z - guess) * std**2 / (4 + std**2)  # c_skip alone: the network's output begins at zero
    got = predictions(model, *conditioning, latent, [2.0], z=z)[0]
    torch.testing.assert_close(got, problem.known(wanted, condition), **CLOSE)


# --- bad input --------------------------------------------------------------------------------------------------------


def refused(*parts: str):
    return pytest.raises(ValueError, match="(?s)" + "".join(f"(?=.*{re.escape(part)})" for part in parts))


def test_loaders_name_the_right_node(folder):
    with refused("superres.safetensors", "AqueductLoadRestorationModel"):
        run("AqueductLoadBridgeModel", file="superres.safetensors")
    with refused("superres.safetensors", "AqueductLoadRestorationModel"):
        run("AqueductLoadNeuralPrior", file="superres.safetensors")
    with refused("shipped-float32.safetensors", "a bridge model", "AqueductLoadBridgeModel"):
        load("shipped-float32")
    with refused("prior.safetensors", "only a prior", "AqueductLoadNeuralPrior"):
        load("prior")


def test_condition_wants_a_restoration_model(folder):
    bridge = run_one("AqueductLoadBridgeModel", file="shipped-float32.safetensors")
    with refused("AqueductLoadRestorationModel", "BridgeModel"):
        run("AqueductRestorationCondition", model=bridge, images=images())


def test_masks_belong_to_inpainting(folder):
    with refused("takes no mask", "inpainting"):
        run("AqueductRestorationCondition", model=load("superres"), images=images(), mask=holes())
    with refused("wire a MASK", "1 = missing"):
        run("AqueductRestorationCondition", model=load("inpaint"), images=images())
    with refused("or 3", "[2, 16, 24]"):
        run("AqueductRestorationCondition", model=load("inpaint"), images=images(), mask=holes(2))


def test_sizes_are_multiples(folder):
    pictures, mask = images(1, 18, 31, 3), torch.ones(1, 18, 31)
    with refused("multiples of 4", "31 x 18", "28 x 16", "ImageScale"):
        run("AqueductRestorationCondition", model=load("inpaint"), images=pictures, mask=mask)


def test_latents_of_other_shapes(folder):
    model = load("superres")
    *conditioning, latent, _ = damaged("superres", model)
    for samples in (latent["samples"][:2], latent["samples"][..., :-4]):
        made = f"{len(samples)} of {samples.shape[-1]} x 16"
        with refused("3 frames of 24 x 16", made, "AqueductRestorationCondition"):
            sample_stock(model, samples, *conditioning)


def test_conditioning_of_others(folder):
    superres, inpaint = load("superres"), load("inpaint")
    positive, negative, latent, _ = damaged("inpaint", inpaint)
    with refused("super-resolution with 3 channels", "has 4"):
        sample_stock(superres, latent["samples"], positive, negative)
    with refused("AqueductRestorationCondition"):
        sample_stock(superres, latent["samples"], [[torch.zeros(1, 1, 1), {}]])
