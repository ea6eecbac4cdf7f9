"""What all trainer nodes share: their inputs, and a run of `core.training` under ComfyUI's bar, stop button and memory.

A node builds its networks and runs inside `trainable`, since ComfyUI calls it in inference mode, whose tensors autograd
does not take. A training with the same inputs as a finished one is not run again: its file is found.
"""

import contextlib
import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path

import comfy.model_management as mm
import torch
from comfy_api.latest import io
from safetensors import SafetensorError
from torch import Tensor, nn

from ...core.plots.loss_curve import loss_curve
from ...core.training.ema import Ema
from ...core.training.loop import train_task
from ...core.training.memory import check as check_memory
from ...core.training.memory import estimate
from ...core.training.plateau import Plateau
from ...core.training.settings import PRECISIONS, LoopSettings
from ...core.training.task import Task
from .schema import blocked
from .training_files import Description, Record, Unfinished, checked_prefix, next_file, target_folder
from .training_models import computes_in, digest
from .training_report import Report
from .training_samples import Sample, Samples

WARMUP = 0.1  # of the steps, at most 100 of them
# Of `Common`, what changes nothing in the result, or is not about it.
ASIDE = ("recompute", "save_every", "sample_every", "filename_prefix", "resume")


@dataclass(frozen=True)
class Common:
    """What `common_inputs` asks for, by the names of the inputs."""

    steps: int
    batch: int
    learning_rate: float
    accumulate: int
    precision: str
    recompute: bool
    ema: float
    save_every: int
    sample_every: int
    seed: int
    filename_prefix: str
    resume: bool

    def settings(self) -> LoopSettings:
        return LoopSettings(
            self.steps, self.learning_rate, warmup=min(100, round(WARMUP * self.steps)), save_every=self.save_every,
            accumulate=self.accumulate, precision=self.precision, recompute=self.recompute,
        )  # fmt: skip

    def told(self) -> dict:
        """For the file's metadata: how it was trained."""
        optimiser = f"AdamW, peak rate {self.learning_rate:g}, cosine to zero, {self.precision}"
        average = f"EMA {self.ema:g}" if self.ema else "no EMA"
        samples = self.batch * self.accumulate
        return {"seed": self.seed, "steps": self.steps, "batch": samples, "optimiser": f"{optimiser}, {average}"}

    def decisive(self) -> dict:
        """The inputs that the result depends on."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name not in ASIDE}


def common_inputs(
    prefix: str, *, steps: int, learning_rate: float, batch: int, accumulate: int = 1, ema: float = 0.0,
    paper: str = "", sample_every: int = 100,
) -> list:  # fmt: skip
    """The inputs of `Common`, last in a node. ``paper``: what the paper has for steps, batch and rate, for tooltips."""
    papers = f" Paper: {paper}" if paper else ""
    return [
        io.Int.Input("steps", default=steps, min=1, max=10_000_000, tooltip=(
            f"Steps of the optimiser; the learning rate falls to zero at the last.{papers}"
        )),
        io.Int.Input("batch", default=batch, min=1, max=4096, tooltip=(
            "Samples that go through the network at once; memory grows with it"
        )),
        io.Float.Input("learning_rate", default=learning_rate, min=0.0, max=1.0, step=1e-7, round=False, tooltip=(
            "Peak rate of AdamW, reached after a tenth of the steps (100 at most), then a cosine to zero"
        )),
        io.Int.Input("accumulate", default=accumulate, min=1, max=4096, tooltip=(
            "Batches to a step: the gradient is that of batch x accumulate samples, at the memory of one batch"
        )),
        io.Combo.Input("precision", options=list(PRECISIONS), default="float32", tooltip=(
            "Type that layers compute in; weights and optimiser stay float32. bfloat16 halves the memory of "
            "activations on newer GPUs, float16 (gradients scaled) on older ones. A core MODEL in "
            "float16 computes in it whatever is chosen here, and then too gradients are scaled"
        )),
        io.Boolean.Input("recompute", default=False, tooltip=(
            "Gradient checkpointing: blocks are computed again on the way back. Much less memory, a third more time"
        )),
        io.Float.Input("ema", default=ema, min=0.0, max=0.999999, step=1e-6, round=False, tooltip=(
            "Decay of the running average of the weights, which is then what is saved, no unit; 0 for none. 0.999 "
            "averages over about the last 1000 steps"
        )),
        io.Int.Input("save_every", default=100, min=1, max=1_000_000, tooltip=(
            "Steps between checkpoints, from which a training goes on after a crash; the stop button saves by itself"
        )),
        io.Int.Input("sample_every", default=sample_every, min=0, max=1_000_000, tooltip=(
            "Steps between samples, besides those after the last one; 0 makes none at all"
        )),
        io.Int.Input("seed", default=0, min=0, max=0xFFFFFFFFFFFFFFFF, control_after_generate=True, tooltip=(
            "Of the first weights, the order of the data and the noise: the same seed and inputs give the same result"
        )),
        io.String.Input("filename_prefix", default=prefix, tooltip=(
            "Name of the file, / for subfolders: <prefix>_00001.safetensors. The unfinished training is "
            "output/aqueduct/training/<prefix>.resume"
        )),
        io.Boolean.Input("resume", default=True, tooltip=(
            "Go on where a training of this prefix was stopped, exactly, if its inputs were these; of others it is an "
            "error. Off: begin anew, and throw away what was left. What has ended with these inputs is found "
            "again either way: another seed trains anew"
        )),
    ]  # fmt: skip


def trained_outputs() -> list:
    """Of every trainer, behind what it has trained: those of `Trained.outputs`."""
    return [
        io.String.Output(display_name="file"),
        io.Image.Output(display_name="losses"),
        io.Image.Output(display_name="samples"),
    ]


@dataclass(frozen=True, eq=False)
class Trained:
    """``path`` of the file; ``losses``; IMAGEs ``curve`` and ``samples``, None where none were made."""

    path: Path
    losses: list[float]
    curve: Tensor
    samples: Tensor | None

    def outputs(self) -> tuple:
        """The last three outputs of every trainer: file, losses, samples."""
        none = "this training made no samples: sample_every was 0, or there was no VAE to see them with"
        return str(self.path), self.curve, blocked(none) if self.samples is None else self.samples


@contextlib.contextmanager
def trainable(seed: int) -> Iterator[torch.device]:
    """Where networks can be made and trained: outside of inference mode, PyTorch's own random numbers seeded, and put
    back on the way out. Gives the device to train on."""
    device = mm.get_torch_device()
    with torch.inference_mode(False), _own_numbers():
        torch.manual_seed(seed)
        yield device


def _own_numbers():
    """PyTorch's random numbers, of the processor and of the device in use, are put back on the way out."""
    device = mm.get_torch_device()
    return torch.random.fork_rng([device] if device.type == "cuda" else [])


