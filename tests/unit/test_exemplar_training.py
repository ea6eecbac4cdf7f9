"""EBDM's two stages: what moves and what keeps its bits, rows without an exemplar, and runs that resume."""

from copy import deepcopy
from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import Tensor

from aqueduct.core.networks.exemplar_unet import ExemplarNetwork, ExemplarUNet, Style, initialise, start_from
from aqueduct.core.training.ema import Ema
from aqueduct.core.training.exemplar import PAPER_BATCH, STAGES, Stage, drop_exemplar, paper_settings
from aqueduct.core.training.loop import LoopSettings, train
from aqueduct.core.training.plateau import Plateau


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# --- the stages -------------------------------------------------------------------------------------------------------

FIRST, SECOND = STAGES
SIZES = {"blocks": 1, "sites": (1,), "head_channels": 8, "groups": 4, "features": 6, "context": 5, "expansion": 2}


def networks() -> tuple[ExemplarUNet, ExemplarNetwork]:
    """Where stage 1 starts."""
    torch.manual_seed(0)
    return initialise(ExemplarUNet(3, 3, 8, (1, 2), **SIZES), generator()), ExemplarNetwork(3, 3, 8, (1, 2), **SIZES)


def batch(draws: torch.Generator, count: int = 4) -> tuple[Tensor, ...]:
    """Control, photo, exemplar latents and its [CLS]."""
    return (*torch.randn(3, count, 3, 8, 8, generator=draws), torch.randn(count, 6, generator=draws))


def stage_loss(stage: Stage, denoiser, network):
    return lambda draws: stage.loss(denoiser, network, *batch(draws), draws)


def run_stage(stage: Stage, denoiser, network, steps: int = 5, **more):
    """No weight decay: that would move parameters without any gradient."""
    settings = LoopSettings(steps, learning_rate=1e-2, warmup=0, save_every=2)
    return train(stage.select(denoiser, network), stage_loss(stage, denoiser, network), settings, generator(1), **more)


@cache
def _first_stage_done() -> tuple[ExemplarUNet, ExemplarNetwork]:
    denoiser, network = networks()
    run_stage(FIRST, denoiser, None)
    return denoiser, start_from(network, denoiser, generator(2))


def trained_networks() -> tuple[ExemplarUNet, ExemplarNetwork]:
    """Where stage 2 starts."""
    return deepcopy(_first_stage_done())


def tensors(denoiser, network) -> dict[str, Tensor]:
    both = {"denoiser": denoiser, "network": network}
    return {f"{name}.{key}": value.clone() for name, part in both.items() for key, value in part.state_dict().items()}


def moved_by(stage: Stage, denoiser, network) -> set[str]:
    before = tensors(denoiser, network)
    run_stage(stage, denoiser, network)
    return {key for key, value in tensors(denoiser, network).items() if not torch.equal(value, before[key])}


def cannot_learn(key: str) -> bool:
    """The token is alone, so its softmax is 1 whatever is asked for: nothing that makes query or key can matter."""
    return any(part in key for part in (".cross.norm.", ".cross.q.", ".cross.k."))


def free_to_drift(key: str) -> bool:
    """A bias common to all keys leaves the softmax as it is: it moves by rounding errors, if at all."""
    return key.endswith(".attention.k.bias")


def test_first_stage_moves_the_denoiser_alone():
    denoiser, network = networks()
    own = {key for key in tensors(denoiser, network) if key.startswith("denoiser.") and ".attention." not in key}
    assert moved_by(FIRST, denoiser, network) == {key for key in own if not cannot_learn(key)}
    assert "denoiser.linear.weight" in own


def test_second_stage_moves_the_exemplar_side_alone():
    """Every other tensor keeps its bits; every one that is trained, and can matter, has moved."""
    denoiser, network = trained_networks()
    own = {
        key for key in tensors(denoiser, network)
        if key.startswith("network.") or (".sites." in key and ".attention." in key)
    }  # fmt: skip
    moved = moved_by(SECOND, denoiser, network)
    expected = {key for key in own if not cannot_learn(key)}
    assert moved <= expected
    assert {key for key in expected - moved if not free_to_drift(key)} == set()


def test_stages_share_nothing_and_leave_nothing():
    denoiser, network = networks()
    first, second = ({id(p) for p in stage.select(denoiser, network)} for stage in STAGES)
    assert not first & second
    assert first | second == {id(p) for part in (denoiser, network) for p in part.parameters()}


def test_selected_is_what_requires_a_gradient():
    """Whatever was frozen before."""
    denoiser, network = networks()
    for stage in (SECOND, FIRST, SECOND):
        chosen = {id(p) for p in stage.select(denoiser, network)}
        live = {id(p) for part in (denoiser, network) for p in part.parameters() if p.requires_grad}
        assert live == chosen


