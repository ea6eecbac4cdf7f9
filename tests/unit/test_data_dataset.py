"""Shards and the order of batches: what was written comes back, bytes repeat, and every clip is seen once an epoch."""

import json
import pickle
from collections import Counter

import pytest
import torch

from aqueduct.core.data import dataset as dataset_module
from aqueduct.core.data.dataset import LatentDataset, Order
from aqueduct.core.data.shards import INDEX, Clip, ShardWriter, read_index, write_dataset, write_index, written

SHAPES = [(4, 3, 8, 8)] * 7 + [(4, 3, 4, 16)] * 3 + [(4, 5, 8, 8)]


def samples():
    generator = torch.Generator().manual_seed(0)
    for n, shape in enumerate(SHAPES):
        tensors = {
            "latent": torch.randn(shape, generator=generator).half(),
            "first": torch.randint(256, (3, 8, 8), generator=generator, dtype=torch.uint8),
            "mask": torch.rand(2, 2, 4, 4, generator=generator) > 0.5,
        }
        yield Clip(f"clips/{n}.mp4", first=2 * n, last=2 * n + 5, caption=f"clip {n}", label=n % 3), tensors


@pytest.fixture
def dataset(tmp_path):
    write_dataset(tmp_path, samples(), {"made": "here"}, limit=5000)
    return LatentDataset.open(tmp_path)


def test_what_was_written_comes_back(dataset):
    assert len(dataset) == len(SHAPES) and dataset.index.settings == {"made": "here"}
    for n, (clip, tensors) in enumerate(samples()):
        found = dataset[n]
        assert found["path"] == clip.path and found["caption"] == clip.caption and found["class"] == clip.label
        assert torch.equal(found["latent"], tensors["latent"].float()) and found["latent"].dtype == torch.float32
        assert torch.equal(found["first"], tensors["first"]) and torch.equal(found["mask"], tensors["mask"])
        assert (dataset.index.clips[n].first, dataset.index.clips[n].last) == (2 * n, 2 * n + 5)


def test_shards_are_bounded(dataset):
    held = Counter(clip.shard for clip in dataset.index.clips)
    one = 4 * 3 * 8 * 8 * 2 + 3 * 64 + 64
    assert max(held.values()) == 5000 // one and len(held) > 2
    assert {path.name for path in dataset.folder.iterdir()} == {*held, INDEX}


def test_bytes_repeat(tmp_path):
    folders = [tmp_path / name for name in "ab"]
    for folder in folders:
        write_dataset(folder, samples(), {"b": 1, "a": [1, 2]}, limit=5000)
    names = [path.name for path in sorted(folders[0].iterdir())]
    assert len(names) > 2
    for name in names:
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()


def test_views_of_one_tensor_are_written_whole(tmp_path):
    frames = torch.arange(48.0).view(2, 1, 2, 3, 4)
    write_dataset(tmp_path, [(Clip(f"{n}"), {"latent": frames[n].mT}) for n in (0, 1, 0)], {})
    dataset = LatentDataset.open(tmp_path)
    assert all(torch.equal(dataset[n]["latent"], frames[n % 2].mT) for n in range(3))


def test_a_data_set_goes_to_other_processes(dataset):
    dataset[0]
    copy = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(copy[3]["latent"], dataset[3]["latent"]) and list(copy.buckets) == list(dataset.buckets)


def test_buckets_are_the_shapes(dataset):
    assert {shape: len(rows) for shape, rows in dataset.buckets.items()} == Counter(SHAPES)
    assert all(dataset[int(row)]["latent"].shape == shape for shape, rows in dataset.buckets.items() for row in rows)


def test_a_batch_is_its_clips(dataset):
    rows = dataset.order(4, seed=3).rows(1)
    batch = dataset.batch(rows, ("latent", "first", "mask", "class"))
    for n, row in enumerate(rows):
        assert all(torch.equal(batch[name][n], dataset[int(row)][name]) for name in ("latent", "first", "mask"))
        assert batch["class"][n] == int(row) % 3


def test_a_batch_of_two_buckets_or_without_its_tensor_is_refused(dataset):
    with pytest.raises(ValueError, match="several shapes"):
        dataset.batch([0, 8])
    with pytest.raises(KeyError, match=r"clips/0.mp4 was prepared without 'forward'; it has first, latent, mask"):
        dataset.batch([0], ["forward"])


def test_the_largest_is_found_in_the_order(dataset):
    assert dataset.largest == 10
    for batch in (1, 3):
        order = dataset.order(batch, seed=5)
        steps = [step for step in range(order.steps) if 10 in order.rows(step)]
        assert order.first_with(10) == steps[0]


def test_shards_stay_open(tmp_path, monkeypatch):
    """More than a hundred of them: the second time nothing is opened."""
    opened, real = [], dataset_module._opened
    monkeypatch.setattr(dataset_module, "_opened", lambda path: opened.append(path.name) or real(path))
    write_dataset(tmp_path, ((Clip(f"{n}"), {"latent": torch.full((1, 1, 1, 1), n)}) for n in range(120)), {}, limit=1)
    data = LatentDataset.open(tmp_path)
    for _ in range(2):
        assert data.batch(range(120))["latent"].flatten().tolist() == list(range(120))
    assert len(opened) == len(set(opened)) == 120


