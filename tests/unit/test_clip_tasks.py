"""Trainings on prepared clips: what the losses are, by independent formulas, and that rows can be shared out."""

import pytest
import torch

from aqueduct.core.data.dataset import LatentDataset
from aqueduct.core.motion.carry import carry
from aqueduct.core.motion.field import MotionField
from aqueduct.core.networks.layout import InputLayout
from aqueduct.core.networks.neural_prior import NeuralPrior
from aqueduct.core.networks.video_bridge import VideoBridge
from aqueduct.core.networks.video_unet import VideoMotionAdapter, VideoUNet, start_from
from aqueduct.core.training.clip_tasks import Adapted, AdapterObjective, adapter_task, noise, prior_task
from aqueduct.core.training.loop import train_task
from aqueduct.core.training.settings import LoopSettings
from aqueduct.core.training.task import rows
from aqueduct.tests.comfy.training_files import FRAMES, SIDE, WAYS, write_clips

LATTE = {
    "in_channels": 3, "out_channels": 3, "frames": FRAMES, "height": SIDE, "width": SIDE, "patch": 4, "hidden": 16,
    "depth": 2, "heads": 2, "classes": len(WAYS),
}  # fmt: skip
UNET = {
    "in_channels": 6, "out_channels": 3, "frames": FRAMES, "channels": 16, "multipliers": [1, 2], "fold": 2, "groups": 4
}  # fmt: skip
BRIDGE = {
    "bridge": {"kind": "bridge-gmax", "constants": {"beta_min": 0.01, "beta_max": 50.0}},
    "parameterisation": "prior_residual", "precondition": "unit_noise", "layout": vars(InputLayout(concat_prior=True)),
}  # fmt: skip


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> LatentDataset:
    return write_clips(tmp_path_factory.mktemp("clips"), count=4)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def prior(seed: int = 0) -> NeuralPrior:
    torch.manual_seed(seed)
    network = NeuralPrior(residual=True, **LATTE)
    for parameter in network.parameters():
        if parameter.requires_grad:
            parameter.data = torch.randn(parameter.shape, generator=generator(seed)) * 0.1
    return network


def adapted(seed: int = 0) -> Adapted:
    backbone = VideoUNet(**UNET).initialise(generator(seed))
    with torch.no_grad():
        backbone.out[-1].weight.normal_(std=0.05, generator=generator(seed))
    adapter = start_from(VideoMotionAdapter(**UNET, features=(4, 6, 8)), backbone, generator(seed))
    return Adapted(backbone, adapter, VideoBridge.from_config(BRIDGE))


def test_eq_8_is_the_mean_squared_error_of_the_clips(clips):
    """Clip by clip and by hand, with latents scaled as the network has them."""
    network = prior()
    task = prior_task(network, clips, 4, 3, {}, enter=lambda z: 0.5 * z)
    drawn = task.draw(generator(), 0)
    assert sorted(drawn["clip"].tolist()) == [0, 1, 2, 3]
    errors = []
    for row in drawn["clip"].tolist():
        z_0 = 0.5 * clips.tensor(row, "latent")
        own = network(z_0[None, :, 0], torch.tensor([clips.index.clips[row].label]))[0]
        errors.append((own - z_0).square().mean())
    assert torch.allclose(task.loss(drawn), torch.stack(errors).mean())


def test_the_optimum_is_the_clip_itself_where_the_first_frame_says_all(tmp_path):
    """Proposition 3: of one clip the conditional mean is that clip, and the loss can go to nothing."""
    one = write_clips(tmp_path, count=1, classes=False)
    network = NeuralPrior(residual=True, **{**LATTE, "classes": 0, "patch": 8, "hidden": 32})
    network.network.initialise(generator())
    progress = train_task(
        prior_task(network, one, 1, 0, {}), LoopSettings(steps=120, learning_rate=1e-2, warmup=5), generator()
    )
    assert progress.losses[-1] < 0.1 * progress.losses[0]  # which is that of the repeated picture


@pytest.mark.parametrize("carried", [0.0, 0.5])
def test_a_batch_is_the_mean_of_its_equal_parts(clips, carried):
    """What lets several processes share it; each clip has a mask of its own."""
    for task in (
        prior_task(prior(), clips, 4, 0, {}),
        adapter_task(adapted(), clips, AdapterObjective(carried=carried, weight=1.0), 4, 0, {}),
    ):
        drawn = task.draw(generator(5), 0)
        whole = task.loss(drawn)
        parts = [task.loss(rows(drawn, slice(n, n + 2))) for n in (0, 2)]
        assert torch.allclose(whole, torch.stack(parts).mean(), rtol=1e-5)


def test_batches_depend_on_nothing_but_seed_and_number(clips):
    task, other = (adapter_task(adapted(), clips, AdapterObjective(), 2, seed, {}) for seed in (0, 1))
    one, same = task.draw(generator(1), 3), task.draw(generator(1), 3)
    assert all(torch.equal(one[name], same[name]) for name in one)
    orders = [torch.cat([t.draw(generator(1), n)["clip"] for n in range(8)]).tolist() for t in (task, other)]
    assert orders[0] != orders[1] and sorted(orders[0]) == sorted(orders[1])


