"""AqueductVideoDataset: a folder of clips through ComfyUI's VAEs, kept on the disk and found again."""

import os
import shutil

import numpy as np
import pytest
import torch

from aqueduct.tests.comfy.graph import run

av = pytest.importorskip("av")

FRAMES = 5
SMALL = {"width": 32, "height": 32, "frames": FRAMES}


def write_video(path, frames=12, width=48, height=48, level=None, fps=8):
    """Grey levels that rise from frame to frame, or one ``level``; lossless enough for means to be exact to 2 %."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"crf": "1"}
        for n in range(frames):
            value = 20 * n if level is None else level
            picture = np.full((height, width, 3), value, np.uint8)
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


@pytest.fixture
def output(comfy, tmp_path, monkeypatch):
    import folder_paths

    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path / "output"))
    return tmp_path / "output"


@pytest.fixture
def videos(tmp_path):
    folder = tmp_path / "videos"
    write_video(folder / "a.mp4")
    write_video(folder / "b.mkv", 6)
    (folder / "a.txt").write_text("a rising grey")
    return folder


def dataset_of(folder, **inputs):
    return run("AqueductVideoDataset", folder=str(folder), **{**SMALL, **inputs})


def image_vae(seed=0):
    import comfy.sd
    from comfy.taesd.taesd import TAESD

    from aqueduct.tests.comfy.hosts import random_state

    with torch.inference_mode():
        return comfy.sd.VAE(sd=random_state(TAESD(), seed))


def wan_vae():
    import comfy.ldm.wan.vae
    import comfy.sd

    from aqueduct.tests.comfy.hosts import random_state

    network = comfy.ldm.wan.vae.WanVAE(
        dim=8, z_dim=16, dim_mult=[1, 2, 4, 4], num_res_blocks=2, attn_scales=[],
        temperal_downsample=[False, True, True], dropout=0.0,
    )  # fmt: skip
    with torch.inference_mode():
        return comfy.sd.VAE(sd=random_state(network, 0))


class CountingVae:
    """A VAE that counts what it encodes, and stops when told to."""

    def __init__(self, vae, stop_at=None):
        self.vae, self.calls, self.stop_at = vae, 0, stop_at

    def __getattr__(self, name):
        return getattr(self.vae, name)

    def encode(self, pixels):
        import comfy.model_management as mm

        self.calls += 1
        if self.calls == self.stop_at:
            raise mm.InterruptProcessingException
        return self.vae.encode(pixels)


class WordClip:
    """A text encoder that gives the number of words, and remembers what it was asked."""

    def __init__(self):
        self.asked = []

    def tokenize(self, text):
        return text.split()

    def encode_from_tokens_scheduled(self, tokens):
        self.asked.append(tokens)
        return [[torch.full((1, 1, 1), float(len(tokens))), {}]]


def test_pixels_without_a_vae(output, videos):
    dataset, report, preview = dataset_of(videos)
    latents = dataset.latents
    assert [clip.path for clip in latents.index.clips] == ["a.mp4", "a.mp4", "b.mkv"]
    assert [(clip.first, clip.last) for clip in latents.index.clips] == [(0, 4), (5, 9), (0, 4)]
    means = latents[1]["latent"].mean((0, 2, 3))
    torch.testing.assert_close(means, (torch.arange(5.0) + 5) * 20 / 127.5 - 1, atol=0.03, rtol=0)
    assert latents[0]["caption"] == "a rising grey" and "caption" not in latents[2]
    assert dataset.conditioning is None and "3 clips of 2 files" in report and "nothing was skipped" in report
    assert preview.dim() == 4 and preview.shape[0] == 1 and preview.shape[-1] == 3


def test_the_preview_tells_clips_of_one_file_apart(output, tmp_path, monkeypatch):
    from aqueduct.nodes import training_data

    said = []
    monkeypatch.setattr(training_data, "contact_sheet", lambda pictures, captions: said.extend(captions))
    write_video(tmp_path / "videos" / "a.mp4")
    dataset_of(tmp_path / "videos")
    assert said == ["a.mp4", "a.mp4, frame 5"]


def test_an_image_vae_sees_frame_by_frame(output, videos):
    vae = image_vae()
    latents = dataset_of(videos, vae=vae)[0].latents
    sample = latents[0]
    assert sample["latent"].shape == (4, FRAMES, 4, 4)
    frame = (latents_of_pixels(videos)[0][:, 3] + 1) / 2
    with torch.inference_mode():
        alone = vae.encode(frame.movedim(0, -1)[None])[0]
    torch.testing.assert_close(sample["latent"][:, 3], alone.clone(), atol=2e-3, rtol=2e-3)


def latents_of_pixels(videos):
    latents = dataset_of(videos)[0].latents
    return [latents[n]["latent"] for n in range(len(latents))]


def test_a_video_vae_sees_clips_whole(output, videos):
    vae = wan_vae()
    latents = dataset_of(videos, vae=vae)[0].latents
    assert latents[0]["latent"].shape == (16, 2, 4, 4)
    clip = (latents_of_pixels(videos)[1] + 1) / 2
    with torch.inference_mode():
        alone = vae.encode(clip.movedim(0, -1))[0]
    torch.testing.assert_close(latents[1]["latent"], alone.clone(), atol=2e-3, rtol=2e-3)


def test_what_does_not_fit_the_vae_is_refused_with_what_does(output, videos):
    with pytest.raises(ValueError, match="clips of 6 frames do not fit this VAE, .* take 5 or 9"):
        dataset_of(videos, vae=wan_vae(), frames=6)
    with pytest.raises(ValueError, match="height is 36 pixels, and this VAE needs a multiple of 8: take 32"):
        dataset_of(videos, vae=image_vae(), height=36)


def test_it_is_found_again_and_made_anew_when_something_changed(output, videos):
    def made(vae, **inputs):
        counting = CountingVae(vae)
        dataset_of(videos, vae=counting, **inputs)
        return counting.calls

    assert made(image_vae()) == 3
    assert made(image_vae()) == 0
    assert made(image_vae(seed=1)) == 3
    assert made(image_vae(), width=40) == 3
    (videos / "a.txt").write_text("another caption")
    assert dataset_of(videos, vae=image_vae())[0].latents[0]["caption"] == "another caption"
    os.utime(videos / "b.mkv", (1, 1))
    assert made(image_vae()) == 3
    assert made(image_vae()) == 0


def test_a_file_that_came_changes_the_fingerprint(output, videos):
    from aqueduct.nodes.training_data import AqueductVideoDataset as node

    before = node.fingerprint_inputs(folder=str(videos))
    assert node.fingerprint_inputs(folder=str(videos)) == before
    write_video(videos / "c" / "c.mp4")
    assert node.fingerprint_inputs(folder=str(videos)) != before


def test_an_interrupt_leaves_the_cache_consistent(output, videos):
    import comfy.model_management as mm

    stopped = CountingVae(image_vae(), stop_at=2)
    with pytest.raises(mm.InterruptProcessingException):
        dataset_of(videos, vae=stopped)
    (folder,) = (output / "aqueduct" / "datasets").iterdir()
    assert not (folder / "index.json").exists() and not list(folder.glob("*.part"))
    dataset, *_ = dataset_of(videos, vae=image_vae())
    assert len(dataset.latents) == 3 and dataset.latents.folder == folder


def test_a_shard_deleted_by_hand_is_made_again(output, videos):
    folder = dataset_of(videos)[0].latents.folder
    (folder / "shard-00000.safetensors").unlink()
    assert len(dataset_of(videos)[0].latents) == 3


def test_captions_become_conditioning_as_core_makes_it(output, videos):
    clip = WordClip()
    dataset, *_ = dataset_of(videos, clip=clip, caption="two words")
    assert [float(one[0][0]) for one in dataset.conditioning] == [3, 3, 2]
    assert sorted(clip.asked) == [["a", "rising", "grey"], ["two", "words"]]
    assert dataset.latents[2]["caption"] == "two words"


def test_an_image_batch_is_a_clip(output):
    images = torch.linspace(0, 1, 12)[:, None, None, None].expand(12, 32, 32, 3)
    dataset, report, _ = run("AqueductVideoDataset", images=images, **SMALL)
    assert [(clip.first, clip.last) for clip in dataset.latents.index.clips] == [(0, 4), (5, 9)]
    means = dataset.latents[1]["latent"].mean((0, 2, 3))
    torch.testing.assert_close((means + 1) / 2, torch.linspace(0, 1, 12)[5:10], atol=0.003, rtol=0)
    again, *_ = run("AqueductVideoDataset", images=images.clone(), **SMALL)
    assert again.latents.folder == dataset.latents.folder
    other, *_ = run("AqueductVideoDataset", images=1 - images, **SMALL)
    assert other.latents.folder != dataset.latents.folder


def test_a_folder_and_images_are_one_data_set(output, videos):
    dataset, *_ = dataset_of(videos, images=torch.rand(FRAMES, 40, 40, 3))
    assert [clip.path for clip in dataset.latents.index.clips][-1] == "images/000000.png"
    assert len(dataset.latents) == 4


def test_mixed_sizes_go_to_buckets(output, tmp_path):
    folder = tmp_path / "mixed"
    for name, (width, height) in {"wide": (96, 48), "tall": (48, 96), "square": (64, 64)}.items():
        write_video(folder / f"{name}.mp4", FRAMES, width, height)
    latents = dataset_of(folder, buckets=True)[0].latents
    shapes = {clip.path: clip.shapes["latent"] for clip in latents.index.clips}
    square, tall, wide = (shapes[f"{name}.mp4"][-2:] for name in ("square", "tall", "wide"))
    assert square == (32, 32) and wide[1] / wide[0] == pytest.approx(2, rel=0.05) and tall == wide[::-1]
    assert len(latents.buckets) == 3
    assert all(latents.batch(latents.order(2, 0).rows(step))["latent"].shape[0] == 2 for step in range(3))
    cut = dataset_of(folder, buckets=False)[0].latents
    assert set(cut.buckets) == {(3, FRAMES, 32, 32)}


def test_subfolders_are_classes(output, tmp_path):
    folder = tmp_path / "classes"
    for n, name in enumerate(("walk", "Run")):
        write_video(folder / name / f"{n}.mp4", FRAMES)
    dataset, report, _ = dataset_of(folder)
    assert {clip.path: clip.label for clip in dataset.latents.index.clips} == {"Run/1.mp4": 0, "walk/0.mp4": 1}
    assert "2 classes: Run, walk" in report


def test_motion_lies_on_the_grid_of_the_latents(output, videos):
    pytest.importorskip("cv2")
    sample = dataset_of(videos, vae=image_vae(), motion=True)[0].latents[0]
    assert sample["forward"].shape == sample["backward"].shape == sample["mask"].shape == (FRAMES - 1, 2, 4, 4)
    assert sample["mask"].dtype == torch.bool


def test_unreadable_files_are_listed(output, videos):
    (videos / "empty.mp4").write_bytes(b"")
    (videos / "text.webm").write_bytes(b"this is no video at all" * 20)
    whole = (videos / "b.mkv").read_bytes()
    (videos / "half.mkv").write_bytes(whole[: len(whole) * 2 // 3])
    _, report, _ = dataset_of(videos)
    skipped = report.split("skipped ")[1]
    assert skipped.startswith("3:") and "empty.mp4: it cannot be opened" in skipped and "half.mkv: " in skipped
    assert "3 clips of 2 files" in report


def test_one_frame_clips_say_so(output, tmp_path):
    from PIL import Image

    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("cat", "dog"):
        Image.new("RGB", (40, 40), (255, 0, 0)).save(folder / f"{name}.png")
    with pytest.raises(ValueError, match=r"2 were skipped, the first: cat.png: it has 1 frame; a clip needs 5"):
        dataset_of(folder)
    latents = dataset_of(folder, frames=1)[0].latents
    assert latents[0]["latent"].shape == (3, 1, 32, 32)


@pytest.mark.parametrize(("folder", "told"), [
    ("", "give a folder of videos or pictures, or wire images"),
    ("not/there", "there is no folder 'not/there'"),
])  # fmt: skip
def test_a_folder_that_is_not_there(output, folder, told):
    with pytest.raises((ValueError, FileNotFoundError), match=told):
        run("AqueductVideoDataset", folder=folder, **SMALL)


def test_an_empty_folder(output, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no videos and no pictures"):
        dataset_of(tmp_path / "empty")


def test_a_folder_in_the_input_folder(output, videos):
    import folder_paths

    inside = os.path.join(folder_paths.get_input_directory(), "clips_of_mine")
    shutil.copytree(videos, inside)
    try:
        assert len(run("AqueductVideoDataset", folder="clips_of_mine", **SMALL)[0].latents) == 3
    finally:
        shutil.rmtree(inside)


def test_an_unwritable_output(output, videos):
    output.write_text("a file where the folder should be")
    with pytest.raises(OSError, match="cannot be made .*: choose another"):
        dataset_of(videos)


def test_several_folders_are_one_data_set(output, videos, tmp_path):
    """As if they were subfolders of one: files of one name are kept apart, and what each folder gave is told."""
    write_video(tmp_path / "others" / "videos" / "a.mp4", 6, level=200)
    write_video(tmp_path / "others" / "videos" / "short.mp4", 3)
    folders = [str(videos), f' "{tmp_path / "others" / "videos"}" ', ""]
    dataset, report, _ = dataset_of("\n".join(folders))
    clips = dataset.latents.index.clips
    assert [clip.path for clip in clips] == ["videos (2)/a.mp4", "videos/a.mp4", "videos/a.mp4", "videos/b.mkv"]
    assert [clip.label for clip in clips] == [1, 0, 0, 0] and "2 classes: videos, videos (2)" in report
    assert dataset.latents[0]["latent"].mean() == pytest.approx(200 / 127.5 - 1, abs=0.03)
    assert f"  videos: 3 clips of 2 files, 0 skipped ({videos})" in report.splitlines()
    assert f"  videos (2): 1 clips of 1 files, 1 skipped ({tmp_path / 'others' / 'videos'})" in report.splitlines()
    assert dataset_of(folders[0])[0].latents.index.clips[0].path == "a.mp4"


def test_folders_that_are_missing_or_named_twice_are_told(output, videos, tmp_path):
    with pytest.raises(FileNotFoundError, match=f"there is no folder '{tmp_path / 'none'}'"):
        dataset_of(f"{videos}\n{tmp_path / 'none'}")
    with pytest.raises(ValueError, match="videos is named twice"):
        dataset_of(f"{videos}\n{videos}/../videos")


def test_each_of_several_folders_is_looked_at_anew(output, videos, tmp_path):
    from aqueduct.tests.comfy.graph import node_class

    write_video(tmp_path / "more" / "a.mp4", 6)
    look = node_class("AqueductVideoDataset").fingerprint_inputs
    both = f"{videos}\n{tmp_path / 'more'}"
    before = look(folder=both)
    assert look(folder=both) == before != look(folder=str(videos))
    (tmp_path / "more" / "a.txt").write_text("a caption")
    assert look(folder=both) != before
