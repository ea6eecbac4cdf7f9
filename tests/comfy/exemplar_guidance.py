"""Exemplars put onto hosts, and what these predict then; for tests that have the fixture `comfy`."""

import torch
from torch import Tensor

from aqueduct.tests.comfy.hosts import Host, normal


def sharp(name: str) -> Host:
    from aqueduct.tests.comfy.plain_reference import sharp_host

    return sharp_host(name)


def exemplar(host: Host, count: int = 1, seed: int = 9, keep: Tensor | None = None, size: tuple[int, int] = (10, 6)):
    from aqueduct.nodes._comfy.exemplar import Exemplar

    latent = 4 * normal(count, host.latent.shape[1], *size, seed=seed)
    return Exemplar(torch.rand(count, 3, 8 * size[0], 8 * size[1]), latent, keep=keep)


def guided(host: Host, given=None, model=None, **settings):
    """A clone of ``model``, else of the host's, that sees the exemplar ``given``."""
    from aqueduct.nodes._comfy.exemplar import Settings
    from aqueduct.nodes._comfy.reference import referenced

    with torch.inference_mode():
        return referenced(model or host.model, given or exemplar(host), Settings(**settings))


def predicted(host: Host, model=None, **asked) -> list[Tensor]:
    """See `plain_reference.predicted`."""
    from aqueduct.tests.comfy.plain_reference import predicted

    return predicted(host, model, **asked)


def plain(host: Host, given, **asked) -> list[Tensor]:
    """What `predicted` should be with the exemplar ``given``; see `plain_reference.plain_prediction`."""
    from aqueduct.tests.comfy.plain_reference import plain_prediction

    latent = given.latent if host.latent.dim() == 4 else given.latent[:, :, None]
    return plain_prediction(host, host.model.model.process_latent_in(latent), **asked)
