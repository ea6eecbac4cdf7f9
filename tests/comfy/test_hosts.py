"""SNR alignment and the posterior mean of real model families: what the host is shown, and what stays untouched."""

import copy

import pytest
import torch

from aqueduct.core.bridges import bridge_gmax, brownian, vp
from aqueduct.tests.comfy.graph import FixedNoise, bridge_times, run_one, sample_bridge_graph, sample_stock
from aqueduct.tests.comfy.hosts import HOSTS

GMAX = bridge_gmax()


@pytest.fixture(scope="module", params=list(HOSTS))
def host(request, comfy):
    return HOSTS[request.param]()


@pytest.fixture(scope="module")
def prior(host) -> dict:
    """z_T: the host's image as a still clip."""
    return run_one(
        "AqueductReplicatePrior",
        latent={"samples": host.latent}, frames=host.frames, temporal_compression=host.compression,
    )  # fmt: skip


def align(model, bridge=GMAX):
    return run_one("AqueductSNRAlign", model=model, bridge=bridge)


class Recorder:
    """Clones a MODEL so that what enters it is written down: bridge states before alignment, host inputs behind it."""

    def __init__(self, model):
        import comfy.patcher_extension as extension

        self.states, self.inputs, self.options, self.outputs = [], [], [], []
        self.model = model.clone()
        self.model.add_wrapper_with_key(extension.WrappersMP.PREDICT_NOISE, "states", self._state)
        self.model.add_wrapper_with_key(extension.WrappersMP.APPLY_MODEL, "inputs", self._input)

    def _state(self, executor, x, timestep, *arguments, **options):
        self.states.append((x.clone(), timestep.clone()))
        self.outputs.append(executor(x, timestep, *arguments, **options))
        return self.outputs[-1]

    def _input(self, executor, x, t, c_concat, c_crossattn, control, transformer_options, **conds):
        self.inputs.append((x.clone(), t.clone()))
        self.options.append(copy.copy(transformer_options))
        return executor(x, t, c_concat, c_crossattn, control, transformer_options, **conds)


def host_formula(bridge, t: float, flow: bool, sigma_max: float) -> tuple[float, float, float]:
    """(weight of ``z_t - b z_T``, weight of fresh noise, level) as the maths sheet gives them, section 2."""
    a, _, c = (value.item() for value in bridge.coefficients(t))
    if t == 1:
        return 0.0, 1.0 if flow else sigma_max, sigma_max
    if flow:
        return 1 / (a + c), 0.0, c / (a + c)
    if c / a > sigma_max:
        return sigma_max / c, 0.0, sigma_max
    return 1 / a, 0.0, c / a


# --- sampling -------------------------------------------------------------------------------------------------------


def test_samples_are_finite_and_belong_to_their_seed(host, prior):
    aligned = align(host.model)

    def sample(seed: int, cfg: float = 3.0):
        return sample_bridge_graph(aligned, GMAX, prior, host.positive, host.negative, cfg=cfg, seed=seed)

    first = sample(1)
    assert first.shape == prior["samples"].shape
    assert torch.isfinite(first).all()
    assert torch.equal(first, sample(1))
    assert not torch.allclose(first, sample(2))
    assert not torch.allclose(first, sample(1, cfg=1.0))


def test_the_original_model_is_untouched(host, prior):
    """A stock sampler gives the same before, after, and on the original while its clone is aligned."""
    latent = prior["samples"]
    before = sample_stock(host.model, latent, host.positive, host.negative)
    options, wrappers = copy.deepcopy(host.model.model_options), dict(host.model.wrappers)
    aligned = align(host.model)
    sample_bridge_graph(aligned, GMAX, prior, host.positive, host.negative, cfg=3.0)
    assert host.model.model_options == options
    assert host.model.wrappers == wrappers
    assert (
        "aqueduct_bridge" not in aligned.model_options["transformer_options"]
    )  # nor does a run leave its state behind
    assert torch.equal(before, sample_stock(host.model, latent, host.positive, host.negative))


# --- what the host sees ---------------------------------------------------------------------------------------------


