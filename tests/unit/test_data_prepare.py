"""Preparation end to end: what goes in comes out, damage is noted, and bytes do not depend on how the work was done."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from aqueduct import prepare as command
from aqueduct.core.data.buckets import SizeSettings
from aqueduct.core.data.clips import find
from aqueduct.core.data.config import read
from aqueduct.core.data.dataset import LatentDataset
from aqueduct.core.data.encoders import Pixels
from aqueduct.core.data.prepare import MotionSettings, PrepareSettings, in_turn, prepare
from aqueduct.core.data.survey import ClipSettings
from aqueduct.core.data.workers import Pool
from aqueduct.core.motion import cycle_mask
from aqueduct.tests.unit.data_videos import damage, numbers, write_video

ROOT = Path(__file__).resolve().parents[2]
FRAMES, BYTES = 8, 0.04  # MiB: two clips of 8 frames of 24 x 32 pixels, or three of 16 x 16
SETTINGS = PrepareSettings(ClipSettings((FRAMES,)), SizeSettings(32, 24, ("1:1",), enlarge=1.0), shard_mb=BYTES)
BROKEN = "broken.mp4"


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    for n, size in enumerate([(24, 32), (48, 64), (32, 32)]):
        write_video(folder / f"{n}.mp4", frames=28, size=size)
    damage(write_video(folder / BROKEN, frames=24, size=(24, 32), noise=30, options={"bf": "0"}), 13)
    write_video(folder / "short.mp4", frames=3, size=(24, 32))
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "0.txt").write_text("the first")
    return folder


@pytest.fixture(scope="module")
def whole(videos, tmp_path_factory):
    """Prepared in one go."""
    out = tmp_path_factory.mktemp("whole")
    prepare(find(videos), SETTINGS, Pixels(), out)
    return out


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


class Stop(Exception):
    pass


class StopsAt(Pixels):
    """Pixel space that stops at the n-th clip, as a kill would."""

    def __init__(self, calls: int):
        object.__setattr__(self, "left", [calls])

    def __call__(self, video):
        self.left[0] -= 1
        if not self.left[0]:
            raise Stop
        return video


def test_every_clip_comes_out_with_its_frames(whole):
    dataset = LatentDataset.open(whole)
    found = {}
    for n, clip in enumerate(dataset.index.clips):
        frames = (dataset[n]["latent"].movedim(1, 0) + 1) * 127.5
        assert numbers(frames) == list(range(clip.first, clip.last + 1)) or clip.path == BROKEN
        assert torch.equal(dataset[n]["first"], frames[0].round().to(torch.uint8))
        found.setdefault(clip.path, []).append(clip.first)
    assert found == {"0.mp4": [0, 8, 16], "1.mp4": [0, 8, 16], "2.mp4": [0, 8, 16], BROKEN: [0, 16]}
    shapes = {clip.path: clip.shapes["latent"] for clip in dataset.index.clips}
    assert shapes["0.mp4"] == shapes["1.mp4"] == (3, FRAMES, 24, 32) and shapes["2.mp4"][-2] == shapes["2.mp4"][-1]
    assert dataset[0]["caption"] == "the first" and "caption" not in dataset[3]


def test_what_cannot_be_used_is_listed_with_the_reason(whole):
    skipped = {one.path: one.why for one in LatentDataset.open(whole).index.skipped}
    assert set(skipped) == {BROKEN, "short.mp4", "empty.mp4"}
    assert skipped[BROKEN].startswith("frame 13: ")
    assert skipped["short.mp4"] == "it has 3 frames; a clip needs 8"
    assert skipped["empty.mp4"].startswith("it cannot be opened")


def test_shards_are_bounded_and_several(whole):
    shards = sorted(whole.glob("shard-*"))
    assert len(shards) >= 4
    header = 4096
    assert all(path.stat().st_size < BYTES * 2**20 + header for path in shards)


@pytest.mark.parametrize("stop", [1, 4, 7, 10])
def test_a_killed_run_goes_on_to_the_same_bytes(videos, whole, tmp_path, stop):
    sources = find(videos)
    with pytest.raises(Stop):
        prepare(sources, SETTINGS, StopsAt(stop), tmp_path)
    assert not (tmp_path / "index.json").exists()
    before = {name: (tmp_path / name).stat().st_mtime_ns for name in contents(tmp_path)}
    assert stop == 1 or before
    told = []
    prepare(sources, SETTINGS, Pixels(), tmp_path, report=lambda done, total: told.append((done, total)))
    assert contents(tmp_path) == contents(whole)
    assert all((tmp_path / name).stat().st_mtime_ns == time for name, time in before.items())
    kept = sum(clip.shard in before for clip in LatentDataset.open(tmp_path).index.clips)
    assert told[0] in ((kept, 12), (kept + 1, 12)) and told[-1] == (12, 12) and told == sorted(told)


def test_what_is_done_is_not_done_again(videos, whole):
    before = {path.name: path.stat().st_mtime_ns for path in whole.glob("shard-*")}
    prepare(find(videos), SETTINGS, StopsAt(1), whole)
    assert {path.name: path.stat().st_mtime_ns for path in whole.glob("shard-*")} == before


def test_other_settings_in_the_same_folder_make_it_anew(videos, tmp_path):
    sources = find(videos)
    prepare(sources, SETTINGS, Pixels(), tmp_path)
    other = PrepareSettings(ClipSettings((4,), most=1), SETTINGS.size, shard_mb=BYTES)
    prepare(sources, other, Pixels(), tmp_path)
    dataset = LatentDataset.open(tmp_path)
    assert {clip.shapes["latent"][1] for clip in dataset.index.clips} == {4}
    assert {path.name for path in tmp_path.glob("shard-*")} == {clip.shard for clip in dataset.index.clips}


@pytest.mark.slow
def test_several_processes_write_the_same_bytes(videos, whole, tmp_path):
    with Pool(2) as runner:
        prepare(find(videos), SETTINGS, Pixels(), tmp_path, runner)
    assert contents(tmp_path) == contents(whole)


def test_a_copy_of_the_videos_gives_the_same_bytes(videos, whole, tmp_path):
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in videos.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    prepare(find(copy), SETTINGS, Pixels(), tmp_path / "out")
    assert contents(tmp_path / "out") == contents(whole)


def test_motion_is_that_of_the_clip(tmp_path):
    """A texture that slides by (2, -1) pixels a frame: the flow says so, both ways, and the masks say where."""
    pytest.importorskip("cv2")
    from PIL import Image

    texture = torch.rand(3, 12, 12, generator=torch.Generator().manual_seed(0))
    large = torch.nn.functional.interpolate(texture[None], (96, 96), mode="bicubic")[0].clamp(0, 1)
    folder = tmp_path / "run"
    folder.mkdir()
    for n in range(4):
        frame = large[:, 16 + n : 80 + n, 16 - 2 * n : 80 - 2 * n]
        Image.fromarray((frame.movedim(0, -1) * 255).round().byte().numpy()).save(folder / f"{n}.png")
    settings = PrepareSettings(ClipSettings((4,)), SizeSettings(64, 64), MotionSettings(), dtype="float32")
    prepare(find(tmp_path), settings, Pixels(), tmp_path / "out")
    sample = LatentDataset.open(tmp_path / "out")[0]
    assert sample["forward"].shape == sample["backward"].shape == sample["mask"].shape == (3, 2, 64, 64)
    inner = (..., slice(12, -12), slice(12, -12))
    expected = torch.tensor([2.0, -1.0])[:, None, None].expand(3, 2, 40, 40)
    assert (sample["forward"][inner] - expected).abs().mean() < 0.1
    assert (sample["backward"][inner] + expected).abs().mean() < 0.1
    assert torch.equal(sample["mask"][:, 0], cycle_mask(sample["forward"], sample["backward"]))
    assert torch.equal(sample["mask"][:, 1], cycle_mask(sample["backward"], sample["forward"]))
    # what slides out on the right, and in on the left, has nowhere to be checked
    assert sample["mask"][:, 0, 10:-10, 10:-10].float().mean() > 0.95
    assert not sample["mask"][:, 0, :, -1].any() and not sample["mask"][:, 1, :, 0].any()


def test_latents_that_overflow_are_noted_and_the_rest_goes_on(videos, tmp_path):
    class Loud(Pixels):
        def __call__(self, video):
            return video * 1e6 if video.mean() < -0.7 else video

    index = prepare(find(videos), SETTINGS, Loud(), tmp_path)
    assert index.clips and any(
        one.why == "frames 0 to 7: the latents are not finite in float16" for one in index.skipped
    )


def test_an_encoder_that_breaks_its_word_is_an_error(videos, tmp_path):
    class Half(Pixels):
        def __call__(self, video):
            return video[..., ::2]

    with pytest.raises(ValueError, match=r"gave latents \[3, 8, 24, 16\] and had announced \[3, 8, 24, 32\]"):
        prepare(find(videos), SETTINGS, Half(), tmp_path)


def test_folders_that_cannot_be_written_are_named(videos, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="cannot be made .*: choose another"):
        prepare(find(videos), SETTINGS, Pixels(), tmp_path / "file" / "out")


def test_settings_that_make_no_sense():
    for wrong, told in [
        ({"dtype": "int8"}, "one of float16, bfloat16, float32"), ({"shard_mb": 0}, "shard_mb is positive"),
        ({"threads": -1}, "threads 0 or more"),
    ]:  # fmt: skip
        with pytest.raises(ValueError, match=told):
            PrepareSettings(**wrong)
    for wrong in ({"estimator": "raft"}, {"estimator": "farneback"}, {"weights": "a.pth"}):
        with pytest.raises(ValueError, match="or raft with weights"):
            MotionSettings(**wrong)
    with pytest.raises(ValueError, match="stride 0"):
        ClipSettings(stride=0)


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "prepare").glob("*.toml")), ids=lambda path: path.stem)
def test_shipped_configs_are_read(path):
    assert read(path).settings.clips.lengths


def test_an_unknown_key_is_told_with_the_nearest(tmp_path):
    path = tmp_path / "a.toml"
    path.write_text('source = "a"\noutput = "b"\n[clips]\nlenghts = [8]\n')
    with pytest.raises(ValueError, match=r"table \[clips\].*'lenghts'.*'lengths'"):
        read(path)


@pytest.mark.slow
def test_what_is_not_installed_is_one_line(monkeypatch, capsys):
    """And names the way out, as for PyTorch where no ComfyUI brings it."""
    monkeypatch.setitem(sys.modules, "aqueduct.core.data.config", None)  # as an import that fails
    assert command.main(["any.toml"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ") and told.endswith("has what this prepares with\n") and told.count("\n") == 1


def test_the_command_prepares_a_folder(videos, whole, tmp_path):
    config = tmp_path / "small.toml"
    config.write_text(
        f'source = "{videos.as_posix()}"\noutput = "{(tmp_path / "out").as_posix()}"\nshard_mb = {BYTES}\n'
        f'[clips]\nlengths = [8]\n[size]\nwidth = 32\nheight = 8\nratios = ["1:1"]\nenlarge = 1.0\n'
    )
    command = [sys.executable, str(ROOT / "scripts" / "prepare.py"), str(config), "--set", "size.height=24"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "11 clips of 6 sources" in done.stdout and f"skipped {BROKEN}: frame 13: " in done.stdout
    assert contents(tmp_path / "out") == contents(whole)
    wrong = subprocess.run([*command[:-1], "size.hight=24"], capture_output=True, text=True, cwd=tmp_path)
    assert wrong.returncode == 2 and "hight" in wrong.stderr and "Traceback" not in wrong.stderr


def test_in_turn_is_lazy():
    made = in_turn(lambda n: 1 / n, [1, 0])
    assert next(made) == 1
