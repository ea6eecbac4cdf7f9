"""EBDM's stages as tasks: rows can be shared out, each stage moves what it should, translation follows its seed."""

from dataclasses import replace

import pytest
import torch

from aqueduct.core.bridges import brownian
from aqueduct.core.networks.exemplar_unet import ExemplarNetwork, ExemplarUNet, initialise, start_from
from aqueduct.core.training.exemplar import STAGES, ebdm
from aqueduct.core.training.exemplar_pairs import Triples
from aqueduct.core.training.exemplar_task import ExemplarSize, Translator
from aqueduct.core.training.loop import train_task
from aqueduct.core.training.settings import LoopSettings
from aqueduct.core.training.task import rows

SIZE = ExemplarSize(8, (1, 2), 1, (1,), 8, 4, 8, 2)
SIDE, BATCH, FEATURES = 8, 4, 3


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def triples(source: torch.Generator) -> Triples:
    return Triples(*(torch.rand(BATCH, 3, SIDE, SIDE, generator=source) * 2 - 1 for _ in range(3)))


def means(pictures: torch.Tensor) -> torch.Tensor:
    return pictures.mean((2, 3))


def translator(stage: int) -> Translator:
    """In latents of a "VAE" that halves the values; every weight counts."""
    arguments = SIZE.arguments(3, FEATURES)
    denoiser = initialise(ExemplarUNet(**arguments), generator())
    network = start_from(ExemplarNetwork(**arguments), denoiser, generator()) if stage == 2 else None
    for part in (denoiser, network):
        for n, parameter in enumerate([] if part is None else part.parameters()):
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator(n))
    objective = replace(ebdm(), bridge=brownian(variance=0.1))
    return Translator(STAGES[stage - 1], objective, denoiser, network, lambda x: x / 2, means)


@pytest.mark.parametrize("stage", [1, 2])
def test_a_batch_is_the_mean_of_its_equal_parts(stage):
    task = translator(stage).task(triples, (BATCH, 3, SIDE, SIDE), {}, {})
    drawn = task.draw(generator(3), 0)
    parts = [task.loss(rows(drawn, slice(n, n + 2))) for n in (0, 2)]
    assert torch.allclose(task.loss(drawn), torch.stack(parts).mean(), rtol=1e-5)


@pytest.mark.parametrize("stage", [1, 2])
def test_a_stage_moves_its_own_alone(stage):
    made = translator(stage)
    task = made.task(triples, (BATCH, 3, SIDE, SIDE), {}, {})
    before = {name: p.clone() for name, p in made.denoiser.named_parameters()}
    train_task(task, LoopSettings(steps=3, warmup=0), generator())
    attention = {name for name in before if ".attention." in name and name.startswith("sites")}
    # What compares tokens has nothing to do while there is but one.
    idle = {name for name in before if any(word in name for word in ("cross.q", "cross.k", "cross.norm"))}
    moved = {name for name, p in made.denoiser.named_parameters() if not torch.equal(p, before[name])}
    assert attention and idle and moved == (attention if stage == 2 else before.keys() - attention - idle)
    assert set(task.parts) == ({"model", "exemplar"} if stage == 2 else {"model"})


def test_the_first_stages_exemplar_is_the_photo_the_seconds_another():
    for stage, changed in ((1, "photo"), (2, "exemplar")):
        made = translator(stage)
        seen = []
        made = replace(made, encode=lambda x, seen=seen: seen.append(x) or means(x))
        task = made.task(triples, (BATCH, 3, SIDE, SIDE), {}, {})
        drawn = task.draw(generator(3), 0)
        task.loss(drawn)
        assert torch.equal(seen[0], drawn[changed])


def test_translation_is_a_function_of_control_exemplar_and_seed():
    made, drawn = translator(2), triples(generator(1))
    with torch.no_grad():
        one, same, other = (made.translate(drawn.control, drawn.exemplar, 3, seed) for seed in (0, 0, 1))
        styled = made.translate(drawn.control, drawn.photo, 3, 0)
    assert one.shape == (BATCH, 3, SIDE, SIDE) and torch.equal(one, same)
    assert not torch.equal(one, other) and not torch.equal(one, styled)
