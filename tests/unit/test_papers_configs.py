"""The papers' settings as files: they can be read, and their networks have the published sizes."""

import json
from pathlib import Path

import pytest
import torch

from aqueduct.core.data.config import read as preparation_of
from aqueduct.core.training.config import CONFIGS, read

PAPERS = CONFIGS / "papers"
DATA = Path(__file__).resolve().parents[1] / "data"


def job_of(name: str):
    return read(PAPERS / f"{name}.toml").job


def count(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize("path", sorted(PAPERS.glob("*.toml")), ids=lambda path: path.stem)
def test_every_file_can_be_read(path):
    recipe = read(path)
    assert recipe.name == path.stem and recipe.about


@pytest.mark.parametrize(
    ("name", "released"),
    [
        ("framebridge_ucf101", "S2_vanilla"),
        ("framebridge_ucf101_neural_prior", "S2_prior"),
        ("framebridge_ucf101_prior", "nwarp_S2"),
    ],
)
def test_latte_is_the_released_one_tensor_by_tensor(name, released):
    lines = (DATA / f"framebridge_latte_{released}.txt").read_text(encoding="ascii").splitlines()
    theirs = {
        key.replace("nwarp_model.", "network."): tuple(json.loads(f"[{shape.strip('()').rstrip(',')}]"))
        for key, shape, _ in (line.split("\t") for line in lines)
    }
    ours = job_of(name).network.build(device="meta").state_dict()
    assert {key: tuple(value.shape) for key, value in ours.items()} == theirs


def test_cogvideo_has_the_parameters_of_cogvideox_2b():
    """Added up from the architecture (CogVideoX section 2.2, its released configuration); as float16 they are the
    3.39 GB of the released file."""
    pytest.importorskip("diffusers")
    d, time, text, layers, patch = 1920, 512, 4096, 30, 4
    modulated = time * 6 * d + 6 * d + 2 * d
    attention = 4 * (d * d + d) + 2 * 2 * 64
    feed_forward = 2 * 4 * d * d + 4 * d + d
    entry = 16 * patch * d + d + text * d + d
    clock = d * time + time + time * time + time
    leaving = 2 * d + time * 2 * d + 2 * d + 2 * d + d * 16 * patch + 16 * patch
    host = layers * (2 * modulated + attention + feed_forward) + entry + clock + leaving
    assert host == 1_693_783_872
    prior = 16 * patch * d  # the prior's channels
    assert count(job_of("framebridge_webvid_cogvideox").network.build(device="meta")) == host + prior


def test_sdxl_has_its_parameters():
    """2.6 B (Podell et al. 2024, table 1); to the last one, the 2567463684 of the released file."""
    pytest.importorskip("diffusers")
    observed = 4 * 320 * 9
    assert count(job_of("warped_diffusion_sdxl").network.build(device="meta")) == 2_567_463_684 + observed


@pytest.mark.parametrize(
    ("paper", "preparation", "folder"),
    [
        ("warped_diffusion_sdxl", "coyo_sdxl", lambda job: job.damage.vae),
        ("warped_diffusion_sdxl", "coyo_sdxl", lambda job: Path(job.start.released).with_name("vae")),
        ("framebridge_webvid_cogvideox", "webvid_cogvideox", lambda job: Path(job.start.released).with_name("vae")),
    ],
)
def test_preparation_and_training_look_into_one_folder(paper, preparation, folder):
    """Training in that of runs, preparation from where it is started."""
    job, prepared = job_of(paper), preparation_of(CONFIGS / "prepare" / f"{preparation}.toml")
    assert Path(prepared.output) == Path("runs") / job.data.folder
    assert Path(prepared.encoder.folder) == Path("runs") / folder(job) == Path(prepared.text.folder) / "vae"


def test_ebdm_has_the_parameters_of_table_5():
    network = job_of("ebdm_f4_stage1").network
    assert count(network.build(device="meta")) == pytest.approx(382.49e6, rel=0.005)
