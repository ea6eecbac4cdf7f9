"""Finding and decoding: the right frames of every format, upright, at the right times, and damage by its frame."""

import random

import numpy as np
import pytest
import torch
from PIL import Image

from aqueduct.core.data import decoding
from aqueduct.core.data.clips import Source, Unreadable, class_names, find
from aqueduct.core.data.decoding import Reader, Timeline, Window, timeline
from aqueduct.core.data.survey import ClipSettings, survey
from aqueduct.tests.unit.data_videos import CODECS, STEP, cut, damage, numbers, write_video

SIZES = [(16, 16)]


def source_of(path) -> Source:
    return Source(path.name, (str(path),), path.stat().st_size)


def read(path, frames) -> torch.Tensor:
    source = source_of(path)
    line = timeline(source)
    window = Window(tuple(frames), line.times[frames[0] : frames[-1] + 1])
    return torch.stack(list(Reader(source).read(window)))


def surveyed(path, **clips):
    return survey(source_of(path), ClipSettings(**clips), SIZES, enlarge=1.0)


def write_frames(folder, count, size=(20, 30), start=1, name="f_{:03d}.png"):
    folder.mkdir(parents=True, exist_ok=True)
    for n in range(start, start + count):
        Image.fromarray(np.full((*size, 3), STEP * n, np.uint8)).save(folder / name.format(n))


@pytest.mark.parametrize("ending", CODECS)
def test_frames_by_index_in_every_format(tmp_path, ending):
    path = write_video(tmp_path / f"v{ending}", frames=24)
    line = timeline(source_of(path))
    assert (line.count, line.height, line.width, line.lost) == (24, 32, 48, 0)
    step = 1 if ending != ".gif" else 8  # 256 colours: greys of a few neighbours are the same
    for frames in (range(0, 24, step), range(8, 24, 8)):
        assert numbers(read(path, list(frames))) == pytest.approx(list(frames), abs=step - 1)


@pytest.mark.parametrize("options", [{}, {"x264-params": "open-gop=1:bframes=3:keyint=6:min-keyint=6:scenecut=0"}])
def test_seeking_finds_what_decoding_from_the_start_finds(tmp_path, monkeypatch, options):
    monkeypatch.setattr(decoding, "RUN_ON", 3)
    path = write_video(tmp_path / "v.mp4", frames=48, options=options, noise=8)
    whole = read(path, list(range(48)))
    source, draw = source_of(path), random.Random(0)
    times, reader = timeline(source).times, Reader(source)
    for _ in range(12):
        first = draw.randrange(44)
        frames = tuple(range(first, min(48, first + draw.randrange(1, 9)), draw.choice([1, 2])))
        found = torch.stack(list(reader.read(Window(frames, times[frames[0] : frames[-1] + 1]))))
        assert torch.equal(found, whole[list(frames)])


def test_a_real_video_by_seeking(sample_video):
    from aqueduct.scripts._media import video_path

    expected = (sample_video("bikes", range(100, 108)) * 255).round().to(torch.uint8)
    assert torch.equal(read(video_path("bikes"), list(range(100, 108))), expected)


def test_frames_asked_for_twice_come_twice(tmp_path):
    path = write_video(tmp_path / "v.mp4")
    assert numbers(read(path, [3, 3, 4, 6, 6])) == [3, 3, 4, 6, 6]


def test_a_rate_goes_by_time_stamps_not_by_counting(tmp_path):
    times = [0, 100, 200, 300, 1000, 1100, 1200, 2000, 2050, 2100]  # ms; frame n counts until n + 1 is shown
    path = write_video(tmp_path / "v.mkv", frames=len(times), times=times)
    line = timeline(source_of(path))
    end = line.end - line.times[0]
    for fps in (2, 4, 10, 20):
        shown = [max(n for n, time in enumerate(times) if time <= 1000 * k / fps + 0.4) for k in range(10 * fps)
                 if 1000 * k / fps < end]  # fmt: skip
        assert line.at_rate(fps) == shown


