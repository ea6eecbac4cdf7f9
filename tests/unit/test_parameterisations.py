"""Conventions of network outputs and inputs, guidance, and the training loss."""

import pytest
import torch
from torch import Tensor

from aqueduct.core.bridges import (
    PARAMETERISATIONS,
    PRECONDITIONS,
    NetworkDenoiser,
    bridge_gmax,
    guided,
    lbm,
    sample_bridge,
    times,
    vp,
)
from aqueduct.core.bridges.diffusion import CosineDiffusion
from aqueduct.core.bridges.parameterisation import ddbm, ddbm_scalings
from aqueduct.core.bridges.precondition import ddbm_precondition
from aqueduct.core.training.objectives import draw_bridge, psi_weight, uniform_weight, z0_loss
from aqueduct.tests.unit.oracles import BRIDGES, TWO_MODES, draws

every_bridge = pytest.mark.parametrize("bridge", BRIDGES.values(), ids=BRIDGES)
every_name = pytest.mark.parametrize("name", PARAMETERISATIONS)
INNER = [1e-9, 0.03, 0.4, 0.9, 1 - 1e-9]


def state(bridge, t, seed=0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """``z_0, z_T, eps, z_t`` of one draw, shaped like two small clips."""
    generator = torch.Generator().manual_seed(seed)
    z_0, z_T, eps = torch.randn(3, 2, 3, 2, 2, 2, generator=generator, dtype=torch.float64)
    a, b, c = bridge.coefficients(t)
    return z_0, z_T, eps, a * z_0 + b * z_T + c * eps


# --- outputs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("t", INNER)
@every_name
@every_bridge
def test_target_round_trip(bridge, name, t):
    """``z0(target)`` is ``z_0``; LBM's differs by its known bias, since it is trained without the noise it decodes."""
    z_0, z_T, eps, z_t = state(bridge, t)
    kind = PARAMETERISATIONS[name]
    output = kind.target(z_0, z_t, z_T, t, bridge)
    a, b, c = bridge.coefficients(t)
    expected = z_0 if name != "drift" else z_t - b * (z_T - z_0)
    lost = 1e-15 * max(1, (c / a).item()) if name == "eps" else 0  # eps says little about z_0 next to T
    torch.testing.assert_close(kind.z0(output, z_t, z_T, t, bridge), expected, rtol=1e-6, atol=1e-6 + 100 * lost)


TARGETS = {
    "psi": lambda z_0, z_T, eps, z_t, at: (z_t - at["alpha"] * z_0) / at["sigma"],
    "eps": lambda z_0, z_T, eps, z_t, at: eps,
    "v": lambda z_0, z_T, eps, z_t, at: (at["a"] * eps - at["c"] * z_0) / torch.hypot(at["a"], at["c"]),
    "x0": lambda z_0, z_T, eps, z_t, at: z_0,
    "prior_residual": lambda z_0, z_T, eps, z_t, at: z_0 - z_T,
    "residual": lambda z_0, z_T, eps, z_t, at: z_t - z_0,
    "drift": lambda z_0, z_T, eps, z_t, at: z_T - z_0,
    "ddbm": lambda z_0, z_T, eps, z_t, at: (z_0 - at["skip"] * z_t) / at["out"],
}


@pytest.mark.parametrize("t", [0.03, 0.4, 0.9])
@every_name
@every_bridge
def test_targets_are_their_papers_formulas(bridge, name, t):
    """Oracle: each target written with the noise that made ``z_t`` (FrameBridge eq. 6, BBDM eq. 11, DDBM A.5, LBM)."""
    drawn = state(bridge, t)
    at = dict(zip("abc", bridge.coefficients(t), strict=True), alpha=bridge.alpha(t), sigma=bridge.sigma(t))
    at["skip"], at["out"], _ = ddbm_scalings(bridge, torch.tensor(t).double(), 0.5, 0.5, 0.0)
    z_0, z_T, _, z_t = drawn
    target = PARAMETERISATIONS[name].target(z_0, z_t, z_T, t, bridge)
    torch.testing.assert_close(target, TARGETS[name](*drawn, at), rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("t", [0.03, 0.4, 0.9])
@every_bridge
def test_v_decodes_as_framebridge_on_cogvideox(bridge, t):
    """Oracle: ``z_0 = ((a/(c n)) z_t - (a b/(c n)) z_T - v) c/n``, as released."""
    _, z_T, v, z_t = state(bridge, t)
    a, b, c = bridge.coefficients(t)
    n = torch.hypot(a, c)
    expected = (a / (c * n) * z_t - a * b / (c * n) * z_T - v) * c / n
    torch.testing.assert_close(PARAMETERISATIONS["v"].z0(v, z_t, z_T, t, bridge), expected, rtol=1e-9, atol=1e-12)


@every_bridge
def test_v_is_defined_at_T(bridge):
    """There ``v = -z_0``, the limit of its formula; so the first evaluation of a schedule from T can use it."""
    z_0, z_T, _, _ = state(bridge, 1.0)
    v = PARAMETERISATIONS["v"]
    torch.testing.assert_close(v.z0(-z_0, z_T, z_T, 1.0, bridge), z_0, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(v.target(z_0, z_T, z_T, 1.0, bridge), -z_0, rtol=1e-9, atol=1e-9)


UNDEFINED = {"psi": [0.0], "eps": [0.0, 1.0], "v": [0.0], "drift": [0.0], "ddbm": [0.0]}


@every_name
@every_bridge
def test_ends_are_read_or_refused(bridge, name):
    """Where the output does not determine ``z_0`` the error says so; elsewhere the ends give finite predictions."""
    z_0, z_T, _, _ = state(bridge, 0.5)
    for t, z_t in ((0.0, z_0), (1.0, z_T)):
        read = PARAMETERISATIONS[name].z0
        if t in UNDEFINED.get(name, []):
            with pytest.raises(ValueError, match=f"of kind '{name}' does not determine z_0 at t = {t}"):
                read(z_0, z_t, z_T, t, bridge)
            with pytest.raises(ValueError, match="does not determine z_0"):
                read(z_0, z_t, z_T, torch.tensor([0.5, t]), bridge)
        else:
            assert bool(torch.isfinite(read(z_0, z_t, z_T, t, bridge)).all())


@every_name
def test_one_time_per_item(name):
    """A batch of times is the loop over it, in the output's dtype."""
    bridge, kind = vp(), PARAMETERISATIONS[name]
    t = torch.tensor([0.2, 0.7])
    z_0, z_T, output, z_t = state(bridge, 0.5)
    for function, first in ((kind.z0, output), (kind.target, z_0)):
        looped = torch.cat([function(first[i : i + 1], z_t[i : i + 1], z_T[i : i + 1], t[i], bridge) for i in range(2)])
        assert torch.equal(function(first, z_t, z_T, t, bridge), looped)
        half = function(first.half(), z_t.half(), z_T.half(), t, bridge)
        assert half.dtype == torch.float16
    with pytest.raises(ValueError, match="one per batch item"):
        kind.z0(output, z_t, z_T, torch.tensor([0.2, 0.3, 0.4]), bridge)


@pytest.mark.parametrize(("std_data", "std_end", "covariance"), [(0.5, 0.5, 0.0), (0.7, 1.3, 0.4), (1.0, 1.0, 0.99)])
@pytest.mark.parametrize("t", [0.01, 0.3, 0.8, 1.0])
@every_bridge
def test_ddbm_inputs_and_targets_have_unit_variance(bridge, t, std_data, std_end, covariance):
    """Oracle: the covariance of ``(z_0, z_T, eps)`` pushed through both linear maps (DDBM A.5)."""
    known = torch.tensor([[std_data**2, covariance, 0.0], [covariance, std_end**2, 0.0], [0.0, 0.0, 1.0]]).double()
    t = torch.tensor(t, dtype=torch.float64)
    basis = torch.eye(3, dtype=torch.float64)  # z_0, z_T, eps as vectors of coefficients
    z_t = sum(x * e for x, e in zip(bridge.coefficients(t), basis, strict=True))
    target = ddbm(std_data, std_end, covariance).target(basis[0], z_t, basis[1], t, bridge)
    entering = ddbm_precondition(std_data, std_end, covariance).input(z_t, basis[1], t, bridge)
    for vector in (target, entering):
        assert (vector @ known @ vector).item() == pytest.approx(1, rel=1e-6)
    assert (target @ known @ z_t).item() == pytest.approx(0, abs=1e-5 * (z_t @ known @ z_t).sqrt().item())


@every_name
def test_a_perfect_network_is_a_perfect_denoiser(name):
    """``NetworkDenoiser`` turns the exact output of each convention into ``E[z_0 | z_t, z_T]``, T included."""
    bridge, kind = bridge_gmax(), PARAMETERISATIONS[name]
    z_T, generator = draws(6, seed=0)
    z_t, exact, seen = torch.randn(6, generator=generator, dtype=torch.float64), TWO_MODES.denoiser(bridge, z_T), []
    for t in torch.tensor([0.3, 0.9, *([] if name in ("eps", "drift") else [1.0])], dtype=torch.float64):
        now = z_T if t == 1 else z_t

        def predict(entering, timestep, t=t, now=now):
            seen.append((entering, timestep))
            return kind.target(exact(now, t), now, z_T, t, bridge)

        z0_hat = NetworkDenoiser(predict, bridge, kind, PRECONDITIONS["frame_index"], z_T)(now, t)
        _, b, _ = bridge.coefficients(t)
        expected = exact(now, t) if name != "drift" else now - b * (z_T - exact(now, t))
        torch.testing.assert_close(z0_hat, expected, rtol=1e-9, atol=1e-9)
        entering, timestep = seen[-1]
        assert torch.equal(entering, now) and timestep.dtype == torch.float32
        torch.testing.assert_close(timestep, torch.full((6,), 1001 * t.item() - 1))


@every_name
@every_bridge
def test_guidance_is_linear_in_every_convention(bridge, name):
    """Guiding the prediction of ``z_0`` is guiding the network's output, ``u + s (c - u)`` (FrameBridge C.3)."""
    kind, t, scale = PARAMETERISATIONS[name], torch.tensor(0.4, dtype=torch.float64), 7.5
    _, z_T, with_class, z_t = state(bridge, t)
    _, _, without, _ = state(bridge, t, seed=1)

    def read(output):
        return lambda z, t: kind.z0(output, z, z_T, t, bridge)

    expected = read(without + scale * (with_class - without))(z_t, t)
    torch.testing.assert_close(guided(read(with_class), read(without), scale)(z_t, t), expected, rtol=1e-7, atol=1e-7)


def test_guidance_uses_both_branches_once_and_scale_one_is_the_conditional():
    asked = []

    def branch(name, value):
        return lambda z, t: asked.append(name) or torch.full_like(z, value)

    z = torch.zeros(2)
    assert torch.equal(guided(branch("with", 3.0), branch("without", 1.0), 1.0)(z, torch.tensor(0.5)), z + 3)
    assert torch.equal(guided(branch("with", 3.0), branch("without", 1.0), 0.0)(z, torch.tensor(0.5)), z + 1)
    assert sorted(asked) == ["with", "with", "without", "without"]


def test_lbm_one_step_is_its_released_sampler():
    """LBM samples in one step from T: ``z_T - output``."""
    z_T = torch.tensor([1.0, -2.0])
    network = NetworkDenoiser(
        lambda x, timestep: 0.25 * x, lbm(), PARAMETERISATIONS["drift"], PRECONDITIONS["raw"], z_T
    )
    torch.testing.assert_close(sample_bridge(network, z_T, times(lbm(), 1), lbm()), 0.75 * z_T)


# --- inputs -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("t", [0.0, 0.2, 0.9, 1.0])
def test_preconditions(t):
    """Oracles: ``z_t`` with its noise scaled to unit variance; the released index ``i`` of ``t = (i + 1)/1001``."""
    bridge = bridge_gmax()
    _, z_T, _, z_t = state(bridge, t)
    _, _, c = bridge.coefficients(t)
    time = torch.tensor(t, dtype=torch.float64)
    for name, scale, timestep in (
        ("raw", 1.0, 1000 * t),
        ("unit_noise", 1 / (1 + c.item() ** 2) ** 0.5, 1000 * t),
        ("frame_index", 1.0, 1001 * t - 1),
        ("bbdm_index", 1.0, (t - 0.001) / 0.998 * 999),
    ):
        torch.testing.assert_close(PRECONDITIONS[name].input(z_t, z_T, t, bridge), scale * z_t)
        assert PRECONDITIONS[name].timestep(bridge, time).item() == pytest.approx(timestep)
    if t:
        assert PRECONDITIONS["ddbm"].timestep(bridge, time).item() == pytest.approx(1000 * 0.25 * time.log().item())


def test_noise_stands_in_for_the_network_input_at_T_only():
    """SAF: at T the aligned state is 0/0; the network gets the given noise there, and the aligned state elsewhere."""
    bridge, seen = bridge_gmax(), []
    _, z_T, noise, z_t = state(bridge, 0.5)
    denoiser = NetworkDenoiser(
        lambda x, timestep: seen.append(x) or x, bridge, PARAMETERISATIONS["x0"], PRECONDITIONS["aligned_cosine"],
        z_T, noise,
    )  # fmt: skip
    denoiser(z_T, torch.tensor(1.0))
    denoiser(z_t, torch.tensor(0.5))
    a, b, c = bridge.coefficients(0.5)
    assert torch.equal(seen[0], noise)
    torch.testing.assert_close(seen[1], (z_t - b * z_T) / torch.hypot(a, c))


@pytest.mark.parametrize("name", [name for name in PRECONDITIONS if not name.startswith("aligned")])
def test_noise_stands_in_for_nothing_where_the_input_does_not_vanish(name):
    """Oracle: the input at T is a multiple of ``z_T`` for every precondition not aligned, noise given or not."""
    bridge, seen = bridge_gmax(), []
    _, z_T, noise, _ = state(bridge, 0.5)
    for given in (noise, None):
        conventions = PARAMETERISATIONS["x0"], PRECONDITIONS[name]
        NetworkDenoiser(lambda x, timestep: seen.append(x) or x, bridge, *conventions, z_T, given)(z_T, 1.0)
    assert torch.equal(seen[0], seen[1])
    assert torch.allclose(seen[0] / z_T, (seen[0] / z_T).flatten()[0].expand_as(z_T))


# --- the loss ---------------------------------------------------------------------------------------------------------


@every_bridge
def test_psi_weight_is_equation_6(bridge):
    """Oracle: eq. 6's loss on ``(z_t - alpha z_0)/sigma``, one time per clip."""
    t = torch.tensor([0.1, 0.8], dtype=torch.float64)
    z_0, z_T, eps, _ = state(bridge, 0.5)
    z_t = draw_bridge(bridge, z_0, z_T, t, eps)
    a, b, c = (x.reshape(2, 1, 1, 1, 1) for x in bridge.coefficients(t))
    torch.testing.assert_close(z_t, a * z_0 + b * z_T + c * eps)
    output, kind = torch.randn_like(z_0), PARAMETERISATIONS["psi"]
    expected = (output - kind.target(z_0, z_t, z_T, t, bridge)).square().mean()
    loss = z0_loss(kind.z0(output, z_t, z_T, t, bridge), z_0, psi_weight(bridge, t))
    torch.testing.assert_close(loss, expected, rtol=1e-9, atol=0)
    plain = z0_loss(output, z_0, uniform_weight(bridge, t))
    torch.testing.assert_close(plain, (output - z_0).square().mean(), rtol=1e-12, atol=0)


def test_the_loss_is_least_at_the_posterior_mean():
    """Oracle: ``E[z_0 | z_t, z_T]`` beats itself shifted or scaled, on 20000 draws."""
    bridge = bridge_gmax()
    z_T, generator = draws(20000, seed=3)
    z_0 = TWO_MODES.sample(z_T, generator)
    t = torch.tensor(0.4, dtype=torch.float64)
    eps = torch.randn(z_0.shape, generator=generator, dtype=torch.float64)
    z_t = draw_bridge(bridge, z_0, z_T, t, eps)
    best, weight = TWO_MODES.denoiser(bridge, z_T)(z_t, t), psi_weight(bridge, t).expand(len(z_0))
    guesses = [best, best + 0.1, best - 0.1, 0.9 * best, 1.1 * best]
    losses = [z0_loss(guess[:, None], z_0[:, None], weight) for guess in guesses]
    assert all(losses[0] < other for other in losses[1:])


def test_plain_diffusion_has_the_interface_of_a_bridge():
    """``CosineDiffusion`` is variance preserving, ends in pure noise, and its ``v`` is the usual one."""
    diffusion = CosineDiffusion()
    t = torch.linspace(0, 1, 11, dtype=torch.float64)
    alpha, none, sigma = diffusion.coefficients(t)
    torch.testing.assert_close(alpha**2 + sigma**2, torch.ones_like(t))
    assert not none.any() and alpha[-1] == 0 and sigma[0] == 0 and alpha[0] == sigma[-1] == 1
    z_0, z_T, eps, z_t = state(diffusion, 0.3)
    v = diffusion.alpha(0.3) * eps - diffusion.sigma(0.3) * z_0
    torch.testing.assert_close(PARAMETERISATIONS["v"].target(z_0, z_t, z_T, 0.3, diffusion), v)
    torch.testing.assert_close(PARAMETERISATIONS["v"].z0(-z_0, eps, z_T, 1.0, diffusion), z_0)
