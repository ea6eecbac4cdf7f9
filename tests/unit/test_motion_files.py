"""Motion on disk: what goes in comes out, other programs agree, and foreign or damaged files say what is wrong."""

import struct

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from aqueduct.core.motion.field import MotionField
from aqueduct.core.motion.flow_files import load_motion, read_flo, save_motion, write_flo

STEPS, H, W = 3, 5, 7


def random_motion(backward: bool = True, masks: bool = True, seed: int = 0) -> MotionField:
    generator = torch.Generator().manual_seed(seed)
    fields = [20 * torch.randn(STEPS, 2, H, W, generator=generator) for _ in range(2 if backward else 1)]
    valid = [torch.rand(STEPS, H, W, generator=generator) > 0.3 for _ in fields] if masks else []
    names = dict(zip(("forward_valid", "backward_valid"), valid, strict=False))
    return MotionField(*fields, **names)


def tensors(motion: MotionField) -> dict[str, torch.Tensor]:
    names = ("forward", "backward", "forward_valid", "backward_valid")
    return {name: getattr(motion, name) for name in names if getattr(motion, name) is not None}


def assert_same(found: MotionField, expected: MotionField) -> None:
    found, expected = tensors(found), tensors(expected)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].dtype == value.dtype and torch.equal(found[name], value), name


def with_unknown_zeroed(motion: MotionField) -> MotionField:
    """As a .flo file keeps it: a vector that is not known has no value."""
    kept = tensors(motion)
    for name in ("forward", "backward"):
        if f"{name}_valid" in kept:
            kept[name] = kept[name] * kept[f"{name}_valid"][:, None]
    return MotionField(**kept)


# --- round trips ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backward", [True, False])
@pytest.mark.parametrize("masks", [True, False])
def test_round_trip_through_a_file(tmp_path, backward, masks):
    motion = random_motion(backward, masks)
    save_motion(tmp_path / "new" / "pan.safetensors", motion)
    assert_same(load_motion(tmp_path / "new" / "pan.safetensors"), motion)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["pan.safetensors"]


@pytest.mark.parametrize("backward", [True, False])
@pytest.mark.parametrize("masks", [True, False])
def test_round_trip_through_a_folder(tmp_path, backward, masks):
    motion = random_motion(backward, masks)
    save_motion(tmp_path / "deep" / "clip.v2", motion)
    assert_same(load_motion(tmp_path / "deep" / "clip.v2"), with_unknown_zeroed(motion))
    names = [f"{name}_{i:05d}.flo" for name in ("backward", "forward")[0 if backward else 1 :] for i in range(STEPS)]
    assert sorted(path.name for path in (tmp_path / "deep" / "clip.v2").iterdir()) == names


def test_half_precision_halves_the_file_and_rounds_by_one_part_in_2048(tmp_path):
    motion = random_motion(masks=False)
    full, half = tmp_path / "full.safetensors", tmp_path / "half.safetensors"
    save_motion(full, motion)
    save_motion(half, motion, dtype=torch.float16)
    assert full.stat().st_size - half.stat().st_size == pytest.approx(2 * STEPS * 2 * H * W * 2, abs=64)
    found = load_motion(half)
    assert found.forward.dtype == torch.float32
    assert ((found.forward - motion.forward).abs() <= motion.forward.abs() / 2048 + 1e-7).all()
    assert not torch.equal(found.forward, motion.forward)


def test_the_file_describes_itself(tmp_path):
    save_motion(tmp_path / "a.safetensors", random_motion())
    with safe_open(tmp_path / "a.safetensors", framework="pt") as file:
        metadata = file.metadata()
    assert metadata.pop("conventions").startswith("Pixels, channels (x, y)")
    assert metadata == {"format": "aqueduct-motion", "version": "1", "frames": "4", "height": "5", "width": "7"}
    assert load_file(tmp_path / "a.safetensors")["forward_valid"].dtype == torch.bool


def test_tensors_that_share_memory_are_saved_each(tmp_path):
    fields, mask = 20 * torch.randn(STEPS + 1, 2, H, W), torch.rand(STEPS, H, W) > 0.5
    for motion in (
        MotionField(fields[:-1], fields[:-1], mask, mask),  # one tensor there and back
        MotionField(fields[:-1], fields[1:]),  # two views that overlap
    ):
        save_motion(tmp_path / "a.safetensors", motion)
        assert_same(load_motion(tmp_path / "a.safetensors"), motion)


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "a.safetensors"
    save_motion(path, random_motion(seed=0))
    save_motion(path, random_motion(seed=1))
    assert_same(load_motion(path), random_motion(seed=1))


# --- .flo as others define it -----------------------------------------------------------------------------------------


