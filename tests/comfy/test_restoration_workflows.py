"""The workflows of Warped Diffusion in the real server: with the shipped models, and with a tiny core model."""

import av
import numpy as np
import pytest
from PIL import Image

from aqueduct.scripts import _shipped
from aqueduct.scripts._console import HouseError
from aqueduct.scripts._workflow import find_nodes, set_input
from aqueduct.tests.comfy.sd_host import stand_in_checkpoint


def prepared(name: str, server) -> dict:
    try:
        return _shipped.prepare(name, server)
    except HouseError as missing:
        pytest.skip(str(missing))


def saved(outputs: dict, prompt: dict, title: str, server, folder):
    (node,) = find_nodes(prompt, title)
    (entry,) = outputs[node]["images"]
    return server.download(entry, folder / entry["filename"])


def frames_of(path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]) / 255.0


def unsteadiness(clip: np.ndarray) -> float:
    """Root mean square of what changes from frame to frame."""
    return float(np.sqrt(np.mean(np.diff(clip, axis=0) ** 2)))


@pytest.mark.parametrize("name", ["warped_diffusion_superres", "warped_diffusion_inpaint"])
def test_restored_video_is_steadier_than_frame_by_frame(name, server, tmp_path):
    """As it ships, but for a smaller view, fewer frames and fewer steps; noise and guidance are what differs."""
    prompt = prepared(name, server)
    set_input(prompt, "Frames", "length", 4)
    small = {"warped_diffusion_superres": (96, 40), "warped_diffusion_inpaint": (64, 56)}[name]
    for title, (width, height) in {"Size": small, "SolidMask": small}.items():
        for node in find_nodes(prompt, title):
            if prompt[node]["inputs"].get("value") != 1.0:  # the spot keeps its size
                prompt[node]["inputs"] |= {"width": width, "height": height}
    if find_nodes(prompt, "Where"):
        set_input(prompt, "Where", "y", 24)
    set_input(prompt, "BasicScheduler", "steps", 8)
    outputs = server.run(prompt, timeout=900)["outputs"]
    clips = {title: frames_of(saved(outputs, prompt, title, server, tmp_path)) for title in ("Restored", "Without")}
    for clip in clips.values():
        assert clip.shape == (4, 3 * small[1], 3 * small[0], 3)
        assert clip.std() > 0.05
    assert unsteadiness(clips["Restored"]) < 0.8 * unsteadiness(clips["Without"])
    for title in ("Time slice, restored", "Time slice, without"):
        with Image.open(saved(outputs, prompt, title, server, tmp_path)) as picture:
            assert picture.width == small[0] and np.asarray(picture).std() > 5


def test_a_core_model_is_guided(host_server, tmp_path):
    """A tiny random SD1.5 redraws a film under guidance; at strength 0 it makes another one."""
    prompt = prepared("guided_host_model", host_server)
    stand_in_checkpoint(prompt, host_server)
    set_input(prompt, "Frames", "length", 3)
    set_input(prompt, "Size", "width", 128)
    set_input(prompt, "Size", "height", 64)
    set_input(prompt, "BasicScheduler", "steps", 4)

    def made() -> np.ndarray:
        outputs = host_server.run(prompt, timeout=900)["outputs"]
        return frames_of(saved(outputs, prompt, "Video", host_server, tmp_path))

    guided = made()
    assert guided.shape == (3, 64, 128, 3)
    set_input(prompt, "AqueductEquivarianceGuidance", "strength", 0.0)
    assert not np.array_equal(guided, made())
