"""What is learnt is what is sampled: the losses ask a host as samplers do."""

import pytest
import torch

from aqueduct.core.bridges import bridge_gmax, brownian
from aqueduct.core.training.objectives import uniform_weight
from aqueduct.tests.comfy.graph import FixedNoise, sample_bridge_graph
from aqueduct.tests.comfy.guided_hosts import clip_latent
from aqueduct.tests.comfy.host_training import asking, clips_like, close, lively
from aqueduct.tests.comfy.hosts import HOSTS, Host, normal
from aqueduct.tests.comfy.test_hosts import Recorder

GMAX = bridge_gmax()


@pytest.fixture(scope="module", params=HOSTS)
def host(request, comfy) -> Host:
    return HOSTS[request.param]()


@pytest.fixture(scope="module")
def clips(host, tmp_path_factory):
    return clips_like(host, tmp_path_factory.mktemp("clips"))


def patches(model, entry: str, bridge=GMAX):
    """(a function that makes a MODEL a bridge, whose prior input sees something)"""
    from aqueduct.nodes._comfy.alignment import align_model
    from aqueduct.nodes._comfy.bridge_lora import ENTRIES
    from aqueduct.nodes._comfy.prior_input import prior_input, show_prior

    seen = prior_input(model.model)
    lively(seen)

    def patched(clone):
        aligned = align_model(clone, bridge, ENTRIES[entry])
        show_prior(aligned, seen)
        return aligned

    return patched


@pytest.mark.parametrize("entry", ["aligned", "as it is"])
@pytest.mark.parametrize("bridge", [GMAX, brownian()], ids=["gmax", "brownian"])
def test_the_loss_asks_as_sampling_does(host, clips, entry, bridge):
    """The z0 predicted in the loss is that of AqueductBridgeSampler's run, at the same z_t, t, z_T and noise."""
    from aqueduct.nodes._comfy.host_loss import BridgeLoss

    patched, noise = patches(host.model, entry, bridge), normal(*clip_latent(host).shape, seed=4)
    latent = clips.tensor(0, "latent")[:, :1].expand_as(clips.tensor(0, "latent"))
    prior = latent[None] if clip_latent(host).dim() == 5 else latent.movedim(1, 0)
    recorder = Recorder(host.model)
    listed = torch.tensor([1.0, 0.7, 0.2, 0.0])
    model = patched(recorder.model)
    sample_bridge_graph(model, bridge, {"samples": prior}, host.positive, noise=FixedNoise(noise), times=listed)

    def body(asked):
        loss = BridgeLoss(asked, bridge, uniform_weight)
        z_T = asked.z_T(clips.tensor(0, "latent"))
        return [
            loss.predict(0, z_t, t.double(), z_T, noise, 0).detach()
            for t, (z_t, _) in zip(listed[:-1], recorder.states, strict=True)
        ]

    found = asking(host, clips, body, patched)
    assert len(found) == len(recorder.outputs) == 3
    for mine, theirs in zip(found, recorder.outputs, strict=True):
        assert close(mine, theirs)
