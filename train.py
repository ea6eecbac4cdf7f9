"""Train a model from a TOML file.

    python -m aqueduct.train configs/small/framebridge_digits.toml    # goes on where it was stopped
    python -m aqueduct.train my.toml --output models --set run.learning_rate=1e-4 --set data.batch=16
    accelerate launch -m aqueduct.train my.toml                       # on several devices, on several machines

Writes <name>.safetensors, which says how it was trained, <name>.losses.txt and <name>.losses.png. `configs/` holds
examples; one of those may be given by its name. For a pack in a folder of another name: `python3 scripts/train.py`.
"""

import argparse
import os
import sys
import time
from contextlib import nullcontext
from pathlib import Path

ROOT = Path(__file__).resolve().parent


def main(arguments: list[str] | None = None) -> int:
    """The exit code: 0, 2 for a file that cannot be read, 1 for a training that failed, 130 for one that was stopped.

    Whatever its reader can do something about is one line on stderr; the rest is a traceback.
    """
    asked = _arguments(arguments)
    try:
        import torch

        from .core.training.config import read
        from .core.training.processes import launched
    except ImportError as error:
        print(f"error: {error}: take ComfyUI's Python, or one that has what this trains with", file=sys.stderr)
        return 2

    if asked.list or not asked.configs:
        return _list()
    if asked.threads:
        torch.set_num_threads(asked.threads)
    changes = asked.set + ([f"run.steps={asked.steps}"] if asked.steps is not None else [])
    try:
        recipes = [read(_file(config), changes) for config in asked.configs]  # all, before the first begins
        processes = launched()
    except (ValueError, OSError, ImportError) as error:
        if os.environ.get("LOCAL_RANK", "0") == "0":  # once on each machine: the processes do not know each other yet
            print(f"error: {error}", file=sys.stderr)
        return 2
    if processes.main:
        print(processes.about, flush=True)
    try:
        # The first that fails ends it: those behind it may start from its file.
        return next((code for code in (_run(recipe, asked.output, processes) for recipe in recipes) if code), 0)
    finally:
        processes.close()


