"""`python -m aqueduct.train`: what it writes, how it goes on, and what it says when it cannot."""

import re
import shutil
import subprocess
import sys
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch

Image = pytest.importorskip("PIL.Image")
from aqueduct import train  # noqa: E402
from aqueduct.core import checkpoints  # noqa: E402
from aqueduct.core.data.shards import Clip, write_dataset  # noqa: E402
from aqueduct.core.training.config import Files, read  # noqa: E402
from aqueduct.core.training.settings import LoopSettings, Progress  # noqa: E402
from aqueduct.tests.unit.tiny_training import write_tiny_training  # noqa: E402

STEPS = 5


@pytest.fixture
def tiny(tmp_path):
    """A TOML file of a training on one picture."""
    return write_tiny_training(tmp_path, STEPS, "report = 2", "save_every = 1")


def run(config, output, *more) -> int:
    return train.main([str(config), "--output", str(output), *more])


def losses(output) -> list[float]:
    return [float(line) for line in (output / "tiny.losses.txt").read_text().split()]


def test_writes_the_model_and_how_it_came_to_be(tiny, tmp_path, capsys):
    assert run(tiny, tmp_path / "a") == 0
    _, config = checkpoints.load(tmp_path / "a" / "tiny.safetensors")
    assert (config["about"], config["training"]["steps"]) == ("a tiny one", STEPS)
    assert len(losses(tmp_path / "a")) == STEPS
    assert config["training"]["final_loss"] == pytest.approx(sum(losses(tmp_path / "a")[-2:]) / 2, abs=2e-6)
    with Image.open(tmp_path / "a" / "tiny.losses.png") as curve:
        assert min(curve.size) > 100 and len(curve.getcolors(2**20)) > 3
    told = capsys.readouterr().out.splitlines()
    assert told[0] in ("1 process on cpu", "1 process on cuda") and told[-1].endswith("tiny.safetensors")
    for line, done in zip([line for line in told if line.startswith("tiny step")], (1, 2, 4, 5), strict=True):
        form = rf"tiny step {done}/5  loss (\S+)  [\d.e-]+ s/step  {'' if done == 5 else 'ETA '}\d+ s"
        last = losses(tmp_path / "a")[max(0, done - 2) : done]
        assert float(re.fullmatch(form, line)[1]) == pytest.approx(sum(last) / len(last), abs=1e-5)


def test_time_left_is_that_of_the_steps_since_the_last_line(monkeypatch, capsys):
    """A second a step, then 11; goes on from step 3, whose seconds were before."""
    now = iter([100.0, 101.0, 123.0, 134.0])
    monkeypatch.setattr(train.time, "monotonic", lambda: next(now))
    report = train._report(SimpleNamespace(name="tiny", report=2, run=LoopSettings(steps=7)))
    for step in (3, 4, 5, 6):
        report(step, Progress([1.0] * (step + 1), 5000.0))
    told = [line.split("  ")[2:] for line in capsys.readouterr().out.splitlines()]
    assert told == [["1 s/step", "ETA 3 s"], ["11 s/step", "ETA 11 s"], ["11 s/step", "1 h 23 min"]]


def test_an_interrupted_run_goes_on_as_if_it_had_not_been(tiny, tmp_path, capsys, monkeypatch):
    whole, parted, report = tmp_path / "whole", tmp_path / "parted", train._report
    run(tiny, whole)

    def interrupted(recipe):
        def stop(step, progress):
            if step == 2:
                raise KeyboardInterrupt

        return stop

    monkeypatch.setattr(train, "_report", interrupted)
    assert run(tiny, parted) == 130
    told = capsys.readouterr().err
    assert told.startswith("tiny: stopped; the same command goes on from ") and told.count("\n") == 1
    assert not (parted / "tiny.safetensors").exists()
    monkeypatch.setattr(train, "_report", report)
    assert run(tiny, parted) == 0
    assert "tiny: goes on from step 3 of 5" in capsys.readouterr().out
    assert losses(parted) == losses(whole)
    first, second = (checkpoints.load(folder / "tiny.safetensors")[0] for folder in (whole, parted))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_a_loss_that_is_no_number_leaves_the_last_good_file_and_the_way_on(tiny, tmp_path, capsys):
    assert run(tiny, tmp_path / "a", "--set", "run.learning_rate=1e30") == 1
    told = capsys.readouterr().err
    assert "--set run.learning_rate=5e+29 goes on from" in told and told.count("\n") == 1
    state = torch.load(tmp_path / "a" / "tiny.resume.pt", weights_only=True)
    assert 0 < len(state["losses"]) < STEPS
    assert not (tmp_path / "a" / "tiny.safetensors").exists()