ALIGNMENTS = {
    "gmax": (GMAX, [1.0, 0.75, 0.5, 0.25, 0.0]),
    "gmax-clamped": (GMAX, [1.0, 0.99999, 0.6, 0.0]),  # c/a = 1120 at the second
    "brownian": (brownian(2.0), [1.0, 0.5, 0.03, 0.0]),
    "vp": (vp(), [1.0, 0.9, 0.4, 0.0]),
}


@pytest.mark.parametrize("case", ALIGNMENTS)
def test_host_inputs_are_the_formulas(host, prior, case):
    bridge, listed = ALIGNMENTS[case]
    times = torch.tensor(listed)
    recorder = Recorder(host.model)
    noise = torch.randn(prior["samples"].shape, generator=torch.Generator().manual_seed(4))
    sample_bridge_graph(
        align(recorder.model, bridge), bridge, prior, host.positive, noise=FixedNoise(noise), times=times
    )
    z_T = host.model.model.process_latent_in(prior["samples"])
    sigma_max = float(host.model.get_model_object("model_sampling").sigma_max)
    assert len(recorder.inputs) == len(recorder.states) == len(times) - 1
    torch.testing.assert_close(recorder.states[0][0], z_T)
    levels = []
    for t, (z_t, given), (x, level) in zip(times.tolist(), recorder.states, recorder.inputs, strict=False):
        assert (given == t).all()
        scale, fresh, expected = host_formula(bridge, t, host.flow, sigma_max)
        b = bridge.coefficients(t)[1].item()
        torch.testing.assert_close(level, torch.full_like(level, expected), rtol=1e-5, atol=0)
        difference = z_t.double() - b * z_T.double()  # in float32 its rounding, times the scale, is what may differ
        rounding = 3e-7 * scale * z_t.abs().max().item()
        torch.testing.assert_close(x.double(), scale * difference + fresh * noise.double(), rtol=1e-5, atol=rounding)
        levels.append(level[0])
    shown = recorder.options[0]["sample_sigmas"]
    assert torch.equal(shown, torch.stack([*levels, torch.zeros_like(levels[0])]))
    assert all(torch.equal(options["sample_sigmas"], shown) for options in recorder.options)
    assert all(torch.equal(o["sigmas"], level) for o, (_, level) in zip(recorder.options, recorder.inputs, strict=True))


def test_formulas_reach_the_clamp_where_the_test_says_so():
    for sigma_max in (14.6, 700.0):
        assert host_formula(GMAX, 0.99999, False, sigma_max)[2] == sigma_max
        assert host_formula(GMAX, 0.6, False, sigma_max)[2] < sigma_max


def test_guided_hosts_see_one_state_for_both_branches(host, prior):
    recorder = Recorder(host.model)
    sample_bridge_graph(align(recorder.model), GMAX, prior, host.positive, host.negative, cfg=2.0)
    seen = torch.cat([x for x, _ in recorder.inputs[-1:]])
    half = len(seen) // 2
    assert half == len(prior["samples"])
    assert torch.equal(seen[:half], seen[half:])


def test_other_wrappers_of_the_model_still_run(host, prior):
    """Alignment stacks: a pack that has patched the MODEL before or after it keeps its patch."""
    import comfy.patcher_extension as extension

    before, after = Recorder(host.model), []
    aligned = align(before.model).clone()
    aligned.add_wrapper_with_key(
        extension.WrappersMP.PREDICT_NOISE, "later", lambda executor, *a, **k: after.append(a[1]) or executor(*a, **k)
    )
    sample_bridge_graph(aligned, GMAX, prior, host.positive)
    assert len(before.states) == len(after) == 4
    assert not torch.equal(before.states[1][1], after[1])  # outside: bridge time; inside: the host's level


# --- noise mask -----------------------------------------------------------------------------------------------------


