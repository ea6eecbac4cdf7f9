"""Geometric Consistency: it lowers its loss on video hosts, for MODEL and GUIDER alike, and says what it cannot."""

import logging

import pytest
import torch
from torch import Tensor

from aqueduct.core.guidance import ABSOLUTE
from aqueduct.core.motion import MotionField
from aqueduct.core.training.geometric import geometric_consistency, in_frame
from aqueduct.scripts._client import PromptError
from aqueduct.tests.comfy.graph import run, run_one
from aqueduct.tests.comfy.guided_hosts import guided, motion_of, sample, state_of
from aqueduct.tests.comfy.hosts import HOSTS, Host
from aqueduct.tests.comfy.test_server_bridge import node, saved
from aqueduct.tests.comfy.test_server_guidance import FRAMES, PAN, SIZE, prompt_of

NODE = "AqueductGeometricConsistency"


@pytest.fixture(scope="module", params=["wan-t2v", "svd"])
def host(request, comfy) -> Host:
    return HOSTS[request.param]()


@pytest.fixture(scope="module")
def svd(comfy) -> Host:
    return HOSTS["svd"]()


def consistent(host: Host, **inputs):
    return run_one(NODE, model=host.model, **{"motion": motion_of(host), **inputs})


def loss(samples: Tensor, across: float = 1.25, down: float = -0.5) -> float:
    """L_geo along a motion of so many latent pixels from one latent frame to the next."""
    clip = samples if samples.dim() == 5 else samples.movedim(1, 0)[None]
    batch, _, frames, height, width = clip.shape
    forward = torch.tensor([across, down])[:, None, None].expand(batch, frames - 1, 2, height, width)
    return float(geometric_consistency(clip, forward, in_frame(forward, -forward)))


def plain_guider(host: Host, model=None):
    model = host.model if model is None else model
    return run_one("CFGGuider", model=model, positive=host.positive, negative=host.negative, cfg=2.0)


# --- what it does -----------------------------------------------------------------------------------------------------


def test_the_loss_falls_and_strength_0_changes_nothing(host):
    before, plain = state_of(host.model), sample(host)
    assert torch.equal(sample(host, consistent(host, strength=0.0)), plain)
    little, much, through = (
        loss(sample(host, consistent(host, strength=strength, mode=mode)))
        for strength, mode in ((3.0, "x0"), (30.0, "x0"), (30.0, "full"))
    )
    assert much < little < loss(plain) and max(much, through) < 0.7 * loss(plain)
    assert state_of(host.model) == before


def test_the_first_frame_is_held(svd):
    """x0: what the others ask for goes nowhere else."""
    sigmas = torch.tensor([3.0, 0.0])
    found = sample(svd, consistent(svd, strength=30.0, mode="x0"), sigmas=sigmas)
    plain = sample(svd, sigmas=sigmas)
    assert torch.equal(found[0], plain[0]) and not torch.equal(found[1], plain[1])


def test_a_guider_and_its_model_are_guided_alike(host):
    given = plain_guider(host)
    _, steered = run(NODE, guider=given, motion=motion_of(host), strength=5.0, mode="x0")
    expected = sample(host, consistent(host, strength=5.0, mode="x0"))
    assert torch.equal(sample(host, guider=steered), expected)
    assert torch.equal(sample(host, guider=given), sample(host))


def test_the_thresholds_say_what_counts(svd):
    """Forward and backward miss each other by 2 pixels, so squared by 4."""
    motion = motion_of(svd)
    motion = MotionField(motion.forward, motion.backward + torch.tensor([2.0, 0.0])[:, None, None])
    plain = sample(svd)
    for alphas, counts in (((0.0, 3.9), False), ((0.0, 4.1), True), ((1.0, 0.0), True)):
        inputs = {"motion": motion, "mode": "x0", "alpha1": alphas[0], "alpha2": alphas[1]}
        assert torch.equal(sample(svd, consistent(svd, **inputs)), plain) != counts


@pytest.mark.parametrize("sampler", ["euler", "heun", "dpm_2"])
@pytest.mark.parametrize("make, measure", [(consistent, ABSOLUTE.mean), (guided, "mean square")])
def test_a_run_is_told_of_once(svd, caplog, sampler, make, measure):
    with caplog.at_level(logging.INFO):
        sample(svd, make(svd, mode="x0"), sampler=sampler)
    [told] = [line for line in caplog.messages if "along the motion" in line]
    assert measure in told


# --- windows of long clips --------------------------------------------------------------------------------------------


