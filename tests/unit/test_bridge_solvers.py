"""Solvers against exact laws, exact orders, and their papers' steps transcribed independently."""

import functools
import itertools

import mpmath
import numpy as np
import pytest
import torch
from scipy import integrate
from torch import Tensor

from aqueduct.core.bridges import (
    SOLVERS,
    bridge_gmax,
    brownian,
    multistep_weights,
    posterior,
    reverse_drift,
    sample_bridge,
    step_weights,
    time_of_half_log_snr,
    times,
    vp,
)
from aqueduct.core.bridges.laws import host_rates
from aqueduct.core.bridges.steps import bbdm_step_weights, exponential_moments
from aqueduct.tests.unit.oracles import (
    BRIDGES,
    GAUSSIAN,
    LAWS,
    TWO_MODES,
    assert_law,
    assert_same_law,
    assert_uniform,
    draws,
    fitted_order,
)

ERROR_RATE = 1e-4  # of false alarms, for each family of statistical tests below as a whole
EXACT = {"rtol": 1e-11, "atol": 1e-13}

SOME = ("bridge-gmax", "vp", "i2sb")  # one of each shape; at equal lambda all six behave alike (tested below)
some_bridges = pytest.mark.parametrize("bridge", [BRIDGES[name] for name in SOME], ids=SOME)
every_bridge = pytest.mark.parametrize("bridge", BRIDGES.values(), ids=BRIDGES)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Tensors are tiny here: more threads only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def seeded(seed: int = 0, like: Tensor | None = None):
    generator = torch.Generator().manual_seed(seed)
    return lambda t, t_next: torch.randn(like.shape, generator=generator, dtype=like.dtype)


def states(denoiser, prior, schedule, bridge, **options) -> list[Tensor]:
    """The state at every time of the schedule, and the result instead of the state at 0."""
    seen = []
    result = sample_bridge(denoiser, prior, schedule, bridge, callback=lambda now: seen.append(now["x"]), **options)
    return [*seen, result]


# --- laws -------------------------------------------------------------------------------------------------------------

LAW_SOLVERS = {"sde": (None, 200), "ode": (None, 200), "dbim-1": (0.5, 200), "dbim-2": (None, 60), "dbim-3": (None, 60)}
LAW_CASES = list(itertools.product(BRIDGES, LAW_SOLVERS))


def crowded(bridge, steps: int) -> Tensor:
    """From T, then ``lambda`` from -4.5 to 6.2 with three quarters of a quadratic crowding around 0.8, then 0.

    That is where signal and noise are comparable for the laws here, so a first-order bias is a third less than with
    even steps.
    """
    u = torch.linspace(-1, 1, steps - 1, dtype=torch.float64)
    reach = torch.where(u < 0, 0.8 + 4.5, 6.2 - 0.8)
    half_log_snr = 0.8 + reach * (0.75 * u * u.abs() + 0.25 * u)
    return torch.cat([torch.ones(1), time_of_half_log_snr(bridge, half_log_snr), torch.zeros(1)])


@pytest.mark.parametrize(("name", "solver"), LAW_CASES)
def test_samples_follow_the_exact_law(name, solver):
    """Oracle: the exact posterior mean as denoiser, so that samples must have the law of ``z_0`` given ``z_T``.

    One run samples all laws side by side. The bias left in the variance (3.4 % for ``sde``, exactly, in the Gaussian
    case) is about one standard error of 2000 samples; that it goes to zero is what the order tests below show.
    """
    bridge, (eta, steps), count = BRIDGES[name], LAW_SOLVERS[solver], 2000
    z_T, _ = draws(count * len(LAWS), seed=1)
    slots = [slice(i * count, (i + 1) * count) for i in range(len(LAWS))]
    denoisers = [law.denoiser(bridge, z_T[slot]) for law, slot in zip(LAWS.values(), slots, strict=True)]

    def denoiser(z, t):
        return torch.cat([predict(z[slot], t) for predict, slot in zip(denoisers, slots, strict=True)])

    noise = seeded(100 + LAW_CASES.index((name, solver)), z_T)
    z_0 = sample_bridge(denoiser, z_T, crowded(bridge, steps), bridge, solver, eta, noise)
    for law, slot in zip(LAWS.values(), slots, strict=True):
        assert_law(law, z_0[slot], z_T[slot], ERROR_RATE / (len(LAW_CASES) * len(LAWS)))


