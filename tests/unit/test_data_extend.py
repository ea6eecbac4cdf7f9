"""More tensors beside those of prepared clips: what was there is there to the bit, what is new is made of the clip."""

import pytest
import torch

from aqueduct.core.data.dataset import LatentDataset
from aqueduct.core.data.extend import extend
from aqueduct.core.data.shards import Clip, write_dataset


@pytest.fixture
def source(tmp_path):
    generator = torch.Generator().manual_seed(0)
    samples = [
        (
            Clip(f"{n}.mp4", 3, 9, caption="x" * n, label=n % 2),
            {"latent": torch.randn(4, 2, 4, 4, generator=generator).half(), "mask": torch.ones(2, dtype=torch.bool)},
        )
        for n in range(5)
    ]
    write_dataset(tmp_path / "source", samples, {"classes": ["a", "b"]}, limit=600)
    return LatentDataset.open(tmp_path / "source")


def test_tensors_are_added_and_the_rest_stays(source, tmp_path):
    lengths = lambda sample: {"length": torch.tensor([len(sample["caption"])]), "sum": sample["latent"].sum()[None]}  # noqa: E731
    extend(source.folder, tmp_path / "out", lengths, limit=600)
    found = LatentDataset.open(tmp_path / "out")
    assert found.index.settings == source.index.settings
    assert len({clip.shard for clip in found.index.clips}) > 1
    for n, (old, new) in enumerate(zip(source.index.clips, found.index.clips, strict=True)):
        assert (old.path, old.first, old.last, old.caption, old.label) == (
            new.path, new.first, new.last, new.caption, new.label
        )  # fmt: skip
        for name in old.tensors:
            before, after = source.stored(n, name), found.stored(n, name)
            assert torch.equal(before, after) and before.dtype == after.dtype
        assert found.tensor(n, "length") == n
        assert found.tensor(n, "sum") == source.stored(n, "latent").float().sum()


def test_a_data_set_is_not_written_over_itself(source):
    with pytest.raises(ValueError, match="another folder"):
        extend(source.folder, source.folder, lambda sample: {})
    assert len(LatentDataset.open(source.folder)) == 5
