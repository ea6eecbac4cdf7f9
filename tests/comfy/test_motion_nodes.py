"""The motion nodes in ComfyUI's process: layouts, sizes, directions, and what they refuse."""

import pytest
import torch

from aqueduct.core.motion import MotionField, pixel_grid
from aqueduct.tests.comfy.graph import run, run_one

H, W, FRAMES = 40, 56, 4


def constant(x, y, frames=FRAMES, height=H, width=W):
    field = torch.tensor([x, y], dtype=torch.float32)[:, None, None].expand(frames - 1, 2, height, width).contiguous()
    return MotionField(field, -field)


def moving_clip(x, y, frames=FRAMES, height=H, width=W):
    """IMAGE batch of one smooth picture that moves by (x, y) pixels a frame; the picture, not the frame, is endless."""
    grid = pixel_grid(height, width)
    clip = []
    for t in range(frames):
        px, py = grid[0] - x * t, grid[1] - y * t
        clip.append(torch.stack([(px / 5).sin(), (py / 4).cos(), ((px + 2 * py) / 7).sin()], -1) / 2 + 0.5)
    return torch.stack(clip)


def test_optical_flow_of_a_moving_picture(comfy):
    motion = run_one("AqueductOpticalFlow", images=moving_clip(2, -1, 3, 96, 128), estimator="dis-medium")
    assert motion.size == (96, 128) and motion.frames == 3
    inner = (..., slice(16, -16), slice(16, -16))
    for field, sign in ((motion.forward, 1), (motion.backward, -1)):
        middle = field[inner].transpose(0, 1).flatten(1).median(1).values
        torch.testing.assert_close(middle, torch.tensor([2.0, -1.0]) * sign, atol=0.1, rtol=0)


def test_alpha_is_left_out_and_grey_repeated(comfy):
    clip = moving_clip(2, 0, 2, 96, 128)
    with_alpha = torch.cat([clip, torch.rand(2, 96, 128, 1)], -1)
    expected = run_one("AqueductOpticalFlow", images=clip).forward
    assert torch.equal(run_one("AqueductOpticalFlow", images=with_alpha).forward, expected)
    assert run_one("AqueductOpticalFlow", images=clip[..., :1]).frames == 2


@pytest.mark.parametrize("direction, first, second", [("next frame onto this", 1, 0), ("this frame onto next", 0, 1)])
def test_warp_aligns_a_frame_with_its_neighbour(comfy, direction, first, second):
    clip = moving_clip(3, -2)
    images, latent, valid = run("AqueductWarp", motion=constant(3, -2), images=clip, direction=direction)
    assert images.shape == (FRAMES - 1, H, W, 3) and valid.shape == (FRAMES - 1, H, W)
    target = clip[second : second + FRAMES - 1]
    known = valid.bool()
    assert 0.8 < known.float().mean() < 1
    torch.testing.assert_close(images[known], target[known], atol=1e-4, rtol=0)
    assert "no latent" in latent.message


def test_warp_of_frames_further_apart_composes(comfy):
    clip = moving_clip(3, -2)
    images, _, valid = run("AqueductWarp", motion=constant(3, -2), images=clip, apart=3)
    assert images.shape[0] == 1
    torch.testing.assert_close(images[0][valid[0].bool()], clip[0][valid[0].bool()], atol=1e-4, rtol=0)


@pytest.mark.parametrize("video", [False, True])
def test_warp_keeps_the_layout_of_a_latent(comfy, video):
    samples = torch.randn(FRAMES, 5, H, W)
    latent = {"samples": samples.movedim(0, 1)[None] if video else samples, "noise_mask": torch.ones(1, H, W), "x": 1}
    _, warped, _ = run("AqueductWarp", motion=constant(1, 0), latent=latent)
    frames = warped["samples"][0].movedim(1, 0) if video else warped["samples"]
    assert warped["samples"].dim() == latent["samples"].dim() and warped["x"] == 1 and "noise_mask" not in warped
    torch.testing.assert_close(frames[..., : W - 1], samples[1:, ..., 1:], atol=1e-4, rtol=0)