def run_training(
    task: Task, given: Common, *, save: Callable[[Path], None], folder: str,
    sample: Sample | None = None, sample_every: int | None = None, of: dict | None = None,
    plateau: Plateau | None = None, alone: bool = False, beside: nn.Module | None = None,
) -> Trained:  # fmt: skip
    """Train, or find what came of it before; ``save(path)`` writes the file into a folder of ComfyUI's ``folder``.

    ``sample`` shows what the networks make; ``sample_every``: steps between, where not ``given``'s.
    ``of``: JSON; what else the result depends on besides ``given``, ``task.config`` and the first weights: the data.
    ``alone``: no MODEL takes part, so that those in memory make way. ``beside``: the `BaseModel` that does, in memory;
    through one that computes in float16 no small gradient would come, so the loss is scaled.

    Raises ValueError before the first step for a folder that cannot be written to, too little memory, and a checkpoint
    of another training, and what `train_task` raises; the checkpoint stays then.
    """
    prefix = checked_prefix(given.filename_prefix)
    settings = replace(given.settings(), scaled=beside is not None and computes_in(beside) == torch.float16)
    description = _description(task, given, of or {})
    found = Record.find(prefix, description)
    if found is not None:
        logging.info(f"{found.path} is of a training with exactly these inputs; another seed trains anew")
        return _trained(found, settings.steps)
    target, unfinished = target_folder(folder), Unfinished.of(prefix)
    with torch.inference_mode(False), torch.enable_grad(), _said(unfinished):
        _make_room(task, settings, given, alone, beside)
        going_on = unfinished.claim(description, given.resume)
        ema = Ema(task.parameters, given.ema) if given.ema else None
        every = given.sample_every if sample_every is None else sample_every
        samples = Samples(_shown(sample, ema), every, settings.steps, unfinished.samples)
        report = Report(prefix, settings.steps, unfinished.checkpoint if going_on else None, samples)
        progress = train_task(
            _watched(task, samples, given.accumulate), settings, torch.Generator().manual_seed(given.seed),
            checkpoint=unfinished.checkpoint, report=report, ema=ema, plateau=plateau,
        )  # fmt: skip
        path, pictures = next_file(target, prefix), samples.all()
        with _averaged(ema), _written(path, unfinished):
            save(path)
    logging.info(f"{prefix}: saved {path}")
    record = Record(path, progress.losses, pictures)
    try:
        record.keep(prefix, description)
    except (OSError, SafetensorError) as error:  # the file is there, and that is what counts
        logging.warning(f"{prefix}: what is known of this training could not be kept ({error})")
    unfinished.remove()
    return _trained(record, settings.steps)


