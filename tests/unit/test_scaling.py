"""docs/scaling.md says what its model computes from the stored measurements, of the files that ship."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from aqueduct.core.data.config import read as preparation_of
from aqueduct.core.training.config import CONFIGS, read

ROOT = Path(__file__).resolve().parents[2]
spec = importlib.util.spec_from_file_location("_scaling_model", ROOT / "benchmarks" / "_scaling_model.py")
model = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = model  # dataclasses look for it
spec.loader.exec_module(model)
FOUND = json.loads((ROOT / "benchmarks" / "results" / "scaling.json").read_text())
PREPARED = {"framebridge_webvid_cogvideox": "webvid_cogvideox", "warped_diffusion_sdxl": "coyo_sdxl"}


def of(name: str):
    return next(one for one in model.TRAININGS if one.config == name)


def test_tables_are_those_of_the_stored_numbers():
    text = (ROOT / "docs" / "scaling.md").read_text(encoding="ascii")
    found = model.tables(FOUND)
    assert len(found) == 6
    for table in found:
        assert table in text


@pytest.mark.parametrize("one", model.TRAININGS, ids=lambda one: one.config)
def test_the_model_has_the_settings_of_the_files(one):
    recipe = read(CONFIGS / "papers" / f"{one.config}.toml")
    run = recipe.run
    assert (one.batch, one.steps, one.save_every) == (recipe.job.data.batch, run.steps, run.save_every)
    assert (one.again, one.accumulate, one.half) == (run.recompute, run.accumulate, run.precision == "bfloat16")
    assert (one.average, one.vae) == (recipe.ema is not None, getattr(recipe.job, "damage", None) is not None)
    if one.config in PREPARED:
        prepared = preparation_of(CONFIGS / "prepare" / f"{PREPARED[one.config]}.toml")
        assert prepared.shard_mb == one.data.shard


def test_what_several_gpus_do_not_divide():
    """Under DDP AdamW's traffic and the checkpoint; batches of one row divide no further than their compute."""
    one = of("warped_diffusion_sdxl")
    few, many = (model.step(one, FOUND, gpus) for gpus in (8, 64))
    assert few["compute"] == pytest.approx(8 * many["compute"]) and few["reading"] == pytest.approx(8 * many["reading"])
    assert few["optimiser"] == many["optimiser"] == pytest.approx(40 * 2_567_475_204 / 3.35e12)
    size, seconds = model.checkpoint(one, FOUND)
    assert size == 12 * 2_567_475_204
    assert seconds == pytest.approx(size / 1e9 * FOUND["data"]["checkpoint"]["seconds_of_a_gb"])


def test_fsdp_has_the_largest_block_whole_on_any_number_of_gpus():
    one = of("warped_diffusion_sdxl")
    block = FOUND["shares"][one.config]["block"]
    assert model.memory(one, FOUND, 10**6)[1] > 12 * block > 0.4 * 12 * FOUND["networks"][one.config]["parameters"]


def test_both_batches_of_a_step_are_exchanged_under_fsdp_and_one_under_ddp():
    one = of("ebdm_f4_stage1")
    s = model.step(one, FOUND, 8)
    assert s["fsdp"] == pytest.approx(2 * 3 / 2 * s["fast"])