def test_resize_takes_the_size_of_what_is_wired(comfy):
    motion = constant(8, -4)
    assert run_one("AqueductResizeMotion", motion=motion, width=28, height=80).size == (80, 28)
    assert run_one("AqueductResizeMotion", motion=motion, images=torch.zeros(1, 10, 14, 3)).size == (10, 14)
    small = run_one("AqueductResizeMotion", motion=motion, latent={"samples": torch.zeros(1, 4, 5, 7)})
    assert small.size == (5, 7)
    torch.testing.assert_close(small.forward[:, 0], torch.ones(FRAMES - 1, 5, 7))
    torch.testing.assert_close(small.forward[:, 1], torch.full((FRAMES - 1, 5, 7), -0.5))


def test_advect_moves_the_image_and_marks_what_it_never_showed(comfy):
    clip = moving_clip(4, 0)
    images, unseen = run("AqueductAdvect", image=clip, motion=constant(4, 0))
    assert images.shape == clip.shape and unseen.shape == (FRAMES, H, W)
    assert torch.equal(images[0], clip[0]) and not unseen[0].any()
    for t in range(FRAMES):
        assert unseen[t, :, : 4 * t].all() and not unseen[t, :, 4 * t :].any()
        torch.testing.assert_close(images[t, :, 4 * t :], clip[t, :, 4 * t :], atol=1e-4, rtol=0)


def test_what_moves_keeps_its_alpha(comfy):
    sprite = torch.rand(FRAMES, H, W, 4, generator=torch.Generator().manual_seed(0))
    images, _ = run("AqueductAdvect", image=sprite, motion=constant(4, 0))
    torch.testing.assert_close(images[1, :, 4:, 3], sprite[0, :, :-4, 3], atol=1e-4, rtol=0)
    warped, *_ = run("AqueductWarp", images=sprite, motion=constant(4, 0))
    torch.testing.assert_close(warped[0, :, :-4, 3], sprite[1, :, 4:, 3], atol=1e-4, rtol=0)


def test_cycle_mask_tells_both_directions_apart(comfy):
    forward, backward = torch.zeros(2, 1, 2, H, W)
    forward[0, 0, 10:20, 10:20] = 8
    backward[0, 0, 10:20, 18:28] = -8
    motion = MotionField(forward, backward)
    valid, occluded, energy = run("AqueductCycleMask", motion=motion)
    assert torch.equal(valid, 1 - occluded) and energy.shape[0] == 1 and energy.shape[-1] == 3
    assert occluded[0, 11:19, 20:27].all()  # ground that the block covers next
    assert not occluded[0, 11:19, 11:18].any() and not occluded[0, :9].any()
    _, uncovered, _ = run("AqueductCycleMask", motion=motion, direction="backward")
    assert uncovered[0, 11:19, 11:17].all() and not uncovered[0, 11:19, 21:27].any()


def test_cycle_mask_inverts_where_only_forward_is_known(comfy):
    motion = MotionField(constant(3, 0).forward)
    valid, *_ = run("AqueductCycleMask", motion=motion)
    assert valid[:, :, : W - 3].all() and not valid[:, :, W - 3 :].any()


@pytest.mark.parametrize("node, inputs", [
    ("AqueductCycleMask", {}),
    ("AqueductWarp", {"images": torch.zeros(FRAMES, H, W, 3)}),
    ("AqueductAdvect", {"image": torch.zeros(1, H, W, 3)}),
    ("AqueductMotionPreview", {"style": "energy"}),
    ("AqueductComposeMotion", {"operation": "reverse"}),
])  # fmt: skip
def test_the_stop_button_is_heard_while_the_way_back_is_searched(comfy, monkeypatch, node, inputs):
    import comfy.model_management as mm

    from aqueduct.core.motion import field

    searched, invert = [], field.invert

    def counting(flow, **settings):
        result = invert(flow, **settings)
        searched.append(len(flow))
        return result

    monkeypatch.setattr(field, "invert", counting)
    mm.interrupt_current_processing(True)
    try:
        with pytest.raises(mm.InterruptProcessingException):
            run(node, motion=MotionField(constant(1, 0).forward), **inputs)
    finally:
        mm.interrupt_current_processing(False)
    assert not searched  # stopped in the search, not after it


@pytest.mark.parametrize("style", ["colours", "arrows", "grid", "energy"])
def test_previews_are_pictures_of_the_clip(comfy, style):
    pictures = run_one("AqueductMotionPreview", motion=constant(4, 2), style=style, images=moving_clip(4, 2))
    assert pictures.shape[0] in (FRAMES - 1, FRAMES) and pictures.shape[-1] == 3
    assert 0 <= pictures.min() and pictures.max() <= 1 and pictures.std() > 0.01


