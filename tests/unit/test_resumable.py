"""Checkpoints are mapped where they are read, and nothing of a running training hangs on their files."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from aqueduct.core.training import resumable
from aqueduct.core.training.ema import Ema
from aqueduct.core.training.loop import LoopSettings, train

MAPS = Path("/proc/self/maps")
SETTINGS = LoopSettings(steps=2, warmup=1, save_every=1, cosine=False)


def run(path: Path, steps: int, report) -> list[float]:
    torch.manual_seed(0)
    network = nn.Linear(300, 40)

    def loss(generator: torch.Generator) -> torch.Tensor:
        return network(torch.randn(4, 300, generator=generator)).square().mean()

    parameters, settings = list(network.parameters()), replace(SETTINGS, steps=steps)
    ema, generator = Ema(parameters, 0.9), torch.Generator().manual_seed(1)
    return train(parameters, loss, settings, generator, path, report, ema).losses


@pytest.mark.skipif(not MAPS.exists(), reason="Linux tells what is mapped")
def test_a_training_goes_on_without_the_file_it_came_from(tmp_path):
    """The file is mapped while it is read; weights, moments and average are copies of it when the training runs."""
    path, seen = tmp_path / "run.pt", []

    def mapped() -> bool:
        return path.name in MAPS.read_text()

    run(path, 2, lambda step, progress: None)
    state = resumable.read(path)
    assert mapped() and state["optimiser"]["state"][0]["exp_avg"].shape == (40, 300)
    del state
    assert not mapped()
    parted = run(path, 4, lambda step, progress: seen.append((step, mapped())))
    assert seen == [(2, False), (3, False)]
    assert parted == run(tmp_path / "whole.pt", 4, lambda step, progress: None)
