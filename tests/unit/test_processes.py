"""Several processes train as one does, whatever of the network each of them has, and survive each other's death."""

import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from aqueduct.core.training import resumable
from aqueduct.core.training.processes import ALONE, launched

SCRIPT = Path(__file__).with_name("processes_script.py")
spec = importlib.util.spec_from_file_location("processes_script", SCRIPT)
script = importlib.util.module_from_spec(spec)
spec.loader.exec_module(script)
KINDS = ["replicated", "sharded"]


def launch(*arguments) -> subprocess.CompletedProcess:
    """Two processes on this machine; ends in bounded time or fails."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", SCRIPT]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*command, *map(str, arguments)], env=environment, capture_output=True, text=True, timeout=400
    )


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """What each of two processes found, and the folder with their files."""
    pytest.importorskip("accelerate")
    folder = tmp_path_factory.mktemp("together")
    script.error_of(lambda: script.run(script.task(), folder / "alone.pt", report=script.stop_at(2)))
    result = launch("together", folder)
    assert result.returncode == 0, result.stderr[-4000:]
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)], folder


@pytest.fixture(scope="module")
def alone():
    return script.run(script.task())


def assert_close(found: dict, expected: dict, within: float = 1e-5) -> None:
    assert found["losses"] == pytest.approx(expected["losses"], rel=within)
    for name in ("weights", "average"):
        for a, b in zip(found[name], expected[name], strict=True):
            assert a == pytest.approx(b, rel=within, abs=within)


@pytest.mark.slow
@pytest.mark.parametrize("what", ["whole", "resumed", "recomputed"])
@pytest.mark.parametrize("kind", KINDS)
def test_two_are_as_one(together, alone, kind, what):
    """Losses, weights and averages; of two batches a step, clipped; `resumed` goes on from the file of one process."""
    (first, second), _ = together
    assert_close(first[kind][what], alone)
    assert second[kind][what]["losses"] == first[kind][what]["losses"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_frozen_host_is_shared_out_with_what_learns_beside_it(together, kind):
    """Recomputed by two, and not by one."""
    (first, _), _ = together
    alone = script.run(script.low_rank())
    assert_close(first[kind]["low_rank"], alone)
    assert len({round(loss, 6) for loss in alone["losses"]}) == len(alone["losses"])


@pytest.mark.slow
def test_gradients_are_kept_once_or_in_shares(together):
    """In the memory that is sent, one for all; under FSDP shared out after every batch, not whole until the last."""
    (first, second), _ = together
    assert first["replicated"]["gradients"]["places"] == [1] * script.SETTINGS.steps
    for found in (first, second):
        assert found["sharded"]["gradients"]["there"] == [False, True] * script.SETTINGS.steps
        assert set(found["replicated"]["gradients"]["cached"]) == {True}
        assert set(found["sharded"]["gradients"]["cached"]) == {False} and found["sharded"]["gradients"]["after"]


@pytest.mark.slow
def test_each_of_two_ends_with_all_weights_or_none(together):
    (first, second), _ = together
    assert second["replicated"]["whole"] == first["replicated"]["whole"]
    assert all(weights == [] for weights in second["sharded"]["whole"]["weights"])


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_files_are_those_of_one(together, kind, tmp_path):
    """Whole, whatever each process had of them: weights, moments, counts, averages, generator."""
    script.run(script.task(), tmp_path / "run.pt")
    expected, found = resumable.read(tmp_path / "run.pt"), resumable.read(together[1] / f"{kind}.pt")
    assert set(found) == set(expected)
    for name in ("parameters", "optimiser", "ema", "generator", "losses"):
        torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_one_goes_on_where_two_were_stopped(together, alone, kind):
    """By the report, which runs on one of them: all stop, and the file has the step that was just done."""
    (first, second), folder = together
    assert first[kind]["stopped"] == "Enough: " and second[kind]["stopped"].startswith("Stopped: 1 of the 2 processes")
    assert len(resumable.read(folder / f"{kind}_stopped.pt")["losses"]) == 3
    assert_close(script.run(script.task(), folder / f"{kind}_stopped.pt"), alone)


@pytest.mark.slow
def test_overflow_in_one_is_an_overflow_in_all(together):
    """The first gradients of the first process are too large for float16, those of the second are not. Both leave the
    step out and lower the scale of the loss, and then the second loss is still that of the first weights."""
    (first, second), folder = together
    still = script.run(script.task(steep=True), settings=replace(script.SETTINGS, precision="float16", learning_rate=0))
    for kind in KINDS:
        losses = first[kind]["half"]["losses"]
        assert losses[:2] == pytest.approx(still["losses"][:2], rel=1e-4)
        assert losses[5] < 0.99 * still["losses"][5]
        assert 1 < resumable.read(folder / f"{kind}_half.pt")["scaler"]["scale"] < 65536
    assert_close(first["sharded"]["half"], first["replicated"]["half"], within=1e-2)
    assert second["replicated"]["half"] == first["replicated"]["half"]


@pytest.mark.slow
def test_what_lies_in_no_part_and_what_one_alone_uses(together, alone):
    (first, second), _ = together
    assert_close(first["replicated"]["beside"], alone)
    assert_close(first["replicated"]["rare"], script.run(script.task(rare=True)))
    assert second["replicated"]["rare"] == first["replicated"]["rare"]
    assert "trained tensors lie in none of the parts (other)" in first["sharded"]["beside"]


@pytest.mark.slow
def test_rows_that_cannot_be_shared(together):
    for found in together[0]:
        for kind in KINDS:
            assert found[kind]["odd"].startswith(
                "ValueError: a batch of 3 rows cannot be shared equally by 2 processes"
            )


@pytest.mark.slow
@pytest.mark.parametrize("rank,kept", [(0, 4), (1, 5)])
def test_one_is_killed(tmp_path, alone, rank, kept):
    """In step 5, by a signal that no program can answer. The launch ends; the main process, if it lives, has written
    its last whole step, else there is the file of step 4; from either it goes on as if nothing had been."""
    pytest.importorskip("accelerate")
    result = launch("killed", tmp_path, rank)
    assert result.returncode != 0 and f"rank      : {rank}" in result.stderr and "SIGKILL" in result.stderr
    assert len(resumable.read(tmp_path / "run.pt")["losses"]) == kept
    assert_close(script.run(script.task(), tmp_path / "run.pt"), alone)


def test_alone_without_a_launch(monkeypatch):
    """And Accelerate is not asked for: most who use the pack do not have it."""
    monkeypatch.setitem(sys.modules, "accelerate", None)
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert launched() is ALONE and ALONE.main and ALONE.count == 1
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(ImportError, match="training in several processes needs the Python package 'accelerate'"):
        launched()
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.setenv("FSDP_VERSION", "1")
    with pytest.raises(ValueError, match="add --fsdp_version 2"):
        launched()