def test_a_motion_saved_is_the_motion_loaded(comfy):
    import folder_paths

    motion = MotionField(torch.randn(2, 2, 6, 9), torch.randn(2, 2, 6, 9), torch.rand(2, 6, 9) > 0.5)
    from aqueduct.nodes._comfy.places import saved

    for kind in ("safetensors", "flo folder"):
        written = run_one("AqueductSaveMotion", motion=motion, format=kind, filename_prefix="motion/try")
        name = next(entry for entry in saved((".safetensors", ".flo"), ".flo") if entry.split(" [")[0] in written)
        assert name.endswith("[output]") and folder_paths.get_output_directory() in written
        loaded = run_one("AqueductLoadMotion", file=name)
        assert torch.equal(loaded.backward, motion.backward)
    first, second = (run_one("AqueductSaveMotion", motion=motion, filename_prefix="motion/try") for _ in range(2))
    assert first != second


def test_a_changed_file_is_loaded_anew(comfy):
    """In a folder of fields too, whose own time stays as it was when a file in it is written over."""
    from pathlib import Path

    import folder_paths

    from aqueduct.core.motion.flow_files import write_flo
    from aqueduct.tests.comfy.graph import node_class

    load = node_class("AqueductLoadMotion")
    folder = Path(folder_paths.get_input_directory(), "again")
    folder.mkdir()
    for i in range(2):
        write_flo(folder / f"forward_{i:05d}.flo", torch.zeros(2, 3, 4))
    before = load.fingerprint_inputs("again")
    assert load.fingerprint_inputs("again") == before
    write_flo(folder / "forward_00001.flo", torch.ones(2, 3, 5))
    assert load.fingerprint_inputs("again") != before
    assert load.fingerprint_inputs(file=None) != load.fingerprint_inputs(file=None)  # a name handed in: unknown yet


