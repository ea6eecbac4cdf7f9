"""Image-to-video bridges, motion adapters and the densifier as files: what is drawn, what is computed of it, and what
the files that come out say."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from aqueduct.core import checkpoints
from aqueduct.core.data.shards import Clip, write_dataset
from aqueduct.core.networks import LatteVideo
from aqueduct.core.training.config import Files, read
from aqueduct.core.training.geometric import adjacent, counts, geometric_consistency
from aqueduct.core.training.jobs.animation import AnimationJob, Network
from aqueduct.core.training.jobs.animation_clips import Prepared
from aqueduct.core.training.jobs.animation_worlds import MOTIONS, Worlds
from aqueduct.core.training.loop import train_task
from aqueduct.tests.unit import training_stand_ins as stand_ins
from aqueduct.tests.unit.first_losses import check
from aqueduct.tests.unit.job_checks import check_file, check_halves, check_unknown_key, recipe

ADAPTERS = ["emg_adapter", "emg_adapter_on", "emg_lagrangian", "emg_eulerian", "emg_forward_only", "emg_bgc"]
RUNS = ["emg_backbone", *ADAPTERS, "densifier"]


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> stand_ins.StandIns:
    folder = tmp_path_factory.mktemp("runs")
    stand_ins.write_starts(folder)
    return stand_ins.StandIns(folder)


@pytest.mark.parametrize("name", RUNS)
def test_runs_begin_as_they_did(name, files):
    check(name, files, 2)


def test_the_backbone_goes_on_as_it_did(files):
    check("emg_backbone", files)


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS[1:])
def test_runs_go_on_as_they_did(name, files):
    check(name, files)


@pytest.mark.parametrize("name", RUNS)
def test_files_that_come_out(name, files):
    task = check_file(name, files)
    assert list(task.parts) == [
        "model" if name == "emg_backbone" else "densifier" if name == "densifier" else "adapter"
    ]


@pytest.mark.parametrize("name", ["emg_backbone", "emg_adapter_on", "emg_lagrangian", "densifier"])
def test_loss_of_a_batch_is_the_mean_of_its_halves(name, files):
    check_halves(name, files)


@pytest.mark.parametrize("table", ["data", "network", "start", "objective"])
def test_unknown_keys_are_named(table, tmp_path):
    name = "emg_backbone" if table == "network" else "emg_adapter"
    check_unknown_key(name, table, tmp_path)


def test_eq_10_of_parts_is_that_of_the_whole():
    """Though half of the clips has nearly all that counts."""
    generator = torch.Generator().manual_seed(0)
    clip = torch.randn(4, 3, 3, 6, 6, generator=generator)
    flow, mask = torch.zeros(4, 2, 2, 6, 6), torch.ones(4, 2, 6, 6, dtype=torch.bool)
    mask[2:, :, 1:] = False
    whole = geometric_consistency(clip, flow, mask)
    counted = counts(mask).mean().expand(4)

    def part(rows: slice):
        return geometric_consistency(clip[rows], flow[rows], mask[rows], pairing=adjacent, counted=counted[rows])

    assert part(slice(0, 4)) == whole
    halves = [part(slice(0, 2)), part(slice(2, 4))]
    assert (sum(halves) / 2).item() == pytest.approx(whole.item(), rel=1e-6)
    assert abs(halves[0] - halves[1]) > whole / 2


def test_motions_of_worlds(files):
    """Kinds differ in the pairs that are compared, and in nothing that is drawn."""
    drawn = {}
    for name in ("emg_lagrangian", "emg_eulerian"):
        asked = recipe(name)
        task = asked.job.make(asked, files)
        drawn[name] = task.draw(torch.Generator().manual_seed(0), 0)
    first, second = drawn.values()
    assert all(torch.equal(first[key], second[key]) for key in ("clip", "t", "eps"))
    assert not torch.equal(first["mask"], second["mask"])
    with pytest.raises(ValueError, match="no motion 'exakt'.*lagrangian"):
        Worlds("exakt", 3)
    assert set(MOTIONS) == {"exact", "eulerian", "lagrangian"}


def test_worlds_are_made_as_told(tmp_path):
    """Of pictures that fit the window, with their film; the second time they are read."""
    asked = recipe("emg_backbone")
    films = []

    def film(name, frames, width):
        films.append(name)
        return torch.rand(132, 3, 90, width, generator=torch.Generator().manual_seed(0))

    large = torch.zeros(3, 210, 210, dtype=torch.uint8)
    files = Files(tmp_path, pictures=lambda **which: [large, *stand_ins.pictures()], clip=film)
    table = Worlds("exact", worlds=1, pieces=1)
    made = table.open(asked, files)
    assert made.clips.video.shape == (2, 3, 16, 64, 64) and films == ["bigbuckbunny"]
    assert torch.equal(table.open(asked, files).clips.video, made.clips.video) and len(films) == 1


@pytest.mark.parametrize("name", RUNS[:-1])
def test_files_name_the_clips_they_were_trained_on(name, files):
    asked = recipe(name)
    told = asked.job.make(asked, files).config["training"]
    exact = asked.job.data.motion == "exact"
    assert told["data"].startswith("1400 worlds" if exact else "500 worlds")
    assert ("100 pieces" in told["data"]) == exact


# --- one's own clips --------------------------------------------------------------------------------------------------


def prepared(folder: Path, motion: bool = True, channels: int = 3) -> None:
    """Six clips of two sizes."""
    generator = torch.Generator().manual_seed(1)

    def sample(n: int):
        side = 16 if n % 2 else 24
        latent = 2 * torch.rand(channels, 4, side, side, generator=generator) - 1
        first = ((latent[:3, 0] / 2 + 0.5) * 255).byte()
        flow = torch.rand(2, 3, 2, side, side, generator=generator)
        mask = torch.rand(3, 2, side, side, generator=generator) < 0.8
        tensors, moved = {"latent": latent, "first": first}, {"forward": flow[0], "backward": -flow[0], "mask": mask}
        return Clip(f"{n}.mp4"), tensors | (moved if motion else {})

    write_dataset(folder, [sample(n) for n in range(6)], {})


@pytest.fixture
def own(tmp_path) -> stand_ins.StandIns:
    stand_ins.write_starts(tmp_path)
    prepared(tmp_path / "clips")
    return stand_ins.StandIns(tmp_path)


def on_clips(name: str, **more):
    asked = recipe(name)
    return replace(asked, job=replace(asked.job, data=Prepared("clips", batch=2), **more))


@pytest.mark.parametrize("name", ["emg_backbone", "emg_adapter_on"])
def test_own_clips(name, own):
    """Are drawn by number, and read in the loss: each batch of one size, halves of it as good as the whole."""
    asked = on_clips(name)
    task = asked.job.make(asked, own)
    generator = torch.Generator().manual_seed(0)
    batches = [task.draw(generator, n) for n in range(4)]
    assert all(value.numel() <= 2 for batch in batches for value in batch.values())
    assert {i % 2 for batch in batches for i in batch["clip"].tolist()} == {0, 1}
    assert all(len({i % 2 for i in batch["clip"].tolist()}) == 1 for batch in batches)
    check_halves(asked, own)
    before = [p.detach().clone() for p in task.parameters]
    losses = train_task(task, replace(asked.run, steps=2), generator).losses
    assert len(losses) == 2 and any(not torch.equal(p, q) for p, q in zip(before, task.parameters, strict=True))


def test_own_clips_are_told_of(own):
    asked = on_clips("emg_backbone")
    config = asked.job.make(asked, own).config
    assert config["training"]["data"] == "6 clips of clips" and config["parts"]["model"]["arguments"]["frames"] == 4


def test_own_clips_need_motion_where_it_is_asked_for(own):
    prepared(own.folder / "clips", motion=False)
    asked = on_clips("emg_backbone")
    task = asked.job.make(asked, own)
    with pytest.raises(ValueError, match="no motion.*prepare them with motion"):
        task.loss(task.draw(torch.Generator().manual_seed(0), 0) | {"carried": torch.tensor([True, True])})
    asked = on_clips("emg_backbone", carried=0.0)
    task = asked.job.make(asked, own)
    assert task.loss(task.draw(torch.Generator(), 0)).isfinite()
    asked = on_clips("emg_adapter")
    with pytest.raises(ValueError, match="no motion"):
        asked.job.make(asked, own)


def test_latents_of_a_vae_are_refused(own):
    prepared(own.folder / "clips", channels=4)
    asked = on_clips("emg_backbone")
    with pytest.raises(ValueError, match="latents .* of a VAE.*pixel space"):
        asked.job.make(asked, own)


def test_a_file_for_own_clips(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(
        'task = "animation"\nabout = "mine"\n[data]\nfolder = "clips"\nbatch = 2\n[network]\nchannels = 32\n'
        "[run]\nsteps = 2\n"
    )
    assert read(path).job == AnimationJob(Prepared("clips", 2), Network(channels=32))


def test_a_start_is_looked_for(tmp_path):
    asked = recipe("emg_adapter")
    asked = replace(asked, job=replace(asked.job, data=Prepared("clips")))
    prepared(tmp_path / "clips")
    with pytest.raises(FileNotFoundError, match="emg_backbone.toml makes it"):
        asked.job.make(asked, Files(tmp_path))


def test_an_adapter_needs_a_backbone_it_can_lie_beside(tmp_path):
    """And takes over what that is a bridge of."""
    arguments = {"in_channels": 6, "out_channels": 3, "frames": 4, "height": 16, "width": 16, "patch": 8}
    arguments |= {"hidden": 16, "depth": 2, "heads": 2, "classes": 0}
    parts = {"model": {"architecture": "LatteVideo", "arguments": arguments}}
    checkpoints.save(LatteVideo(**arguments), tmp_path / "emg_backbone.safetensors", {"parts": parts})
    files = stand_ins.StandIns(tmp_path)
    asked = recipe("emg_adapter")
    with pytest.raises(ValueError, match="emg_backbone is a LatteVideo"):
        asked.job.make(asked, files)
    stand_ins.write_starts(tmp_path)
    config = asked.job.make(asked, files).config
    assert {key: config[key] for key in stand_ins.BRIDGE} == stand_ins.BRIDGE
