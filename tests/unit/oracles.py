"""Laws that are known exactly, and the two ways to compare with them: Kolmogorov-Smirnov and a fitted order.

The data is a Gaussian mixture whose components depend on the prior ``z_T``. Whatever linear channel it is seen through,
``y = signal z_0 + noise eps`` (a bridge's ``z_t - b z_T``, a diffusion or flow host's ``x``), the best denoiser
``E[z_0 | y, z_T]`` and the law of ``y`` are closed forms, so every sampler has an exact target.

Error rates are of false alarms: a correct program fails a check with at most that probability, over the choice of seed.
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from aqueduct.core.bridges import (
    Bridge,
    Denoiser,
    bridge_gmax,
    brownian,
    i2sb,
    lbm,
    ve,
    vp,
)

BRIDGES: dict[str, Bridge] = {
    "bridge-gmax": bridge_gmax(),
    "brownian": brownian(),
    "vp": vp(),
    "ve": ve(),
    "i2sb": i2sb(),
    "lbm": lbm(),
}


@dataclass(frozen=True)
class Mixture:
    """``z_0 | z_T``: component k is ``N(offset_k + slope_k z_T, std_k^2)`` with weight softmax(``tilt_k z_T``)_k."""

    offsets: tuple[float, ...]
    slopes: tuple[float, ...]
    stds: tuple[float, ...]
    tilts: tuple[float, ...]

    def components(self, z_T: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Means ``[n, k]``, standard deviations ``[k]`` and weights ``[n, k]`` given ``z_T [n]``."""
        row = {name: torch.tensor(getattr(self, name), dtype=torch.float64) for name in self.__dataclass_fields__}
        means = row["offsets"] + row["slopes"] * z_T[:, None]
        return means, row["stds"], (row["tilts"] * z_T[:, None]).softmax(dim=1)

    def sample(self, z_T: Tensor, generator: torch.Generator) -> Tensor:
        means, stds, weights = self.components(z_T)
        k = torch.multinomial(weights, 1, generator=generator)
        eps = torch.randn(z_T.shape, generator=generator, dtype=torch.float64)
        return means.gather(1, k)[:, 0] + stds[k[:, 0]] * eps

    def moments(self, z_T: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of ``z_0`` given ``z_T``."""
        means, stds, weights = self.components(z_T)
        mean = (weights * means).sum(1)
        return mean, ((weights * (means**2 + stds**2)).sum(1) - mean**2).sqrt()

    def cdf(self, y: Tensor, z_T: Tensor, signal: float = 1.0, noise: float = 0.0) -> Tensor:
        """Distribution function of ``signal z_0 + noise eps`` given ``z_T``."""
        means, stds, weights = self.components(z_T)
        std = ((signal * stds) ** 2 + noise**2) ** 0.5
        return (weights * torch.special.ndtr((y[:, None] - signal * means) / std)).sum(1)

    def posterior_mean(self, y: Tensor, z_T: Tensor, signal: float, noise: float) -> Tensor:
        """``E[z_0 | signal z_0 + noise eps = y, z_T]``; without signal and noise (at T), ``E[z_0 | z_T]``."""
        means, stds, weights = self.components(z_T)
        if signal == 0:
            return (weights * means).sum(1)
        var = (signal * stds) ** 2 + noise**2
        off = y[:, None] - signal * means
        share = (weights.log() - 0.5 * (off**2 / var + var.log())).softmax(dim=1)
        return (share * (means + signal * stds**2 / var * off)).sum(1)

    def denoiser(self, bridge: Bridge, z_T: Tensor) -> Denoiser:
        """``E[z_0 | z_t, z_T]``, what a perfectly trained bridge network would predict."""

        def predict(z_t: Tensor, t: Tensor) -> Tensor:
            a, b, c = (float(value) for value in bridge.coefficients(t))
            return self.posterior_mean(z_t - b * z_T, z_T, a, c)

        return predict


GAUSSIAN = Mixture(offsets=(0.3,), slopes=(0.5,), stds=(0.4,), tilts=(0.0,))
TWO_MODES = Mixture(offsets=(-1.0, 1.2), slopes=(0.3, 0.6), stds=(0.25, 0.4), tilts=(0.0, 0.8))
APART = Mixture(offsets=(-1.0, 1.2), slopes=(0.0, 0.0), stds=(0.25, 0.4), tilts=(0.0, 0.0))  # independent of z_T
LAWS = {"gaussian": GAUSSIAN, "two modes": TWO_MODES}


def draws(count: int, seed: int) -> tuple[Tensor, torch.Generator]:
    """Priors ``z_T`` (standard normal, ``[count]``) and the generator they came from."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, generator=generator, dtype=torch.float64), generator


def assert_uniform(values: Tensor, error_rate: float, about: str = "") -> None:
    """Kolmogorov-Smirnov: ``values`` are draws from the uniform law on [0, 1]."""
    result = stats.kstest(values.numpy(), "uniform")
    assert result.pvalue > error_rate, f"{about}: KS distance {result.statistic:.4f}, p = {result.pvalue:.1e}"


def assert_same_law(first: Tensor, second: Tensor, error_rate: float, about: str = "") -> None:
    """Two-sample Kolmogorov-Smirnov."""
    result = stats.ks_2samp(first.numpy(), second.numpy())
    assert result.pvalue > error_rate, f"{about}: KS distance {result.statistic:.4f}, p = {result.pvalue:.1e}"


def assert_seen_law(
    law: Mixture, y: Tensor, z_T: Tensor, signal: float, noise: float, error_rate: float, about: str = ""
) -> None:
    """``y`` are draws of ``signal z_0 + noise eps`` given ``z_T``: KS of ``F(y | z_T)``, for each sign of ``z_T``.

    The two checks share ``error_rate`` (Bonferroni).
    """
    ranks = law.cdf(y, z_T, signal, noise)
    assert_uniform(ranks[z_T < 0], error_rate / 2, f"{about} z_T < 0")
    assert_uniform(ranks[z_T >= 0], error_rate / 2, f"{about} z_T >= 0")


def assert_law(law: Mixture, z_0: Tensor, z_T: Tensor, error_rate: float) -> None:
    """``z_0`` are draws from ``law`` given ``z_T``: mean, variance, and the KS checks of ``assert_seen_law``.

    The four checks share ``error_rate`` (Bonferroni).
    """
    each = error_rate / 4
    mean, std = law.moments(z_T)
    standard = (z_0 - mean) / std
    for about, statistic in (("mean", standard), ("variance", standard.square() - 1)):
        score = statistic.mean() / statistic.std() * len(z_0) ** 0.5
        assert abs(score) < stats.norm.isf(each / 2), f"{about} is off by {score:.1f} standard errors"
    assert_seen_law(law, z_0, z_T, 1.0, 0.0, 2 * each)


def fitted_order(counts: list[int], errors: list[float]) -> float:
    """Slope of log error against log step size (least squares)."""
    return -float(np.polyfit(np.log(counts), np.log(errors), 1)[0])
