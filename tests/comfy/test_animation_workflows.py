"""The workflows of animation in the real server: with the shipped model, and SVD's graph with random weights."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aqueduct.scripts import _shipped
from aqueduct.scripts._motion_workflows import document
from aqueduct.scripts._server import ComfyServer
from aqueduct.scripts._workflow import find_nodes, set_input
from aqueduct.tests.comfy.own_models import server_with
from aqueduct.tests.comfy.svd_host import stand_in_svd, write_small_svd
from aqueduct.tests.comfy.test_motion_workflows import YELLOW, run, share_of

SIDE, ZOOM = 64, 5
RESTING = [{"points": [place]} for place in ([0.2, 0.1], [0.81, 0.1], [0.5, 0.31], [0.28, 0.48])]


def reduced(clip: np.ndarray) -> np.ndarray:
    """A clip as it was before it was enlarged to be looked at, ``[n, 64, 64, 3]``."""
    assert clip.shape[1:] == (SIDE * ZOOM, SIDE * ZOOM, 3)
    return clip.reshape(len(clip), SIDE, ZOOM, SIDE, ZOOM, 3).mean((2, 4))


def apart(one: np.ndarray, other: np.ndarray) -> float:
    """Mean absolute difference, of 255."""
    return float(np.abs(one - other).mean())


def small_clips(prompt: dict, server: ComfyServer, folder: Path) -> dict[str, np.ndarray]:
    return {title: reduced(clip) for title, clip in run(server, prompt, folder).items()}


def test_a_photo_moves_along_the_drawn_tracks(server, tmp_path):
    """As it ships, in fewer steps. The left ear's tip goes from (0.20, 0.10) to (0.10, 0.30), as drawn; all of the clip
    ends where the photo was carried to (measured: 2.6 of 255 from there, 32 from the photo)."""
    prompt = _shipped.prepare("animate_along_tracks", server)
    set_input(prompt, "AqueductBridgeTimes", "steps", 4)
    clips = small_clips(prompt, server, tmp_path)
    clip, warped = clips["Video"], clips["Pure warp"]
    assert len(clip) == len(warped) == 16
    assert apart(clip[0], warped[0]) < 4
    assert apart(clip[-1], warped[-1]) < 0.5 * apart(clip[-1], warped[0])
    assert share_of(YELLOW, clip[0], 0.10, 0.29, 1) == 0 and share_of(YELLOW, clip[-1], 0.10, 0.29, 1) > 0.5


def test_without_motion_the_photo_rests(server, tmp_path):
    """Measured: the carried photo stands still to the bit, the clip moves by 0.4 of 255 and is 1.2 from the photo."""
    prompt = _shipped.prepare("animate_along_tracks", server)
    set_input(prompt, "AqueductBridgeTimes", "steps", 4)
    set_input(prompt, "AqueductTrackEditor", "document", document(RESTING, []))
    clips = small_clips(prompt, server, tmp_path)
    clip, photo = clips["Video"], clips["Pure warp"][:1]
    assert apart(clips["Pure warp"], photo) < 0.1
    assert apart(clip, clip[:1]) < 1.5
    assert apart(clip, photo) < 4


def test_a_long_clip_in_windows(server, tmp_path):
    """28 frames are two windows of 16 with their overlap of 4; each is two steps of the model. Measured: the last is
    2.0 of 255 from the chain without a model, 39 from the photo; 0.96 of it has been in view since the start."""
    prompt = _shipped.prepare("long_clip_chain", server)
    set_input(prompt, "AqueductCameraMotion", "frames", 28)
    set_input(prompt, "AqueductBridgeTimes", "steps", 2)
    clips = small_clips(prompt, server, tmp_path)
    clip, warped, seen = clips["Video"], clips["Pure warp"], clips["Seen since the start"] / 255
    assert len(clip) == len(warped) == len(seen) == 28
    assert apart(clip[-1], warped[-1]) < 0.25 * apart(clip[-1], warped[0])
    assert seen[0].min() > 0.9 and 0.9 < seen[-1].mean() < 0.99
    with Image.open(plot_of(prompt, server, tmp_path)) as picture:
        assert np.asarray(picture).std() > 5


def plot_of(prompt: dict, server: ComfyServer, folder: Path) -> Path:
    """What *Metrics* shows; the server has it from before."""
    (plot,) = find_nodes(prompt, "Metrics")
    (entry,) = server.run(prompt, timeout=600)["outputs"][plot]["images"]
    return server.download(entry, folder / entry["filename"])


@pytest.fixture(scope="module")
def svd_server(comfy, comfyui_path, tmp_path_factory) -> Iterator[ComfyServer]:
    folder = tmp_path_factory.mktemp("svd")
    write_small_svd(folder)
    with server_with(comfyui_path, folder, dict.fromkeys(("diffusion_models", "vae", "aqueduct"), ".")) as running:
        yield running


def test_svd_follows_the_adapter(svd_server, tmp_path):
    """Tracks, picture, network and adapter as they are wired; SVD is one of ComfyUI's own, with random weights."""
    prompt = _shipped.prepare("animate_svd_mofa", svd_server)
    stand_in_svd(prompt, svd_server, frames=3, side=SIDE)
    for name in ("width", "height"):
        set_input(prompt, "Size", name, SIDE)
    set_input(prompt, "AqueductTrackEditor", "frames", 3)
    set_input(prompt, "KSampler", "steps", 2)

    def made() -> np.ndarray:
        return run(svd_server, prompt, tmp_path)["Video"]

    swinging = made()
    assert swinging.shape == (3, SIDE, SIDE, 3) and swinging.std() > 3
    set_input(prompt, "AqueductTrackEditor", "document", document(RESTING, []))
    resting = made()
    set_input(prompt, "AqueductApplyMotionAdapter", "strength", 0.0)
    alone = made()
    # The same frames make the same film, 0 apart; with weights drawn at random the tracks made 0.08 to 0.30.
    assert apart(swinging, resting) > 0.02 and apart(resting, alone) > 5