@pytest.mark.parametrize("batch", [1, 2, 3, 4, 16])
def test_an_epoch_shows_every_clip_and_repeats_only_to_fill(dataset, batch):
    order = dataset.order(batch, seed=5)
    assert order.steps == sum(-(-count // batch) for count in Counter(SHAPES).values())
    bucket_of = {int(row): shape for shape, rows in dataset.buckets.items() for row in rows}
    for epoch in range(3):
        batches = [order.rows(epoch * order.steps + step).tolist() for step in range(order.steps)]
        assert all(len(rows) == batch and len({bucket_of[row] for row in rows}) == 1 for rows in batches)
        seen = Counter(row for rows in batches for row in rows)
        for rows in dataset.buckets.values():
            counts = [seen[int(row)] for row in rows]
            assert min(counts) >= 1 and max(counts) - min(counts) <= 1
            assert sum(counts) == -(-len(rows) // batch) * batch


def test_the_order_is_a_function_of_seed_and_step(dataset):
    order = dataset.order(2, seed=5)
    forwards = [order.rows(step) for step in range(40)]
    again = LatentDataset.open(dataset.folder).order(2, seed=5)
    assert all(torch.equal(again.rows(step), forwards[step]) for step in reversed(range(40)))
    torch.rand(100)  # draws elsewhere do not matter
    assert torch.equal(pickle.loads(pickle.dumps(dataset)).order(2, 5).rows(17), forwards[17])
    epochs = [tuple(map(tuple, (rows.tolist() for rows in forwards[n : n + order.steps]))) for n in (0, order.steps)]
    assert epochs[0] != epochs[1]
    other = dataset.order(2, seed=6)
    assert any(not torch.equal(other.rows(step), forwards[step]) for step in range(order.steps))


def test_clips_of_an_epoch_are_shuffled_evenly():
    order = Order([torch.arange(4)], batch=1, seed=0)
    first = Counter(int(order.rows(4 * epoch)) for epoch in range(2000))
    # binomial(2000, 1/4): five standard deviations are 97
    assert all(abs(first[clip] - 500) < 97 for clip in range(4))


def test_an_epoch_mixes_the_buckets(dataset):
    order = dataset.order(1, seed=0)
    shapes = [dataset.index.clips[int(order.rows(step))].shapes["latent"] for step in range(order.steps)]
    changes = sum(before != after for before, after in zip(shapes, shapes[1:], strict=False))
    assert changes > len(dataset.buckets)  # one bucket after the other would change one time fewer than there are
    firsts = {dataset.index.clips[int(order.rows(epoch * order.steps))].shapes["latent"] for epoch in range(40)}
    assert firsts == set(dataset.buckets)


def test_a_shard_without_a_clip_says_what_was_skipped(tmp_path):
    writer = ShardWriter(tmp_path, 0, plan="p")
    writer.skip("a.mp4", "frame 3: bad data")
    assert not written(tmp_path, 0, "p")
    writer.write()
    assert written(tmp_path, 0, "p") and not written(tmp_path, 0, "q")
    index = write_index(tmp_path, {}, 1)
    assert [(one.path, one.why) for one in index.skipped] == [("a.mp4", "frame 3: bad data")]
    with pytest.raises(ValueError, match=r"holds no clips; 1 were skipped, the first: a.mp4: frame 3: bad data"):
        LatentDataset.open(tmp_path)


def test_shards_of_a_longer_run_go(tmp_path):
    write_dataset(tmp_path, samples(), {}, limit=5000)
    write_dataset(tmp_path, list(samples())[:2], {}, limit=5000)
    assert {path.name for path in tmp_path.iterdir()} == {INDEX, "shard-00000.safetensors"}


def test_half_a_shard_is_not_taken_for_one(tmp_path):
    ShardWriter(tmp_path, 0, plan="p").write()
    path = tmp_path / "shard-00000.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    assert not written(tmp_path, 0, "p")


def test_what_is_no_data_set_is_refused(tmp_path, dataset):
    with pytest.raises(FileNotFoundError, match="there is no folder .*elsewhere; scripts/prepare.py makes one"):
        LatentDataset.open(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").mkdir()
    with pytest.raises(FileNotFoundError, match="holds no index.json"):
        LatentDataset.open(tmp_path / "elsewhere")
    (dataset.folder / dataset.index.clips[-1].shard).unlink()
    with pytest.raises(FileNotFoundError, match="is missing: prepare the data again"):
        LatentDataset.open(dataset.folder)
    (dataset.folder / INDEX).write_text(json.dumps({"format": 99}))
    with pytest.raises(ValueError, match="has format 99"):
        read_index(dataset.folder)


def test_an_unwritable_folder_is_named(tmp_path):
    with pytest.raises(OSError, match="free some space, or choose another output folder"):
        ShardWriter(tmp_path / "missing", 0).write()
