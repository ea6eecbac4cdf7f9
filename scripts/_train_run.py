"""What every training here does: the loop with its checkpoint and its report, then the file and the loss curve."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from aqueduct.core import checkpoints
from aqueduct.core.training.ema import Ema
from aqueduct.core.training.loop import LoopSettings, Progress, train


def run_training(
    name: str, network: nn.Module, loss: Callable[[torch.Generator], Tensor], settings: LoopSettings, data_seed: int,
    folder: Path, every: int, ema: Ema | None = None,
) -> Progress:  # fmt: skip
    """Resumable at ``<name>.resume.pt``; the mean of the last ``every`` losses is printed as often.

    Trained is whatever of ``network`` requires a gradient, in the order of ``ema`` if there is one.
    """

    def report(step: int, progress: Progress) -> None:
        if step % every == 0 or step + 1 == settings.steps:
            mean = mean_of_last(progress, every)
            print(f"{name} step {step:5d} loss {mean:.5f} {progress.seconds:6.0f} s", flush=True)

    generator = torch.Generator().manual_seed(data_seed)
    checkpoint = folder / f"{name}.resume.pt"
    trained = network.parameters() if ema is None else ema.parameters
    return train(trained, loss, settings, generator, checkpoint=checkpoint, report=report, ema=ema)


def export(name: str, parts: dict[str, nn.Module], config: dict, progress: Progress, folder: Path, last: int) -> None:
    """``<name>.safetensors``, which says how it was trained, and ``<name>.losses.txt``; ``last``: losses averaged."""
    config["training"]["final_loss"] = round(mean_of_last(progress, last), 6)
    config["training"]["seconds"] = round(progress.seconds)
    checkpoints.save(parts, folder / f"{name}.safetensors", config)
    (folder / f"{name}.losses.txt").write_text("\n".join(f"{value:.6f}" for value in progress.losses) + "\n")


def mean_of_last(progress: Progress, count: int) -> float:
    recent = progress.losses[-count:]
    return sum(recent) / len(recent)
