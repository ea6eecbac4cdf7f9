"""A network in the densifier's place: through ComfyUI's memory management, the same motion as core's own."""

import pytest
import torch

from aqueduct.core import checkpoints
from aqueduct.core.motion.densify import learned, motion_from_tracks
from aqueduct.core.motion.track_formats import parse_tracks
from aqueduct.core.networks import SparseToDense
from aqueduct.tests.comfy import bridge_files
from aqueduct.tests.comfy.graph import run_one
from aqueduct.tests.unit.test_cmp import released, released_weights

H, W = 45, 61
PHOTO = torch.rand(1, H, W, 3, generator=torch.Generator().manual_seed(0))
TEXT = "[[{'x': 20, 'y': 30}, {'x': 24, 'y': 28}, {'x': 26, 'y': 28}], [{'x': 50, 'y': 5}]]"
ARGUMENTS = {"channels": 8, "wide": 8, "looks": 4, "side": 48}


@pytest.fixture(scope="module")
def folder(comfy, tmp_path_factory):
    """A file of ours with a random network, a file with nothing of the kind, and CMP's in its released layout."""
    folder = tmp_path_factory.mktemp("densifiers")
    network = SparseToDense(**ARGUMENTS)
    bridge_files.randomised(network, 1)
    config = {"about": "test", "parts": {"densifier": {"architecture": "SparseToDense", "arguments": ARGUMENTS}}}
    checkpoints.save({"densifier": network}, folder / "dense.safetensors", config)
    bridge_files.write_prior(folder)
    released(released_weights(), folder / "ckpt_iter_42000.pth.tar")
    bridge_files.offer(folder)
    return folder


def load(name: str):
    from aqueduct.nodes._comfy.densifier import load_densifier
    from aqueduct.nodes._comfy.files import model_path

    return load_densifier(model_path(name))


def made(network, **inputs):
    return run_one("AqueductMotionFromTracks", image=PHOTO, track_json=TEXT, network=network, **inputs)


def test_the_node_gives_what_core_does(folder):
    """Weights are stored in half precision and computed with in single, in both."""
    loaded = load("dense.safetensors")
    motion = made(loaded)
    network = checkpoints.load(folder / "dense.safetensors", part="densifier")[0].float()
    expected = motion_from_tracks(
        parse_tracks(TEXT, (H, W), None), learned(network.flow), image=PHOTO[0].movedim(-1, 0)
    )
    assert motion.frames == 3 and motion.forward.std() > 0.1
    torch.testing.assert_close(motion.forward, expected.forward, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(motion.backward, expected.backward, rtol=1e-3, atol=1e-3)
    assert loaded.config["about"] == "test"


def test_widgets_of_densifiers_are_not_read(folder):
    loaded = load("dense.safetensors")
    plain, other = made(loaded), made(loaded, densifier="nearest", radius=3.0, smoothing=1.0, feather=1.0)
    assert torch.equal(plain.forward, other.forward)
    assert (plain.forward - made(None).forward).abs().max() > 0.1


def test_comfyui_knows_the_network(folder):
    """It is in its list of models while it is in use, and can be sent away."""
    import comfy.model_management as mm

    loaded = load("dense.safetensors")
    loaded.densifier()
    assert any(entry.model is loaded.patcher for entry in mm.current_loaded_models)
    mm.unload_all_models()
    assert made(loaded).frames == 3


def test_pinned_regions_rest(folder):
    pinned = torch.zeros(1, H, W)
    pinned[:, :10] = 1
    motion = made(load("dense.safetensors"), pinned=pinned)
    assert not motion.forward[..., :10, :].any() and motion.forward[..., 10:, :].any()


def test_the_released_cmp_is_offered_and_runs(folder):
    from aqueduct.nodes._comfy.files import model_files

    assert "ckpt_iter_42000.pth.tar" in model_files()
    motion = run_one(
        "AqueductMotionFromTracks", image=PHOTO, network=load("ckpt_iter_42000.pth.tar"),
        track_json="[{'x': 20, 'y': 30}, {'x': 24, 'y': 28}]",
    )  # fmt: skip
    assert motion.frames == 2 and motion.size == (H, W) and torch.isfinite(motion.forward).all()


def test_a_network_needs_the_image(folder):
    with pytest.raises(ValueError, match="follows a picture: give the first frame as image"):
        run_one("AqueductMotionFromTracks", track_json=TEXT, network=load("dense.safetensors"))


def test_a_file_without_one_says_what_it_has(folder):
    (prior,) = (path.name for path in folder.glob("*prior*"))
    with pytest.raises(ValueError, match="no 'densifier'; its parts are prior"):
        load(prior)


def test_released_weights_may_be_left_offloaded(folder):
    """As with --novram: layers are cast where they are used. The device `meta` refuses whatever lies on another."""
    network, meta = load("ckpt_iter_42000.pth.tar").patcher, torch.device("meta")
    network.load(meta, lowvram_model_memory=0.1)
    try:
        logits = network.model(torch.zeros(1, 3, 64, 64, device=meta), torch.zeros(1, 4, 64, 64, device=meta))
    finally:
        network.detach()
    assert logits.device == meta and logits.shape == (1, 198, 32, 32)
