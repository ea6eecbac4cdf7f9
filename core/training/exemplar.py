"""Training of exemplar-guided translation: the loss of EBDM, its two stages, and its settings."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..bridges import PARAMETERISATIONS, PRECONDITIONS, Bridge, NetworkDenoiser, brownian
from ..bridges.parameterisation import Parameterisation
from ..bridges.precondition import Precondition
from ..networks.exemplar_attention import ExemplarAttention
from ..networks.exemplar_unet import ExemplarNetwork, ExemplarUNet, Style, remember
from .loop import LoopSettings
from .objectives import Weight, draw_bridge, draw_times, step_weight, z0_loss

STEPS = 1000  # BBDM's; EBDM names none


@dataclass(frozen=True)
class Objective:
    """What is learnt: of which process, by a network with which output and input, how times are weighted and drawn."""

    bridge: Bridge
    parameterisation: Parameterisation
    precondition: Precondition
    weight: Weight
    times: Callable[[int, torch.Generator], Tensor]


def ebdm() -> Objective:
    """EBDM eq. 7: the residual ``z_t - z_0`` of the Brownian bridge of variance 1 in `STEPS` steps, weighted by 1/t.

    Under it a network that answers 0 has the loss ``(2 (1 - m) + m (z_T - z_0)^2) / H`` at ``m``: no time dominates.
    """
    residual, raw = PARAMETERISATIONS["residual"], PRECONDITIONS["raw"]
    return Objective(brownian(), residual, raw, step_weight(STEPS), uniform_times)


def uniform_times(count: int, generator: torch.Generator) -> Tensor:
    """EBDM algorithm 1: all steps alike."""
    return draw_times(count, STEPS, generator)


def late_times(count: int, generator: torch.Generator, share: float = 0.5, last: float = 0.05) -> Tensor:
    """As `uniform_times`, but a ``share`` of the rows lies in the ``last`` part before T.

    With little variance a state shows what it comes from nearly to the end, so that what the exemplar is needed for is
    decided in the first steps of sampling; all alike would spend a twentieth of the rows there.
    """
    times = uniform_times(count, generator)
    late = torch.rand(count, generator=generator, device=generator.device) < share
    return torch.where(late, 1 - last * (1 - times), times)


def exemplar_loss(
    denoiser: nn.Module, z_T: Tensor, z_0: Tensor, style: Style | None, generator: torch.Generator,
    objective: Objective | None = None,
) -> Tensor:  # fmt: skip
    """EBDM eq. 7 for a batch: the weighted squared error of the residual ``z_t - z_0`` at times drawn for each row.

    ``denoiser(z_t, timesteps, styles)`` predicts the residual; ``z_T, z_0 [n, c, h, w]`` are the latents of control
    and photo; ``style`` is the exemplar of each row, or None; ``objective``: another than `ebdm`.

    The error in ``z_0`` is the error in the residual, since ``z_t`` is given. Times and noise come from ``generator``.
    """
    asked = ebdm() if objective is None else objective
    return exemplar_loss_at(denoiser, z_T, z_0, style, *draw_noise(z_0.shape, generator, asked), asked)


def exemplar_loss_at(
    denoiser: nn.Module, z_T: Tensor, z_0: Tensor, style: Style | None, t: Tensor, eps: Tensor,
    objective: Objective | None = None,
) -> Tensor:  # fmt: skip
    """`exemplar_loss` at given times ``t [n]`` and noise ``eps [n, c, h, w]``."""
    asked = ebdm() if objective is None else objective
    styles = () if style is None else (style,)
    predict = NetworkDenoiser(
        lambda x, timesteps: denoiser(x, timesteps, styles), asked.bridge, asked.parameterisation, asked.precondition,
        z_T,
    )  # fmt: skip
    prediction = predict(draw_bridge(asked.bridge, z_0, z_T, t, eps.to(z_0)), t)
    return z0_loss(prediction, z_0, asked.weight(asked.bridge, t))


def draw_noise(shape: Sequence[int], generator: torch.Generator, objective: Objective) -> tuple[Tensor, Tensor]:
    """The times float64 ``[n]`` and the noise of a batch of that shape ``[n, c, h, w]``."""
    t = objective.times(shape[0], generator)
    return t, torch.randn(*shape, generator=generator, device=generator.device)


def drop_exemplar(style: Style, count: int, share: float, generator: torch.Generator) -> Style:
    """Without its exemplar in a ``share`` of the ``count`` rows; nothing is drawn for a share of 0."""
    return kept_in(style, draw_kept(count, share, generator))


def draw_kept(count: int, share: float, generator: torch.Generator) -> Tensor | None:
    """bool ``[count]``: which rows keep their exemplar, all but a ``share``; None, and nothing drawn, for 0."""
    if share == 0:
        return None
    return torch.rand(count, generator=generator, device=generator.device) >= share


def kept_in(style: Style, kept: Tensor | None) -> Style:
    """``style`` in the rows ``kept``, bool ``[n]``; None: in all.

    By weight 0, under which a row's output is that without any style.
    """
    if kept is None:
        return style
    weight = torch.as_tensor(style.weight)
    return style.weighted(weight * kept[:, None, None, None].to(weight))


@dataclass(frozen=True)
class Stage:
    """One stage of training, as data.

    ``exemplar(target, partner)``: which of the two pictures is the exemplar. ``engaged``: whether its detailed features
    are attended to, or only its token. ``trained(denoiser, network)``: the parameters that move. ``dropout``: share of
    rows without an exemplar.
    """

    exemplar: Callable[[Tensor, Tensor], Tensor]
    engaged: bool
    trained: Callable[[ExemplarUNet, ExemplarNetwork | None], list[nn.Parameter]]
    dropout: float = 0.0

    def select(self, denoiser: ExemplarUNet, network: ExemplarNetwork | None = None) -> list[nn.Parameter]:
        """Freeze all of both but what this stage trains, and return that. For `loop.train` and `Ema`."""
        parts = [part for part in (denoiser, network) if part is not None]
        for part in parts:
            part.requires_grad_(False)
        chosen = self.trained(denoiser, network)
        for parameter in chosen:
            parameter.requires_grad_(True)
        return chosen

    def style(
        self, denoiser: ExemplarUNet, network: ExemplarNetwork | None, z: Tensor, cls: Tensor,
        keep: Tensor | None = None,
    ) -> Style:  # fmt: skip
        """Of the exemplars' latents ``z [n, c, h, w]`` and [CLS] ``cls [n, features]``; ``keep`` as of `remember`."""
        return remember(denoiser, network, z, cls, keep) if self.engaged else Style(denoiser.token(cls.to(z)))

    def loss(
        self, denoiser: ExemplarUNet, network: ExemplarNetwork | None, z_T: Tensor, z_0: Tensor, z: Tensor,
        cls: Tensor, generator: torch.Generator, objective: Objective | None = None,
    ) -> Tensor:  # fmt: skip
        """Of one batch: control ``z_T``, photo ``z_0`` and exemplar ``z``, all ``[n, c, h, w]``; ``cls`` its [CLS].

        ``objective``: as of `exemplar_loss`.
        """
        drawn = self.draw(z_0.shape, generator, objective)
        return self.loss_at(denoiser, network, z_T, z_0, z, cls, drawn, objective)

    def draw(
        self, shape: Sequence[int], generator: torch.Generator, objective: Objective | None = None
    ) -> dict[str, Tensor]:
        """All that is random in the loss of a batch of latents of that shape ``[n, c, h, w]``.

        ``kept``, bool ``[n]``, the rows with an exemplar, unless all have one; ``t``, float64 ``[n]``; ``eps``.
        """
        kept = draw_kept(shape[0], self.dropout, generator)
        t, eps = draw_noise(shape, generator, ebdm() if objective is None else objective)
        return {"t": t, "eps": eps} | ({} if kept is None else {"kept": kept})

    def loss_at(
        self, denoiser: ExemplarUNet, network: ExemplarNetwork | None, z_T: Tensor, z_0: Tensor, z: Tensor,
        cls: Tensor, drawn: Mapping[str, Tensor], objective: Objective | None = None,
    ) -> Tensor:  # fmt: skip
        """`loss` with what `draw` drew; more in ``drawn`` does not matter. The mean over the rows, whichever."""
        style = kept_in(self.style(denoiser, network, z, cls), drawn.get("kept"))
        return exemplar_loss_at(denoiser, z_T, z_0, style, drawn["t"], drawn["eps"], objective)


