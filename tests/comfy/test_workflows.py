"""Shipped bridge workflows, as they ship, in the real server; what comes out is looked at, not only counted."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageSequence

from aqueduct.core.training.digits import DIRECTIONS
from aqueduct.scripts import _shipped
from aqueduct.scripts._server import ComfyServer
from aqueduct.scripts._workflow import find_nodes, set_input, to_prompt
from aqueduct.tests.comfy.wan_host import stand_in_text


def run_and_fetch(server: ComfyServer, prompt: dict, title: str, folder: Path) -> Path:
    """Run ``prompt`` and download the one file that the node called ``title`` saved."""
    outputs = server.run(prompt, timeout=600)["outputs"]
    (node,) = find_nodes(prompt, title)
    (entry,) = outputs[node]["images"]
    return server.download(entry, folder / entry["filename"])


def frames_of(path: Path) -> np.ndarray:
    """Frames ``[n, h, w]`` of an animation, brightness in [0, 1]."""
    with Image.open(path) as animation:
        frames = [np.asarray(frame.convert("L"), dtype=float) for frame in ImageSequence.Iterator(animation)]
    return np.stack(frames) / 255


def shown_motion(frames: np.ndarray) -> str:
    """The one of the eight directions nearest to the way from the first frame's centroid to the last's.

    Also asserts that the way is long enough to have one: 3 pixels of the 32-pixel model, of 10.5 in truth.
    """
    height, width = frames.shape[1:]
    y, x = np.mgrid[:height, :width]
    weight = np.where(frames > 0.15, frames, 0)
    places = np.stack([(weight * x).sum((1, 2)), (weight * y).sum((1, 2))], axis=1) / weight.sum((1, 2))[:, None]
    way = (places[-1] - places[0]) * 32 / width
    assert np.hypot(*way) > 3
    return DIRECTIONS[round(np.arctan2(way[1], way[0]) / (np.pi / 4)) % len(DIRECTIONS)]


BRIDGES = {"framebridge", "framebridge_neural_prior", "snr_align_host_model"}
MOTIONS = {"draw_motion", "video_motion", "camera_motion"}  # run in test_motion_workflows.py
NOISES = {"warped_noise_any_model"}  # run in test_noise_workflows.py
ANIMATIONS = {"animate_along_tracks", "animate_svd_mofa", "long_clip_chain"}  # run in test_animation_workflows.py
EXEMPLARS = {"exemplar_edges", "exemplar_mask", "exemplar_host_sdxl", "exemplar_video"}  # test_exemplar_workflows.py
RESTORATIONS = {"warped_diffusion_superres", "warped_diffusion_inpaint", "guided_host_model"}  # test_restoration_...
TRAININGS = {"train_neural_prior", "train_motion_adapter", "train_exemplar"}  # test_train_workflows_native.py
HOST_TRAININGS = {"train_bridge", "train_saf_lora", "bridge_lora", "train_gp_noise"}  # test_host_training_server.py
ALL = BRIDGES | MOTIONS | NOISES | RESTORATIONS | ANIMATIONS | EXEMPLARS | TRAININGS | HOST_TRAININGS


def test_every_workflow_is_run_by_a_test():
    assert set(_shipped.names()) == ALL


@pytest.mark.parametrize("name", sorted(ALL))
def test_a_workflow_has_its_picture_and_uses_no_other_pack(name, server):
    assert (_shipped.WORKFLOWS / f"{name}.jpg").stat().st_size > 2000
    info = server.object_info()
    known = ("nodes", "comfy_extras", f"custom_nodes.{server.pack_name}")
    for node in _shipped.load(name)["nodes"]:
        module = info.get(node["type"], {}).get("python_module", "")
        assert node["type"] == "MarkdownNote" or module.startswith(known)


def test_framebridge_moves_the_digit_as_asked(server, tmp_path):
    """The trained model that ships: eight frames, from the image it was given, up and to the right."""
    prompt = _shipped.prepare("framebridge", server)
    frames = frames_of(run_and_fetch(server, prompt, "Video", tmp_path))
    assert frames.shape == (8, 256, 256)
    assert shown_motion(frames) == "up-right"
    with Image.open(_shipped.ROOT / "models" / "held_out_digits.png") as strip:
        digit = np.asarray(strip.convert("L").crop((96, 0, 128, 32)), dtype=float) / 255
    assert np.abs(frames[0, ::8, ::8] - digit).mean() < 0.02


def test_framebridge_follows_another_motion(server, tmp_path):
    prompt = _shipped.prepare("framebridge", server)
    set_input(prompt, "Motion", "motion", "left")
    set_input(prompt, "RandomNoise", "noise_seed", 7)
    frames = frames_of(run_and_fetch(server, prompt, "Video", tmp_path))
    assert shown_motion(frames) == "left"


def test_the_neural_prior_and_its_bridge_agree_on_the_motion(server, tmp_path):
    prompt = _shipped.prepare("framebridge_neural_prior", server)
    outputs = server.run(prompt, timeout=600)["outputs"]
    for title in ("Neural prior", "Video"):
        (node,) = find_nodes(prompt, title)
        (entry,) = outputs[node]["images"]
        frames = frames_of(server.download(entry, tmp_path / entry["filename"]))
        assert shown_motion(frames) == "left", title


def test_a_users_image_takes_the_place_of_the_example(server, tmp_path):
    """What `demo.py --image` does: the graph starts from an uploaded file of another size and shape."""
    photo = np.zeros((300, 400, 3), dtype=np.uint8)
    photo[100:200, 180:220] = 255
    Image.fromarray(photo).save(tmp_path / "bar.png")
    prompt = _shipped.prepare("framebridge", server)
    _shipped.use_image(prompt, server.upload_image(tmp_path / "bar.png"))
    frames = frames_of(run_and_fetch(server, prompt, "Video", tmp_path))
    assert frames.shape == (8, 256, 256)
    assert frames[0].max() > 0.6


def test_a_core_model_is_sampled_as_a_bridge(host_server, tmp_path):
    """The Wan graph with tiny random weights: image in, posterior-mean prior, aligned sampling, video file out."""
    prompt = to_prompt(_shipped.load("snr_align_host_model"), host_server.object_info())
    photo = np.random.default_rng(0).integers(0, 255, (96, 96, 3), dtype=np.uint8)
    Image.fromarray(photo).save(tmp_path / "example.png")
    host_server.upload_image(tmp_path / "example.png")
    stand_in_text(prompt, host_server)
    for name, value in {"width": 64, "height": 64, "length": 9}.items():
        set_input(prompt, "WanImageToVideo", name, value)
    set_input(prompt, "AqueductBridgeTimes", "steps", 4)
    saved = run_and_fetch(host_server, prompt, "Video", tmp_path)
    assert saved.suffix == ".mp4"
    import av

    with av.open(str(saved)) as container:
        frames = [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]
    assert len(frames) == 9
    assert frames[0].shape == (64, 64)
