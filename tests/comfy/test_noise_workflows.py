"""The workflow that leads a core model's noise along a film, in the real server, with a tiny random Wan."""

import numpy as np
import pytest
from PIL import Image

from aqueduct.scripts import _shipped
from aqueduct.scripts._console import HouseError
from aqueduct.scripts._workflow import find_nodes, set_input
from aqueduct.tests.comfy.wan_host import stand_in_text


def test_a_core_model_samples_from_noise_along_a_film(host_server, tmp_path):
    """Nine frames of a street lead three latent frames of noise; the report, which is saved, has been drawn."""
    try:
        prompt = _shipped.prepare("warped_noise_any_model", host_server)
    except HouseError as missing:
        pytest.skip(str(missing))
    stand_in_text(prompt, host_server)
    set_input(prompt, "Frames", "length", 9)
    for title in ("Size", "WanImageToVideo"):
        for name in ("width", "height"):
            set_input(prompt, title, name, 64)
    set_input(prompt, "WanImageToVideo", "length", 9)
    set_input(prompt, "BasicScheduler", "steps", 2)
    outputs = host_server.run(prompt, timeout=600)["outputs"]
    (saver,) = find_nodes(prompt, "Video")
    (entry,) = outputs[saver]["images"]
    import av

    with av.open(str(host_server.download(entry, tmp_path / entry["filename"]))) as container:
        assert sum(1 for _ in container.decode(video=0)) == 9
    (report,) = find_nodes(prompt, "Report")
    (entry,) = outputs[report]["images"]
    with Image.open(host_server.download(entry, tmp_path / "report.png")) as picture:
        assert np.asarray(picture).std() > 10
