"""An exemplar through runs of a sampler: when the host is shown it, what is kept, and that nothing stays behind."""

import gc
import weakref
from dataclasses import replace

import pytest
import torch

from aqueduct.core.motion import MotionField
from aqueduct.tests.comfy.exemplar_guidance import exemplar, guided, sharp
from aqueduct.tests.comfy.graph import run, run_one
from aqueduct.tests.comfy.guided_hosts import STEPS, clip_latent, sample, sampling, sigmas_of, state_of
from aqueduct.tests.comfy.hosts import Host, normal

NAMES = ("sd15", "sdxl", "wan-t2v", "ltxv")


@pytest.fixture(scope="module")
def hosts(comfy) -> dict[str, Host]:
    return {name: sharp(name) for name in NAMES}


@pytest.fixture(params=NAMES)
def host(request, hosts) -> Host:
    return hosts[request.param]


@pytest.fixture
def wan(hosts) -> Host:
    return hosts["wan-t2v"]


class Asked:
    """Rows of each call of a host's bare network."""

    def __init__(self, host: Host):
        network = host.model.model.diffusion_model
        times = [getattr(network, name, None) for name in ("time_embed", "time_embedding", "adaln_single")]
        time = next(module for module in times if module is not None)
        self.calls = []
        self.hook = time.register_forward_hook(lambda module, inputs, out: self.calls.append(len(inputs[0])))

    def of(self, host: Host, model=None, **inputs) -> list[int]:
        self.calls.clear()
        sample(host, model, **inputs)
        return list(self.calls)


@pytest.fixture
def asked(host):
    found = Asked(host)
    yield lambda model=None, **inputs: found.of(host, model, **inputs)
    found.hook.remove()


def test_no_strength_no_levels_no_change(host, asked):
    """To the bit, and the host is not shown the exemplar."""
    own, calls = sample(host), asked()
    for settings in ({"strength": 0.0}, {"start": 0.999, "end": 1.0}):
        model = guided(host, **settings)
        assert torch.equal(sample(host, model), own)
        assert asked(model) == calls
    assert not torch.equal(sample(host, guided(host)), own)


def test_the_host_is_shown_the_exemplar_once(host, asked):
    """Under both conditions at once, for all pictures of the LATENT; or so at each step."""
    rows = 2 * len(clip_latent(host))
    assert asked() == [rows] * STEPS
    assert asked(guided(host)) == [2] + [rows] * STEPS
    assert asked(guided(host, each_step=True)) == [2, rows] * STEPS
    assert asked(guided(host, positive_only=True)) == [1] + [rows] * STEPS


def test_pictures_with_conditions_of_their_own_are_shown_it_each(hosts):
    """As many rows of text as pictures in the LATENT: one for each, or one for both where both say the same."""
    host = hosts["sd15"]
    found = Asked(host)
    try:
        for texts, rows in ((normal(2, 8, 64, seed=1), 3), (normal(1, 8, 64, seed=1).repeat(2, 1, 1), 2)):
            own = replace(host, positive=[[texts, {}]])
            assert found.of(own, guided(own)) == [rows] + [4] * STEPS
    finally:
        found.hook.remove()


def test_only_from_start_to_end(host, asked):
    """Shown at the first step that counts, and at no other."""
    sampling = host.model.model.model_sampling
    middle = [float(level) for level in sigmas_of(host)[:-1]][1:3]
    levels = {percent: float(sampling.percent_to_sigma(percent)) for percent in torch.linspace(0, 1, 2001).tolist()}
    inside = [percent for percent, level in levels.items() if 0.99 * middle[1] <= level <= 1.01 * middle[0]]
    model = guided(host, start=inside[0], end=inside[-1], each_step=True)
    assert len(asked(model)) == STEPS + 2


def test_conditions_of_other_lengths_are_asked_apart_and_kept_apart(wan):
    """Text that does not batch: the exemplar is shown once under each."""
    negative = [[torch.zeros(1, 7, 4096), {}]]
    host = replace(wan, negative=negative)
    found = Asked(host)
    try:
        assert found.of(host) == [1] * 2 * STEPS
        assert found.of(host, guided(host)) == [1] * 2 * (STEPS + 1)
        assert found.of(host, guided(host, positive_only=True)) == [1] * (2 * STEPS + 1)
    finally:
        found.hook.remove()


def test_same_seed_same_result_and_the_model_is_as_before(host):
    own, state = sample(host), state_of(host.model)
    model = guided(host)
    first = sample(host, model)
    assert torch.equal(sample(host, model), first)
    assert not torch.equal(sample(host, model, seed=4), first)
    assert torch.equal(sample(host), own)
    assert state_of(host.model) == state
    assert torch.equal(sample(host, model.clone()), first)


def test_nothing_is_kept_after_a_run(wan):
    """Also where it was interrupted."""
    import comfy.model_management as mm
    from comfy.patcher_extension import WrappersMP

    from aqueduct.nodes._comfy.runs import RUN_KEY

    model, runs = guided(wan), []
    own = sample(wan, model)

    def watching(executor, *args, **kwargs):
        current = args[5][RUN_KEY]
        if current.kept:
            assert all(part.features for seen in current.kept.values() for part in seen.parts)
            runs.append(weakref.ref(current))
            if len(runs) == 2:
                raise mm.InterruptProcessingException()
        return executor(*args, **kwargs)

    watched = model.clone()
    watched.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "watching", watching)
    with pytest.raises(mm.InterruptProcessingException):
        sample(wan, watched)
    gc.collect()
    assert len(runs) == 2 and all(run() is None for run in runs)
    assert RUN_KEY not in str(model.model_options)
    assert torch.equal(sample(wan, model), own)


