"""Several prepared folders as one data set: every clip of each comes back, and what does not fit is named."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from aqueduct.core.data.dataset import LatentDataset
from aqueduct.core.data.joined import joined
from aqueduct.core.data.shards import Clip, write_dataset
from aqueduct.core.tables import fill
from aqueduct.core.training.config import Files
from aqueduct.core.training.jobs.prepared import Clips, Latent

SETTINGS = {"latents": {"vae": "a", "std": 1.0}, "text": None, "classes": ["x", "y"]}


def write(folder: Path, *shapes: tuple[int, ...], first: int = 0, settings: dict = SETTINGS, **change) -> Path:
    def samples():
        for n, shape in enumerate(shapes, first):
            clip = replace(Clip(f"{n}.mp4", caption=f"clip {n}", label=n % 2), **change)
            yield clip, {"latent": torch.full(shape, float(n))}

    write_dataset(folder, samples(), settings, limit=2000)
    return folder


@pytest.fixture
def folders(tmp_path) -> list[Path]:
    small, wide = (2, 1, 8, 8), (2, 1, 8, 16)
    return [write(tmp_path / "a", *[small] * 5, wide), write(tmp_path / "b", wide, small, small, wide, first=6)]


def test_clips_of_all_folders_in_their_order(folders):
    """Shards have the same names in each."""
    both, (a, b) = joined(folders), map(LatentDataset.open, folders)
    assert len(both) == 10 and {clip.shard for clip in a.index.clips} & {clip.shard for clip in b.index.clips}
    for n in range(10):
        one = (a, b)[n // 6][n % 6]
        assert both[n]["caption"] == one["caption"] == f"clip {n}" and torch.equal(both[n]["latent"], one["latent"])
    assert {shape: rows.tolist() for shape, rows in both.buckets.items()} == {
        (2, 1, 8, 8): [0, 1, 2, 3, 4, 7, 8],
        (2, 1, 8, 16): [5, 6, 9],
    }


def test_the_order_is_that_of_one_folder_with_the_same_clips(folders, tmp_path):
    """A pure function of seed and step, whatever lies where."""
    shapes = [clip.shapes["latent"] for folder in folders for clip in LatentDataset.open(folder).index.clips]
    one = LatentDataset.open(write(tmp_path / "all", *shapes)).order(2, seed=3)
    order, again = joined(folders).order(2, seed=3), joined(folders).order(2, seed=3)
    later = [again.rows(step) for step in reversed(range(17))][::-1]
    assert all(torch.equal(order.rows(step), one.rows(step)) for step in range(17))
    assert all(torch.equal(order.rows(step), rows) for step, rows in enumerate(later))
    seen = Counter(int(row) for step in range(order.steps) for row in order.rows(step))
    assert set(seen) == set(range(10))


def test_one_folder_is_that_folder(folders):
    assert joined(folders[:1]).index == LatentDataset.open(folders[0]).index


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ({"settings": SETTINGS | {"latents": {"vae": "b", "std": 1.0}}}, "their VAEs differ"),
        ({"settings": SETTINGS | {"text": {"kind": "t5"}}}, "their text encoders differ: None and {'kind': 't5'}"),
        ({"settings": SETTINGS | {"classes": ["x", "z"]}}, "their classes differ"),
        ({"caption": None}, "their captions differ: of all and none"),
    ],
)
def test_folders_that_do_not_fit_are_both_named(folders, tmp_path, other, told):
    strange = write(tmp_path / "strange", (2, 1, 8, 8), **other)
    with pytest.raises(ValueError) as raised:
        joined([*folders, strange])
    assert told in str(raised.value) and str(folders[0]) in str(raised.value) and str(strange) in str(raised.value)


def test_other_tensors_no_folder_and_the_same_one_twice(folders, tmp_path):
    clip = Clip("a.mp4", caption="clip", label=0), {"latent": torch.ones(2, 1, 8, 8), "first": torch.ones(3, 8, 8)}
    write_dataset(tmp_path / "more", [clip], SETTINGS)
    with pytest.raises(ValueError, match=r"their tensors differ: \['latent'\] and \['first', 'latent'\]"):
        joined([folders[0], tmp_path / "more"])
    with pytest.raises(ValueError, match="no folder"):
        joined([])
    with pytest.raises(ValueError, match="a is named twice"):
        joined([folders[0], folders[1], folders[0].parent / "b" / ".." / "a"])
    with pytest.raises(FileNotFoundError, match="nowhere"):
        joined([folders[0], tmp_path / "nowhere"])


def test_a_recipe_names_one_folder_or_several(folders, tmp_path):
    one, two = (fill(Clips, {"folder": named, "batch": 2}, "a.toml") for named in ("a", ["a", "b"]))
    latent = Latent(scale=1.0)
    assert (len(one.open(Files(tmp_path), latent)), len(two.open(Files(tmp_path), latent))) == (6, 10)
    with pytest.raises(ValueError, match="a and b holds latents of a VAE with the scale 1, and"):
        two.open(Files(tmp_path), Latent(scale=2.0))
    with pytest.raises(ValueError, match="a.toml: folder"):
        fill(Clips, {"folder": 3, "batch": 2}, "a.toml")
