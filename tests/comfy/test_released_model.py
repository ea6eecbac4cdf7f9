"""FrameBridge's released Latte-S/2 files through the nodes: random weights in exactly their layout."""

import pytest
import torch

from aqueduct.core import checkpoints
from aqueduct.tests.comfy import bridge_files
from aqueduct.tests.comfy.graph import run, run_one, sample_bridge_graph
from aqueduct.tests.unit.test_released import PRIOR, VANILLA, WITH_PRIOR, weights

FRAMES, BLOCKS = 16, 2


@pytest.fixture(scope="module", autouse=True)
def folder(comfy, tmp_path_factory):
    import folder_paths
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("released")
    torch.save({"ema": weights(VANILLA)}, folder / "vanilla.pt")
    torch.save({"model": weights(WITH_PRIOR)}, folder / "np.pt")
    torch.save({"ema": weights(PRIOR)}, folder / "nwarp.pt")
    save_file({"pixel_space_vae": torch.tensor(1.0)}, folder / "sd-vae-stand-in.safetensors")
    folder_paths.add_model_folder_path("vae", str(folder))
    bridge_files.offer(folder)
    return folder


def load(file: str) -> tuple:
    """MODEL, bridge, prior; the first blocks of the network only: twelve take twelve seconds a step."""
    model, _, bridge, prior = run("AqueductLoadBridgeModel", file=file, vae="sd-vae-stand-in.safetensors")
    model.model.diffusion_model.blocks = model.model.diffusion_model.blocks[:BLOCKS]
    return model, bridge, prior


def sample(model, bridge, z_T, positive, negative):
    times = run_one("AqueductBridgeTimes", bridge=bridge, steps=1, spacing="trailing")
    return sample_bridge_graph(model, bridge, z_T, positive, negative, cfg=7.0, times=times)


def test_the_vanilla_bridge_runs(folder):
    model, bridge, prior = load("vanilla.pt")
    assert prior is None
    latent = {"samples": torch.randn(1, 4, 32, 32, generator=torch.Generator().manual_seed(0)) * 5}
    z_T = run_one("AqueductReplicatePrior", latent=latent, frames=FRAMES)
    first, again = (
        sample(model, bridge, z_T, *(run_one("AqueductMotionClass", motion=word) for word in (action, "none")))
        for action in ("Archery", "2")
    )
    assert first.shape == (FRAMES, 4, 32, 32) and torch.isfinite(first).all()
    assert torch.equal(first, again)


def test_the_bridge_with_neural_prior_runs(folder):
    """Two files and the image: NeuralPrior makes z_T, and the image conditions the bridge beside it."""
    prior = run_one("AqueductLoadNeuralPrior", file="nwarp.pt")
    prior.patcher.model.network.blocks = prior.patcher.model.network.blocks[:BLOCKS]
    latent = {"samples": torch.randn(1, 4, 32, 32, generator=torch.Generator().manual_seed(0)) * 5}
    positive, negative = (run_one("AqueductMotionClass", motion=word, image=latent) for word in ("YoYo", "none"))
    z_T = run_one("AqueductNeuralPrior", prior=prior, latent=latent, conditioning=positive, keep_image=False)
    network = checkpoints.load(folder / "nwarp.pt", part="prior")[0].float()
    network.network.blocks = network.network.blocks[:BLOCKS]
    expected = network(latent["samples"] * 0.18215, torch.tensor([100]))[0].transpose(0, 1) / 0.18215
    torch.testing.assert_close(z_T["samples"], expected, rtol=1e-4, atol=1e-4)
    model, bridge, _ = load("np.pt")
    out = sample(model, bridge, z_T, positive, negative)
    assert out.shape == (FRAMES, 4, 32, 32) and torch.isfinite(out).all()


def test_every_tensor_of_the_file_is_in_the_model(folder):
    model = run("AqueductLoadBridgeModel", file="np.pt", vae="sd-vae-stand-in.safetensors")[0]
    state = model.model.diffusion_model.state_dict()
    given = weights(WITH_PRIOR)
    assert state.keys() == given.keys()
    assert all(torch.equal(state[key], given[key]) for key in given)


def test_the_wrong_one_of_the_three_is_named(folder):
    with pytest.raises(ValueError, match="nwarp.pt holds only a prior: load it with AqueductLoadNeuralPrior"):
        run("AqueductLoadBridgeModel", file="nwarp.pt")
    with pytest.raises(ValueError, match="holds a bridge model: load it with AqueductLoadBridgeModel"):
        run("AqueductLoadNeuralPrior", file="vanilla.pt")
    with pytest.raises(ValueError, match="(?s)works on latents of sd-vae-ft-ema.*choose it as `vae`") as told:
        run("AqueductLoadBridgeModel", file="np.pt")
    assert "vae-ft-ema-560000-ema-pruned.safetensors" in str(told.value)