def test_windows_are_guided_along_their_part_of_the_motion(svd):
    from aqueduct.nodes._comfy.guided_model import rewindowed

    forward = motion_of(svd).forward[:1] * torch.tensor([1.0, -1.0, 0.5, 2.0, 0.0])[:, None, None, None]
    motion, mask = MotionField(forward, -forward), (torch.arange(6) != 2)[:, None, None].expand(6, 4, 4).float()
    for given, cut in ((mask, mask[1:4]), (mask[:1], mask[:1]), (None, None)):
        whole = consistent(svd, motion=motion, mode="x0", mask=given)
        state = state_of(whole)
        found = sample(svd, rewindowed(whole, 1, 4))
        assert torch.equal(found, sample(svd, consistent(svd, motion=motion.sliced(1, 4), mode="x0", mask=cut)))
        assert state_of(whole) == state
        assert not torch.equal(found, sample(svd, rewindowed(whole, 0, 3)))


def test_a_model_without_guidance_has_no_windows(svd):
    from aqueduct.nodes._comfy.guided_model import rewindowed

    assert rewindowed(svd.model, 0, 2) is svd.model


def test_a_window_beyond_the_motion(svd):
    from aqueduct.nodes._comfy.guided_model import rewindowed

    with pytest.raises(ValueError, match="frames 2 to 5 are not two or more of the 3"):
        rewindowed(consistent(svd), 2, 5)


# --- bad input --------------------------------------------------------------------------------------------------------


def test_a_motion_shorter_than_the_clip(svd):
    two = MotionField(torch.zeros(1, 2, 32, 32), torch.zeros(1, 2, 32, 32))
    with pytest.raises(ValueError, match="the motion has 2 frames, the LATENT 3"):
        sample(svd, consistent(svd, motion=two))


@pytest.mark.parametrize("make", [consistent, guided])
def test_a_motion_of_another_aspect_ratio(host, make):
    wide = motion_of(host).resized(32, 56)
    with pytest.raises(ValueError, match="56 x 32 pixels, the LATENT is 8 x 8, another aspect ratio.*ResizeMotion"):
        sample(host, make(host, motion=wide))


@pytest.mark.parametrize("size", [(30, 32), (32, 34), (8, 8), (64, 64)])
def test_sizes_that_rounding_explains(svd, size):
    assert torch.isfinite(sample(svd, consistent(svd, motion=motion_of(svd).resized(*size), mode="x0"))).all()


def test_a_motion_that_leaves_the_frame_changes_nothing_and_says_so(host, caplog):
    away = torch.full_like(motion_of(host).forward, 1000.0)
    found = sample(host, consistent(host, motion=MotionField(away, -away), mode="x0"))
    assert torch.equal(found, sample(host))
    assert "no pixel counts" in caplog.text


def test_nothing_to_guide_and_two_guidances(svd):
    with pytest.raises(ValueError, match="MODEL or a GUIDER"):
        run(NODE, motion=motion_of(svd))
    with pytest.raises(ValueError, match="guided along a motion already"):
        run(NODE, model=guided(svd), motion=motion_of(svd))
    with pytest.raises(ValueError, match="alpha1 and alpha2 must be at least 0"):
        sample(svd, consistent(svd, alpha2=-1.0))


# --- in the real server -----------------------------------------------------------------------------------------------


def served(server, frames: int = FRAMES, across: int = SIZE) -> dict:
    """A plain run of core's Wan, one of a guided MODEL, and one of a guided GUIDER."""
    prompt = prompt_of(server, {}, frames=frames)
    prompt["motion"]["inputs"]["width"] = across
    widgets = {"strength": 10.0, "start_percent": 0.0, "end_percent": 1.0, "mode": "x0", "share": 1.0}
    widgets |= {"alpha1": 0.01, "alpha2": 0.5, "motion": ["motion", 0]}
    prompt["guide model"] = node(NODE, model=["load", 0], **widgets)
    prompt["guider model"] = node("BasicGuider", **prompt["guider plain"]["inputs"] | {"model": ["guide model", 0]})
    prompt["guide guider"] = node(NODE, guider=["guider plain", 0], **widgets)
    for name, guider in (("model", ["guider model", 0]), ("guider", ["guide guider", 1])):
        sampling = prompt["sample plain"]["inputs"] | {"guider": guider}
        prompt[f"sample {name}"] = node("SamplerCustomAdvanced", **sampling)
        prompt[name] = node("SaveLatent", samples=[f"sample {name}", 0], filename_prefix=name)
    return prompt


def test_a_model_and_a_guider_in_the_server(host_server, tmp_path):
    outputs = host_server.run(served(host_server))["outputs"]
    clips = {name: saved(host_server, outputs, name, tmp_path) for name in ("plain", "model", "guider")}
    assert torch.equal(clips["model"], clips["guider"])
    across = -PAN * SIZE / (FRAMES - 1) * 4 / 8
    assert loss(clips["model"], across, 0.0) < 0.8 * loss(clips["plain"], across, 0.0)


@pytest.mark.parametrize("given, told", [
    ({"frames": 4}, "the motion has 4 frames, the LATENT 3 latent frames"),
    ({"across": 2 * SIZE}, "another aspect ratio"),
])  # fmt: skip
def test_what_does_not_fit_is_told_by_the_server(host_server, given, told):
    with pytest.raises(PromptError, match=told):
        host_server.run(served(host_server, **given))
