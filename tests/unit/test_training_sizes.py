"""Sizes of networks by name: they fit the data, and what they are called after."""

import pytest
import torch

from aqueduct.core.networks.exemplar_unet import ExemplarNetwork, ExemplarUNet
from aqueduct.core.networks.neural_prior import NeuralPrior
from aqueduct.core.training.exemplar_task import EXEMPLAR_SIZES
from aqueduct.core.training.sizes import LATTE_SIZES

FITTED = [("tiny", 32, 8), ("tiny", 16, 4), ("small", 32, 4), ("small", 64, 8)]


@pytest.mark.parametrize(("size", "side", "patch"), FITTED)
def test_small_sizes_take_the_smallest_patch_that_leaves_few_tokens(size, side, patch):
    arguments = LATTE_SIZES[size].arguments((3, 4, side, side), 5)
    assert arguments["patch"] == patch
    network = NeuralPrior(**arguments)
    assert network(torch.zeros(1, 3, side, side), torch.tensor([5])).shape == (1, 3, 4, side, side)


def test_lattes_own_sizes_have_their_own_patches():
    """FrameBridge appendix C.3: Latte-S/2 on latents of 32 x 32."""
    arguments = LATTE_SIZES["Latte-S/2"].arguments((4, 16, 32, 32), 101)
    assert [arguments[name] for name in ("patch", "hidden", "depth", "heads")] == [2, 384, 12, 6]


def test_sides_that_no_patch_divides_are_refused():
    with pytest.raises(ValueError, match="patch of 2 pixels a side can divide latents of 33 x 32:"):
        LATTE_SIZES["Latte-S/2"].arguments((4, 16, 32, 33), 0)
    with pytest.raises(ValueError, match="latents of 90 x 90 and leave at most 16 patches to a frame"):
        LATTE_SIZES["tiny"].arguments((4, 16, 90, 90), 0)


def test_exemplar_sizes_are_those_they_are_called_after():
    """Small: the model that ships. EBDM-f4: what `ExemplarUNet` says the paper's sizes are."""
    from aqueduct.core import checkpoints
    from aqueduct.scripts._pack import ROOT

    shipped = checkpoints.read_config(ROOT / "models" / "exemplar_scenes.safetensors")["parts"]["model"]["arguments"]
    assert EXEMPLAR_SIZES["small"].arguments(3, 128) == {"fold": 1} | shipped
    assert EXEMPLAR_SIZES["EBDM-f4"].arguments(3, 768) == {
        "in_channels": 3, "out_channels": 3, "channels": 128, "multipliers": [1, 4, 8], "blocks": 2, "sites": [1, 2],
        "head_channels": 64, "groups": 32, "features": 768, "context": 512, "expansion": 4, "fold": 1,
    }  # fmt: skip


@pytest.mark.parametrize("size", ["tiny", "small"])
def test_exemplar_sizes_can_be_built_for_pixels(size):
    arguments = EXEMPLAR_SIZES[size].arguments(3, 12)
    denoiser, network = ExemplarUNet(**arguments), ExemplarNetwork(**arguments)
    token = denoiser.token(torch.zeros(1, 12))
    assert denoiser(torch.zeros(1, 3, 32, 32), torch.zeros(1)).shape == (1, 3, 32, 32)
    assert len(network.features(torch.zeros(1, 3, 32, 32), token)) == len(denoiser.sites)