@pytest.mark.parametrize("solver", LAW_SOLVERS)
def test_processes_differ_only_in_how_time_maps_to_snr(solver):
    """At equal ``lambda`` and noises every process gives the same samples: ``(z_t - b z_T)/a`` moves alike."""
    eta, _ = LAW_SOLVERS[solver]
    z_T, _ = draws(50, seed=2)
    found = [
        sample_bridge(TWO_MODES.denoiser(bridge, z_T), z_T, crowded(bridge, 20), bridge, solver, eta, seeded(0, z_T))
        for bridge in BRIDGES.values()
    ]
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], rtol=0, atol=1e-6)


@every_bridge
def test_names_that_mean_the_same(bridge):
    """``bbdm`` with eta = 1 is ``sde``, ``dbim-1`` is the family between ``ode`` (eta = 0) and ``sde`` (eta = 1)."""
    z_T, _ = draws(50, seed=2)

    def run(solver, eta=None):
        return sample_bridge(
            TWO_MODES.denoiser(bridge, z_T), z_T, times(bridge, 8), bridge, solver, eta, seeded(0, z_T)
        )

    assert torch.equal(run("bbdm"), run("sde")) and torch.equal(run("dbim-1", 1.0), run("sde"))
    assert torch.equal(run("dbim-1"), run("ode")) and not torch.equal(run("sde"), run("ode"))


@pytest.mark.parametrize("eta", [0.3, 0.7])
def test_the_law_test_sees_bbdm_lose_variance(eta):
    """Power of the test above, and BBDM's quirk: its noise shrinks with eta while its mean stays that of eta = 1."""
    z_T, _ = draws(2000, seed=2)
    bridge = brownian()
    denoiser = GAUSSIAN.denoiser(bridge, z_T)
    z_0 = sample_bridge(denoiser, z_T, crowded(bridge, 200), bridge, "bbdm", eta, seeded(0, z_T))
    with pytest.raises(AssertionError, match="variance is off by -"):
        assert_law(GAUSSIAN, z_0, z_T, ERROR_RATE)


@pytest.mark.parametrize("name", ["bridge-gmax", "vp"])
def test_sde_is_the_backward_sde(name):
    """Oracle: fine Euler-Maruyama steps of ``reverse_drift`` (eq. 5), and the exact law of ``z_t`` itself."""
    bridge, mixture = BRIDGES[name], TWO_MODES
    z_T, generator = draws(count := 4000, seed=2)
    denoiser = mixture.denoiser(bridge, z_T)
    start, end = 0.98, 0.2
    schedule = time_of_half_log_snr(bridge, torch.linspace(*bridge.half_log_snr(torch.tensor([start, end])), 241))
    a, b, c = bridge.coefficients(start)
    z = a * mixture.sample(z_T, generator) + b * z_T + c * torch.randn(count, generator=generator, dtype=torch.float64)
    for s, t in itertools.pairwise(schedule):
        rate, (_, var_rate) = reverse_drift(bridge, z, denoiser(z, s), z_T, s), host_rates(bridge, s)
        noise = torch.randn(count, generator=generator, dtype=torch.float64)
        z = z + (t - s) * rate + (var_rate * (s - t)).sqrt() * noise

    same = torch.cat([torch.ones(1), schedule, torch.zeros(1)])
    sampled = states(denoiser, z_T, same, bridge, noise_sampler=seeded(3, z_T))[-2]
    each = ERROR_RATE / 6
    a, b, c = (float(x) for x in bridge.coefficients(schedule[-1]))
    assert_same_law(z - b * z_T, sampled - b * z_T, each, "sde against Euler-Maruyama")
    assert_uniform(mixture.cdf(z - b * z_T, z_T, a, c), each, "Euler-Maruyama")
    assert_uniform(mixture.cdf(sampled - b * z_T, z_T, a, c), each, "sde")