def test_single_fields_are_listed_each_and_a_series_as_its_folder(comfy):
    from pathlib import Path

    import folder_paths

    from aqueduct.core.motion.flow_files import write_flo
    from aqueduct.nodes._comfy.places import saved

    for name in ("left.flo", "right.flo", "clip/frame_1.flo", "clip/frame_2.flo"):
        path = Path(folder_paths.get_input_directory(), "fields", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_flo(path, torch.zeros(2, 3, 4))
    listed = {name for name in saved((".flo",), ".flo") if name.startswith("fields")}
    assert listed == {"fields/left.flo", "fields/right.flo", "fields/clip"}
    assert all(run_one("AqueductLoadMotion", file=name).size == (3, 4) for name in listed)


def test_only_what_lies_in_the_folders_is_listed_and_read(comfy, tmp_path):
    from pathlib import Path

    import folder_paths

    from aqueduct.nodes._comfy.places import saved
    from aqueduct.tests.comfy.graph import node_class

    outside = tmp_path / "secret.safetensors"
    outside.write_bytes(b"")
    for name in ("../secret.safetensors", str(outside), "../../x [output]"):
        said = node_class("AqueductLoadMotion").validate_inputs(name)
        assert "outside" in said
        refuse("outside", "AqueductLoadMotion", file=name)
    link = Path(folder_paths.get_input_directory(), "gone.safetensors")
    link.symlink_to(tmp_path / "nothing.safetensors")
    try:
        assert "gone.safetensors" not in saved((".safetensors",), ".flo")
    finally:
        link.unlink()
    with pytest.raises(Exception, match="outside"):
        run("AqueductSaveMotion", motion=constant(0, 0), filename_prefix="../../escaped")


def test_a_mask_over_many_slow_frames_knows_what_they_uncover(comfy):
    """A block moves half a pixel a frame: every step passes the cycle test, the ground it uncovers does not."""
    forward, backward = torch.zeros(2, 12, 2, H, W)
    for i in range(12):
        forward[i, 0, 8:16, 6 + i // 2 : 14 + i // 2] = 0.5
        backward[i, 0, 8:16, 6 + (i + 1) // 2 : 14 + (i + 1) // 2] = -0.5
    *_, valid = run("AqueductWarp", motion=MotionField(forward, backward), images=torch.zeros(13, H, W, 3), apart=12,
                    direction="this frame onto next")  # fmt: skip
    assert not valid[0, 9:15, 7:10].any() and valid[0, :7].all() and valid[0, 9:15, 14:18].all()


def refuse(message, node, **inputs):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        run(node, **inputs)


def test_what_cannot_be_says_so_and_names_both_sides(comfy):
    still = constant(0, 0)
    refuse("two frames", "AqueductOpticalFlow", images=torch.rand(1, 64, 64, 3))
    refuse("not finite", "AqueductOpticalFlow", images=torch.full((2, 64, 64, 3), float("nan")))
    refuse("nothing to warp", "AqueductWarp", motion=still)
    refuse("4 frames, the clip 2.*by 0.3333", "AqueductWarp", motion=still, images=torch.zeros(2, H, W, 3))
    refuse("20 x 30 pixels, the flow 56 x 40.*Resize", "AqueductWarp", motion=still, images=torch.zeros(4, 30, 20, 3))
    refuse("set apart below", "AqueductWarp", motion=still, images=torch.zeros(4, H, W, 3), apart=4)
    refuse("one clip", "AqueductWarp", motion=still, latent={"samples": torch.zeros(2, 4, FRAMES, H, W)})
    refuse("56 x 40.*resize the motion", "AqueductAdvect", image=torch.zeros(1, 20, 30, 3), motion=still)
    refuse("at least 0", "AqueductCycleMask", motion=still, alpha1=-1.0)


@pytest.mark.parametrize("variant", ["raft-small", "raft-large"])
def test_missing_raft_weights_name_file_origin_and_folder(comfy, variant):
    with pytest.raises(FileNotFoundError) as missing:
        run("AqueductOpticalFlow", images=torch.rand(2, 64, 64, 3), estimator=variant)
    text = str(missing.value)
    assert "raft_" in text and "https://download.pytorch.org/models/" in text and "optical_flow" in text


def test_a_foreign_file_under_rafts_name_is_refused(comfy, tmp_path, monkeypatch):
    import folder_paths
    from safetensors.torch import save_file

    from aqueduct.core.motion.estimators import RELEASES

    name = RELEASES["raft-large"].file.replace(".pth", ".safetensors")
    save_file({"module.fnet.conv1.weight": torch.zeros(3)}, tmp_path / name)
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "optical_flow", ([str(tmp_path)], {".safetensors"}))
    refuse(f"{name}.*RAFT", "AqueductOpticalFlow", images=moving_clip(1, 1, 2, 64, 72), estimator="raft-large")


def test_raft_from_a_file_and_from_cores_socket_agree(comfy, tmp_path, monkeypatch):
    """Random weights in the published layout: what the file gives is what core's OPTICAL_FLOW gives."""
    import comfy.model_patcher
    import folder_paths
    from torchvision.models.optical_flow import raft_small

    from aqueduct.core.motion.estimators import RELEASES

    torch.manual_seed(0)
    network = raft_small(weights=None, progress=False).eval()
    torch.save(network.state_dict(), tmp_path / RELEASES["raft-small"].file)
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "optical_flow", ([str(tmp_path)], {".pth"}))
    images = moving_clip(1, 1, 2, 64, 72)
    from_file = run_one("AqueductOpticalFlow", images=images, estimator="raft-small")
    patcher = comfy.model_patcher.ModelPatcher(network, load_device=torch.device("cpu"), offload_device="cpu")
    from_socket = run_one("AqueductOpticalFlow", images=images, optical_flow=patcher)
    assert from_file.size == (64, 72)
    torch.testing.assert_close(from_socket.forward, from_file.forward)
    refuse("other packs", "AqueductOpticalFlow", images=images, optical_flow=[torch.zeros(64, 72, 2)])


def test_raft_from_cores_own_loader(comfy, tmp_path, monkeypatch):
    """The node itself, where this ComfyUI has it."""
    void = pytest.importorskip("comfy_extras.nodes_void", reason="this ComfyUI has no Load Optical Flow Model")
    import folder_paths
    from torchvision.models.optical_flow import raft_large

    from aqueduct.core.motion.estimators import RELEASES

    torch.manual_seed(0)
    file = RELEASES["raft-large"].file
    torch.save(raft_large(weights=None, progress=False).state_dict(), tmp_path / file)
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "optical_flow", ([str(tmp_path)], {".pth"}))
    images = moving_clip(1, 1, 2, 64, 72)
    with torch.inference_mode():
        (loaded,) = void.OpticalFlowLoader.execute(file).result
    from_core = run_one("AqueductOpticalFlow", images=images, optical_flow=loaded)
    from_file = run_one("AqueductOpticalFlow", images=images, estimator="raft-large")
    torch.testing.assert_close(from_core.forward, from_file.forward)
