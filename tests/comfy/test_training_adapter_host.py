"""Motion adapters that learn beside tiny core MODELs: Wan's from nothing, Stable Video Diffusion's from one it has."""

import gc
import weakref
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from aqueduct.core.data.dataset import LatentDataset
from aqueduct.core.data.shards import Clip, write_dataset
from aqueduct.tests.comfy import adapter_files
from aqueduct.tests.comfy.graph import run, run_one, sample_stock
from aqueduct.tests.comfy.host_training import asking
from aqueduct.tests.comfy.hosts import HOSTS, Host, normal
from aqueduct.tests.comfy.test_training_nodes import models  # noqa: F401
from aqueduct.tests.comfy.training_files import Clips

NODE, SIDE, STRIDE = "AqueductTrainMotionAdapter", 64, 8


def write_clips(
    folder: Path, channels: int, frames: int, film: int, motion: bool = True, speed: float = 2.0
) -> LatentDataset:
    """``frames`` latent ones of ``film``; everything slides by ``speed`` pixels a frame, and masks are at random."""
    flow = torch.zeros(film - 1, 2, SIDE, SIDE)
    flow[:, 0] = speed

    def samples():
        for n in range(2):
            cells = SIDE // STRIDE
            first = (normal(3, SIDE, SIDE, seed=n) * 50 + 128).clamp(0, 255).byte()
            tensors = {"latent": normal(channels, frames, cells, cells, seed=10 + n), "first": first}
            mask = normal(frames - 1, 2, cells, cells, seed=20 + n) > 0
            moved = {"forward": flow, "backward": -flow, "mask": mask}
            yield Clip(f"{n}.mp4", 0, film - 1), tensors | (moved if motion else {})

    write_dataset(folder, samples(), {})
    return LatentDataset.open(folder)


def train(host: Host, data: LatentDataset, **inputs) -> tuple:
    settings = {"steps": 4, "batch": 2, "sample_every": 0, "learning_rate": 1e-2}
    return run(NODE, **{"model": host.model, "dataset": Clips(data, [host.positive] * 2), **settings, **inputs})


def applied(host: Host, adapter, frames: int) -> Tensor:
    """A sample along the motion of the data."""
    motion = adapter_files.sliding(frames, SIDE, SIDE, 2.0)
    image = torch.rand(1, SIDE, SIDE, 3, generator=torch.Generator().manual_seed(0))
    model = run_one("AqueductApplyMotionAdapter", model=host.model, adapter=adapter, motion=motion, image=image)
    latent = torch.zeros(1, 16, 2, 8, 8)
    return sample_stock(model, latent, host.positive, host.negative)


def test_wans_is_trained_from_nothing(models, tmp_path):  # noqa: F811
    """The MODEL stays as it is, what is loaded changes a sample, and it can be trained on."""
    host = HOSTS["wan-t2v"]()
    before = {key: value.clone() for key, value in host.model.model.diffusion_model.state_dict().items()}
    data = write_clips(tmp_path / "clips", 16, 2, 5)
    adapter, file, _, _ = train(host, data)
    after = host.model.model.diffusion_model.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
    loaded, _ = run("AqueductLoadMotionAdapter", file=Path(file).name)
    assert loaded.config["parts"]["adapter"]["arguments"]["stride"] == 16
    plain = sample_stock(host.model, torch.zeros(1, 16, 2, 8, 8), host.positive, host.negative)
    one, other = applied(host, adapter, 5), applied(host, loaded, 5)
    assert torch.equal(one, other) and not torch.equal(one, plain) and one.isfinite().all()
    _, again, _, _ = train(host, data, adapter=adapter, learning_rate=0.0, filename_prefix="again")
    own, same = load_file(file), load_file(again)
    assert all(torch.equal(own[key], same[key]) for key in own)


def test_svds_goes_on_from_one(models, tmp_path):  # noqa: F811
    host = HOSTS["svd"]()
    data = write_clips(tmp_path / "clips", 4, 3, 3)
    with pytest.raises(ValueError, match="is not made anew: wire one to `adapter`"):
        train(host, data)
    adapter_files.write(models, "mofa.safetensors", "adapter", *adapter_files.KINDS["svd"], 2)
    start, _ = run("AqueductLoadMotionAdapter", file="mofa.safetensors")
    _, file, _, _ = train(host, data, adapter=start, steps=2)
    own, theirs = load_file(file), load_file(models / "mofa.safetensors")
    assert own.keys() == theirs.keys()
    assert any(not torch.allclose(own[key].float(), theirs[key], atol=1e-3) for key in own)


@pytest.mark.parametrize(("kind", "shape", "compression"), [("wan-t2v", (16, 3, 9), 4), ("svd", (4, 3, 3), 1)])
def test_eq_10_is_where_the_prepared_mask_says(comfy, tmp_path, kind, shape, compression):
    """By hand, of what is at rest, on latents: cells of 8 pixels, in which the cycle test would forgive nearly all."""
    from aqueduct.core.training.clip_tasks import AdapterObjective
    from aqueduct.nodes._comfy.host_loss import white
    from aqueduct.nodes._comfy.training_adapter_host import AdapterLoss, Learning

    host, data = HOSTS[kind](), write_clips(tmp_path, *shape, speed=0.0)
    learning = Learning(None, SimpleNamespace(compression=compression), data)

    def body(asked):
        predict, seen = asked.predict, []
        asked.predict = lambda *given, **state: seen.append(predict(*given, **state)) or seen[-1]
        found = {}
        for mask, weight in (("none", 0.0), ("none", 1.0), ("bidirectional", 1.0)):
            loss = AdapterLoss(asked, white, learning, AdapterObjective(mask, weight))
            found[mask, weight] = loss(loss.draw(torch.tensor([1]), torch.Generator().manual_seed(0))).detach()
        return found, seen[-1].detach()

    found, z = asking(host, data, body)
    z = z[0] if z.dim() == 5 else z.movedim(0, 1)
    change = (z[:, 1:] - z[:, :-1]).abs().sum(0)
    mask = data.tensor(1, "mask")[:, 0]
    expected = {"none": change.mean(), "bidirectional": change[mask].mean()}
    for name, term in expected.items():
        assert torch.allclose(found[name, 1.0] - found["none", 0.0], term, rtol=1e-4)
    assert abs(expected["none"] / expected["bidirectional"] - 1) > 1e-3


def test_what_does_not_fit_is_refused(models, tmp_path):  # noqa: F811
    host = HOSTS["wan-t2v"]()
    with pytest.raises(ValueError, match="2 of 2 clips have no motion"):
        train(host, write_clips(tmp_path / "still", 16, 2, 5, motion=False))
    with pytest.raises(ValueError, match="carried is for bridges"):
        train(host, write_clips(tmp_path / "clips", 16, 2, 5), carried=0.5)
    with pytest.raises(ValueError, match="latents have 4 channels and those of this MODEL.* 16"):
        train(host, write_clips(tmp_path / "other", 4, 2, 5))


def test_one_way_is_kept_at_a_time(tmp_path):
    """Of the clip that is looked at, whatever the size of the data; its steps share it."""
    from aqueduct.nodes._comfy.training_adapter_host import Learning

    learning = Learning(None, SimpleNamespace(compression=4), write_clips(tmp_path / "clips", 4, 2, 5))
    film, kept = (SIDE, SIDE), []
    for clip in (0, 1, 0):
        learning.clip = clip
        assert learning.way(film) is learning.way(film)
        kept.append(weakref.ref(learning.way(film)))
    gc.collect()
    assert [ref() is None for ref in kept] == [True, True, False]
