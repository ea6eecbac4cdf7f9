"""Equivariance guidance on hosts of every family, under stock samplers: it lowers what it is there to lower."""

import pytest
import torch

from aqueduct.tests.comfy.guided_hosts import error_along, guided, sample, sigmas_of
from aqueduct.tests.comfy.hosts import HOSTS, Host

SAMPLERS = ["euler", "dpmpp_2m", "uni_pc"]


@pytest.fixture(scope="module", params=HOSTS)
def host(request, comfy) -> Host:
    return HOSTS[request.param]()


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_error_falls_and_strength_0_changes_nothing(host, sampler):
    sigmas = sigmas_of(host, 5)
    plain = sample(host, sampler=sampler, sigmas=sigmas)
    assert torch.equal(sample(host, guided(host, strength=0.0), sampler=sampler, sigmas=sigmas), plain)
    for mode in ("x0", "full"):
        steered = sample(host, guided(host, strength=10.0, mode=mode), sampler=sampler, sigmas=sigmas)
        assert error_along(steered) < 0.7 * error_along(plain)
