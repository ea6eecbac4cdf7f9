"""A bridge process is two functions of time; everything else follows from them.

Notation: FrameBridge (eqs. 2 to 5 and 12). A diffusion ``q(z_t | z_0) = N(alpha_t z_0, sigma_t^2)`` is pinned at
``z_T``. With ``rho = sigma / alpha`` and ``m_t = SNR_T / SNR_t = rho_t^2 / rho_T^2``:

    z_t = a_t z_0 + b_t z_T + c_t eps,   a = alpha (1 - m),   b = m alpha / alpha_T,   c = sigma sqrt(1 - m)

``1 - m`` cancels near T and ``sigma`` vanishes near 0, so a process is given by three functions that do not:
``log alpha``, ``rho^2`` and ``rho_T^2 - rho^2`` (the variance still to come).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

TimeFunction = Callable[[Tensor], Tensor]


def checked_time(t) -> Tensor:
    """``t`` as a float64 tensor inside [0, 1]. Raises ValueError outside, or for non-finite times."""
    t = torch.as_tensor(t, dtype=torch.float64)
    if t.numel() and not bool(((t >= 0) & (t <= 1)).all()):
        raise ValueError(
            f"bridge times lie in [0, 1] (0 = data, 1 = prior), got values in "
            f"[{t.min().item():.6g}, {t.max().item():.6g}]; use `core.bridges.times` or AqueductBridgeTimes to make "
            f"them"
        )
    return t


@dataclass(frozen=True)
class Bridge:
    """One bridge process. Two are equal when their kind and constants are.

    ``log_alpha``, ``var_ratio`` (``rho^2``) and ``var_ahead`` (``rho_T^2 - rho^2``) map float64 times in [0, 1] to
    float64 tensors of the same shape; ``alpha(0) = 1`` and ``rho(0) = 0`` in every process here.

    Source: FrameBridge eq. 12; DDBM eq. 8; DBIM eq. 3.
    """

    kind: str
    constants: tuple[tuple[str, float], ...]
    log_alpha: TimeFunction = field(compare=False, repr=False)
    var_ratio: TimeFunction = field(compare=False, repr=False)
    var_ahead: TimeFunction = field(compare=False, repr=False)

    def __str__(self) -> str:
        constants = ", ".join(f"{name} {value:g}" for name, value in self.constants)
        return f"{self.kind} ({constants})"

    def alpha(self, t) -> Tensor:
        """Signal scale ``alpha_t`` of the unpinned diffusion."""
        return self.log_alpha(checked_time(t)).exp()

    def sigma(self, t) -> Tensor:
        """Standard deviation ``sigma_t`` of the unpinned diffusion."""
        return self.alpha(t) * self.rho(t)

    def rho(self, t) -> Tensor:
        """``sigma_t / alpha_t``; increasing in ``t``."""
        return self.var_ratio(checked_time(t)).sqrt()

    def snr_share(self, t) -> tuple[Tensor, Tensor]:
        """``(m_t, 1 - m_t)`` with ``m_t = SNR_T / SNR_t``, each without cancellation."""
        t = checked_time(t)
        var_end = self.var_ratio(torch.ones_like(t))
        return self.var_ratio(t) / var_end, self.var_ahead(t) / var_end

    def coefficients(self, t) -> tuple[Tensor, Tensor, Tensor]:
        """``(a, b, c)`` of ``z_t = a z_0 + b z_T + c eps``, float64, shaped like ``t``. Source: FrameBridge eq. 12.

        ``c`` is a standard deviation. Exactly ``(1, 0, 0)`` at 0 and ``(0, 1, 0)`` at 1.
        """
        t = checked_time(t)
        m, rest = self.snr_share(t)
        alpha = self.alpha(t)
        alpha_end = self.alpha(torch.ones_like(t))
        return alpha * rest, m * alpha / alpha_end, self.sigma(t) * rest.sqrt()

    def half_log_snr(self, t) -> Tensor:
        """``lambda_t = log(a_t / c_t)``, decreasing in ``t``: +inf at 0, -inf at T. Source: DBIM section 4."""
        _, rest = self.snr_share(t)
        return 0.5 * rest.log() - self.rho(t).log()


def _brownian_like(kind: str, constants: dict[str, float], var_end: float) -> Bridge:
    return Bridge(
        kind,
        tuple(constants.items()),
        log_alpha=torch.zeros_like,
        var_ratio=lambda t: var_end * t,
        var_ahead=lambda t: var_end * (1 - t),
    )


def _positive(**constants: float) -> None:
    for name, value in constants.items():
        if not 0 < value < math.inf:
            raise ValueError(f"{name} must be positive and finite, got {value}")


def bridge_gmax(beta_min: float = 0.01, beta_max: float = 50.0) -> Bridge:
    """Bridge-gmax: ``alpha = 1``, ``g^2(t) = beta_min + t (beta_max - beta_min)``.

    Source: FrameBridge appendix C.3, Bridge-TTS.
    """
    _positive(beta_min=beta_min, beta_max=beta_max)
    if beta_max < beta_min:
        raise ValueError(f"beta_max must be at least beta_min = {beta_min}, got {beta_max}")
    half = 0.5 * (beta_max - beta_min)
    return Bridge(
        "bridge-gmax",
        (("beta_min", beta_min), ("beta_max", beta_max)),
        log_alpha=torch.zeros_like,
        var_ratio=lambda t: t * (half * t + beta_min),
        var_ahead=lambda t: (1 - t) * (half * (1 + t) + beta_min),
    )


def brownian(variance: float = 1.0) -> Bridge:
    """Brownian bridge: ``a = 1 - t``, ``b = t``, ``c^2 = 2 s t (1 - t)``, ``s = variance``. BBDM eq. 4, EBDM eq. 3."""
    _positive(variance=variance)
    return _brownian_like("brownian", {"variance": variance}, 2.0 * variance)


def lbm(noise: float = 0.005) -> Bridge:
    """Latent Bridge Matching: ``a = 1 - t``, ``b = t``, ``c = noise sqrt(t (1 - t))``."""
    _positive(noise=noise)
    return _brownian_like("lbm", {"noise": noise}, noise * noise)


def vp(beta_min: float = 0.1, beta_d: float = 2.0) -> Bridge:
    """Variance preserving: ``alpha = exp(-p/2)``, ``rho^2 = exp(p) - 1``, ``p = beta_d t^2/2 + beta_min t``.

    Source: DDBM table 1, DBIM.
    """
    _positive(beta_min=beta_min)
    if not 0 <= beta_d < math.inf:
        raise ValueError(f"beta_d must not be negative, got {beta_d}")

    def exponent(t: Tensor) -> Tensor:
        return t * (0.5 * beta_d * t + beta_min)

    def ahead(t: Tensor) -> Tensor:
        return exponent(t).exp() * torch.expm1((1 - t) * (0.5 * beta_d * (1 + t) + beta_min))

    return Bridge(
        "vp",
        (("beta_min", beta_min), ("beta_d", beta_d)),
        log_alpha=lambda t: -0.5 * exponent(t),
        var_ratio=lambda t: torch.expm1(exponent(t)),
        var_ahead=ahead,
    )


def ve(sigma_max: float = 80.0) -> Bridge:
    """Variance exploding: ``alpha = 1``, ``sigma = sigma_max t``. DDBM table 1 (its time runs to ``sigma_max``)."""
    _positive(sigma_max=sigma_max)
    var_end = sigma_max * sigma_max
    return Bridge(
        "ve",
        (("sigma_max", sigma_max),),
        log_alpha=torch.zeros_like,
        var_ratio=lambda t: var_end * t * t,
        var_ahead=lambda t: var_end * (1 - t) * (1 + t),
    )


def i2sb(beta_max: float = 0.3) -> Bridge:
    """I2SB: ``alpha = 1`` and a symmetric diffusion rate, ``sqrt(beta)`` linear up to the middle, then mirrored.

    Source: I2SB section 4 and its released schedule of 1000 steps, ``linspace(sqrt(1e-4), sqrt(beta_max/1000))^2`` of
    which the first half is used and mirrored; this is its integral in continuous time (the discrete sums differ from it
    by one step's beta). ``beta_max`` is 0.3 for JPEG and super-resolution, 1 for deblurring and inpainting.
    """
    _positive(beta_max=beta_max)
    steps = 1000.0
    root_start, root_end = 1e-4**0.5, (beta_max / steps) ** 0.5
    slope = root_end - root_start

    def first_half(t: Tensor) -> Tensor:
        """Integral of ``steps (root_start + slope u)^2`` over [0, t]."""
        return steps * t * (root_start**2 + root_start * slope * t + slope**2 * t * t / 3)

    half = first_half(torch.tensor(0.5, dtype=torch.float64)).item()

    def var_ratio(t: Tensor) -> Tensor:
        return torch.where(t <= 0.5, first_half(t), 2 * half - first_half(1 - t))

    return Bridge(
        "i2sb",
        (("beta_max", beta_max),),
        log_alpha=torch.zeros_like,
        var_ratio=var_ratio,
        var_ahead=lambda t: var_ratio(1 - t),
    )


PROCESSES: dict[str, Callable[..., Bridge]] = {
    "bridge-gmax": bridge_gmax,
    "brownian": brownian,
    "vp": vp,
    "ve": ve,
    "i2sb": i2sb,
    "lbm": lbm,
}


def make_bridge(kind: str, **constants: float) -> Bridge:
    """The process called ``kind`` with its constants. Raises ValueError for an unknown kind."""
    if kind not in PROCESSES:
        raise ValueError(f"unknown bridge {kind!r}; the processes are {', '.join(PROCESSES)}")
    return PROCESSES[kind](**constants)