def _arguments(given: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="aqueduct.train", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("configs", nargs="*", metavar="CONFIG", help="TOML files, or names of those in configs/; one after the other")
    add("--list", action="store_true", help="print the runs in configs/ and stop")
    add("--output", type=Path, default="runs", help="folder of what is written, and of earlier runs (default: runs)")
    add("--steps", type=int, help="in place of run.steps; the learning rate falls to zero at the last")
    add("--set", action="append", default=[], metavar="TABLE.KEY=VALUE", help="in place of the file's value, as TOML")
    add("--threads", type=int, help="CPU threads")
    return parser.parse_args(given)


def _configs() -> dict[str, Path]:
    """What ships, by name."""
    folders = (ROOT / "configs" / part for part in ("small", "papers"))
    return {path.stem: path for folder in folders for path in sorted(folder.glob("*.toml"))}


def _list() -> int:
    from .core.training.config import read

    known = {name: read(path) for name, path in _configs().items()}
    width = max(map(len, known))
    for name, recipe in known.items():
        steps = f"{recipe.run.steps} steps" if recipe.run.steps else "puts earlier runs together"
        print(f"{name:{width}}  {recipe.about} ({steps})")
    return 0


def _file(config: str) -> Path:
    from .core.tables import unknown

    known = _configs()
    if not Path(config).is_file() and config not in known:
        raise ValueError(unknown("file, and in configs/ no run", config, list(known)))
    return Path(config) if Path(config).is_file() else known[config]


def _run(recipe, output: Path, processes) -> int:
    """Train and write the files. The exit code; what went wrong is told in one line, with the way on."""
    import torch

    from .core.training.interrupts import Terminated
    from .core.training.processes import Stopped
    from .scripts._console import HouseError

    checkpoint, onward = output / f"{recipe.name}.resume.pt", "the same command"
    own = False  # whether it may have befallen this process alone: else the main one tells it
    try:
        _train(recipe, checkpoint, processes)
        return 0
    except (ValueError, OSError, ImportError, HouseError) as error:
        code, told, onward, own = 1, str(error), "", True
    except (KeyboardInterrupt, Terminated):
        code, told = 130, "stopped"
    except Stopped as error:
        code, told = 1, str(error)
    except FloatingPointError as error:
        code, told, onward = 1, str(error), f"--set run.learning_rate={recipe.run.learning_rate / 2:g}"
    except torch.OutOfMemoryError as error:
        code, told, own = 1, f"out of memory ({str(error).splitlines()[0]})", True
        onward = "less of data.batch and more of run.accumulate, run.recompute=true or run.precision=bfloat16"
    if onward and checkpoint.is_file():
        told += f"; {onward} goes on from {checkpoint}"
    if processes.main or own:
        print(f"{recipe.name}: {told}", file=sys.stderr)
    return code


def _train(recipe, checkpoint: Path, processes) -> None:
    import torch

    from .core.training.ema import Ema
    from .core.training.loop import train_task
    from .core.training.plateau import Plateau

    task, progress, ema = _begin(recipe, checkpoint, processes), None, None
    if task.parameters:
        ema = recipe.ema and Ema(task.parameters, recipe.ema)
        plateau = recipe.plateau and Plateau(**vars(recipe.plateau))
        report, first = _report(recipe), None

        def told(step: int, progress) -> None:
            nonlocal first
            if first is None and step:
                print(f"{recipe.name}: goes on from step {step} of {recipe.run.steps}", flush=True)
            first = step if first is None else first
            report(step, progress)

        progress = train_task(
            task, recipe.run, torch.Generator().manual_seed(recipe.data_seed), processes=processes,
            checkpoint=checkpoint, report=told, ema=ema, plateau=plateau,
        )  # fmt: skip
        if processes.main and first is None:
            print(f"{recipe.name}: all {len(progress.losses)} steps were done before; more of them go on, and without "
                  f"{checkpoint} it begins anew", flush=True)  # fmt: skip
    if processes.main:
        with ema.swapped() if ema else nullcontext():
            _write(recipe, task, progress, checkpoint.parent)


def _begin(recipe, checkpoint: Path, processes):
    """The task, if nothing stands against it in any process. One that sees what the main one sees, too, is silent."""
    import torch

    task = failed = None
    try:
        task = _task(recipe, checkpoint, processes)
    except (ValueError, OSError, ImportError, RuntimeError) as error:  # a lack of memory is among the last
        failed = error
    told = processes.mean(torch.tensor(float(processes.main and failed is not None), device=processes.device))
    processes.agree(failed if processes.main or not told else None)
    return task


def _task(recipe, checkpoint: Path, processes):
    from .core.training import begun
    from .core.training.config import Files

    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    files = Files(checkpoint.parent, processes.device, _pictures, _clip, shared_out=not processes.replicated)
    task = recipe.job.make(recipe, files)
    if task.parameters:  # none: parts of earlier runs are only joined
        if not recipe.run.steps:
            raise ValueError("run.steps is 1 or more, got 0")
        begun.check(recipe, checkpoint, processes.main)
        _check_memory(recipe, task, processes)
    return task


def _check_memory(recipe, task, processes) -> None:
    """Before the first step, where it is known how much there is and what is in it. Raises ValueError for a batch that
    the processes cannot share, too."""
    import torch

    from .core.training.memory import check, estimate
    from .core.training.task import count_rows

    portion = processes.portion(count_rows(task.draw(torch.Generator().manual_seed(0), 0)))
    if processes.device.type == "cuda" and processes.replicated:
        needed = estimate(task, recipe.run, portion.stop - (portion.start or 0), average=bool(recipe.ema))
        check(needed, torch.cuda.mem_get_info(processes.device)[0])


def _report(recipe):
    from .core.training.settings import spelled_time

    since, counted, steps = time.monotonic(), None, recipe.run.steps

    def report(step: int, progress) -> None:
        nonlocal since, counted
        done, first = step + 1, counted is None
        counted = step if first else counted
        if first or done % recipe.report == 0 or done == steps:
            mean, now = _mean_of_last(progress.losses, recipe.report), time.monotonic()
            each = (now - since) / (done - counted)
            left = f"ETA {spelled_time(each * (steps - done))}" if done < steps else spelled_time(progress.seconds)
            print(f"{recipe.name} step {done}/{steps}  loss {mean:.5f}  {each:.2g} s/step  {left}", flush=True)
            since, counted = now, done

    return report


def _write(recipe, task, progress, folder: Path) -> None:
    """The model with its description, and the losses as numbers and as a curve."""
    from PIL import Image

    from .core import checkpoints
    from .core.plots.loss_curve import loss_curve

    file, config = folder / f"{recipe.name}.safetensors", task.config
    if progress is not None:
        mean = round(_mean_of_last(progress.losses, recipe.report), 6)
        config = config | {"training": config["training"] | {"final_loss": mean, "seconds": round(progress.seconds)}}
        file.with_suffix(".losses.txt").write_text("".join(f"{value:.6f}\n" for value in progress.losses))
        curve = loss_curve(progress.losses, recipe.run.steps)[0]
        Image.fromarray((curve * 255).round().byte().numpy()).save(file.with_suffix(".losses.png"))
    checkpoints.save(dict(task.parts), file, config)
    print(f"{recipe.name}: {file}", flush=True)


def _mean_of_last(losses: list[float], count: int) -> float:
    return sum(losses[-count:]) / len(losses[-count:])


def _pictures(**which):
    from .scripts._training_pictures import training_pictures  # which may download

    return training_pictures(**which)


def _clip(*which, **more):
    from .scripts._media import read_clip  # which may download

    return read_clip(*which, **more)


if __name__ == "__main__":
    sys.exit(main())