def test_the_average_is_what_is_written(tiny, tmp_path):
    assert run(tiny, tmp_path, "--set", "ema=0.9", "--set", "run.learning_rate=0.01") == 0
    state = torch.load(tmp_path / "tiny.resume.pt", weights_only=True)
    network, config = checkpoints.load(tmp_path / "tiny.safetensors")
    assert "EMA 0.9" in config["training"]["optimiser"]
    for written, average in zip(network.parameters(), state["ema"]["average"], strict=True):
        torch.testing.assert_close(written, average, atol=1e-6, rtol=1e-3)  # float16
    assert any(
        not torch.allclose(weight, average, rtol=1e-2)
        for weight, average in zip(state["parameters"], state["ema"]["average"], strict=True)
    )


def test_parts_are_joined_without_a_step(tiny, tmp_path):
    run(tiny, tmp_path)
    join = tmp_path / "both.toml"
    join.write_text('task = "join"\nabout = "joined"\nruns = ["tiny"]\n[run]\nsteps = 0\n')
    assert run(join, tmp_path) == 0
    assert checkpoints.read_config(tmp_path / "both.safetensors")["about"] == "joined"
    assert not (tmp_path / "both.losses.txt").exists()


@pytest.mark.parametrize(
    ("change", "code", "told"),
    [
        ("run.stepz=3", 2, "did you mean 'steps'"),
        ("run.steps=many", 2, "run.steps is a whole number, got 'many'"),
        ("steps", 2, "table.key=value"),
        ("run.steps=-3", 2, "steps is 0 or more, got -3"),
        ("run.steps=0", 1, "run.steps is 1 or more, got 0"),
        ("run.save_every=0", 2, "save_every is 1 or more, got 0"),
        ("report=0", 2, "report is 1 or more, got 0"),
        ("data.batch=0", 2, "size, batch and each of shortest are 1 or more"),
        ("data.size=16", 2, "a shorter side of 12 pixels at most, and crops of 16 do not fit: add to shortest"),
        ("restoration.factor=0", 2, "factor is 1 or more, got 0"),
        ("data.folder=nowhere", 1, "a/nowhere (looked for .png"),
        ("start.model=earlier", 1, "earlier.safetensors, which this run starts from"),
    ],
)
def test_refusals_are_one_line(tiny, tmp_path, capsys, change, code, told):
    assert run(tiny, tmp_path / "a", "--set", change) == code
    said = capsys.readouterr().err
    assert told in said and said.count("\n") == 1 and "Traceback" not in said


def test_a_checkpoint_of_another_training_is_refused(tiny, tmp_path, capsys):
    run(tiny, tmp_path, "--steps", "1")
    assert run(tiny, tmp_path, "--set", "network.channels=32") == 1
    assert "is of another training" in capsys.readouterr().err


def test_weights_are_not_told_as_those_of_another_training(tiny, tmp_path, capsys):
    """Networks of one shape: a finished run whose file was changed since."""
    assert run(tiny, tmp_path) == 0
    written = (tmp_path / "tiny.safetensors").read_bytes()
    assert run(tiny, tmp_path, "--set", "restoration.factor=2", "--set", "seed=5") == 1
    told = capsys.readouterr().err
    assert "restoration.factor was 4, here it is 2; seed was 0, here it is 5" in told and told.count("\n") == 1
    assert (tmp_path / "tiny.safetensors").read_bytes() == written
    (tmp_path / "tiny.resume.json").unlink()
    assert run(tiny, tmp_path, "--set", "restoration.factor=2") == 0


