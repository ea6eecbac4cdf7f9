"""What a bridge network's output means: a linear function of ``z_0``, ``z_t`` and ``z_T``.

``output = p z_0 + q z_t + r z_T`` with scalar ``(p, q, r)`` that depend on time, so every convention is one small
function and reading ``z_0`` back is one line. Regression target and decoding are the same line, except for LBM.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .broadcast import scalars_like
from .process import Bridge

Weights = Callable[[Bridge, Tensor], tuple[Tensor, Tensor, Tensor]]


@dataclass(frozen=True)
class Parameterisation:
    """``decode`` gives ``(p, q, r)`` for reading ``z_0`` from the output; ``encode`` those of the training target."""

    name: str
    decode: Weights
    encode: Weights

    def z0(self, output: Tensor, z_t: Tensor, z_T: Tensor, t, bridge: Bridge) -> Tensor:
        """``z_0`` predicted by ``output``; ``t`` scalar or [batch].

        Raises ValueError at times where the output does not determine ``z_0``: 0, and for ``eps`` also T.
        """
        t = torch.as_tensor(t, dtype=torch.float64)
        weights = self.decode(bridge, t)
        if not all(bool(torch.isfinite(w).all()) for w in weights) or bool((weights[0] == 0).any()):
            raise ValueError(
                f"a network output of kind {self.name!r} does not determine z_0 at t = {t.tolist()}; "
                f"start below T or end above 0, or use another parameterisation"
            )
        p, q, r = scalars_like(output, *weights)
        return (output - q * z_t - r * z_T) / p

    def target(self, z_0: Tensor, z_t: Tensor, z_T: Tensor, t, bridge: Bridge) -> Tensor:
        """What the network is trained to output."""
        p, q, r = scalars_like(z_0, *self.encode(bridge, torch.as_tensor(t, dtype=torch.float64)))
        return p * z_0 + q * z_t + r * z_T


def _same(name: str, weights: Weights) -> Parameterisation:
    return Parameterisation(name, decode=weights, encode=weights)


def _psi(bridge: Bridge, t: Tensor):
    sigma = bridge.sigma(t)
    return -bridge.alpha(t) / sigma, 1 / sigma, torch.zeros_like(t)


def _eps(bridge: Bridge, t: Tensor):
    a, b, c = bridge.coefficients(t)
    return -a / c, 1 / c, -b / c


def _v(bridge: Bridge, t: Tensor):
    """``(-n/c, a/(n c), -a b/(n c))``. ``a/c^2 = alpha/sigma^2`` makes it finite at T, where ``v = -z_0``."""
    a, b, _ = bridge.coefficients(t)
    ratio = bridge.alpha(t) / bridge.sigma(t).square()
    n_over_c = (1 + a * ratio).sqrt()
    return -n_over_c, ratio / n_over_c, -b * ratio / n_over_c


def _constant(p: float, q: float, r: float) -> Weights:
    return lambda bridge, t: tuple(torch.full_like(t, value) for value in (p, q, r))


def _drift(bridge: Bridge, t: Tensor):
    _, b, _ = bridge.coefficients(t)
    return -1 / b, 1 / b, torch.zeros_like(t)


def ddbm(std_data: float = 0.5, std_end: float = 0.5, covariance: float = 0.0) -> Parameterisation:
    """DDBM's preconditioning, ``z_0 = c_skip z_t + c_out output``. Source: DDBM appendix A.5 (its ``c`` is a variance).

    ``std_data``, ``std_end``: standard deviations of ``z_0`` and ``z_T``; ``covariance`` of the two.
    """

    def weights(bridge: Bridge, t: Tensor):
        skip, out, _ = ddbm_scalings(bridge, t, std_data, std_end, covariance)
        return 1 / out, -skip / out, torch.zeros_like(t)

    return _same("ddbm", weights)


def ddbm_scalings(bridge: Bridge, t: Tensor, std_data: float, std_end: float, covariance: float):
    """``(c_skip, c_out, c_in)`` so that network input and target have unit variance. Source: DDBM appendix A.5."""
    a, b, c = bridge.coefficients(t)
    var_in = a**2 * std_data**2 + b**2 * std_end**2 + 2 * a * b * covariance + c**2
    skip = (a * std_data**2 + b * covariance) / var_in
    var_left = b**2 * (std_end**2 * std_data**2 - covariance**2) + c**2 * std_data**2
    return skip, (var_left / var_in).sqrt(), var_in.rsqrt()


PARAMETERISATIONS: dict[str, Parameterisation] = {
    # (z_t - alpha z_0) / sigma: FrameBridge eq. 6
    "psi": _same("psi", _psi),
    # the noise of the pinned process
    "eps": _same("eps", _eps),
    # (a/n) eps - (c/n) z_0, n^2 = a^2 + c^2: FrameBridge on CogVideoX
    "v": _same("v", _v),
    "x0": _same("x0", _constant(1.0, 0.0, 0.0)),
    # z_0 - z_T: the correction of the prior, used by the small models of this project
    "prior_residual": _same("prior_residual", _constant(1.0, 0.0, -1.0)),
    # z_t - z_0 = m (y - x_0) + sqrt(var) eps: BBDM eq. 11 ("grad")
    "residual": _same("residual", _constant(-1.0, 1.0, 0.0)),
    # trained on z_T - z_0, read as z_t - t output: LBM
    "drift": Parameterisation("drift", decode=_drift, encode=_constant(-1.0, 0.0, 1.0)),
    "ddbm": ddbm(),
}
