"""Triples out of photographs: crops that lie on their controls, exemplars that belong, and files that do not serve."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from aqueduct.core.controls import canny
from aqueduct.core.training.exemplar_folder import ExemplarFolder
from aqueduct.core.training.exemplar_pairs import PictureCrops
from aqueduct.core.training.restoration import pyramid


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def gradient(height: int, width: int, blue: int = 0) -> torch.Tensor:
    """uint8 ``[3, h, w]`` that tells where each of its pixels is: red = x, green = y, blue = which picture."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([x, y, torch.full_like(x, blue)]).byte()


def places(crops: torch.Tensor) -> torch.Tensor:
    """``[n, 3, s, s]`` in -1..1 back to whole numbers (x, y, picture)."""
    return ((crops + 1) * 127.5).round().int()


def red(photos: torch.Tensor) -> torch.Tensor:
    return photos[:, :1]


def save(picture: torch.Tensor, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture.movedim(0, -1).numpy()).save(path)
    return path


def test_both_crops_are_of_one_picture_at_one_scale_and_the_control_is_the_crops():
    pictures = [gradient(40, 60, 1), gradient(90, 50, 2)]
    triples = PictureCrops(pictures, 32).sample(60, seeded(), red)
    photos, exemplars = places(triples.photo), places(triples.exemplar)
    assert torch.equal(photos[:, 2, 0, 0], exemplars[:, 2, 0, 0]) and photos[:, 2].unique().tolist() == [1, 2]
    for crops in (photos, exemplars):
        assert crops[:, 0].diff(dim=-1).abs().eq(1).all() and crops[:, 1].diff(dim=-2).eq(1).all()  # one pixel apart
    assert torch.equal(triples.control, triples.photo[:, :1].expand(-1, 3, -1, -1))
    assert (photos != exemplars).flatten(1).any(1).float().mean() > 0.95


def test_crops_come_from_everywhere_and_both_ways_round():
    photos = places(PictureCrops([gradient(40, 60)], 32).sample(300, seeded(1), red).photo)
    assert photos[:, 0].amin((1, 2)).unique().tolist() == list(range(29))
    assert photos[:, 1, 0, 0].unique().tolist() == list(range(9))
    mirrored = photos[:, 0, 0, 0] > photos[:, 0, 0, 1]
    assert 110 < int(mirrored.sum()) < 190


def test_levels_of_a_pyramid_are_scales():
    levels = pyramid(gradient(200, 240), [100, 50])
    photos = places(PictureCrops(levels, 40).sample(80, seeded(2), canny).photo)
    step = (photos[:, 0, 0, 38] - photos[:, 0, 0, 1]).abs().float() / 37
    assert ((step - 2).abs().lt(0.1) | (step - 4).abs().lt(0.1)).all()
    assert step.lt(3).any() and step.gt(3).any()


def test_the_same_seed_gives_the_same_crops():
    crops = PictureCrops([gradient(40, 60), gradient(50, 50)], 32)
    first, again, other = (crops.sample(5, seeded(seed), canny) for seed in (3, 3, 4))
    assert torch.equal(first.photo, again.photo) and torch.equal(first.exemplar, again.exemplar)
    assert torch.equal(first.control, again.control) and not torch.equal(first.photo, other.photo)


def test_pictures_without_room_for_two_crops_are_refused():
    with pytest.raises(ValueError, match=r"\(3, 30, 60\)"):
        PictureCrops([gradient(40, 60), gradient(30, 60)], 32)
    with pytest.raises(ValueError, match="two crops of 32"):
        PictureCrops([gradient(32, 32)], 32)
    with pytest.raises(ValueError, match="no pictures"):
        PictureCrops([], 32)
    assert PictureCrops([gradient(32, 33)], 32).sample(1, seeded(), canny).photo.shape == (1, 3, 32, 32)