def test_what_may_change_on_the_way(tiny, tmp_path, capsys):
    assert run(tiny, tmp_path, "--steps", "2") == 0
    changes = [part for change in ("data.batch=1", "run.accumulate=2") for part in ("--set", change)]
    assert run(tiny, tmp_path, *changes) == 0
    assert "goes on from step 2 of 5" in capsys.readouterr().out
    assert run(tiny, tmp_path) == 0
    assert "all 5 steps were done before" in capsys.readouterr().out


def test_the_first_that_fails_ends_it(tiny, tmp_path, capsys):
    second = shutil.copy(tiny, tmp_path / "second.toml")
    asked = [str(tiny), str(second), "--output", str(tmp_path), "--set", "start.model=earlier"]
    assert train.main(asked) == 1
    assert "second" not in capsys.readouterr().err


def test_too_little_memory_is_told_before_the_first_step(tiny, tmp_path, monkeypatch):
    recipe = read(tiny)
    task = recipe.job.make(recipe, Files(tmp_path))
    processes = SimpleNamespace(device=torch.device("cuda"), replicated=True, portion=slice)
    weights = sum(p.nbytes for p in task.parameters)
    for free, fits in ((10**10, True), (3 * weights, False)):  # gradients and two moments, and nothing for activations
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, free=free: (free, 10**11))
        with nullcontext() if fits else pytest.raises(ValueError, match="smaller batch"):
            train._check_memory(recipe, task, processes)


def test_examples_of_the_readme_train(tiny, tmp_path):
    """Each a step: of the user's own pictures and clips, and but for that as they stand there."""
    text = (train.ROOT / "configs" / "README.md").read_text(encoding="utf-8")
    pictures, clips = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    for key in LoopSettings.__dataclass_fields__:
        assert f"`{key}`" in text
    video = torch.linspace(-1, 1, 3 * 16 * 64 * 64).view(3, 16, 64, 64)
    write_dataset(tmp_path / "clips", [(Clip(f"{n}.mp4"), {"latent": video}) for n in range(8)], {})
    small = {
        pictures: ["data.folder=pictures", "data.size=16", "data.shortest=[16]", "network.channels=16"],
        clips: ["network.arguments.hidden=16", "network.arguments.depth=2"],
    }
    for n, (example, changes) in enumerate(small.items()):
        (tmp_path / f"mine{n}.toml").write_text(example)
        sets = [part for change in changes for part in ("--set", change)]
        assert run(tmp_path / f"mine{n}.toml", tmp_path, "--steps", "1", *sets) == 0
        assert checkpoints.load(tmp_path / f"mine{n}.safetensors")[1]["about"] in example


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "code", "told"),
    [
        ("run.stepz=3", 2, "did you mean 'steps'"),
        ("data.folder=nowhere", 1, "nowhere (looked for .png"),
        ("data.batch=3", 1, "a batch of 3 rows cannot be shared equally by 2 processes"),
    ],
)
def test_of_two_processes_one_says_what_is_wrong(tiny, tmp_path, change, code, told):
    pytest.importorskip("accelerate")
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "--redirects", "3"]
    script = [train.ROOT / "scripts" / "train.py", tiny, "--output", tmp_path / "a", "--set", change]
    command = [sys.executable, *launcher, "--log-dir", tmp_path / "logs", *script]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    said = {int(path.parent.name): path.read_text() for path in (tmp_path / "logs").rglob("stderr.log")}
    assert told in said[0] and said[0].count("\n") == 1 and said[1] == "", said
    assert result.returncode != 0 and f"exitcode  : {code} " in result.stderr


def test_names_of_what_ships_are_known(capsys):
    assert train.main(["framebridge_digit"]) == 2
    assert "did you mean 'framebridge_digits'" in capsys.readouterr().err
    assert train.main(["--list"]) == 0
    listed = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert {"framebridge_digits", "superres_gp", "animate_photos"} <= set(listed)
    assert len(listed) == len(set(listed)) == len(train._configs())