def flo_bytes(rows: list[list[tuple[float, float]]]) -> bytes:
    """Middlebury's README, byte by byte: float tag, int32 width, int32 height, then u, v of each pixel, row by row."""
    data = struct.pack("<fii", 202021.25, len(rows[0]), len(rows))
    return data + b"".join(struct.pack("<ff", u, v) for row in rows for u, v in row)


def test_reads_a_flo_written_byte_by_byte(tmp_path):
    path = tmp_path / "tiny.flo"
    path.write_bytes(flo_bytes([[(1, -2), (3.5, 0), (1e10, 1e10)], [(0, 0), (2e9, 1), (float("nan"), 1)]]))
    flow, valid = read_flo(path)
    assert flow.tolist() == [[[1, 3.5, 0], [0, 0, 0]], [[-2, 0, 0], [0, 0, 0]]]
    assert valid.tolist() == [[True, True, False], [True, False, False]]
    motion = load_motion(path)
    assert motion.frames == 2 and motion.size == (2, 3) and motion.backward is None
    assert torch.equal(motion.forward_valid[0], valid)


def test_writes_what_the_format_asks_for(tmp_path):
    flow = torch.tensor([[[1.0, 3.5, 7.0]], [[-2.0, 0.0, 8.0]]])
    write_flo(tmp_path / "tiny.flo", flow, torch.tensor([[True, True, False]]))
    assert (tmp_path / "tiny.flo").read_bytes() == flo_bytes([[(1, -2), (3.5, 0), (1e10, 1e10)]])
    assert (tmp_path / "tiny.flo").read_bytes()[:4] == b"PIEH"
    assert flow[0, 0, 2] == 7  # the caller's field is left alone


def test_a_field_in_the_order_of_the_file_is_left_alone_too(tmp_path):
    """Rows of (x, y), as other programs hand flow on, seen as [2, H, W]: the file's own order, nothing is to copy."""
    rows = np.ones((H, W, 2), dtype=np.float32)
    write_flo(tmp_path / "tiny.flo", torch.from_numpy(rows).permute(2, 0, 1), torch.zeros(H, W, dtype=torch.bool))
    assert (rows == 1).all() and not read_flo(tmp_path / "tiny.flo")[1].any()


def test_opencv_agrees(tmp_path):
    cv2 = pytest.importorskip("cv2")
    flow = random_motion().forward[0]
    write_flo(tmp_path / "ours.flo", flow)
    assert np.array_equal(cv2.readOpticalFlow(str(tmp_path / "ours.flo")), flow.permute(1, 2, 0).numpy())
    assert cv2.writeOpticalFlow(str(tmp_path / "theirs.flo"), np.ascontiguousarray(flow.permute(1, 2, 0).numpy()))
    found, valid = read_flo(tmp_path / "theirs.flo")
    assert torch.equal(found, flow) and valid.all()


def test_a_data_sets_folder_is_read_in_the_order_of_its_numbers(tmp_path):
    motion = random_motion(backward=False, masks=False)
    for i, name in enumerate(("frame_9.flo", "frame_0010.flo", "frame_11.flo")):  # by name 11 would come before 9
        write_flo(tmp_path / name, motion.forward[i])
    assert_same(load_motion(tmp_path), motion)


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    save_motion(tmp_path / "clip", random_motion())
    return tmp_path / "clip"


def refuse(path, match, error=ValueError):
    with pytest.raises(error, match=match):
        load_motion(path)


def test_missing_frame_numbers_are_named(folder):
    (folder / "forward_00001.flo").unlink()
    refuse(folder, r"lacks 1 fields named like forward_0000\d\.flo: numbers 1$")


def test_as_many_backward_as_forward(folder):
    (folder / "backward_00002.flo").unlink()
    refuse(folder, r"lacks 1 fields named like backward_0000\d\.flo: numbers 2$")
    for path in folder.glob("forward*"):
        path.unlink()
    refuse(folder, "backward fields only")


def test_a_last_frame_missing_in_one_direction_is_missed(folder):
    (folder / "forward_00002.flo").unlink()
    refuse(folder, r"lacks 1 fields named like forward_0000\d\.flo: numbers 2$")


def test_the_first_frame_is_missed_too(folder):
    (folder / "forward_00000.flo").unlink()
    refuse(folder, r"numbers 0$")


def test_mixed_sizes_are_named(folder):
    write_flo(folder / "backward_00001.flo", torch.zeros(2, W, H))
    refuse(folder, "backward_00001.flo is 5 x 7 pixels, forward_00000.flo 7 x 5")


def test_foreign_names_in_a_folder(folder):
    write_flo(folder / "extra.flo", torch.zeros(2, H, W))
    refuse(folder, "extra.flo .* has no frame number")
    (folder / "extra.flo").rename(folder / "other_3.flo")
    refuse(folder, r"several names \(backward, forward, other\)")
    (folder / "other_3.flo").rename(folder / "forward_0.flo")
    refuse(folder, "same number")