def attention_parameters(denoiser: ExemplarUNet) -> list[nn.Parameter]:
    """Those of the exemplar attention inside the denoiser."""
    attentions = [module for module in denoiser.modules() if isinstance(module, ExemplarAttention)]
    return [parameter for attention in attentions for parameter in attention.parameters()]


def _all_but_attention(denoiser: ExemplarUNet, network: ExemplarNetwork | None) -> list[nn.Parameter]:
    left_out = {id(parameter) for parameter in attention_parameters(denoiser)}
    return [parameter for parameter in denoiser.parameters() if id(parameter) not in left_out]


def _attention_and_network(denoiser: ExemplarUNet, network: ExemplarNetwork | None) -> list[nn.Parameter]:
    if network is None:
        raise ValueError("the second stage trains an exemplar network, and none was given")
    return [*network.parameters(), *attention_parameters(denoiser)]


# EBDM section 4.2. First self-reconstruction: the denoiser and its token's Linear learn, from the target as its own
# exemplar, to translate in a given style; the exemplar network is not engaged. Then the exemplar network and the
# attention to it learn from a partner of the target, everything else frozen.
STAGES = (
    # Dropout is not in the paper. With it the bridge runs without an exemplar too; in the second stage rows without one
    # would train nothing.
    Stage(lambda target, partner: target, engaged=False, trained=_all_but_attention, dropout=0.1),
    Stage(lambda target, partner: partner, engaged=True, trained=_attention_and_network),
)

PAPER_BATCH = 8


def paper_settings(steps: int) -> LoopSettings:
    """EBDM section 9.2: AdamW at 1e-5, two batches of `PAPER_BATCH` a step; with an `Ema` and a `Plateau` (factor 0.2).

    The paper gives neither the number of steps nor warm-up, weight decay or clipping: here no warm-up, AdamW's default
    decay, gradients clipped at this project's norm of 1.
    """
    return LoopSettings(steps, learning_rate=1e-5, warmup=0, weight_decay=1e-2, accumulate=2)