def test_a_new_adapter_adds_the_consistency_to_the_backbones_own_loss(clips):
    """It changes nothing yet, so the prediction is the backbone's, and both terms can be had without it."""
    made = adapted()
    drawn = adapter_task(made, clips, AdapterObjective(weight=0.0), 2, 0, {}).draw(generator(2), 0)
    losses = [adapter_task(made, clips, AdapterObjective(weight=w), 2, 0, {}).loss(drawn) for w in (0.0, 0.1, 1.0)]
    z_0 = clips.batch(drawn["clip"])["latent"]
    still = z_0[:, :, :1].expand_as(z_0).contiguous()
    video, t = made.video, drawn["t"]
    a, b, c = (x.float()[:, None, None, None, None] for x in video.bridge.coefficients(t))
    z_t = a * z_0 + b * still + c * noise(drawn["noise"], z_0)
    denoiser = video.denoiser(lambda x, times, y: made.backbone(x, times), still, z_0[:, :, 0], None)
    prediction = denoiser(z_t, t)
    assert torch.allclose(losses[0], (prediction - z_0).square().mean(), rtol=1e-5)
    own = torch.stack([by_hand(prediction[n], clips, row) for n, row in enumerate(drawn["clip"].tolist())]).mean()
    assert torch.allclose(losses[2] - losses[0], own, rtol=1e-4)
    assert torch.allclose(losses[1], losses[0] + 0.1 * own, rtol=1e-5)


def by_hand(clip: torch.Tensor, data: LatentDataset, row: int) -> torch.Tensor:
    """Eq. 10 pixel by pixel for motion of whole pixels: squares that move by one, on a ground at rest."""
    flow = data.tensor(row, "forward").long()
    total, count = torch.zeros(()), 0
    for t in range(len(flow)):
        for y in range(SIDE):
            for x in range(SIDE):
                dx, dy = flow[t, :, y, x].tolist()
                back = -data.tensor(row, "forward").long()[t, :, min(y + dy, SIDE - 1), min(x + dx, SIDE - 1)]
                if (x + dx, y + dy) >= (SIDE, SIDE) or [-dx, -dy] != back.tolist():
                    continue  # what is there moves otherwise: hidden by the square
                total = total + (clip[:, t + 1, y + dy, x + dx] - clip[:, t, y, x]).abs().sum()
                count += 1
    return total / count


def test_only_the_adapter_moves_and_it_starts_as_nothing(clips):
    made = adapted()
    before = [p.clone() for p in made.backbone.parameters()]
    task = adapter_task(made, clips, AdapterObjective(), 2, 0, {})
    train_task(task, LoopSettings(steps=2, warmup=0), generator())
    assert all(torch.equal(*pair) for pair in zip(before, made.backbone.parameters(), strict=True))
    assert set(task.parameters) == set(made.adapter.parameters())
    assert all(projection.weight.abs().sum() > 0 for projection in made.adapter.projections)


def test_a_sample_follows_its_seed(clips):
    made = adapted()
    field = MotionField(clips.tensor(0, "forward"), clips.tensor(0, "backward"))
    first, way = clips.batch([0])["latent"][:, :, 0], carry(field)
    with torch.no_grad():
        clips_made = [made.sample(first, way, 2, seed) for seed in (1, 1, 2)]
    assert clips_made[0].shape == (1, 3, FRAMES, SIDE, SIDE)
    assert torch.equal(clips_made[0], clips_made[1]) and not torch.equal(clips_made[0], clips_made[2])


def test_clips_without_motion_and_objectives_that_make_no_sense_are_refused(tmp_path):
    still = write_clips(tmp_path, count=2, motion=False)
    with pytest.raises(ValueError, match="2 of 2 clips have no motion, the first right/0.mp4: prepare them"):
        adapter_task(adapted(), still, AdapterObjective(), 2, 0, {})
    with pytest.raises(ValueError, match="no mask 'sideways'; known: none, forward-only, bidirectional"):
        AdapterObjective("sideways")
    with pytest.raises(ValueError, match="carried 0 to 1, got 0.1 and 2"):
        AdapterObjective(carried=2)


def test_clips_of_another_size_are_refused(tmp_path):
    mixed = write_clips(tmp_path, count=3, sizes=((SIDE, SIDE), (SIDE, 2 * SIDE)))
    with pytest.raises(ValueError, match=r"is for clips \[3, 4, 16, 16\].*1 are \[3, 4, 16, 32\]"):
        prior_task(prior(), mixed, 2, 0, {})


def test_noise_of_a_row_is_its_own():
    seeds = torch.tensor([5, 9, 5])
    drawn = noise(seeds, torch.zeros(3, 2, 8, 8))
    assert torch.equal(drawn[0], drawn[2]) and not torch.equal(drawn[0], drawn[1])
    assert torch.equal(noise(seeds[1:2], torch.zeros(1, 2, 8, 8))[0], drawn[1])
    assert drawn[:2].std() == pytest.approx(1, abs=0.2)