def test_a_subfolder_is_one_person_and_the_exemplar_another_picture_of_it(tmp_path):
    for n in range(3):
        save(gradient(32, 32, 10 + n), tmp_path / "anna" / f"{n}.png")
        save(gradient(32, 32, 20 + n), tmp_path / "ben" / f"{n}.png")
    data = ExemplarFolder(tmp_path, 32, canny)
    triples = data.sample(60, seeded())
    photos, exemplars = places(triples.photo)[:, 2, 0, 0], places(triples.exemplar)[:, 2, 0, 0]
    assert torch.equal(photos // 10, exemplars // 10) and not (photos == exemplars).any()
    assert len(set(zip(photos.tolist(), exemplars.tolist(), strict=True))) == 12  # all ordered pairs of both
    assert not data.skipped and len(data.partners) == 6
    assert torch.equal(triples.control, 2 * canny((triples.photo + 1) / 2).expand(-1, 3, -1, -1) - 1)


def test_a_picture_alone_is_its_own_exemplar_by_another_crop(tmp_path):
    save(gradient(100, 120, 1), tmp_path / "a.png")
    save(gradient(100, 120, 2), tmp_path / "b.png")
    save(gradient(100, 120, 3), tmp_path / "carla" / "c.png")
    triples = ExemplarFolder(tmp_path, 32, red).sample(40, seeded())
    photos, exemplars = places(triples.photo), places(triples.exemplar)
    assert torch.equal(photos[:, 2], exemplars[:, 2]) and photos[:, 2].unique().tolist() == [1, 2, 3]
    assert (photos[:, :2] != exemplars[:, :2]).flatten(1).any(1).float().mean() > 0.9
    scale = (photos[:, 0, 0, 30] - photos[:, 0, 0, 1]).float() / 29
    exemplar_scale = (exemplars[:, 0, 0, 30] - exemplars[:, 0, 0, 1]).float() / 29
    assert (scale - exemplar_scale).abs().max() < 0.15  # one scale, of 100 / 64 and 100 / 48
    assert ((scale - 1.56).abs().lt(0.1) | (scale - 2.08).abs().lt(0.1)).all()


@pytest.mark.parametrize("separator", [",", " "])
def test_a_pairs_file_says_who_goes_with_whom(tmp_path, separator):
    for n in range(4):
        save(gradient(32, 32, n), tmp_path / "img" / f"{n}.png")
    lines = [separator.join((r"img\0.png", "img/1.png", "img/2.png")), "", separator.join(("img/3.png", "img/0.png"))]
    pairs = tmp_path / "pairs.txt"
    pairs.write_text("\n".join(lines))
    triples = ExemplarFolder(tmp_path, 32, red, pairs).sample(40, seeded())
    which = [places(images)[:, 2, 0, 0].tolist() for images in (triples.photo, triples.exemplar)]
    assert set(zip(*which, strict=True)) == {(0, 1), (0, 2), (3, 0)}


def test_pairs_that_name_what_is_not_there(tmp_path):
    save(gradient(32, 32), tmp_path / "a.png")
    pairs = tmp_path / "pairs.txt"
    pairs.write_text("a.png,b.png\nc.png,a.png\n")
    with pytest.raises(ValueError, match="2 pictures that are not there, the first .*b.png"):
        ExemplarFolder(tmp_path, 32, red, pairs)
    pairs.write_text("a.png,a.png\na.png\n")
    with pytest.raises(ValueError, match="line 2 is 'a.png'"):
        ExemplarFolder(tmp_path, 32, red, pairs)


def test_a_control_that_lies_beside_is_cut_and_scaled_with_its_photograph(tmp_path):
    """The control is the photograph with red and green exchanged, so each pixel must say the same place twice."""
    photos, poses = tmp_path / "photos", tmp_path / "poses"
    for n in range(2):
        picture = gradient(64, 100, n)
        save(picture, photos / "anna" / f"{n}.png")
        save(picture[[1, 0, 2]], poses / "anna" / f"{n}.bmp")
    triples = ExemplarFolder(photos, 32, poses).sample(30, seeded())
    photo, control = places(triples.photo), places(triples.control)
    assert (photo[:, :2] - control[:, [1, 0]]).abs().max() <= 2  # scaled by averaging, and to the nearest
    assert torch.equal(photo[:, 2], control[:, 2])
    assert photo[:, 0, 0, 0].unique().numel() > 5


def test_colours_of_a_mask_stay_those_of_its_classes(tmp_path):
    palette = torch.tensor([[0, 0, 0], [255, 0, 0], [0, 0, 255]]).byte()
    labels = torch.randint(0, 3, (90, 90), generator=seeded())
    save(gradient(90, 90), tmp_path / "photos" / "a.png")
    save(palette[labels].movedim(-1, 0), tmp_path / "masks" / "a.png")
    colours = places(ExemplarFolder(tmp_path / "photos", 32, tmp_path / "masks").sample(4, seeded()).control)
    assert {tuple(c) for c in colours.movedim(1, -1).reshape(-1, 3).tolist()} == {tuple(c) for c in palette.tolist()}


def test_a_control_of_another_size_or_in_two_versions_is_an_error(tmp_path):
    save(gradient(40, 50), tmp_path / "photos" / "a.png")
    save(gradient(40, 40), tmp_path / "masks" / "a.png")
    with pytest.raises(ValueError, match="a.png is 40 x 40 pixels and its photograph .*a.png 50 x 40"):
        ExemplarFolder(tmp_path / "photos", 32, tmp_path / "masks")
    save(gradient(40, 50), tmp_path / "masks" / "a.bmp")
    with pytest.raises(ValueError, match="more than one control"):
        ExemplarFolder(tmp_path / "photos", 32, tmp_path / "masks")


def test_files_that_do_not_serve_are_listed_and_the_rest_is_used(tmp_path):
    photos, masks = tmp_path / "photos", tmp_path / "masks"
    for name in ("good", "small", "square", "bare", "blind"):
        size = {"small": (31, 80), "square": (32, 32)}.get(name, (40, 50))
        save(gradient(*size, 7), photos / f"{name}.png")
        if name != "bare":
            save(gradient(*size), masks / f"{name}.png")
    (photos / "broken.png").write_bytes(b"no picture")
    (masks / "blind.png").write_bytes(b"no picture")
    (photos / "notes.txt").write_text("of no concern")
    data = ExemplarFolder(photos, 32, masks)
    reasons = {path.relative_to(tmp_path).as_posix(): why for path, why in data.skipped.items()}
    assert set(data.partners) == {photos / "good.png"}
    assert "80 x 31" in reasons.pop("photos/small.png") and "two different crops" in reasons.pop("photos/square.png")
    assert "no control bare" in reasons.pop("photos/bare.png") and "read" in reasons.pop("photos/broken.png")
    assert "cannot be read" in reasons.pop("masks/blind.png") and not reasons
    assert places(data.sample(3, seeded()).photo)[:, 2].eq(7).all()


def test_a_file_that_breaks_off_is_set_aside_when_it_is_drawn(tmp_path):
    noise = torch.randint(0, 256, (3, 64, 64), generator=seeded()).byte()
    for name in ("a", "b", "c"):
        save(noise, tmp_path / "anna" / f"{name}.png")
    torn = tmp_path / "anna" / "b.png"
    torn.write_bytes(torn.read_bytes()[:3000])  # its header is whole
    data = ExemplarFolder(tmp_path, 32, red)
    assert torn in data.partners and not data.skipped
    assert data.sample(20, seeded()).photo.shape == (20, 3, 32, 32)
    assert set(data.skipped) == {torn} and torn not in data.partners
    assert all(torn not in group for group in data.partners.values())


def test_once_settled_draws_do_not_depend_on_those_before(tmp_path):
    """A training that goes on in the middle draws what it would have drawn."""
    whole = [save(gradient(24, 24 + n), tmp_path / "one" / f"{n}.png") for n in range(4)]
    alone = save(gradient(16, 16), tmp_path / "two" / "a.png")
    for path in (whole[1], save(gradient(16, 16), tmp_path / "two" / "b.png")):
        path.write_bytes(path.read_bytes()[:-30])

    def settled() -> ExemplarFolder:
        return ExemplarFolder(tmp_path, 16, red).settle()

    folder = settled()
    assert set(folder.skipped) == {whole[1], alone.with_name("b.png"), alone}
    assert "two different crops" in folder.skipped[alone]
    for _ in range(3):
        folder.sample(4, seeded(1))
    one, other = folder.sample(4, seeded(2)), settled().sample(4, seeded(2))
    assert all(torch.equal(*pair) for pair in zip(vars(one).values(), vars(other).values(), strict=True))


def test_the_last_to_break_ends_it_with_the_reason(tmp_path):
    noise = torch.randint(0, 256, (3, 64, 64), generator=seeded()).byte()
    torn = save(noise, tmp_path / "a.png")
    torn.write_bytes(torn.read_bytes()[:3000])
    with pytest.raises(ValueError, match="no picture in .* can be used .*a.png: cannot be read"):
        ExemplarFolder(tmp_path, 32, red).sample(1, seeded())


def test_an_empty_folder_and_none_at_all(tmp_path):
    with pytest.raises(ValueError, match="it holds no .*jpg"):
        ExemplarFolder(tmp_path, 32, red)
    with pytest.raises(ValueError, match="no folder .*nowhere"):
        ExemplarFolder(tmp_path / "nowhere", 32, red)


def test_a_camera_held_upright(tmp_path):
    """Orientation 6: rows of the file run down what a viewer shows, over which the control was drawn."""
    picture = gradient(40, 60, 90)
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "photos").mkdir()
    stored = picture.rot90(1, (1, 2)).movedim(0, -1).contiguous().numpy()
    Image.fromarray(stored).save(tmp_path / "photos" / "a.jpg", exif=exif, quality=98, subsampling=0)
    assert Image.open(tmp_path / "photos" / "a.jpg").size == (40, 60)
    save(picture[[1, 0, 2]], tmp_path / "controls" / "a.png")
    triples = ExemplarFolder(tmp_path / "photos", 32, tmp_path / "controls").sample(8, seeded())
    assert (places(triples.photo)[:, :2] - places(triples.control)[:, [1, 0]]).abs().max() <= 6  # a JPEG


def test_folder_triples_repeat_with_the_seed(tmp_path):
    for n in range(3):
        save(gradient(50, 40, n), tmp_path / "anna" / f"{n}.png")
    data = ExemplarFolder(tmp_path, 32, canny)
    first, again, other = (data.sample(6, seeded(seed)) for seed in (5, 5, 6))
    assert np.array_equal(first.photo, again.photo) and np.array_equal(first.exemplar, again.exemplar)
    assert not np.array_equal(first.photo, other.photo)
