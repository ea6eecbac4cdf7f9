"""Training on Gaussian-process noise that follows each clip's own motion."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from aqueduct.core.data.dataset import LatentDataset
from aqueduct.core.data.shards import Clip, write_dataset
from aqueduct.core.motion import MotionField
from aqueduct.tests.comfy.graph import run, run_one
from aqueduct.tests.comfy.guided_hosts import clip_latent
from aqueduct.tests.comfy.host_training import asking, clips_like, data_of
from aqueduct.tests.comfy.hosts import HOSTS, Host, normal
from aqueduct.tests.comfy.test_host_training_nodes import places  # noqa: F401

GP = "AqueductTrainGPNoise"
FEW = {"steps": 2, "batch": 1, "learning_rate": 1e-2, "sample_every": 0, "rank": 4, "alpha": 4.0, "features": 40}


@pytest.fixture(scope="module", params=["wan-t2v", "svd"])
def host(request, comfy) -> Host:
    return HOSTS[request.param]()


def sliding(shape: tuple[int, ...], compression: int, step: float) -> MotionField:
    """``step`` cells to the right from latent frame to latent frame."""
    _, frames, height, width = shape
    flow = torch.zeros((frames - 1) * compression, 2, height, width)
    flow[:, 0] = step / compression
    return MotionField(flow, -flow)


def moving_clips(host: Host, folder: Path) -> LatentDataset:
    """The first rests, the second slides by a cell."""
    shape = tuple(clips_like(host, folder / "still").index.clips[0].shapes["latent"])

    def samples():
        for n in range(2):
            motion = sliding(shape, host.compression, float(n))
            mask = torch.ones(shape[1] - 1, 2, *shape[2:], dtype=torch.bool)
            first = torch.zeros(3, 8 * shape[2], 8 * shape[3], dtype=torch.uint8)
            tensors = {"latent": normal(*shape, seed=n), "first": first, "mask": mask}
            yield Clip(f"{n}.mp4"), tensors | {"forward": motion.forward, "backward": motion.backward}

    write_dataset(folder / "moving", samples(), {})
    return LatentDataset.open(folder / "moving")


def frames_of(noise: Tensor) -> Tensor:
    return noise[0].movedim(1, 0) if noise.dim() == 5 else noise


def test_the_noise_of_a_clip_is_that_of_its_motion(host, tmp_path):
    """As AqueductGPNoise makes it, bit for bit: at rest all frames are alike, and what slides is the first, moved."""
    from aqueduct.nodes._comfy.gp_lora import AlongMotion
    from aqueduct.nodes._comfy.noise import Fields

    clips, widgets = moving_clips(host, tmp_path), {"features": 40, "spectrum": "flat"}
    like = torch.zeros_like(clip_latent(host))
    fields = Fields(0.0, 40, False, "flat")

    def body(asked):
        loss = AlongMotion(asked, None, fields)
        batch = loss.draw(torch.tensor([0, 1]), torch.Generator().manual_seed(0))
        return [loss.drawn(n, 7, like) for n in range(2)], loss(batch).detach(), loss.sample(1, 2, 0)

    made, loss, sample = asking(host, clips, body)
    for n, noise in enumerate(made):
        motion = sliding(clips.index.clips[0].shapes["latent"], host.compression, float(n))
        theirs = run_one("AqueductGPNoise", seed=7, motion=motion, **widgets).generate_noise({"samples": like})
        assert torch.equal(noise, theirs)
    still, slid = (frames_of(noise) for noise in made)
    assert torch.equal(still, still[:1].expand_as(still))
    assert torch.allclose(slid[1][..., 1:], slid[0][..., :-1], atol=1e-3) and not torch.allclose(slid[1], slid[0])
    assert loss.isfinite() and sample.isfinite().all()


def test_it_is_another_training_and_says_so(places, host, tmp_path):  # noqa: F811
    clips = moving_clips(host, tmp_path)
    given = {"model": host.model, "dataset": data_of(clips, [host.positive] * 2), **FEW}
    files = [run(GP, along_motion=on, **given)[1] for on in (True, True, False)]
    assert files[0] == files[1] != files[2]
    with safe_open(files[0], "pt") as file:
        told = json.loads(file.metadata()["aqueduct_lora"])["noise"]
    assert told == {
        "length_scale": 0.0, "features": 40, "full_rank": False, "spectrum": "truncated normal", "along_motion": True
    }  # fmt: skip


def test_where_it_makes_no_sense_it_is_refused(places, host, tmp_path):  # noqa: F811
    still, pictures = clips_like(host, tmp_path / "clips"), HOSTS["sd15"]()
    with pytest.raises(ValueError, match="2 of 2 clips have no motion, the first clip 0.mp4: prepare them"):
        run(GP, model=host.model, dataset=data_of(still, [host.positive] * 2), along_motion=True, **FEW)
    own = clips_like(pictures, tmp_path / "pictures")
    with pytest.raises(ValueError, match="along_motion is for MODELs of video, and .* makes pictures.*: turn it off"):
        run(GP, model=pictures.model, dataset=data_of(own, [pictures.positive] * 2), along_motion=True, **FEW)
