"""`accelerate launch` of a training, as a user types it: two processes that do what one does."""

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

pytest.importorskip("accelerate")
pytest.importorskip("PIL")
from aqueduct import train  # noqa: E402
from aqueduct.core import checkpoints  # noqa: E402
from aqueduct.tests.unit.tiny_training import write_tiny_training  # noqa: E402

KINDS = {
    "the whole network (DDP)": ["--multi_gpu"],
    "a share of the network (FSDP)": ["--use_fsdp", "--fsdp_version", "2"],
}


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """A training of a network in channels_last on one picture, done by this process."""
    path = write_tiny_training(tmp_path_factory.mktemp("launch"), 3, "ema = 0.9")
    assert train.main([str(path), "--output", str(path.with_name("alone")), "--threads", "1"]) == 0
    return path


@pytest.mark.parametrize("replicated", [True, False])
def test_whether_networks_wait_on_the_cpu_is_told(tmp_path, replicated):
    given = []
    job = SimpleNamespace(make=lambda recipe, files: given.append(files) or SimpleNamespace(parameters=[]))
    device = torch.device("meta")
    processes = SimpleNamespace(replicated=replicated, device=device)
    train._task(SimpleNamespace(job=job), tmp_path / "one.resume.pt", processes)
    assert (given[0].device, given[0].home) == (device, device if replicated else torch.device("cpu"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_train_as_one(config, kind, tmp_path):
    """On CPUs a launch needs a word more than ``--num_processes``, or there is one process: the first line says it."""
    launcher = ["-m", "accelerate.commands.launch", *KINDS[kind], "--num_processes", "2", "--num_machines", "1"]
    script = [train.ROOT / "scripts" / "train.py", config, "--output", tmp_path, "--threads", "1"]
    command = [sys.executable, *launcher, "--mixed_precision", "no", "--dynamo_backend", "no", *script]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout.splitlines()[0] == f"2 processes on cpu, each with {kind}"
    losses, expected = (
        [float(line) for line in (folder / "tiny.losses.txt").read_text().split()]
        for folder in (tmp_path, config.with_name("alone"))
    )
    assert losses == pytest.approx(expected, rel=1e-5) and len(set(losses)) == 3
    found, alone = (
        checkpoints.load(folder / "tiny.safetensors")[0].state_dict()
        for folder in (tmp_path, config.with_name("alone"))
    )
    torch.testing.assert_close(found, alone, rtol=2e-3, atol=1e-4)  # float16