def test_second_stage_starts_at_the_first_ones_output():
    """Bit for bit; once the second is done, the features matter, and without them the output is still the first's."""
    denoiser, network = trained_networks()
    z_T, z_0, z, cls = batch(generator(3))
    times = torch.tensor([1.0, 250.0, 500.0, 1000.0])

    def outputs() -> list[Tensor]:
        with torch.no_grad():
            return [denoiser(z_0, times, (stage.style(denoiser, network, z, cls),)) for stage in STAGES]

    before = outputs()
    assert torch.equal(*before) and before[0].abs().max() > 0
    run_stage(SECOND, denoiser, network)
    first, second = outputs()
    assert torch.equal(first, before[0]) and not torch.allclose(second, first)


def test_each_stage_has_its_exemplar():
    target, partner = torch.zeros(1), torch.ones(1)
    assert FIRST.exemplar(target, partner) is target and SECOND.exemplar(target, partner) is partner
    denoiser, network = networks()
    _, _, z, cls = batch(generator())
    assert FIRST.style(denoiser, None, z, cls).memories is None
    assert len(SECOND.style(denoiser, network, z, cls).memories) == len(denoiser.sites)


def test_second_stage_needs_its_network():
    with pytest.raises(ValueError, match="second stage trains an exemplar network"):
        SECOND.select(networks()[0])


# --- rows without an exemplar -----------------------------------------------------------------------------------------


def test_dropped_rows_are_rows_without_a_style():
    denoiser, network = trained_networks()
    run_stage(SECOND, denoiser, network)
    _, z_t, z, cls = batch(generator(3), 16)
    style = SECOND.style(denoiser, network, z, cls)
    dropped = drop_exemplar(style, 16, 0.5, generator(4))
    gone = dropped.weight.flatten() == 0
    assert 0 < gone.sum() < 16
    times = torch.linspace(1, 1000, 16)
    with torch.no_grad():
        result, with_all, without = (denoiser(z_t, times, styles) for styles in ((dropped,), (style,), ()))
    assert torch.equal(result[gone], without[gone]) and torch.equal(result[~gone], with_all[~gone])
    assert not torch.allclose(with_all, without)


def test_share_of_dropped_rows():
    """And a weight that was there is kept in the others."""
    weights = drop_exemplar(Style(weight=0.5), 10_000, 0.3, generator()).weight
    assert sorted(weights.unique().tolist()) == [0.0, 0.5]
    assert (weights == 0).float().mean().item() == pytest.approx(0.3, abs=0.02)


def test_no_share_draws_nothing():
    style, draws = Style(), generator()
    assert drop_exemplar(style, 4, 0.0, draws) is style
    assert torch.equal(draws.get_state(), generator().get_state())


def test_dropped_rows_of_the_second_stage_would_train_nothing():
    """Why it has no dropout."""
    denoiser, network = trained_networks()
    everything = replace(SECOND, dropout=1.0)
    parameters = everything.select(denoiser, network)
    stage_loss(everything, denoiser, network)(generator()).backward()
    assert all(p.grad is None or not p.grad.any() for p in parameters)
    assert FIRST.dropout > 0 and SECOND.dropout == 0


# --- runs -------------------------------------------------------------------------------------------------------------


def test_paper_settings():
    settings = paper_settings(100)
    assert PAPER_BATCH == 8 and settings.accumulate == 2
    assert all(settings.warm_rate(step) == 1e-5 for step in (0, 50, 99))


def test_interrupted_second_stage_equals_the_whole_one(tmp_path):
    """With accumulation, average and plateau, bit for bit."""
    settings = replace(paper_settings(5), learning_rate=1e-2, save_every=2)

    class Interrupted(Exception):
        pass

    def stop(step, progress):
        if step == 3:
            raise Interrupted

    def second_stage(seed, **more):
        denoiser, network = trained_networks()
        parameters = SECOND.select(denoiser, network)
        ema, plateau = Ema(parameters, 0.9), Plateau(patience=0, window=1, threshold=0.5)
        train(
            parameters,
            stage_loss(SECOND, denoiser, network),
            settings,
            generator(seed),
            ema=ema,
            plateau=plateau,
            **more,
        )
        return tensors(denoiser, network), ema, plateau

    whole, average, plateau = second_stage(1)
    with pytest.raises(Interrupted):
        second_stage(1, checkpoint=tmp_path / "run.pt", report=stop)
    resumed, resumed_average, resumed_plateau = second_stage(99, checkpoint=tmp_path / "run.pt")
    assert all(torch.equal(value, resumed[key]) for key, value in whole.items())
    pairs = zip(average.average, resumed_average.average, strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert plateau.state_dict() == resumed_plateau.state_dict() and plateau.scale < 1
