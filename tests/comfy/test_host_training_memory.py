"""Room for a training beside a core MODEL: what only rests in memory makes way, what takes part stays."""

import pytest
import torch

from aqueduct.core.training.task import Task
from aqueduct.tests.comfy.host_training import COMMON, asking, clips_like
from aqueduct.tests.comfy.hosts import sd15


def test_what_rests_in_memory_makes_way(comfy, tmp_path, monkeypatch):
    import comfy.model_management as mm
    from comfy.model_patcher import ModelPatcher

    from aqueduct.nodes._comfy.training import Common, _make_room

    host, network = sd15(), torch.nn.Linear(4, 4)
    resting = ModelPatcher(torch.nn.Linear(4, 4), mm.get_torch_device(), mm.unet_offload_device())
    mm.load_models_gpu([resting])
    given = Common(**COMMON)
    task = Task(
        {"part": network}, list(network.parameters()), lambda generator, step: {"x": torch.ones(1, 4)},
        lambda batch: network(batch["x"]).square().mean(), {},
    )  # fmt: skip

    def body(asked):
        (rests,) = [one for one in mm.current_loaded_models if one.model is resting]
        rests.currently_used = False  # as core has it once another is loaded, on other devices than the CPU
        with monkeypatch.context() as patch:
            patch.setattr(mm, "get_free_memory", lambda *_, torch_free_too=False: (0, 0) if torch_free_too else 0)
            patch.setattr("aqueduct.nodes._comfy.training.estimate", _said(10**6))
            with pytest.raises(ValueError, match="free"):
                _make_room(task, given.settings(), given, False, asked.model)
        return mm.loaded_models()

    left = asking(host, clips_like(host, tmp_path), body)
    assert resting not in left and any(one.model is host.model.model for one in left)


def _said(size: int):
    from aqueduct.core.training.memory import Memory

    return lambda *_, **__: Memory(weights=0, gradients=size, optimiser=0, average=0, activations=0)