@contextlib.contextmanager
def _said(unfinished: Unfinished) -> Iterator[None]:
    """What stops a training, with what is left of it."""
    try:
        yield
    except FloatingPointError as error:
        raise FloatingPointError(f"{error}; {_left(unfinished)} (resume off begins anew)") from error
    except torch.OutOfMemoryError as error:
        raise torch.OutOfMemoryError(
            f"{error}\nOf the training, {_left(unfinished)}. Less memory is needed by a smaller batch with more "
            f"accumulate, by recompute, and in a lower precision; fewer frames and pixels are for AqueductVideoDataset"
        ) from error


def _left(unfinished: Unfinished) -> str:
    place = unfinished.checkpoint
    return f"the last good state is kept in {place}" if place.exists() else "nothing had been saved before"


@contextlib.contextmanager
def _written(path: Path, unfinished: Unfinished) -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise OSError(
            f"{path} could not be written ({error}). The finished training is kept in {unfinished.checkpoint}: make "
            f"room and queue again with resume on, and only the file is written"
        ) from error


def _make_room(task: Task, settings: LoopSettings, given: Common, alone: bool, beside: nn.Module | None) -> None:
    """ValueError, with a table, for a training that does not fit into the memory of its device."""
    device, held = mm.get_torch_device(), () if beside is None else tuple(beside.parameters())
    free = mm.get_free_memory(device) if mm.is_device_cpu(device) else math.inf  # a GPU says itself when it is full
    memory = estimate(task, settings, given.batch, average=bool(given.ema), beside=held, free=free)
    used = [] if alone else [one for one in mm.current_loaded_models if one.currently_used]
    mm.free_memory(memory.more, device, keep_loaded=used)  # of text encoders and the like, which rest there
    check_memory(memory, int(mm.get_free_memory(device)))


def _trained(record: Record, steps: int) -> Trained:
    return Trained(record.path, record.losses, loss_curve(record.losses, steps), record.samples)


def _watched(task: Task, samples: Samples, accumulate: int) -> Task:
    """Samples are made before a step is begun: when it is saved as not yet made, and a stop in the middle of them costs
    none. The stop button is asked for before each forward pass too, not only behind each step."""

    def draw(generator, n):
        samples.before(n // accumulate)
        return task.draw(generator, n)

    def loss(batch):
        mm.throw_exception_if_processing_interrupted()
        return task.loss(batch)

    return replace(task, draw=draw, loss=loss)


def _averaged(ema: Ema | None):
    return contextlib.nullcontext() if ema is None else ema.swapped()


def _shown(sample: Sample | None, ema: Ema | None) -> Sample | None:
    """``sample`` as the file would make it, with no trace in the random numbers."""

    def averaged(step: int) -> Tensor:
        with torch.no_grad(), _averaged(ema), _own_numbers():
            return sample(step).detach().cpu()

    return None if sample is None else averaged


def _description(task: Task, given: Common, of: dict) -> Description:
    """All that the result depends on, each thing once, by names that a user knows."""
    told = {name: value for name, value in task.config.get("training", {}).items() if name not in given.told()}
    file = {name: value for name, value in task.config.items() if name != "training"}
    return {**given.decisive(), **told, "file": file, "given": of, "first weights": digest(*task.parts.values())}
