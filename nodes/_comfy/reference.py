"""Exemplars on MODELs that know nothing of them: a host's own features of an exemplar join its self-attention.

While a host denoises, each of its self-attentions also has the keys and values that it has itself when the network is
shown the exemplar: behind its own norms, projections and rotary positions, so LoRAs and all that sits in the weights
count. Nothing of the MODEL is changed, and nothing is trained. EBDM's exemplar attention (eq. 6) is the same joint
attention, with features from a network of its own.
"""

from dataclasses import dataclass

import torch
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from .exemplar import Exemplar, Settings
from .reference_attention import JointAttention
from .reference_blocks import Block, chosen_blocks
from .reference_hosts import Family, family_of
from .reference_pass import OVERRIDE, Branch, Call, Part, observed
from .runs import Run, Span, run_of, watch

KEY = "aqueduct_reference"


def referenced(model, exemplar: Exemplar, settings: Settings):
    """A clone of the MODEL that sees the exemplar, beside others that it sees; they share as `shared` says.

    ``out = own + strength * mask * (joint - own)`` in each self-attention of ``settings.blocks``.

    Raises ValueError, with what was found and what would do, for a network whose self-attentions are not known, blocks
    that are not there, a latent of another VAE, and an exemplar of which nothing is kept.
    """
    family = family_of(model.model)
    reference = Reference(
        exemplar, _scaled(model.model, exemplar), settings, Span(settings.start, settings.end),
        chosen_blocks(settings.blocks, family.blocks(model.model.diffusion_model)),
    )  # fmt: skip
    clone = model.clone()
    there = clone.get_wrappers(WrappersMP.DIFFUSION_MODEL, KEY)
    guide = Guide(family, (*(there[0].references if there else ()), reference))
    watch(clone)
    clone.wrappers.setdefault(WrappersMP.DIFFUSION_MODEL, {})[KEY] = [guide]
    clone.wrappers.setdefault(WrappersMP.PREPARE_SAMPLING, {})[KEY] = [guide.make_room]
    return clone


def _scaled(model, exemplar: Exemplar) -> Tensor:
    """The exemplar's latent as the MODEL takes it: with its own scale, of one frame where it makes clips."""
    kind = model.latent_format
    if exemplar.latent.shape[1] != kind.latent_channels:
        raise ValueError(
            f"the exemplar's latent has {exemplar.latent.shape[1]} channels, this MODEL takes {kind.latent_channels}: "
            f"encode it with the MODEL's own VAE (AqueductExemplarEncode)"
        )
    if exemplar.keep is not None and not exemplar.keep.flatten(1).any(1).all():
        raise ValueError("nothing of the exemplar is kept: its mask in AqueductExemplarEncode is empty")
    latent = exemplar.latent.float()
    return model.process_latent_in(latent.unsqueeze(2) if kind.latent_dimensions == 3 else latent)


@dataclass(frozen=True, eq=False)
class Seen:
    """What an exemplar brings to the rows of a branch, and what these were ``given``, where that can change."""

    given: list[Tensor]
    parts: list[Part]

    def under(self, given: list[Tensor]) -> bool:
        return all(torch.equal(one, other) for one, other in zip(self.given, given, strict=True))


@dataclass(frozen=True, eq=False)
class Reference:
    """One exemplar on a MODEL; ``latent``: as the MODEL takes it."""

    exemplar: Exemplar
    latent: Tensor
    settings: Settings
    span: Span
    blocks: frozenset[Block]

    @property
    def strength(self) -> float:
        return self.settings.strength

    @property
    def mask(self) -> Tensor | None:
        return self.settings.mask

    def parts(self, call: Call, family: Family, run: Run) -> list[Part]:
        """Its features for the rows of the call that it acts on, none where it does not act."""
        if not self.strength or not self.span.holds(run, call.options):
            return []
        branches = [branch for branch in call.branches(run) if not (branch.negative and self.settings.positive_only)]
        kept = {} if self.settings.each_step else run.kept
        keys = {branch: (self, branch.key, call.pictures) for branch in branches}
        given = {branch: self._given(call, branch, family, run) for branch in branches}
        found = {branch: kept.get(keys[branch]) for branch in branches}
        if missing := [branch for branch, seen in found.items() if seen is None or not seen.under(given[branch])]:
            level = self._level(run, call.options)
            made = observed(call, family, self.blocks, self.exemplar, self.latent, level, run, missing)
            found |= {branch: Seen(given[branch], parts) for branch, parts in zip(missing, made, strict=True)}
            kept |= {keys[branch]: found[branch] for branch in missing if branch.key is not None}
        return [part.behind(branch.rows.start) for branch, seen in found.items() for part in seen.parts]

    def _given(self, call: Call, branch: Branch, family: Family, run: Run) -> list[Tensor]:
        """What tells this call from others under the same condition: nothing where each is for all pictures."""
        return [] if call.whole(run) else call.given(branch.rows, self.latent.shape[1], family.own)

    def _level(self, run: Run, options: dict) -> Tensor:
        """At which the exemplar is shown. Clean is the lowest that the MODEL knows: at 0 itself some have no time."""
        if self.settings.each_step:
            return options["sigmas"]
        lowest, highest = float(run.sampling.sigma_min), float(run.sampling.sigma_max)
        level = float(run.sampling.percent_to_sigma(self.settings.reference_percent))
        return torch.tensor([min(max(level, lowest), highest)])


@dataclass(frozen=True, eq=False)
class Guide:
    """All exemplars on a MODEL. Its instances are DIFFUSION_MODEL wrappers."""

    family: Family
    references: tuple[Reference, ...]

    def __call__(self, executor, *args, **kwargs):
        call = Call(executor, args, kwargs)
        run = run_of(call.options, "an exemplar")
        asked = [(reference, reference.parts(call, self.family, run)) for reference in self.references]
        acting = [(reference, parts) for reference, parts in asked if parts]
        if not acting:
            return executor(*args, **kwargs)
        joint = JointAttention(self.family, call, run, acting)
        call.arguments["transformer_options"] = self.family.marked({**call.options, OVERRIDE: joint}, joint.turn)
        return executor(*call.bound.args, **call.bound.kwargs)

    def make_room(self, executor, model, noise_shape, *args, **kwargs):
        """A PREPARE_SAMPLING wrapper: each exemplar counts as one more picture for each of the LATENT's, or one more
        frame. That is about what its keys and values take; the pass that finds them takes no more than a step."""
        count, shape = len(self.references), list(noise_shape)
        if len(shape) == 5:
            shape[2] += count
        else:
            shape[0] *= 1 + count
        return executor(model, shape, *args, **kwargs)
