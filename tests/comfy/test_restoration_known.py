"""Inpainting as a MODEL puts what is known in its place, exactly, whatever asks it."""

import pytest
import torch

from aqueduct.core.motion import MotionField
from aqueduct.tests.comfy.graph import run_one, sample_stock
from aqueduct.tests.comfy.restoration_files import (
    FRAMES,
    HEIGHT,
    WIDTH,
    damaged,
    holes,
    images,
    levels,
    load,
    predictions,
    sampled,
    write_all,
)

ROUNDING = {"rtol": 0, "atol": 1e-6}  # of Euler's last step, x + (x - h) / sigma (0 - sigma)


@pytest.fixture(scope="module")
def graph(comfy, tmp_path_factory):
    """(MODEL, positive, negative, LATENT)"""
    write_all(tmp_path_factory.mktemp("aqueduct"))
    model = load("inpaint")
    positive, negative, latent, _ = damaged("inpaint", model)
    return model, positive, negative, latent


def known() -> torch.Tensor:
    return (holes() == 0)[:, None].expand(-1, 3, -1, -1)


def pictures() -> torch.Tensor:
    return images().movedim(-1, 1) * 2 - 1


def sampler(still: float, **inputs):
    flow = torch.full((FRAMES - 1, 2, HEIGHT, WIDTH), still)
    return run_one("AqueductWarpedDiffusionSampler", motion=MotionField(flow, -flow), **inputs)


def assert_holes_are_the_models(out: torch.Tensor) -> None:
    """Neither what the picture had there nor nothing."""
    assert (out - pictures())[~known()].abs().mean() > 0.1 and out[~known()].abs().mean() > 0.01


def test_predictions_have_it_bit_for_bit(graph):
    for prediction in predictions(*graph, [10.0, 0.5, 0.02]):
        assert torch.equal(prediction[known()], pictures()[known()])
        assert_holes_are_the_models(prediction)


def test_samplers_that_end_at_the_prediction_have_it_bit_for_bit(graph):
    out = sampled(*graph, levels(graph[0]), "dpmpp_2m")
    assert torch.equal(out[known()], pictures()[known()])
    assert_holes_are_the_models(out)


def test_ksampler_has_it(graph):
    model, positive, negative, latent = graph
    out = sample_stock(model, latent["samples"], positive, negative, steps=3)
    torch.testing.assert_close(out[known()], pictures()[known()], **ROUNDING)
    assert_holes_are_the_models(out)


@pytest.mark.parametrize("size", [0, 2])
@pytest.mark.parametrize("end", [0.75, 1.0])
def test_warped_diffusion_has_it(graph, size, end):
    """Also when the last step is guided: the noise mask keeps the correction off what is known."""
    sigmas = levels(graph[0])

    def made(**inputs):
        return sampled(*graph, sigmas, sampler(0.3, frames_at_once=size, bounded=False, **inputs))

    guided, plain = made(strength=5.0, end_percent=end), made(strength=0.0)
    for out in (guided, plain):
        torch.testing.assert_close(out[known()], pictures()[known()], **ROUNDING)
        assert_holes_are_the_models(out)
    assert (guided - plain)[~known()].abs().max() > 0.01
