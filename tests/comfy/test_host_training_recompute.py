"""Computing blocks again gives what is trained beside a MODEL the same gradients."""

import pytest
import torch
from safetensors.torch import load_file

from aqueduct.tests.comfy.host_training import clips_like
from aqueduct.tests.comfy.hosts import HOSTS
from aqueduct.tests.comfy.test_host_training_nodes import places, train  # noqa: F401


@pytest.mark.parametrize("kind", ["sd15", "svd"])
def test_the_prior_of_a_u_net_is_learnt_too(places, comfy, tmp_path, kind):  # noqa: F811
    """Its first layer lies in a block, which is run again in the backward pass."""
    host = HOSTS[kind]()
    clips = clips_like(host, tmp_path / "clips", count=1)
    kept, again = (
        load_file(train(host, clips, recompute=recompute, filename_prefix=f"recompute {recompute}")[2])
        for recompute in (False, True)
    )
    assert bool(kept["aqueduct.prior_input.weight"].any())
    assert kept.keys() == again.keys()
    for name in kept:
        torch.testing.assert_close(again[name], kept[name], rtol=1e-3, atol=1e-5)