@pytest.mark.parametrize("base", [1000, 90_000, 30])
def test_a_rate_that_is_the_video_s_takes_every_frame_once(base):
    times = tuple(round(n * base / 30) for n in range(100))  # rounded, as containers do
    line = Timeline(100, 1, 1, times, round(100 * base / 30), 1 / decoding.Fraction(base))
    assert line.at_rate(30) == list(range(100))
    assert line.at_rate(15) == list(range(0, 100, 2))
    assert line.at_rate(60) == [n // 2 for n in range(200)]


def test_the_camera_s_rotation_is_undone(tmp_path):
    upright = read(write_video(tmp_path / "v.mp4", frames=2, size=(32, 48)), [0])[0]
    for degrees in (90, 180, -90):
        path = write_video(tmp_path / f"v{degrees}.mp4", frames=2, size=(32, 48), rotation=degrees)
        turned = read(path, [0])[0]
        line = timeline(source_of(path))
        assert (line.height, line.width) == tuple(turned.shape[1:]) == ((32, 48) if degrees == 180 else (48, 32))
        # the bright quarter was upper left, and where it goes is a matter of the clock alone
        height, width = turned.shape[1:]
        quarters = {
            (row, column): turned[:, row * height // 2 :, column * width // 2 :][:, : height // 2, : width // 2]
            .float().mean() for row in (0, 1) for column in (0, 1)
        }  # fmt: skip
        counterclockwise = {90: (1, 0), 180: (1, 1), -90: (0, 1)}
        assert max(quarters, key=quarters.get) == counterclockwise[degrees]
    assert upright[:, :10, :10].float().mean() > upright[:, 20:, 30:].float().mean() + 30


@pytest.mark.parametrize("ending", [".mp4", ".mov", ".avi"])
def test_a_damaged_packet_costs_the_clips_that_build_on_it_and_no_others(tmp_path, ending):
    path = damage(write_video(tmp_path / f"v{ending}", frames=48, noise=30, options={"bf": "0"}), 9)
    parts, skipped = surveyed(path, lengths=(4,))
    assert len(parts) == 12 and not skipped
    reader, broken = Reader(parts[0].source), {}
    for part in parts:
        try:
            assert len(list(reader.read(part.window))) == 4
        except Unreadable as why:
            assert why.path == path.name
            broken[part.window.frames[0]] = why.why
    # frames 10 to 15 build on frame 9, and nothing after the key frame 16 on them
    assert list(broken) == [8, 12]
    assert broken[8].startswith("frame 9: ")
    assert broken[12].startswith("a frame before frame 12, on which that builds: ")


@pytest.mark.parametrize("ending", [".mkv", ".webm"])
def test_a_file_cut_short_says_what_is_missing(tmp_path, ending):
    path = cut(write_video(tmp_path / f"v{ending}", frames=24, noise=30), 12)
    parts, skipped = surveyed(path, lengths=(4,))
    assert [part.window.frames[0] for part in parts][:2] == [0, 4] and len(parts) <= 4
    (one,) = skipped
    count = timeline(source_of(path)).count
    assert one.why == f"the file is cut short: {24 - count} of 24 frames are not there" and 9 <= count <= 14


def test_files_that_are_no_videos(tmp_path):
    for name, content in {"a.mp4": b"", "b.webm": b"words " * 99, "c.gif": b"GIF89a"}.items():
        (tmp_path / name).write_bytes(content)
        parts, skipped = surveyed(tmp_path / name)
        assert not parts and skipped[0].path == name
        assert skipped[0].why.startswith(("it cannot be opened", "it holds no")), skipped
        assert str(tmp_path) not in skipped[0].why


def test_a_broken_picture_in_a_run_is_named(tmp_path):
    write_frames(tmp_path, 6)
    (tmp_path / "f_004.png").write_bytes((tmp_path / "f_004.png").read_bytes()[:-30])
    write_frames(tmp_path, 1, size=(8, 8), start=6)
    (source,) = find(tmp_path)
    reader = Reader(source)
    assert numbers(reader.read(Window((0, 1, 2)))) == [1, 2, 3]
    with pytest.raises(Unreadable, match="frame 3: "):
        list(reader.read(Window((2, 3))))
    with pytest.raises(Unreadable, match="frame 5 is 8 x 8 pixels, those before it 30 x 20"):
        list(reader.read(Window((4, 5))))


def test_short_clips_say_what_they_have_and_what_they_need(tmp_path):
    path = write_video(tmp_path / "v.mp4", frames=12, fps=8)
    one = write_video(tmp_path / "one.mp4", frames=1)
    told = [
        surveyed(path, lengths=(16,)), surveyed(path, lengths=(5,), stride=3), surveyed(path, lengths=(8,), fps=4.0),
        surveyed(one, lengths=(2,)),
    ]  # fmt: skip
    assert all(not parts for parts, _ in told)
    assert [skipped[0].why for _, skipped in told] == [
        "it has 12 frames; a clip needs 16",
        "it has 12 frames, 4 of them with stride 3; a clip needs 5",
        "it has 12 frames, 6 of them at 4 frames a second; a clip needs 8",
        "it has 1 frame; a clip needs 2",
    ]


def test_small_clips_are_left_out(tmp_path):
    path = write_video(tmp_path / "v.mp4", size=(32, 48))
    parts, skipped = survey(source_of(path), ClipSettings((4,)), [(96, 96)], enlarge=2.0)
    assert (
        not parts and skipped[0].why == "it is 48 x 32 pixels and would be scaled up 3 times to 96 x 96; the most is 2"
    )
    assert survey(source_of(path), ClipSettings((4,)), [(96, 96)], enlarge=3.0)[0]


def test_windows_carry_the_times_of_their_frames(tmp_path):
    path = write_video(tmp_path / "v.mp4", frames=24)
    parts, _ = surveyed(path, lengths=(4,), stride=2)
    assert [part.window.frames for part in parts] == [(0, 2, 4, 6), (8, 10, 12, 14), (16, 18, 20, 22)]
    reader = Reader(source_of(path))
    assert [numbers(reader.read(part.window)) for part in parts] == [list(part.window.frames) for part in parts]


def test_find_tells_videos_runs_and_pictures_apart(tmp_path):
    write_video(tmp_path / "b.mp4", frames=2)
    write_video(tmp_path / "deep" / "a.gif", frames=2)
    write_frames(tmp_path / "run", 12, name="{}.png")  # 9.png before 10.png
    write_frames(tmp_path / "gap", 2)
    write_frames(tmp_path / "gap", 3, start=8)
    write_frames(tmp_path / "mixed", 1, name="cat.jpg")
    write_frames(tmp_path / "mixed", 1, name="dog_7.jpg")
    write_frames(tmp_path / ".hidden", 3)
    (tmp_path / "notes.md").write_text("no clip")
    found = {source.name: len(source.files) for source in find(tmp_path)}
    assert found == {
        "b.mp4": 1, "deep/a.gif": 1, "gap/f_001.png": 2, "gap/f_008.png": 3, "mixed/cat.jpg": 1, "mixed/dog_7.jpg": 1,
        "run/1.png": 12,
    }  # fmt: skip
    (run,) = [source for source in find(tmp_path) if source.name == "run/1.png"]
    assert numbers(Reader(run).read(Window(tuple(range(12))))) == list(range(1, 13))


def test_captions_lie_beside(tmp_path):
    write_video(tmp_path / "a.mp4", frames=2)
    write_frames(tmp_path / "walk", 3)
    write_frames(tmp_path, 1, name="cat.png")
    for name, text in {"a.txt": " two\nlines ", "walk.txt": "a walk", "cat.txt": "a cat"}.items():
        (tmp_path / name).write_text(text)
    captions = {source.name: source.caption for source in find(tmp_path)}
    assert captions == {"a.mp4": "two lines", "walk/f_001.png": "a walk", "cat.png": "a cat"}


def test_numbered_pictures_with_captions_are_pictures(tmp_path):
    write_frames(tmp_path, 4)
    assert [len(source.files) for source in find(tmp_path)] == [4]
    assert [len(source.files) for source in find(tmp_path, runs=False)] == [1] * 4
    for n in (1, 3, 4):
        (tmp_path / f"f_{n:03d}.txt").write_text(f"number {n}")
    found = [(source.name, len(source.files), source.caption) for source in find(tmp_path)]
    assert found == [("f_001.png", 2, "number 1"), ("f_003.png", 1, "number 3"), ("f_004.png", 1, "number 4")]


def test_classes_are_the_first_subfolders(tmp_path):
    for name in ("Zoo", "apple", "Zoo/deeper"):
        write_video(tmp_path / name / "v.mp4", frames=2)
    write_frames(tmp_path / "apple" / "run", 3)
    sources = find(tmp_path)
    assert {source.name: source.label for source in sources} == {
        "Zoo/deeper/v.mp4": 0, "Zoo/v.mp4": 0, "apple/v.mp4": 1, "apple/run/f_001.png": 1,
    }  # fmt: skip
    assert class_names(sources) == ["Zoo", "apple"]
    write_video(tmp_path / "loose.mp4", frames=2)
    assert {source.label for source in find(tmp_path)} == {None}


def test_folders_of_frames_are_no_classes(tmp_path):
    for name in ("one", "two"):
        write_frames(tmp_path / name, 3)
    assert {source.label for source in find(tmp_path)} == {None}


def test_folders_without_clips(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        find(tmp_path / "gone")
    with pytest.raises(ValueError, match="holds no videos and no pictures"):
        find(tmp_path)