def test_memory_for_the_exemplar_is_asked_for(wan):
    """ComfyUI is told of one more frame for each exemplar."""
    from comfy.patcher_extension import WrappersMP

    shapes = []

    def watching(executor, model, shape, *args, **kwargs):
        shapes.append(list(shape))
        return executor(model, shape, *args, **kwargs)

    for model in (wan.model, guided(wan), guided(wan, model=guided(wan))):
        model = model.clone()
        model.add_wrapper_with_key(WrappersMP.PREPARE_SAMPLING, "watching", watching)
        sample(wan, model)
    assert shapes == [[1, 16, frames, 8, 8] for frames in (2, 3, 4)]


def test_areas_of_the_picture_have_no_place_in_a_mask(hosts):
    """CONDITIONING for an area asks the network for that alone: works without a mask, and is refused with one."""
    sd15 = hosts["sd15"]
    area = [[text, {**values, "area": (4, 4, 0, 0), "strength": 1.0}] for text, values in sd15.positive]
    host = replace(sd15, positive=area)
    assert not torch.equal(sample(host, guided(host)), sample(host))
    with pytest.raises(ValueError, match="asked for a part of the LATENT"):
        sample(host, guided(host, mask=torch.ones(64, 64)))


def test_samplers_may_ask_for_a_few_pictures_at_a_time(hosts):
    """Parts of unequal size, and parts under texts of their own, see what all see together."""
    sd15, (whole, *parts) = hosts["sd15"], (0, 1, 2, 3)
    motion = MotionField(torch.zeros(4, 2, 32, 32), torch.zeros(4, 2, 32, 32))

    def sampled(model, at_once, positive=sd15.positive):
        return run(
            "SamplerCustomAdvanced", noise=run_one("RandomNoise", noise_seed=3), sigmas=sigmas_of(sd15),
            guider=run_one("CFGGuider", model=model, positive=positive, negative=sd15.negative, cfg=2.0),
            sampler=run_one("AqueductWarpedDiffusionSampler", motion=motion, strength=0.0, frames_at_once=at_once),
            latent_image={"samples": torch.zeros(5, 4, 8, 8)},
        )[0]["samples"]  # fmt: skip

    for positive in (sd15.positive, [[normal(5, 8, 64, seed=1), {}]]):
        expected = sampled(guided(sd15), whole, positive)
        assert (sampled(sd15.model, whole, positive) - expected).abs().max() > 0.1
        for at_once in parts:
            torch.testing.assert_close(sampled(guided(sd15), at_once, positive), expected, rtol=0, atol=1e-4)
    for settings in ({"given": exemplar(sd15, 5)}, {"mask": torch.ones(5, 64, 64)}):
        sampled(guided(sd15, **settings), whole)
        with pytest.raises(ValueError, match="asks for 2 of 5 pictures at once"):
            sampled(guided(sd15, **settings), 2)


def test_the_negative_branch_by_name(wan):
    """core's DualCFGGuider asks for its negative condition first: it is the one left alone."""
    model = guided(wan, positive_only=True)
    inputs = {"cond1": wan.positive, "cond2": wan.positive, "negative": wan.negative}

    def sampled(model, **cfg):
        guider = run_one("DualCFGGuider", model=model, **inputs, **{"cfg_conds": 0.0, "style": "regular", **cfg})
        return sample(wan, guider=guider)

    of_negative = {"cfg_conds": 0.0, "cfg_cond2_negative": 0.0}
    assert torch.equal(sampled(model, **of_negative), sampled(wan.model, **of_negative))
    assert not torch.equal(sampled(model, cfg_cond2_negative=1.5), sampled(wan.model, cfg_cond2_negative=1.5))


@pytest.mark.parametrize("host", ["sd15", "sdxl", "wan-t2v"], indirect=True)
@pytest.mark.parametrize("asked_before", [False, True])
def test_a_gradient_goes_through(host, asked_before):
    """By finite differences, and the same where blocks are computed again for it; also with features that were found
    before any gradient was asked for."""
    from aqueduct.nodes._comfy.gradients import gradients_through

    d, (u, v) = 0.02, (normal(*clip_latent(host).shape, seed=seed) for seed in (8, 9))

    def inside(guider, x, level, options):
        if asked_before:
            guider(x, level, options, 0)
        pulled = []
        for checkpointed in (False, True):
            with gradients_through(guider, checkpointed) as usable, torch.enable_grad():
                entering = x.detach().clone().requires_grad_(True)
                predicted = guider(entering, level.clone(), usable(options), 0)
                pulled.append(torch.autograd.grad(predicted, entering, v.clone())[0])
        rise = guider(x + d * u, level, options, 0).double() - guider(x - d * u, level, options, 0).double()
        return pulled, (v * rise).sum() / (2 * d)

    (plain, again), expected = sampling(host, inside, guided(host))
    torch.testing.assert_close((u * plain).sum().double(), expected, rtol=5e-3, atol=0)
    assert (again - plain).norm() < 1e-4 * plain.norm()
