"""FrameBridge from scratch on prepared clips: its loss by hand, from the repeated frame and from a neural prior."""

import pytest
import torch
from torch import Tensor

from aqueduct.core.bridges import sample_bridge, times
from aqueduct.core.data.dataset import LatentDataset
from aqueduct.core.networks.latte import LatteVideo
from aqueduct.core.networks.layout import InputLayout
from aqueduct.core.networks.neural_prior import NeuralPrior
from aqueduct.core.networks.video_bridge import VideoBridge
from aqueduct.core.training.bridge_task import bridge_task, sample_clips
from aqueduct.core.training.clip_tasks import noise
from aqueduct.core.training.loop import train_task
from aqueduct.core.training.objectives import psi_weight
from aqueduct.core.training.settings import LoopSettings
from aqueduct.tests.comfy.bridge_files import randomised
from aqueduct.tests.comfy.training_files import FRAMES, SIDE, WAYS, write_clips

LATTE = {
    "out_channels": 3, "frames": FRAMES, "height": SIDE, "width": SIDE, "patch": 4, "hidden": 16, "depth": 2, "heads": 2
}  # fmt: skip
VIDEO = VideoBridge.from_config({
    "bridge": {"kind": "bridge-gmax", "constants": {"beta_min": 0.01, "beta_max": 50.0}},
    "parameterisation": "prior_residual", "precondition": "unit_noise",
    "layout": {"concat_prior": True, "concat_first_frame": True},
})  # fmt: skip


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> LatentDataset:
    return write_clips(tmp_path_factory.mktemp("clips"), count=4)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def network(classes: int = len(WAYS)) -> LatteVideo:
    channels = InputLayout(concat_prior=True, concat_first_frame=True).channels(3)
    made = randomised(LatteVideo(in_channels=channels, classes=classes, **LATTE), 1)
    for name, parameter in made.named_parameters():
        parameter.requires_grad_("pos_embed" not in name and "temp_embed" not in name)
    return made


def prior(classes: int = len(WAYS)) -> NeuralPrior:
    return randomised(NeuralPrior(in_channels=3, classes=classes, residual=True, **LATTE), 2)


def start(known: NeuralPrior | None, first: Tensor, label: int) -> Tensor:
    """z_T ``[1, 3, f, h, w]`` of one clip, by hand."""
    if known is None:
        return torch.stack([first] * FRAMES, 1)[None]
    with torch.no_grad():
        guess = known(first[None], torch.tensor([label]) if known.network.classes else None)
    return torch.cat([first[None, :, None], guess[:, :, 1:]], 2)


@pytest.mark.parametrize("known", [None, prior(), prior(classes=0)], ids=["still", "by class", "of no class"])
@pytest.mark.parametrize("classes", [0, len(WAYS)])
def test_the_loss_by_hand(clips, known, classes):
    """Algorithm 1 clip by clip: eq. 12 from z_T, eq. 6 at the prediction; to the network alone some are not named."""
    model = network(classes)
    task = bridge_task(model, VIDEO, clips, psi_weight, 4, 0, {}, enter=lambda z: 0.5 * z, prior=known)
    drawn = task.draw(generator(3), 0)
    drawn["dropped"] = torch.tensor([True, False, True, False])
    losses = []
    for row, t, dropped, seed in zip(*(drawn[name] for name in ("clip", "t", "dropped", "noise")), strict=True):
        z_0, label = 0.5 * clips.tensor(int(row), "latent"), clips.index.clips[int(row)].label
        z_T, (a, b, c) = start(known, z_0[:, 0], label), (float(x) for x in VIDEO.bridge.coefficients(t))
        z_t = a * z_0[None] + b * z_T + c * noise(seed[None], z_0[None])
        y = torch.tensor([classes if dropped else label]) if classes else None
        prediction = VIDEO.denoiser(model, z_T, z_0[None, :, 0], y)(z_t, t[None])
        variance = 0.5 * (50 - 0.01) * t**2 + 0.01 * t
        losses.append((prediction - z_0).square().mean() / variance)
    torch.testing.assert_close(task.loss(drawn), torch.stack(losses).mean().float(), rtol=1e-4, atol=0)


def test_the_prior_is_frozen_and_goes_into_the_file(clips):
    model, known = network(), prior()
    before = {key: value.clone() for key, value in known.state_dict().items()}
    task = bridge_task(model, VIDEO, clips, psi_weight, 2, 0, {}, prior=known)
    assert dict(task.parts) == {"model": model, "prior": known}
    assert {id(p) for p in task.parameters} <= {id(p) for p in model.parameters()}
    first = [p.detach().clone() for p in task.parameters]
    train_task(task, LoopSettings(steps=2, learning_rate=1e-2, warmup=0), generator())
    assert all(torch.equal(value, before[key]) for key, value in known.state_dict().items())
    assert all(p.grad is None for p in known.parameters())
    assert any(not torch.equal(*pair) for pair in zip(first, task.parameters, strict=True))
    assert set(bridge_task(model, VIDEO, clips, psi_weight, 2, 0, {}).parts) == {"model"}


@pytest.mark.parametrize("known", [None, prior()], ids=["still", "by class"])
def test_samples_start_where_the_training_does(clips, known):
    model, rows = network(), [0, 1]
    first, y = clips.batch(rows)["latent"][:, :, 0], clips.batch(rows, ["class"])["class"]
    z_T = torch.cat([start(known, *one) for one in zip(first, y.tolist(), strict=True)])
    later = generator(7)
    expected = sample_bridge(
        VIDEO.denoiser(model, z_T, first, y), z_T, times(VIDEO.bridge, 3), VIDEO.bridge,
        noise_sampler=lambda *_: torch.randn(z_T.shape, generator=later),
    )  # fmt: skip
    torch.testing.assert_close(sample_clips(model, VIDEO, first, y, 3, 7, known), expected, rtol=1e-4, atol=1e-4)