def test_empty_and_absent(tmp_path):
    refuse(tmp_path, "holds no .flo files")
    refuse(tmp_path / "nowhere", "does not exist", FileNotFoundError)
    (tmp_path / "empty.flo").write_bytes(b"")
    refuse(tmp_path / "empty.flo", "empty.flo is empty")


@pytest.mark.parametrize(
    "change, match",
    [
        (lambda data: data[:-1], r"cut short: 291 bytes, 7 x 5 pixels are 292"),
        (lambda data: data + b"\0" * 8, r"too long: 300 bytes"),
        (lambda data: data[:7], "cut short: 7 bytes"),
        (lambda data: data[:4] + struct.pack("<ii", -7, 5) + data[12:], "-7 x 5 pixels"),
        (lambda data: b"HEIP" + data[4:], "no .flo file: it begins with b'HEIP'"),
    ],
    ids=["truncated", "longer", "header", "negative", "tag"],
)
def test_damaged_flo(folder, change, match):
    path = folder / "forward_00001.flo"
    path.write_bytes(change(path.read_bytes()))
    refuse(folder, f"forward_00001.flo .*{match}")


def changed(path, metadata=None, drop=(), **replaced):
    """The file again with other metadata or tensors."""
    with safe_open(path, framework="pt") as file:
        held = {key: file.get_tensor(key) for key in file.keys()}
        kept = {**file.metadata(), **(metadata or {})}
    held.update(replaced)
    save_file({k: v for k, v in held.items() if k not in drop}, path, {k: v for k, v in kept.items() if v is not None})


@pytest.mark.parametrize(
    "change, match",
    [
        ({"metadata": {"format": "else"}}, "holds no motion .*'else', expected 'aqueduct-motion'"),
        ({"metadata": {"format": None}}, "names no format"),
        ({"metadata": {"version": "2"}}, "version 2 of aqueduct-motion, this pack reads version 1: update"),
        ({"metadata": {"frames": "many"}}, "damaged: its metadata lacks"),
        ({"metadata": {"frames": "9"}}, r"damaged: of 9 frames .*forward: got \(3, 2, 5, 7\), expected \(8, 2, 5, 7\)"),
        ({"drop": ["forward"]}, r"1 missing \(forward\)"),
        ({"backward": torch.zeros(STEPS, 2, W, H)}, r"of another shape \(backward"),
        ({"extra": torch.zeros(1)}, r"1 unexpected \(extra\)"),
        ({"forward": torch.full((STEPS, 2, H, W), torch.nan)}, "motion.safetensors: .*finite"),
        ({"forward_valid": torch.zeros(STEPS, H, W)}, "motion.safetensors: forward_valid must be bool"),
    ],
    ids=["format", "no-format", "version", "words", "frames", "missing", "shape", "extra", "nan", "mask"],
)
def test_foreign_and_damaged_files(tmp_path, change, match):
    path = tmp_path / "motion.safetensors"
    save_motion(path, random_motion())
    changed(path, **change)
    refuse(path, match)


def test_truncated_and_other_kinds_of_files(tmp_path):
    path = tmp_path / "motion.safetensors"
    save_motion(path, random_motion())
    path.write_bytes(path.read_bytes()[:-10])
    refuse(path, "motion.safetensors is not a readable safetensors file")
    path.write_text("<html>")
    refuse(path, "neither a safetensors file nor")
    page = tmp_path / "page.flo"
    page.write_text("<html>")
    refuse(page, "page.flo is no .flo file")
    torch.save({"forward": torch.zeros(STEPS, 2, H, W)}, tmp_path / "motion.pt")
    refuse(tmp_path / "motion.pt", "holds no motion")


def test_saving_refuses_what_it_could_not_give_back(tmp_path, folder):
    with pytest.raises(FileExistsError, match="already holds .flo files"):
        save_motion(folder, random_motion())
    with pytest.raises(ValueError, match="holds one field"):
        save_motion(tmp_path / "a.flo", random_motion())
    with pytest.raises(ValueError, match="float32 or float16"):
        save_motion(tmp_path / "a.safetensors", random_motion(), dtype=torch.bfloat16)
    huge = MotionField(torch.full((1, 2, H, W), 7e4))
    with pytest.raises(ValueError, match="65504"):
        save_motion(tmp_path / "a.safetensors", huge, dtype=torch.float16)
    with pytest.raises(ValueError, match="mean unknown"):
        write_flo(tmp_path / "a.flo", torch.full((2, H, W), 1.1e9))
    with pytest.raises(ValueError, match="one field"):
        write_flo(tmp_path / "a.flo", torch.zeros(1, 2, H, W))
    assert not list(tmp_path.glob("a.*"))