def half_mask(samples: torch.Tensor) -> torch.Tensor:
    """1 = make anew: the lower half of every frame."""
    mask = torch.zeros(1, *samples.shape[-2:]) if samples.dim() == 4 else torch.zeros(1, 1, *samples.shape[2:])
    mask[..., samples.shape[-2] // 2 :, :] = 1
    return mask


def test_noise_mask_keeps_the_latent(host, prior):
    mask = half_mask(prior["samples"])
    out = sample_bridge_graph(align(host.model), GMAX, {**prior, "noise_mask": mask}, host.positive)
    rows = prior["samples"].shape[-2] // 2
    torch.testing.assert_close(out[..., :rows, :], prior["samples"][..., :rows, :], rtol=0, atol=1e-5)
    assert (out - prior["samples"])[..., rows:, :].abs().mean() > 0.05


def test_masked_hosts_see_what_they_were_trained_on(host, prior):
    """In the kept part a host sees the latent at its level, or clean where it is told so (LTXV: timestep 0 there)."""
    recorder = Recorder(host.model)
    mask = half_mask(prior["samples"])
    noise = torch.randn(prior["samples"].shape, generator=torch.Generator().manual_seed(4))
    sample_bridge_graph(
        align(recorder.model), GMAX, {**prior, "noise_mask": mask}, host.positive, noise=FixedNoise(noise)
    )
    rows = prior["samples"].shape[-2] // 2
    latent = host.model.model.process_latent_in(prior["samples"])
    for x, level in recorder.inputs:
        kept = host.model.model.scale_latent_inpaint(sigma=level, noise=noise, latent_image=latent)
        torch.testing.assert_close(x[..., :rows, :], kept[..., :rows, :], rtol=1e-5, atol=1e-5)


def test_ltxv_wants_the_kept_part_clean(comfy):
    """The statement the test above rests on, spelled out for the host that differs."""
    host = HOSTS["ltxv"]()
    latent, noise = torch.randn(1, 128, 2, 4, 4), torch.randn(1, 128, 2, 4, 4)
    kept = host.model.model.scale_latent_inpaint(sigma=torch.ones(1), noise=noise, latent_image=latent)
    assert torch.equal(kept, latent)


# --- posterior mean -------------------------------------------------------------------------------------------------


def posterior_mean(host, prior, **widgets):
    return run_one(
        "AqueductPosteriorMeanPrior", model=host.model, conditioning=host.positive, latent=prior, **widgets
    )["samples"]  # fmt: skip


def test_posterior_mean_is_one_denoise_at_the_noisiest_level(host, prior):
    recorder = Recorder(host.model)
    mean = run_one(
        "AqueductPosteriorMeanPrior", model=recorder.model, conditioning=host.positive, latent=prior, seed=7
    )["samples"]
    sampling = host.model.get_model_object("model_sampling")
    [(x, level)] = recorder.inputs
    noise = run_one("RandomNoise", noise_seed=7).generate_noise(prior)
    assert (level == float(sampling.sigma_max)).all()
    torch.testing.assert_close(x, sampling.noise_scaling(level, noise, torch.zeros_like(noise), True))
    assert mean.shape == prior["samples"].shape
    torch.testing.assert_close(mean, host.model.model.process_latent_out(recorder.outputs[0]))


def test_posterior_mean_averages_its_draws(host, prior):
    singles = [posterior_mean(host, prior, seed=seed) for seed in (3, 4)]
    assert not torch.allclose(*singles)
    torch.testing.assert_close(posterior_mean(host, prior, seed=3, draws=2), (singles[0] + singles[1]) / 2)


def test_posterior_mean_takes_the_last_seed(host, prior):
    last = 0xFFFFFFFFFFFFFFFF
    mean = posterior_mean(host, prior, seed=last, draws=2)
    torch.testing.assert_close(mean, (posterior_mean(host, prior, seed=last) + posterior_mean(host, prior, seed=0)) / 2)


def test_posterior_mean_is_a_prior(host, prior):
    mean = run_one("AqueductPosteriorMeanPrior", model=host.model, conditioning=host.positive, latent=prior)
    out = sample_bridge_graph(align(host.model), GMAX, mean, host.positive, times=bridge_times(GMAX, 2))
    assert out.shape == prior["samples"].shape and torch.isfinite(out).all()