# --- orders -----------------------------------------------------------------------------------------------------------


def law_of_linear_sampler(prior: float, schedule: Tensor, bridge, **options) -> list[tuple[float, float]]:
    """Exact mean and variance of the state at every time, for the Gaussian denoiser, without Monte Carlo.

    The sampler is then affine in its noises: item 0 of the batch gets none, item i gets a one as its i-th noise.
    """
    count = len(schedule)
    z_T = torch.full((count + 1,), prior, dtype=torch.float64)
    unit = iter(torch.eye(count + 1, dtype=torch.float64)[1:])
    options["noise_sampler"] = lambda t, t_next: next(unit)
    found = states(GAUSSIAN.denoiser(bridge, z_T), z_T, schedule, bridge, **options)
    return [(z[0].item(), (z[1:] - z[0]).square().sum().item()) for z in found]


@pytest.mark.parametrize(("solver", "eta"), [("sde", None), ("dbim-1", 0.5)])
@some_bridges
def test_weak_order_is_one_and_the_limit_is_exact(bridge, solver, eta):
    """Oracle: the exact variance of ``z_t`` where ``lambda = 0.7``; the error halves, and extrapolates to zero."""
    counts, errors = [16, 32, 64, 128], []
    ladder = time_of_half_log_snr(bridge, 0.7 + torch.linspace(-6, 0, 129, dtype=torch.float64))
    a, _, c = bridge.coefficients(ladder[-1])
    var = (a * GAUSSIAN.stds[0]) ** 2 + c**2
    for count in counts:
        schedule = torch.cat([torch.ones(1), ladder[:: 128 // count], torch.zeros(1)])
        errors.append(law_of_linear_sampler(0.6, schedule, bridge, solver=solver, eta=eta)[-2][1] / var.item() - 1)
    assert fitted_order(counts, [abs(error) for error in errors]) == pytest.approx(1, abs=0.15), errors
    assert abs(2 * errors[-1] - errors[-2]) < 1e-3, errors


@functools.cache
def ode_solution(bridge, low: float, high: float) -> tuple[Tensor, Tensor]:
    """``z_T`` and DDBM's probability-flow ODE from it at ``lambda = low`` to ``high``, two modes.

    Eighth-order Runge-Kutta on ``reverse_drift``, stopped and restarted at the kink of I2SB's rate.
    """
    z_T = torch.tensor([-1.5, -0.4, 0.3, 1.2], dtype=torch.float64)
    denoiser = TWO_MODES.denoiser(bridge, z_T)

    def rate(time, z):
        t = torch.tensor(time, dtype=torch.float64)
        z = torch.from_numpy(z)
        return reverse_drift(bridge, z, denoiser(z, t), z_T, t, noise_share=0.0).numpy()

    start, end = time_of_half_log_snr(bridge, torch.tensor([low, high])).tolist()
    stops, z = [start, *([0.5] if end < 0.5 < start else []), end], z_T.numpy()
    for leg in itertools.pairwise(stops):
        z = integrate.solve_ivp(rate, leg, z, "DOP853", rtol=1e-10, atol=1e-11).y[:, -1]
    return z_T, torch.from_numpy(z)


@pytest.mark.parametrize(("solver", "order"), [("ode", 1), ("dbim-1", 1), ("dbim-2", 2), ("dbim-3", 3)])
@some_bridges
def test_order_on_the_ode(bridge, solver, order):
    """Oracle: the ODE solved by scipy from the same state, two modes (a denoiser that is not linear).

    The last step to 0 is first order by design, so the state before it is measured. Multistep solvers also start with
    order 1; three short steps (up to ``h^3``, ``h^2`` and ``h`` in ``lambda``) keep that from hiding order 3.
    """
    low, high = -1.0, 1.5
    z_T, exact = ode_solution(bridge, low, high)
    counts, errors = [32, 64, 128] if order == 3 else [16, 32, 64], []
    for count in counts:
        h = (high - low) / count
        ladder = low + h * torch.tensor([0, h**2, h, *range(1, count + 1)], dtype=torch.float64)
        schedule = torch.cat([time_of_half_log_snr(bridge, ladder), torch.zeros(1)])
        found = states(TWO_MODES.denoiser(bridge, z_T), z_T, schedule, bridge, solver=solver)[-2]
        errors.append((found - exact).abs().max().item())
    assert fitted_order(counts, errors) == pytest.approx(order, abs=0.3), errors
    assert errors[-1] < 0.1**order


@pytest.mark.parametrize("degree", [0, 1, 2])
@pytest.mark.parametrize("step", [1e-5, 1e-2, 0.3, 2.0])
def test_multistep_weights_integrate_polynomials_exactly(degree, step):
    """Oracle: quadrature of ``c_t int e^lambda lambda^degree dlambda`` (DBIM eq. 14), short and long steps."""
    bridge = bridge_gmax()
    start = 0.4
    nodes = torch.tensor([start, start - 0.7 * step, start - 1.9 * step], dtype=torch.float64)[: degree + 1]
    s, *history = time_of_half_log_snr(bridge, nodes)
    t = time_of_half_log_snr(bridge, torch.tensor(start + step))
    weights, earlier = multistep_weights(bridge, s, t, history)
    values = bridge.half_log_snr(torch.stack([s, *history])) - start  # lambda from `start`, as the times resolve it
    got = sum(w * v**degree for w, v in zip([weights.data, *earlier], values, strict=True))
    low, high = values[0].item(), bridge.half_log_snr(t).item() - start
    with mpmath.workdps(30):
        exact = mpmath.quad(lambda x: mpmath.exp(x - high) * x**degree, [low, high]) * bridge.coefficients(t)[0].item()
    assert got.item() == pytest.approx(float(exact), rel=1e-8, abs=1e-15)
    assert sum(earlier, weights.data).item() == pytest.approx(step_weights(bridge, s, t, 0.0).data.item(), rel=1e-8)


@pytest.mark.parametrize("h", [1e-8, 1e-4, 0.049, 0.051, 1.0, 9.0])
def test_exponential_moments(h):
    """Oracle: quadrature with 40 digits, on both sides of the switch to the series."""
    moments = exponential_moments(torch.tensor(h, dtype=torch.float64), 3)
    with mpmath.workdps(40):
        for k, moment in enumerate(moments):
            exact = mpmath.quad(lambda x, k=k: mpmath.exp(x - mpmath.mpf(h)) * x**k, [0, mpmath.mpf(h)])
            assert moment.item() == pytest.approx(float(exact), rel=1e-11)


# --- steps ------------------------------------------------------------------------------------------------------------

STEPS = [(0.9, 0.2), (0.6, 0.55), (0.3, 0.01), (0.99, 0.95)]
z_0, z_T, z_s = (torch.tensor([value], dtype=torch.float64) for value in (0.7, -1.3, 0.4))


def taken(weights, eps=0.0) -> Tensor:
    return weights.state * z_s + weights.data * z_0 + weights.prior * z_T + weights.std * eps


@pytest.mark.parametrize(("s", "t"), STEPS)
@every_bridge
def test_eta_one_and_zero_are_bridge_tts(bridge, s, t):
    """Oracle: Bridge-TTS's first-order SDE and ODE steps as printed there, with ``sigma_bar^2 = sigma_1^2 - sigma^2``.

    Its ``sigma`` is our ``rho``.
    """
    end = torch.ones((), dtype=torch.float64)
    alpha_s, alpha_t, alpha_1 = (bridge.alpha(x) for x in (s, t, end))
    var_s, var_t, var_1 = (bridge.rho(x) ** 2 for x in (s, t, end))
    bar_s, bar_t = var_1 - var_s, var_1 - var_t
    eps = 0.8
    sde = (
        alpha_t * var_t / (alpha_s * var_s) * z_s
        + alpha_t * (1 - var_t / var_s) * z_0
        + alpha_t * (var_t * (1 - var_t / var_s)).sqrt() * eps
    )
    ode = alpha_t * (var_t * bar_t / (var_s * bar_s)).sqrt() / alpha_s * z_s + alpha_t / var_1 * (
        (bar_t - (bar_s * var_t * bar_t / var_s).sqrt()) * z_0
        + (var_t - (var_s * var_t * bar_t / bar_s).sqrt()) * z_T / alpha_1
    )
    tolerance = {"rtol": 1e-9, "atol": 1e-11}
    torch.testing.assert_close(taken(step_weights(bridge, s, t, 1.0), eps), sde, **tolerance)
    torch.testing.assert_close(taken(step_weights(bridge, s, t, 0.0), eps), ode, **tolerance)
    torch.testing.assert_close(taken(multistep_weights(bridge, s, t, [])[0]), ode, **tolerance)


@pytest.mark.parametrize("eta", [0.0, 0.3, 0.8, 1.0])
@pytest.mark.parametrize(("s", "t"), [*STEPS, (1.0, 0.6), (1.0, 1 - 1e-9), (0.5, 0.0), (1.0, 0.0)])
@every_bridge
def test_every_eta_keeps_the_marginals(bridge, s, t, eta):
    """DBIM's condition: a step from the marginal at s, with the true ``z_0``, gives that at t; ends included."""
    w = step_weights(bridge, s, t, eta)
    (a_s, b_s, c_s), (a_t, b_t, c_t) = bridge.coefficients(s), bridge.coefficients(t)
    torch.testing.assert_close(w.state * a_s + w.data, a_t, **EXACT)
    torch.testing.assert_close(w.state * b_s + w.prior, b_t, **EXACT)
    torch.testing.assert_close((w.state * c_s) ** 2 + w.std**2, c_t**2, rtol=1e-9, atol=1e-13)
    expected = eta if 0 < s < 1 else 1.0  # DBIM: std = eta alpha_t rho_t sqrt(1 - rho_t^2/rho_s^2)
    full = bridge.sigma(t) * (1 - (bridge.rho(t) / bridge.rho(s)) ** 2).clamp_min(0).sqrt()
    torch.testing.assert_close(w.std, expected * full, rtol=1e-6 if 1 - t > 1e-6 else 1e-3, atol=1e-13)


@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("s_factor", [1.0, 0.5])
@pytest.mark.parametrize(("m_t", "m_n"), STEPS)
def test_bbdm_step_as_its_authors_wrote_it(m_t, m_n, s_factor, eta):
    """Oracle: BBDM's released sampler transcribed: the mean takes ``s2`` before eta, the noise is ``eta sqrt(s2)``."""
    v_t, v_n = (2 * s_factor * (m - m * m) for m in (m_t, m_n))
    s2 = (v_t - v_n * (1 - m_t) ** 2 / (1 - m_n) ** 2) * v_n / v_t
    eps = -0.6
    x_tminus_mean = (1 - m_n) * z_0 + m_n * z_T + np.sqrt((v_n - s2) / v_t) * (z_s - (1 - m_t) * z_0 - m_t * z_T)
    expected = x_tminus_mean + eta * np.sqrt(s2) * eps
    torch.testing.assert_close(taken(bbdm_step_weights(brownian(s_factor), m_t, m_n, eta), eps), expected, **EXACT)


@pytest.mark.parametrize("solver", SOLVERS)
@every_bridge
def test_boot_step(bridge, solver):
    """From T every solver jumps with the posterior given ``z_0_hat`` (DBIM's booting noise); eta does not matter."""
    prior = torch.tensor([0.5, -1.0], dtype=torch.float64)
    eps = torch.tensor([0.3, 2.0], dtype=torch.float64)
    schedule = torch.tensor([1.0, 0.7, 0.0])
    z0_hat = torch.full_like(prior, 0.2)
    found = states(lambda z, t: z0_hat, prior, schedule, bridge, solver=solver, noise_sampler=lambda *_: eps)
    mean, std = posterior(bridge, prior, z0_hat, prior, 1.0, torch.tensor(0.7))
    torch.testing.assert_close(found[1], mean + std * eps, **EXACT)


# --- the loop ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", SOLVERS)
def test_shortest_schedules(solver):
    """One step is one prediction at T, without noise; two steps are the boot step and a prediction."""
    bridge, prior, asked = vp(), torch.randn(2, 3, dtype=torch.float64), []

    def denoiser(z, t):
        return 2 * z + t

    def draw(t, t_next):
        asked.append((t.item(), t_next.item()))
        return torch.zeros_like(prior)

    one = sample_bridge(denoiser, prior, torch.tensor([1.0, 0.0]), bridge, solver, noise_sampler=draw)
    assert torch.equal(one, 2 * prior + 1) and asked == []
    two = sample_bridge(denoiser, prior, torch.tensor([1.0, 0.5, 0.0]), bridge, solver, noise_sampler=draw)
    middle, _ = posterior(bridge, prior, one, prior, 1.0, 0.5)
    torch.testing.assert_close(two, 2 * middle + 0.5, **EXACT)
    assert asked == [(1.0, 0.5)]


@pytest.mark.parametrize(
    ("solver", "eta", "from_T", "calls"),
    [
        ("sde", None, True, 4), ("sde", None, False, 4), ("bbdm", 0.5, True, 4), ("bbdm", 0.0, True, 0),
        ("dbim-1", 0.2, False, 4), ("dbim-1", None, True, 1), ("dbim-1", None, False, 0), ("ode", None, True, 1),
        ("ode", None, False, 0), ("dbim-2", None, True, 1), ("dbim-3", None, True, 1), ("dbim-3", None, False, 0),
    ],
)  # fmt: skip
def test_noise_sampler_is_the_only_randomness(solver, eta, from_T, calls):
    """It is asked once per step that uses noise, with that step's times; the global generator is left alone."""
    schedule = torch.tensor([1.0 if from_T else 0.95, 0.8, 0.6, 0.4, 0.2, 0.0], dtype=torch.float64)
    prior, asked = torch.linspace(-1, 1, 5, dtype=torch.float64), []

    def run(seed):
        draw = seeded(seed, prior)

        def noise(t, t_next):
            asked.append((t.item(), t_next.item()))
            return draw(t, t_next)

        denoiser = GAUSSIAN.denoiser(brownian(), prior)
        return sample_bridge(denoiser, prior, schedule, brownian(), solver, eta, noise_sampler=noise)

    torch.manual_seed(0)
    before = torch.get_rng_state()
    first, other = run(1), run(2)
    torch.manual_seed(99)
    again = run(1)
    torch.manual_seed(0)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, again) and torch.equal(first, other) == (calls == 0)
    assert asked == 3 * list(itertools.pairwise(schedule.tolist()))[:calls]


def test_default_noise_is_torch_randn_like():
    prior = torch.zeros(4, dtype=torch.float64)
    torch.manual_seed(5)
    drawn = sample_bridge(lambda z, t: z, prior, times(vp(), 2), vp())
    torch.manual_seed(5)
    _, _, c = vp().coefficients(0.5)
    torch.testing.assert_close(drawn, c * torch.randn_like(prior), **EXACT)


def test_callback_sees_every_evaluation():
    bridge, prior = bridge_gmax(), torch.zeros(1, 2, 3, 4, 4)
    schedule, seen, asked = times(bridge, 5), [], []

    def denoiser(z, t):
        assert t.dtype == torch.float64 and t.dim() == 0
        asked.append((z.clone(), t.item()))
        return z + 1

    result = sample_bridge(denoiser, prior, schedule, bridge, noise_sampler=seeded(0, prior), callback=seen.append)
    assert [set(now) for now in seen] == 5 * [{"i", "t", "t_next", "x", "denoised"}]
    assert [now["i"] for now in seen] == [0, 1, 2, 3, 4]
    assert [(now["t"], now["t_next"]) for now in seen] == list(itertools.pairwise(schedule))
    for now, (z, t) in zip(seen, asked, strict=True):
        assert now["t"] == t and torch.equal(now["x"], z) and torch.equal(now["denoised"], z + 1)
    assert torch.equal(result, seen[-1]["denoised"]) and torch.equal(seen[0]["x"], prior)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("solver", SOLVERS)
def test_state_keeps_its_dtype_and_float32_follows_float64(solver, dtype):
    """Coefficients in float64, tensors in the model's dtype: a float32 run stays within rounding of the float64 one."""
    prior = torch.linspace(-2, 2, 24, dtype=torch.float64).reshape(1, 2, 3, 2, 2)
    bridge, results = bridge_gmax(), []
    for kind in (torch.float64, dtype):
        draw = seeded(7, prior)
        z = sample_bridge(
            lambda z, t: 0.5 * z + 0.1, prior.to(kind), times(bridge, 12), bridge, solver,
            noise_sampler=lambda t, t_next, draw=draw, kind=kind: draw(t, t_next).to(kind),
        )  # fmt: skip
        assert z.dtype == kind and z.shape == prior.shape
        results.append(z.double())
    torch.testing.assert_close(*results, rtol=0, atol=40 * torch.finfo(dtype).eps)


# --- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"solver": "heun"}, "unknown solver 'heun'; choose from sde"),
        ({"solver": "sde", "eta": 0.5}, "solver 'sde' has eta = 1.0, got 0.5"),
        ({"solver": "ode", "eta": 0.5}, "solver 'ode' has eta = 0.0"),
        ({"solver": "dbim-3", "eta": 1.0}, "solver 'dbim-3' has eta = 0.0"),
        ({"solver": "dbim-1", "eta": 1.5}, r"eta lies in \[0, 1\]"),
        ({"solver": "bbdm", "eta": -0.1}, r"eta lies in \[0, 1\]"),
        ({"solver": "bbdm", "eta": float("nan")}, r"eta lies in \[0, 1\]"),
    ],
)
def test_solver_and_eta_are_checked_before_the_first_evaluation(options, message):
    """Also on the shortest schedule, where no step would use eta."""
    with pytest.raises(ValueError, match=message):
        sample_bridge(pytest.fail, torch.zeros(1), torch.tensor([1.0, 0.0]), vp(), **options)


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ([0.0, 0.5, 1.0], "must descend"),
        ([1.0, 0.5, 0.5, 0.0], "must descend"),
        ([1.0, 0.5, 0.1], "must end in 0"),
        ([14.6, 3.0, 0.0], "these are the SIGMAS of a noise scheduler; make bridge times with AqueductBridgeTimes"),
        ([1.0, float("nan"), 0.0], "not finite"),
        ([1.0, 0.5, -0.1], r"bridge times lie in \[0, 1\]"),
        ([1.0], "at least two times"),
        ([], "at least two times"),
        ([[1.0, 0.0]], "at least two times"),
    ],
)
def test_schedules_are_checked_before_the_first_evaluation(schedule, message):
    with pytest.raises(ValueError, match=message):
        sample_bridge(pytest.fail, torch.zeros(1), torch.tensor(schedule), vp())


def test_steps_are_checked():
    with pytest.raises(ValueError, match="a step goes down in time"):
        step_weights(vp(), 0.5, 0.5, 1.0)
    with pytest.raises(ValueError, match=r"eta lies in \[0, 1\]"):
        step_weights(vp(), 0.5, 0.4, 1.01)
    with pytest.raises(ValueError, match="strictly between 0 and T"):
        multistep_weights(vp(), 0.5, 0.4, [1.0])
